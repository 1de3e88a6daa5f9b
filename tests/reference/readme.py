"""Write ``readme_demo.csv``, ``readme_answer.csv`` and ``readme_truth.csv``: the numbers that README states.

    scballast experiment=demo
    python -m tests.benchmarks truth
    python tests/reference/readme.py runs/results/pbmc68k-… runs/bench_truth

Means over populations: of the demo, the share of the top 50 that is confirmed in unseen cells, and Φ; of each
simulated data set, the average precision of the planted program genes (also a mean over its two halves).
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

HERE = Path(__file__).parent
TOP_K = 50


def demo(folder: Path) -> pd.DataFrame:
    """Return each method's confirmed share and stability in a run of the demo."""
    stability = pd.read_csv(folder / "tables" / "stability.csv")
    stability = stability[stability["k"] == TOP_K]
    confirmed = pd.read_csv(folder / "tables" / "confirmation.csv")
    by_method = [
        table.groupby(["estimand", "method"], sort=False)[name].mean()
        for table, name in ((confirmed, "confirmed"), (stability, "phi"))
    ]
    return pd.concat(by_method, axis=1).reset_index()


def answers(folder: Path) -> pd.DataFrame:
    """Return the answer of each population with the genes that hold at least."""
    answer = pd.read_csv(folder / "tables" / "answer.csv", keep_default_na=False, na_values=[""])
    genes = (answer["confirmed_lower"] * TOP_K).round()
    columns = ["population", "estimand", "method", "phi", "confirmed"]
    return answer[columns].assign(genes_that_hold=genes.astype("Int64"))


def truth(folder: Path) -> pd.DataFrame:
    """Return each method's average precision in every simulated data set."""
    files = sorted(folder.glob("*.csv"))
    tables = [pd.read_csv(file) for file in files]
    keys = ["family", "depth", "seed", "method"]
    means = pd.concat([table.groupby(keys, as_index=False)["average_precision"].mean() for table in tables])
    # With and without models the methods of cells alone give the same: once is enough.
    return means.drop_duplicates(keys).sort_values(keys)


if __name__ == "__main__":
    run, benchmark = map(Path, sys.argv[1:])
    written = {"demo": demo(run), "answer": answers(run), "truth": truth(benchmark)}
    for name, table in written.items():
        table.round(4).to_csv(HERE / f"readme_{name}.csv", index=False, lineterminator="\n")
