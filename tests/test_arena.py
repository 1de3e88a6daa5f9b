"""The arena: its judge, its intervals, the simulators of others, what is stored, and its ranking in a reduced form."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from tests.benchmarks import arena_table, published_simulators
from tests.benchmarks.arena_data import OWN, Size, data_set, setup_of
from tests.benchmarks.bench_arena import CELLS, Unit, missing, of_cells, of_family, score_cells, stored

from scballast.methods.registry import METHODS
from scballast.models import FAMILIES

STORED = pd.read_csv(arena_table.STORED)
REDUCED = Size(n_genes=400, populations=(240, 120, 60), without=())
SEED = 9001  # of no data set that is stored


@pytest.fixture(scope="module")
def reduced() -> pd.DataFrame:
    """One data set of programs and one of groups, scored by the methods of cells alone."""
    rows = []
    for simulator in ("additive", "splatter"):
        judged = data_set(simulator, 2000, SEED, REDUCED)
        methods = [name for name in of_cells() if METHODS[name].estimand in judged.planted]
        rows += score_cells(judged, setup_of(judged, "pca", methods, [], SEED))
    return pd.DataFrame([{**row, "mean": np.mean(list(row["precision"].values()))} for row in rows])


@pytest.mark.parametrize("estimand", arena_table.ESTIMANDS)
def test_the_first_three_of_cells_alone_keep_their_order(reduced: pd.DataFrame, estimand: str) -> None:
    """Whichever two of the first three are clearly apart in the arena are in the same order in other data."""
    of_cells_alone = STORED[STORED["model"] == CELLS]
    first = list(arena_table.leaderboard(of_cells_alone, estimand).index[:3])
    apart = arena_table.clearly_apart(of_cells_alone, estimand, first)
    assert apart
    means = reduced.groupby("method")["mean"].mean()
    assert [
        (first[above], first[below]) for above, below in apart if means[first[above][1]] <= means[first[below][1]]
    ] == []
    chance = means["random"] if estimand == "marker" else means[first[0][1]]
    assert means[first[0][1]] >= chance + (0.5 if estimand == "marker" else 0.0)


def test_the_page_shows_what_is_stored() -> None:
    page = arena_table.PAGE.read_text(encoding="utf-8")
    assert arena_table.page_with_tables(page, STORED) == page
    assert arena_table.PICTURE.stat().st_size < 200_000


def test_what_is_stored_is_of_methods_and_families_that_there_are() -> None:
    """Newer ones join when the benchmark is next run."""
    for (model, method), own in STORED.groupby(["model", "method"]):
        assert method in (of_cells() if model == CELLS else of_family(model))
        assert set(own["estimand"]) == {METHODS[method].estimand}
    there = {"ldvae", "scvi", "pca", "nmf", "cnmf", "factor_analysis", "glmpca", "topic"}
    assert there <= set(STORED["model"]) <= {*FAMILIES, CELLS}


def test_every_row_is_of_the_same_kinds_of_data_sets() -> None:
    """Means over other simulators or depths would not be comparable."""
    for estimand, own in STORED.groupby("estimand"):
        kinds = own.groupby(["model", "method"])[["simulator", "depth"]].apply(lambda rows: len(rows.drop_duplicates()))
        assert kinds.nunique() == 1, estimand


def test_what_the_page_concludes_follows_from_the_stored_rows() -> None:
    boards = {estimand: arena_table.leaderboard(STORED, estimand) for estimand in arena_table.ESTIMANDS}
    program, marker = boards["program"], boards["marker"]
    sparse, spread = (CELLS, "sparse_factors"), ("factor_analysis", "spread")
    assert list(program.index[:2]) == [sparse, spread]
    assert program.loc[spread, "behind"] < program.loc[spread, "behind_half"]
    assert {name: program[name].idxmax() for name in OWN} == dict.fromkeys(OWN, sparse)
    assert program["cnmf"].idxmax() == spread
    for (family, method), row in marker.iterrows():
        if method == "axis":
            assert row["mean"] < marker.loc[(family, "contrast"), "mean"]
    of_ldvae = program[program.index.get_level_values("model") == "ldvae"]
    assert of_ldvae.index[0] == ("ldvae", "hotspot")
    hotspot = ("factor_analysis", "hotspot")
    assert 15 < of_ldvae["seconds"].iloc[0] / program.loc[hotspot, "seconds"] < 30  # a twentieth
    assert marker.index[0] == (CELLS, "wilcoxon")
    said = {
        f"cNMF's ({program.loc[sparse, 'cnmf']:.2f})",
        f"leads ({program.loc[spread, 'cnmf']:.2f})",
        f"finds {of_ldvae['mean'].iloc[0]:.2f} on average",
        f"factor analysis {program.loc[hotspot, 'mean']:.2f} in",
        f"`wilcoxon` finds {marker['mean'].iloc[0]:.2f}, the LDVAE's own test "
        f"{marker.loc[('ldvae', 'ldvae_de'), 'mean']:.2f}",
        f"finds {program.loc[spread, 'mean']:.2f} from a factor analysis and "
        f"{program.loc[('cnmf', 'spread'), 'mean']:.2f} from consensus NMF",
        *(f"{program.loc[(name.lower(), 'spread'), 'mean']:.2f} from {name}" for name in ("PCA", "NMF")),
    }
    page = " ".join(arena_table.PAGE.read_text(encoding="utf-8").split())
    assert [words for words in said if words not in page] == []


def test_what_the_page_says_of_readings_of_latent_spaces_follows_from_the_stored_rows() -> None:
    wide = {
        estimand: arena_table.with_mean(own).pivot_table(
            index=arena_table.DATA_SET, columns=arena_table.ROW, values="mean"
        )
        for estimand, own in STORED.groupby("estimand")
    }
    program, marker = wide["program"], wide["marker"]

    def ahead(table: pd.DataFrame, first: tuple[str, str], second: tuple[str, str]) -> str:
        mean, half = arena_table.lead(table, first, second)
        return f"{mean:.3f} ± {half:.3f}"

    page = " ".join(arena_table.PAGE.read_text(encoding="utf-8").split())
    assert f"by {ahead(program, ('ldvae', 'hotspot'), ('scvi', 'hotspot'))} (`hotspot`, the same data sets)" in page
    assert f"not clearly ({ahead(marker, ('scvi', 'scvi_de'), ('ldvae', 'ldvae_de'))})" in page
    assert f"from the LDVAE (by {ahead(program, ('ldvae', 'hotspot'), ('ldvae', 'local'))})" in page
    for family in ("factor_analysis", "scvi", "pca", "glmpca", "cnmf", "nmf"):
        mean, half = arena_table.lead(program, (family, "hotspot"), (family, "local"))
        assert abs(mean) < half
        assert (mean < 0) == (family in ("nmf", "factor_analysis"))
    gain = program.xs("hotspot", axis=1, level="method") - program.xs("local", axis=1, level="method")
    by_simulator = gain.groupby("simulator").mean().dropna(axis=1)
    assert set(by_simulator.columns[by_simulator.loc["cnmf"] > 0]) == {"topic", "cnmf"}
    assert by_simulator["ldvae"].idxmax() == "shared"
    glmpca = {
        f"`spread` finds {program['glmpca', 'spread'].mean():.2f} and `axis` {marker['glmpca', 'axis'].mean():.2f}",
        f"`hotspot` finds {program['glmpca', 'hotspot'].mean():.2f} on the same latent space",
    }
    assert [words for words in glmpca if words not in page] == []
    for table, method in ((program, "spread"), (marker, "axis")):
        of_method = table.xs(method, axis=1, level="method").mean()
        assert of_method.idxmin() == "glmpca"


def test_what_the_page_says_of_topics_follows_from_the_stored_rows() -> None:
    program, marker = (arena_table.leaderboard(STORED, estimand) for estimand in ("program", "marker"))
    best = program["mean"].groupby("model").max()
    contrast = marker["mean"].xs("contrast", level="method")
    assert best.idxmin() == contrast.idxmin() == "topic"
    page = " ".join(arena_table.PAGE.read_text(encoding="utf-8").split())
    assert f"is `local` ({program.loc[('topic', 'local'), 'mean']:.2f}), the least of all families" in page
    assert best["topic"] == program.loc[("topic", "local"), "mean"]
    assert f"their `contrast` ({contrast['topic']:.2f}) finds" in page
    of_cnmf = program["cnmf"].xs("spread", level="method")
    assert f"`spread` finds {of_cnmf['topic']:.2f}, a factor analysis's {of_cnmf['factor_analysis']:.2f}." in page
    assert 20 < program.loc[("topic", "local"), "seconds"] < 45  # half a minute


def test_what_more_epochs_do_to_the_ldvae_is_what_is_stored() -> None:
    epochs = pd.read_csv(arena_table.STORED.with_name("arena_epochs.csv"))
    wide = epochs.pivot(index=["method", *arena_table.DATA_SET], columns="max_epochs", values="average_precision")
    local, contrast = wide.loc["local"], wide.loc["contrast"]
    longest = local[1600].dropna().index
    page = " ".join(arena_table.PAGE.read_text(encoding="utf-8").split())
    assert (
        f"(2,000 counts, {len(local)} data sets) `local` finds {(local[800] - local[400]).mean():.3f} more and "
        f"`contrast` {(contrast[800] - contrast[400]).mean():.3f};"
    ) in page
    assert (
        f"With 1,600 ({len(longest)} data sets) `local` gains another "
        f"{(local[1600] - local[800]).mean():.3f}, and `contrast` loses {(contrast[800] - contrast[1600]).mean():.3f}."
    ) in page
    rotated = arena_table.with_mean(STORED[(STORED["model"] == "factor_analysis") & (STORED["method"] == "local")])
    assert (rotated.set_index(arena_table.DATA_SET)["mean"].reindex(local.index) > local[800]).all()
    stored = arena_table.with_mean(STORED[(STORED["model"] == "ldvae") & (STORED["method"] == "local")])
    np.testing.assert_allclose(
        stored.set_index(arena_table.DATA_SET)["mean"].reindex(local.index), local[400], atol=1e-4
    )


def test_intervals_by_hand() -> None:
    values, kinds = pd.Series([0.2, 0.4, 0.6, 0.9, 0.9]), pd.Series(["a", "a", "b", "b", "b"])
    mean, half = arena_table.mean_with_interval(values, kinds)
    assert mean == pytest.approx((0.3 + 0.8) / 2)
    variance = (0.02 + 0.06) / 3  # sums of squares around 0.3 and 0.8, on 1 + 2 degrees of freedom
    assert half == pytest.approx(stats.t.ppf(0.975, 3) * np.sqrt(variance * (1 / 2 + 1 / 3) / 4))
    assert np.isnan(arena_table.mean_with_interval(values[:1], kinds[:1])[1])


def test_intervals_cover_the_truth() -> None:
    """Kinds of data sets differ by far more than data sets of a kind, and the interval is of these kinds."""
    rng = np.random.default_rng(3)
    kinds = pd.Series(np.repeat(np.arange(6), 2))
    truth = np.linspace(0, 1, 6)
    covered = []
    for _ in range(400):
        mean, half = arena_table.mean_with_interval(pd.Series(truth[kinds] + rng.normal(0, 0.05, 12)), kinds)
        covered.append(abs(mean - truth.mean()) <= half)
    assert 0.92 < np.mean(covered) < 0.98


def test_a_method_without_scores_is_at_chance_and_ties_take_no_order() -> None:
    judged = data_set("splatter", 600, 1, REDUCED)
    planted = judged.planted["marker"]
    nothing = np.full(planted.shape, np.nan)
    share = {
        population.n_cells: planted[row].sum() / judged.judged["marker"][row].sum()
        for row, population in enumerate(judged.dataset.populations)
    }
    assert judged.precision("marker", nothing) == pytest.approx(share)
    assert judged.precision("marker", planted.astype(float)) == {240: 1.0, 120: 1.0, 60: 1.0}
    assert judged.precision("program", nothing) == {}


def test_groups_of_splatter_differ_by_what_was_planted() -> None:
    found = published_simulators.splatter_groups((3000, 3000), 300, 30_000, 5)
    counts, groups = found.adata.X.toarray(), found.adata.obs["population"].cat.codes.to_numpy()
    first, second = (np.log(counts[groups == code].sum(axis=0)) for code in (0, 1))
    difference = first - second
    planted, judged = found.planted["marker"], found.judged["marker"]
    unchanged = judged.all(axis=0) & ~planted.any(axis=0) & (np.abs(difference - np.median(difference)) < 0.3)
    shift = np.median(difference[unchanged])  # of all genes, by those that take more of the same depth
    # Up in one of two groups is judged as no marker of the other.
    assert (difference[planted[0]] - shift > np.log(1.5) - 0.15).all()
    assert (difference[planted[1]] - shift < -np.log(1.5) + 0.15).all()
    assert 3 <= planted[0].sum() <= 40
    assert counts.sum(axis=1).mean() == pytest.approx(30_000, rel=0.05)
    # Noise is larger than Poisson's, by the common coefficient of variation at least.
    own = counts[groups == 0]
    high = own.mean(axis=0) > 100
    assert np.median(own[:, high].std(axis=0) / own[:, high].mean(axis=0)) > published_simulators.SPLATTER.dispersion


def test_the_program_of_cnmf_is_where_it_was_planted() -> None:
    found = published_simulators.cnmf_programs((2000, 2000), (2,), 300, 30_000, 6)
    planted = found.planted["program"]
    assert planted[0].any()
    assert not planted[1].any()
    counts, groups = found.adata.X.toarray(), found.adata.obs["population"].cat.codes.to_numpy()
    shares = counts / counts.sum(axis=1, keepdims=True)
    with_program, without = shares[groups == 0], shares[groups == 1]
    # A third of the cells takes 10 to 70 % of its counts from the program: planted genes vary together there.
    strong = planted[0] & (with_program.mean(axis=0) > np.quantile(with_program.mean(axis=0), 0.5))

    def coherence(cells: np.ndarray) -> float:
        values = np.corrcoef(np.log1p(1e4 * cells[:, strong]), rowvar=False)
        return float(np.abs(values[np.triu_indices_from(values, 1)]).mean())

    assert coherence(with_program) > 2 * coherence(without)


def test_a_line_that_was_cut_off_is_run_again(tmp_path: Path) -> None:
    unit, line = (
        Unit("pca", "switch", 600, 1),
        {"model": "pca", "simulator": "switch", "depth": 600, "seed": 1, "rows": []},
    )
    path = tmp_path / "arena.jsonl"
    assert stored(path) == {}
    path.write_text(json.dumps(line) + "\n" + json.dumps({**line, "seed": 2})[:-4], encoding="utf-8")
    assert list(stored(path)) == [unit]


def test_a_method_that_has_joined_since_is_run_alone(tmp_path: Path) -> None:
    unit, path = Unit("pca", "splatter", 600, 1), tmp_path / "arena.jsonl"
    names = unit.methods()
    assert "contrast" in names
    assert "local" not in names  # splatter plants no programs
    assert missing(unit, {}) == names

    def write(*rows: dict[str, object]) -> None:
        line = {"model": "pca", "simulator": "splatter", "depth": 600, "seed": 1, "rows": rows}
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    write(*({"method": name, "seconds": 1} for name in names if name != "contrast"))
    assert missing(unit, stored(path)) == ["contrast"]
    write({"method": "contrast", "seconds": 2}, {"method": "axis", "seconds": 2})
    assert missing(unit, stored(path)) == []
    seconds = {row["method"]: row["seconds"] for row in stored(path)[unit]["rows"]}
    assert seconds == {**dict.fromkeys(names, 1), "contrast": 2, "axis": 2}
