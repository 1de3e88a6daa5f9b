"""Write stability_authors.json: what the authors' own code gives for random selections and rankings.

Run by hand with the two files of the versions below; they are not part of this repository:

    python stability_authors.py JMLR2018/python/stability/__init__.py sigir2024-rbo/rbo/Python/rbo.py

* github.com/nogueirs/JMLR2018 at 9ccbea8 (Nogueira, Sechidis & Brown 2018)
* github.com/julian-urbano/sigir2024-rbo at 0338fd9 (Corsi & Urbano 2024)
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np


def load(path: str, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def nogueira_cases(authors: ModuleType, rng: np.random.Generator) -> list[dict[str, Any]]:
    cases = []
    for n_replicates, n_genes in ((2, 6), (3, 10), (5, 30), (10, 40), (12, 25)):
        frequency = rng.random(n_genes) * rng.uniform(0.3, 1.0)
        selections = (rng.random((n_replicates, n_genes)) < frequency).astype(int)
        found = authors.getVarianceofStability(selections)
        cases.append(
            {
                "selections": selections.tolist(),
                "stability": float(found["stability"]),
                "variance": float(found["variance"]),
            }
        )
    return cases


def tie_cases(authors: ModuleType, rng: np.random.Generator) -> list[dict[str, Any]]:
    cases = []
    for n_genes, n_values, p in ((4, 2, 0.9), (8, 3, 0.8), (20, 5, 0.98), (30, 30, 0.95), (60, 2, 0.98), (60, 20, 0.6)):
        first, second = rng.integers(0, n_values, n_genes), rng.integers(0, n_values + 1, n_genes)
        items = [f"gene{gene}" for gene in range(n_genes)]
        rankings = [authors.extract_ranking(items, scores) for scores in (first, second)]
        value = authors.rbo(*rankings, p, ties="a", score=("ext",))["ext"]
        cases.append({"first": first.tolist(), "second": second.tolist(), "p": p, "rbo": float(value)})
    return cases


def list_cases(authors: ModuleType, rng: np.random.Generator) -> list[dict[str, Any]]:
    cases = []
    for n_first, n_second, p in ((5, 5, 0.9), (3, 8, 0.9), (12, 7, 0.98), (30, 4, 0.95), (20, 20, 0.7)):
        pool = [f"gene{gene}" for gene in range(2 * max(n_first, n_second))]
        first, second = ([str(item) for item in rng.permutation(pool)[:n]] for n in (n_first, n_second))
        second[0] = first[0] if first[0] not in second else second[0]  # some agreement to extrapolate
        value = authors.rbo(first, second, p, ties="w", score=("ext",))["ext"]
        cases.append({"first": first, "second": second, "p": p, "rbo": float(value)})
    return cases


def main(nogueira_path: str, rbo_path: str) -> None:
    if not hasattr(np, "in1d"):
        vars(np)["in1d"] = np.isin  # by its old name, which the second file still calls
    rng = np.random.default_rng(2018)
    nogueira, rbo = load(nogueira_path, "nogueira"), load(rbo_path, "rbo")
    values = {
        "numpy": np.__version__,
        "nogueira": nogueira_cases(nogueira, rng),
        "rank_biased_overlap": tie_cases(rbo, rng),
        "rank_biased_overlap_lists": list_cases(rbo, rng),
    }
    Path(__file__).with_name("stability_authors.json").write_text(json.dumps(values) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
