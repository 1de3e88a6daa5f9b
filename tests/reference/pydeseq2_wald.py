"""Make pydeseq2_wald.csv: Wald statistics by PyDESeq2, from a script that shares no code with the package.

Run from the repository root: ``python tests/reference/pydeseq2_wald.py``. The data are drawn here, by loops
over samples; the test draws them through :func:`example` and sums them its own way.
"""

from __future__ import annotations

import json
import platform
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd

HERE = Path(__file__).parent
N_GENES = 40
SAMPLES = ("p1", "p2", "p3", "p4", "p5")
CELLS_IN_AND_OUT = {"p1": (30, 60), "p2": (25, 40), "p3": (12, 50), "p4": (9, 45), "p5": (40, 11)}


def example() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Counts (cell, gene), sample of each cell, and whether it is in the population; 5 genes are markers."""
    rng = np.random.default_rng(2_024)
    level = rng.lognormal(0.0, 1.0, N_GENES)
    counts, samples, inside = [], [], []
    for number, sample in enumerate(SAMPLES):
        of_sample = level * rng.lognormal(0.0, 0.2, N_GENES)
        for is_in, n_cells in zip((True, False), CELLS_IN_AND_OUT[sample], strict=True):
            of_side = of_sample * rng.lognormal(0.0, 0.1, N_GENES)
            if is_in:
                of_side[:5] *= 3.0
            for _ in range(n_cells):
                counts.append(rng.negative_binomial(2.0, 2.0 / (2.0 + of_side)))
                samples.append(number)
                inside.append(is_in)
    table = np.array(counts)
    table[:, -1] = 0
    return table, np.array(samples), np.array(inside)


def main() -> None:
    """Write the statistics and what made them."""
    from pydeseq2.dds import DeseqDataSet
    from pydeseq2.ds import DeseqStats

    counts, samples, inside = example()
    cells = pd.DataFrame(counts, columns=[f"gene{gene}" for gene in range(N_GENES)])
    cells["sample"] = [SAMPLES[number] for number in samples]
    cells["population"] = np.where(inside, "yes", "no")
    kept = cells[cells["sample"] != "p4"]  # 9 cells in the population
    bulk = kept.groupby(["sample", "population"]).sum()
    metadata = bulk.index.to_frame()
    metadata.index = bulk.index = ["/".join(pair) for pair in bulk.index]
    bulk = bulk.loc[:, bulk.sum() > 0]
    data = DeseqDataSet(counts=bulk, metadata=metadata, design="~sample + population", quiet=True)
    data.deseq2()
    test = DeseqStats(
        data, contrast=["population", "yes", "no"], cooks_filter=False, independent_filter=False, quiet=True
    )
    test.summary()
    test.results_df[["baseMean", "log2FoldChange", "lfcSE", "stat"]].to_csv(HERE / "pydeseq2_wald.csv")
    versions = {name: version(name) for name in ("pydeseq2", "numpy", "scipy", "pandas")}
    (HERE / "pydeseq2_wald.json").write_text(
        json.dumps({"script": "pydeseq2_wald.py", "python": platform.python_version(), **versions}, indent=2) + "\n"
    )


if __name__ == "__main__":
    main()
