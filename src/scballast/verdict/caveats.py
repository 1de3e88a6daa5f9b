"""What limits these results, each with the number that triggered it: decided here, stored, and only printed after."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from scballast.config.schema import GENE_CLASSES
from scballast.methods.registry import CONTROLS

# Below the first, the decoder's running statistics still carry their start (0.99^500 = 0.7%): no list is trusted.
FEWEST_STEPS, COMFORTABLE_STEPS = 500, 1000
FEW_REPLICATES = 5  # with fewer, an interval rests on at most 3 degrees of freedom
SMALL_POPULATION = 100  # cells; a half then has 50
KL_REACHED = 0.95  # the last of 400 epochs of warm-up has 0.9975
FIRST_GENES, MANY_OF_A_CLASS = 20, 0.5
OF_THE_DATA = "Data"
STRONG_BATCH = 0.25  # share of a dimension's variance (η²)

Tables = Mapping[str, "pd.DataFrame"]


@dataclass(frozen=True)
class Caveat:
    """One limit of the results.

    Attributes
    ----------
    title
        In a few words.
    text
        What it means and what to do.
    value
        The number that triggered it; NaN where there is none.
    unit
        What the number counts.
    source
        Table or file that holds it.
    warned
        Whether it is said while the experiment runs too.
    """

    title: str
    text: str
    value: float = math.nan
    unit: str = ""
    source: str = ""
    warned: bool = False


def caveats(tables: Tables, config: Mapping[str, Any], notes: Sequence[str] = ()) -> tuple[Caveat, ...]:
    """List the limits that apply to these results, the gravest first.

    Parameters
    ----------
    tables
        The experiment's tables; used: ``stability``, ``answer``, ``training``, ``populations``, ``association``.
    config
        The resolved configuration, nested.
    notes
        What was done to usable but odd data, one sentence or two each.

    Returns
    -------
    tuple of Caveat
        Only those whose condition holds.
    """
    return (
        *(Caveat(OF_THE_DATA, note, warned=True) for note in notes),
        *_replicates(config),
        *_training(tables),
        *_at_floor(tables, int(config["rank"]["top_k"])),
        *_one_by_one(tables),
        *_response(tables, config),
        *_classes(tables, config),
        *_controls(tables, int(config["rank"]["top_k"])),
        *_sizes(tables),
        *_subsamples(tables),
        *_batch(tables, config),
        *_labels(tables, config),
    )


def caveats_table(caveats: Sequence[Caveat]) -> pd.DataFrame:
    """Return the caveats as a table: title, text, value, unit, source, warned."""
    columns = list(Caveat.__dataclass_fields__)
    return pd.DataFrame([asdict(caveat) for caveat in caveats], columns=columns)


def _replicates(config: Mapping[str, Any]) -> Iterator[Caveat]:
    kind, count = str(config["resample"]["kind"]), int(config["resample"]["n_replicates"])
    source, unit = "config/resolved.yaml", "replicates"
    if count < 3:
        text = "Fewer than 3 replicates give point estimates and no intervals. Raise resample.n_replicates to 10."
        yield Caveat("No intervals", text, count, unit, source, warned=True)
    elif count < FEW_REPLICATES:
        text = (
            f"{count} replicates give {count * (count - 1) // 2} comparisons. Intervals are wide, or narrow by luck: "
            "one without width says that the comparisons happened to agree, not that Φ is certain. A selection "
            f"frequency of 1.00 means {count} of {count}. Raise resample.n_replicates to 10."
        )
        yield Caveat("Few replicates", text, count, unit, source)
    if kind == "bootstrap":
        text = (
            "Bootstrap replicates hold the same cell more than once, also across training and validation, which "
            "flatters fit and tests. Prefer resample.kind=subsample."
        )
        yield Caveat("Bootstrap", text, count, unit, source, warned=True)
    if kind == "seed":
        text = (
            "All replicates saw the same cells: Φ shows what the training's random numbers change, "
            "not what other cells would. Deterministic methods have no stability here."
        )
        yield Caveat("Same cells in every replicate", text, count, unit, source)


def _training(tables: Tables) -> Iterator[Caveat]:
    if "training" not in tables or not len(tables["training"]):
        return
    table, source = tables["training"], "tables/training.csv"
    failed = table[table["failure"] != ""]
    if len(failed):
        roles = ", ".join(f"{len(rows)} {role} models" for role, rows in failed.groupby("role", sort=False))
        text = f"{roles} failed and are left out; the first said: {failed['failure'].iloc[0]}."
        yield Caveat("Failed models", text, len(failed), "models", source, warned=True)
    trained = table[(table["failure"] == "") & (table["n_steps"] > 0)]  # models without gradient steps have 0
    fewest = float(trained["n_steps"].min()) if len(trained) else math.inf
    if fewest < FEWEST_STEPS:
        text = (
            f"{_by_role(trained, trained[trained['n_steps'] < FEWEST_STEPS])} saw fewer than {FEWEST_STEPS} gradient "
            "steps: what they learnt (of an LDVAE, its decoder's batch norm) still carries its start, so their lists "
            "are never the answer. Raise train.max_epochs or lower train.batch_size."
        )
        yield Caveat("Too few steps", text, fewest, "steps, the fewest", source, warned=True)
    elif fewest < COMFORTABLE_STEPS:
        text = (
            f"{_by_role(trained, trained[trained['n_steps'] < COMFORTABLE_STEPS])} saw fewer than "
            f"{COMFORTABLE_STEPS:,} gradient steps: enough to be used, not enough to be sure. Raise train.max_epochs."
        )
        yield Caveat("Not many steps", text, fewest, "steps, the fewest", source)
    low = trained[trained["final_kl_weight"] < KL_REACHED]
    if len(low):
        text = (
            f"{_by_role(trained, low)} ended with a KL weight below {KL_REACHED:g}: fits of different sizes optimise "
            "different objectives. Set train.kl_warmup_epochs to a share of the epochs, for example 0.5."
        )
        lowest = float(low["final_kl_weight"].min())
        yield Caveat("KL weight below 1", text, lowest, "final weight, the lowest", source, warned=True)


def _by_role(trained: pd.DataFrame, rows: pd.DataFrame) -> str:
    """Count the models of each role, and name the populations of those that have one of their own."""
    parts = []
    for role, rows_of_role in rows.groupby("role", sort=False):
        with_population = rows_of_role[rows_of_role["population"] != ""]
        names = f" ({_some(with_population)})" if len(with_population) else ""
        parts.append(f"{len(rows_of_role)} of {(trained['role'] == role).sum()} {role} models{names}")
    return " and ".join(parts)


def _at_floor(tables: Tables, top_k: int) -> Iterator[Caveat]:
    answer = tables["answer"]
    none = answer[answer["method"].isin(["", "none"])]
    if len(none):
        text = (
            f"In {len(none)} of {len(answer)} cases no method gives a list of which enough holds in cells it never "
            f"saw: {_some(none)}."
        )
        yield Caveat("No list to trust", text, len(none), "answers without a method", "tables/answer.csv")
    head = _headline(tables, top_k)
    head = head[~head["method"].isin(CONTROLS)]
    # Without its control (methods=[…]) a response has no floor to lie at.
    known = head[head["phi"].notna() & ~((head["estimand"] == "response") & head["floor"].isna())]
    has_intervals = known["lower"].notna().any()
    low = known[~(known["lower"] > known["floor"])] if has_intervals else known[known["phi"] <= known["floor"]]
    if len(low):
        methods = ", ".join(sorted(set(low["method"])))
        text = (
            f"{len(low)} of {len(known)} lists are no more stable than lists without a signal may be "
            f"(methods: {methods}). Do not interpret their order."
        )
        yield Caveat("Stability at or below the floor", text, len(low), "lists", "tables/stability.csv")
    lost = head[head["phi"].isna()]
    if len(lost):
        reasons = "; ".join(sorted({str(reason) for reason in lost["reason"] if str(reason)})) or "no reason stored"
        text = f"{len(lost)} of {len(head)} lists have no stability: {reasons}."
        yield Caveat("Stability not available", text, len(lost), "lists", "tables/stability.csv")


def _headline(tables: Tables, top_k: int) -> pd.DataFrame:
    stability = tables["stability"]
    return stability[stability["k"] == top_k]


def _one_by_one(tables: Tables) -> Iterator[Caveat]:
    rows = tables["answer"][tables["answer"]["method"] == "within_dispersion"]
    if rows.empty:
        return
    text = (
        "Within_dispersion ranks each gene by its own variance: it comes back reliably and knows of no program. On "
        "simulated cells it finds the fewest planted program genes of the methods compared. Look at the lists of "
        f"'local' and 'residual_pca' beside it: {_some(rows)}."
    )
    yield Caveat("Variable, but not together", text, len(rows), "answers", "tables/answer.csv")


def _response(tables: Tables, config: Mapping[str, Any]) -> Iterator[Caveat]:
    """Say what a confirmed response does not show where the unseen cells are of the same donors."""
    if config["resample"]["kind"] == "donor" or not config["data"].get("sample_key"):
        return
    rows = tables["answer"][tables["answer"]["estimand"] == "response"]
    named = rows[~rows["method"].isin(["", "none"])]
    if named.empty:
        return
    text = (
        "Response genes are confirmed in other cells of the same donors. Whether other donors respond alike, and "
        "whether it is the condition and not the preparation of each donor's cells, is asked by resample.kind=donor "
        "(6 donors with both conditions or more)."
    )
    yield Caveat("Response in the same donors", text, len(named), "answers", "tables/answer.csv")


def _classes(tables: Tables, config: Mapping[str, Any]) -> Iterator[Caveat]:
    """Say which genes are left out, and which lists are mostly ribosomal or the like."""
    excluded = list(config.get("genes", {}).get("exclude", ()))
    if excluded:
        text = (
            f"Genes of the classes {', '.join(excluded)} are left out of the answers' genes (genes.exclude); the "
            "models, the rankings and the consensus table hold them."
        )
        yield Caveat("Genes left out", text, len(excluded), "classes", "config/resolved.yaml")
        return
    genes = tables.get("answer_genes")
    if genes is None or genes.empty or "flags" not in genes:
        return
    first = genes[genes.groupby(["population", "estimand"], sort=False).cumcount() < FIRST_GENES]
    for name in GENE_CLASSES:
        of_class = first["flags"].str.split(", ").map(lambda flags, name=name: name in flags)
        share = of_class.groupby([first["population"], first["estimand"]], sort=False).mean()
        lists = share[share > MANY_OF_A_CLASS]
        if len(lists):
            text = (
                f"More than half of the first {FIRST_GENES} genes are {name} in {len(lists)} of {len(share)} lists "
                f"({_some(lists.reset_index())}): depth and the state of the cells may be what they show. "
                f"genes.exclude=[{name}] leaves them out."
            )
            largest = float(lists.max())
            yield Caveat(f"Many {name} genes", text, largest, "largest share", "tables/answer_genes.csv")


def _controls(tables: Tables, top_k: int) -> Iterator[Caveat]:
    head = _headline(tables, top_k)
    for control in sorted(CONTROLS):
        rows = head[head["method"] == control]
        above = int((rows["lower"] > rows["floor"]).sum())
        if above:
            text = (
                f"In {above} of {len(rows)} populations the control '{control}', which knows nothing of the "
                "population, lies above its floor. Something gives it structure: read every Φ with care."
            )
            yield Caveat("A control is stable", text, above, "populations", "tables/stability.csv")


def _sizes(tables: Tables) -> Iterator[Caveat]:
    table, source = tables["populations"], "tables/populations.csv"
    is_ranked = table["ranked"].astype(str) == "True"
    ranked, left_out = table[is_ranked], table[~is_ranked]
    small = ranked[ranked["n_cells"] < SMALL_POPULATION]
    if len(small):
        text = (
            f"{len(small)} of {len(ranked)} populations have fewer than {SMALL_POPULATION} cells ({_some(small)}). "
            "Low stability there may only be a lack of cells: compare the figure of stability against size."
        )
        smallest = float(small["n_cells"].min())
        yield Caveat("Small populations", text, smallest, "cells in the smallest", source)
    if len(left_out):
        text = f"Not ranked, too small: {_some(left_out)}. Their cells were still part of the global model."
        yield Caveat("Populations left out", text, len(left_out), "populations", source)


def _subsamples(tables: Tables) -> Iterator[Caveat]:
    table = tables.get("subsamples")
    if table is None or not (table["population"] != "").any():
        return
    rows = table[table["population"] != ""]
    stages: dict[tuple[int, int, int], list[str]] = {}
    for stage, of_stage in rows.groupby("stage", sort=False):
        most, n_cells = int(of_stage["n_looked_at"].max()), int(of_stage["n_cells"].max())
        stages.setdefault((most, len(of_stage), n_cells), []).append(str(stage))
    parts = [
        f"{', '.join(names)} at {most:,} cells of each of {n} population{'s' * (n > 1)} (the largest has {n_cells:,})"
        for (most, n, n_cells), names in stages.items()
    ]
    text = (
        f"Of large populations some stages looked at a part: {'; '.join(parts)}. Smaller populations are looked at "
        "whole. The cells are those at even steps of depth, in tests drawn at random. Where methods are compared, one "
        "that looked at a part is at a disadvantage beside one that saw all of these cells."
    )
    yield Caveat(
        "A part of the cells", text, float(rows["n_looked_at"].min()), "cells, the fewest", "tables/subsamples.csv"
    )


def _batch(tables: Tables, config: Mapping[str, Any]) -> Iterator[Caveat]:
    key = config["data"].get("batch_key")
    if "association" not in tables or not key:
        return
    rows = tables["association"][tables["association"]["key"] == key]
    strongest = float(rows["eta2"].max()) if len(rows) else math.nan
    if not strongest > STRONG_BATCH:
        return
    text = (
        f"A latent dimension still follows the batches ('{key}'): programs may be batch effects. "
        "Where a population comes from one batch only, its marker genes cannot be told from that batch."
    )
    yield Caveat("Batch in the latent space", text, strongest, "largest η²", "tables/association.csv")


def _labels(tables: Tables, config: Mapping[str, Any]) -> Iterator[Caveat]:
    if config["data"].get("kind") == "simulated":
        return  # the labels are planted with the counts
    key = config["data"].get("population_key")
    is_clustering = any(word in str(key).lower() for word in ("leiden", "louvain", "cluster", "kmeans", "seurat"))
    how = "looks like a clustering of" if is_clustering else "may have been derived from"
    text = (
        f"The population column '{key}' {how} these same counts. If so, marker genes are chosen and tested on one set "
        "of cells: p-values are too small and agreement on markers too high. Stability across halves does not cure "
        "this, since both halves share the labels. Program genes are affected less."
    )
    count = tables["stability"]["population"].nunique()
    yield Caveat("Labels from the same counts", text, count, "populations so labelled", "tables/populations.csv")


def _some(rows: pd.DataFrame, limit: int = 6) -> str:
    names = list(dict.fromkeys(str(name) for name in rows["population"]))
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(f"“{name}”" for name in names[:limit]) + more
