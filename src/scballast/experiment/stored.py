"""Finished runs of the same data and replicates: their rankings serve again, whatever models gave them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from scballast.config import keys
from scballast.config.schema import Config, to_leaves
from scballast.data.dataset import Dataset
from scballast.results import MARKER, is_complete, read_config, read_json, setting
from scballast.verdict.score_set import ScoreSet, score_set_from_rankings

_SAME = ("data.n_top_genes", "data.min_cells", "seed", "resample", "rank.top_k")
"""What rankings depend on beside the content of the data and the methods."""
_TABLES = ("rankings.parquet", "answer.csv", "answer_genes.csv")
_TEXT = ("population", "estimand", "method", "gene", "symbol", "flags", "reference", "reason")


@dataclass(frozen=True, eq=False)
class Rankings:
    """What a check needs of an experiment.

    Attributes
    ----------
    score_set
        The methods' rankings.
    answer, answer_genes
        Its tables.
    origin
        Where they come from, as a sentence.
    """

    score_set: ScoreSet
    answer: pd.DataFrame
    answer_genes: pd.DataFrame
    origin: str


def stored_rankings(folders: Sequence[Path], config: Config, dataset: Dataset) -> Rankings | None:
    """Read the rankings of the first folder that has those of these data and replicates.

    Parameters
    ----------
    folders
        Result folders, the most wanted first.
    config
        Its ``seed``, ``resample``, ``rank.top_k`` and the selection of genes and populations must be the run's.
    dataset
        Its content, genes and populations must be the run's.
    """
    return next(filter(None, (_rankings(folder, config, dataset) for folder in folders)), None)


def finished_runs(runs_dir: Path) -> list[Path]:
    """Return the result folders of a runs folder, the newest first."""
    markers = sorted((runs_dir / "results").glob(f"[!.]*/{MARKER}"), key=lambda marker: -marker.stat().st_mtime)
    return [marker.parent for marker in markers]


def _rankings(folder: Path, config: Config, dataset: Dataset) -> Rankings | None:
    tables = folder / "tables"
    if not is_complete(folder) or not all((tables / name).is_file() for name in _TABLES):
        return None
    if read_json(folder / "tags.json", {}).get(keys.DATASET_DIGEST) != dataset.digest:
        return None
    stored = read_config(folder)
    wanted = {key: value for key, value in to_leaves(config).items() if key.startswith(_SAME)}
    if any(setting(stored, key) != value for key, value in wanted.items()):
        return None
    score_set = score_set_from_rankings(pd.read_parquet(tables / "rankings.parquet"), config.resample)
    populations = tuple(population.name for population in dataset.populations)
    if score_set.genes != tuple(map(str, dataset.adata.var_names)) or score_set.populations != populations:
        return None
    answer, genes = (
        pd.read_csv(tables / f"{name}.csv", keep_default_na=False, na_values=[""], dtype=dict.fromkeys(_TEXT, str))
        for name in ("answer", "answer_genes")
    )
    text = [name for name in _TEXT if name in genes]
    genes[text] = genes[text].fillna("")
    origin = f"Rankings of the finished run {folder.name}, of the same data and replicates."
    return Rankings(score_set, answer, genes, origin)
