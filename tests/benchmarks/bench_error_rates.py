"""Type I error where donors differ and conditions do nothing: ``association`` and the tests of ``response``.

    python -m tests.benchmarks error_rates [--data-sets 20] [--first-seed 0]

Wanted: 0.03 to 0.07 of the p-values at most 0.05 under permuted donors. Beside it stand the rates that are not wanted:
of cells permuted over donors, and of a response tested in other cells of the same donors: cell by cell where their
preparations differ, and, beside the control, with the donors as the evidence.
"""

from __future__ import annotations

import argparse
import logging
import sys

import numpy as np
import pandas as pd
from tests.helpers.donor_examples import error_rate, of_many_donors, of_whole_donors, within_donors
from tests.helpers.response_examples import donors_example
from tests.helpers.response_lists import NULL, RESPONSE, confirmed_lists

from scballast.agreement.response_confirmation import over_donors_test
from scballast.data.replicates import draw_replicates
from scballast.methods.method import NamedMethod
from scballast.methods.response import response_wilcoxon_scores

LABELS = {
    "a label of whole donors, arrangements enumerated": of_whole_donors,
    "a label of whole donors, arrangements drawn": of_many_donors,
    "a label that varies within donors": within_donors,
}
WANTED = (0.03, 0.07)
TOP_K = 25


def association_rates(seeds: range) -> list[dict[str, object]]:
    """Return the rate of each kind of label, by donor and by cell."""
    return [
        {
            "test": f"association, {title}",
            "p-values": 100 * len(seeds),
            "rate": error_rate(draw, by_donor=True, seeds=seeds),
            "not wanted": error_rate(draw, by_donor=False, seeds=seeds),
        }
        for title, draw in LABELS.items()
    ]


def response_p_values(
    seeds: range, kind: str, *, paired: bool, preparation_sd: float = 0.3, method: NamedMethod = RESPONSE
) -> np.ndarray:
    """Return the p-values of genes that lists of a method chose in other donors or cells; nothing responds.

    Not with those of the control, whose lists of permuted conditions are tested under these: they hold their rate
    everywhere, and would dilute that of the others.
    """
    found = []
    for seed in seeds:
        example = donors_example(seed, paired=paired, preparation_sd=preparation_sd)
        genes = confirmed_lists(example, kind, seed, TOP_K)[0].genes
        found.append(genes.loc[genes["method"] == method.name, "p_value"].dropna())
    return np.concatenate(found)


def over_seen_donors(seeds: range) -> np.ndarray:
    """Return such p-values of a test that takes donors as the evidence in other cells of donors that the list saw."""
    found = []
    for seed in seeds:
        example = donors_example(seed, paired=True)
        for replicate in draw_replicates("subsample", 2, example.codes, ("A",), seed=seed, samples=example.donors):
            first = np.argsort(-response_wilcoxon_scores(example.view(replicate.cells))[0])[:TOP_K]
            unseen = example.view(replicate.heldout)
            cells = (unseen.counts, unseen.total_counts, unseen.conditions, unseen.samples)
            found.append(over_donors_test(*cells, first).p_value)  # type: ignore[arg-type]
    return np.concatenate(found)


def response_rates(seeds: range) -> list[dict[str, object]]:
    """Return the rate in other donors, and in other cells of the same donors."""
    rows = []
    for paired in (True, False):
        values = response_p_values(seeds, "donor", paired=paired)
        kind = "both conditions" if paired else "one condition"
        row = {"test": f"response, donors with {kind}, other donors", "p-values": len(values)}
        rows.append({**row, "rate": np.mean(values <= 0.05), "not wanted": np.nan})
        values = response_p_values(seeds, "donor", paired=paired, method=NULL)
        row = {"test": f"its control, donors with {kind}, other donors", "p-values": len(values)}
        rows.append({**row, "rate": np.mean(values <= 0.05), "not wanted": np.nan})
    values = response_p_values(seeds, "subsample", paired=True, method=NULL)
    row = {"test": "its control, other cells of the same donors", "p-values": len(values)}
    rows.append({**row, "rate": np.mean(values <= 0.05), "not wanted": np.mean(over_seen_donors(seeds) <= 0.05)})
    same = {sd: response_p_values(seeds, "subsample", paired=True, preparation_sd=sd) for sd in (0.0, 0.3)}
    row = {"test": "response, other cells of the same donors, preparations alike (not wanted: they differ)"}
    rates = {sd: np.mean(values <= 0.05) for sd, values in same.items()}
    rows.append({**row, "p-values": len(same[0.0]), "rate": rates[0.0], "not wanted": rates[0.3]})
    return rows


def main(words: list[str] | None = None) -> bool:
    """Print the rates; return whether all are as wanted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-sets", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=0)
    options = parser.parse_args(words or [])
    logging.disable(logging.WARNING)
    seeds = range(options.first_seed, options.first_seed + options.data_sets)
    table = pd.DataFrame([*association_rates(seeds), *response_rates(seeds)])
    print(table.round(3).to_string(index=False))
    return bool(table["rate"].between(*WANTED).all())


if __name__ == "__main__":
    sys.exit(0 if main(sys.argv[1:]) else 1)
