"""Read a result folder: the only place where the report touches stored tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from scballast.config import keys
from scballast.methods.registry import method_order
from scballast.results import read_config, read_json, setting
from scballast.verdict.caveats import Caveat

# Columns that stay text whatever they hold: a population may be called "1", "NA" or "nan".
TEXT_COLUMNS = frozenset(
    {
        "category", "cell", "common_genes", "end", "estimand", "failure", "feature_type", "flags", "found", "gene",
        "gene_set", "key", "list", "listed", "matches", "member", "method", "method_a", "method_b", "model", "name",
        "objective", "of", "parameter", "permuted", "population", "program", "reason", "reference", "role", "run_id",
        "safe_name", "scope", "sides", "source", "state", "statistic", "symbol", "text", "title", "trial", "unit",
        "verdict", "warning", "why", "with",
    }
)  # fmt: skip


def read_table(path: Path) -> pd.DataFrame:
    """Read a CSV or parquet table; text columns stay text, every other column is a number where it can be.

    Parameters
    ----------
    path
        File that exists.

    Returns
    -------
    DataFrame
        Empty cells of number columns are NaN; empty cells of text columns are ``""``.
    """
    if path.suffix == ".parquet":
        table = pd.read_parquet(path)
        text = {column for column in table if column in TEXT_COLUMNS}
    else:
        # Converted columns hold what is written, whatever it is; the others are parsed exactly, digit for digit.
        as_written = dict.fromkeys(TEXT_COLUMNS, str)
        empty = {"keep_default_na": False, "na_values": ["", "NaN", "nan"]}
        table = pd.read_csv(path, converters=as_written, float_precision="round_trip", low_memory=False, **empty)
        text = {column for column in table if not pd.api.types.is_numeric_dtype(table[column])}
    for column in text:
        table[column] = table[column].astype(object).where(table[column].notna(), "").astype(str)
    return table


MOST_DRAWN = 40
"""Rows of a figure: more cannot be read, and make a page of many megabytes; the tables have all populations."""


@dataclass(frozen=True)
class StoredFolder:
    """What an experiment and a sweep alike store; tables are read when first asked for."""

    path: Path
    _cache: dict[str, pd.DataFrame | None] = field(default_factory=dict, repr=False)

    def table(self, name: str) -> pd.DataFrame | None:
        """Give a table by name, or None where the folder has none or it has no row."""
        if name not in self._cache:
            paths = (self.path / "tables" / f"{name}.{suffix}" for suffix in ("csv", "parquet"))
            table = next((read_table(path) for path in paths if path.is_file()), None)
            self._cache[name] = None if table is None or table.empty else table
        return self._cache[name]

    @cached_property
    def config(self) -> dict[str, Any]:
        """The resolved configuration; empty where there is none."""
        return read_config(self.path) if (self.path / "config" / "resolved.yaml").is_file() else {}


@dataclass(frozen=True)
class ResultFolder(StoredFolder):
    """An experiment's stored values."""

    @cached_property
    def history(self) -> dict[str, list[list[float]]]:
        """Epoch curves: name to ``[[epoch, value], ...]``."""
        return dict(read_json(self.path / "history.json", {}))

    @cached_property
    def tags(self) -> dict[str, str]:
        """Data set, versions, device."""
        return {str(name): str(value) for name, value in read_json(self.path / "tags.json", {}).items()}

    @cached_property
    def dataset(self) -> str:
        """Name of the data set; empty where nothing tells."""
        return self.tags.get(keys.DATASET) or str(setting(self.config, "data.name") or "")

    @cached_property
    def caveats(self) -> list[Caveat] | None:
        """What limits the results, as it was stored; None where it was not."""
        path = self.path / "tables" / "caveats.csv"
        if not path.is_file():
            return None
        columns = ("title", "text", "value", "unit", "source")
        return [Caveat(*(row[name] for name in columns)) for row in read_table(path).to_dict("records")]

    @cached_property
    def n_replicates(self) -> int | None:
        """Number of replicates: the training table's, else the configuration's."""
        training = self.table("training")
        if training is not None and "replicate" in training:
            return int(training["replicate"].nunique())
        configured = setting(self.config, "resample.n_replicates")
        return None if configured is None else int(configured)

    @cached_property
    def stability(self) -> pd.DataFrame:
        """Stability at every k.

        Raises
        ------
        FileNotFoundError
            There is no such table.
        """
        table = self.table("stability")
        if table is None:
            message = f"{self.path}: no rows in tables/stability.csv. Run the experiment to its end, then report."
            raise FileNotFoundError(message)
        return table

    @cached_property
    def top_k(self) -> int:
        """The headline k: ``rank.top_k`` of the configuration, else 50, else the largest k in the table."""
        known = sorted({int(k) for k in self.stability["k"]})
        configured = setting(self.config, "rank.top_k", 50)
        return int(configured) if int(configured) in known else known[-1]

    @cached_property
    def headline(self) -> pd.DataFrame:
        """Stability at the headline k, one row per method and population."""
        return self.stability[self.stability["k"] == self.top_k].reset_index(drop=True)

    @cached_property
    def n_cells(self) -> dict[str, int]:
        """Cells per ranked population."""
        table = self.table("populations")
        if table is None:
            return {}
        ranked = table[table["ranked"].astype(str) == "True"] if "ranked" in table else table
        return dict(zip(ranked["population"], ranked["n_cells"].astype(int), strict=True))

    @cached_property
    def populations(self) -> list[str]:
        """Ranked populations, the largest first, then by name."""
        names = {str(name) for name in self.headline["population"]}
        return sorted(names, key=lambda name: (-self.n_cells.get(name, 0), name))

    @property
    def drawn(self) -> list[str]:
        """Populations that figures have a row of: the largest ``MOST_DRAWN``."""
        return self.populations[:MOST_DRAWN]

    def populations_of(self, table: pd.DataFrame) -> list[str]:
        """Ranked populations that a table speaks of, in the report's order."""
        present = set(table["population"])
        return [name for name in self.populations if name in present]

    def drawn_of(self, table: pd.DataFrame) -> list[str]:
        """Those that a table speaks of and figures have a row of."""
        return [name for name in self.populations_of(table) if name in self.drawn]

    def methods(self, estimand: str) -> list[str]:
        """Methods of one estimand in the contract's order."""
        rows = self.headline[self.headline["estimand"] == estimand]
        return sorted({str(name) for name in rows["method"]}, key=method_order)

    @cached_property
    def symbols(self) -> dict[str, str]:
        """What people call a gene, by its id, where that is another name."""
        table = self.table("genes")
        if table is None:
            return {}
        return {str(row.gene): str(row.symbol) for row in table.itertuples() if row.symbol and row.symbol != row.gene}

    def gene_label(self, gene: str) -> str:
        """Name a gene for people: its symbol with the id in brackets, or the id alone where it has no symbol."""
        symbol = self.symbols.get(gene)
        return f"{symbol} ({gene})" if symbol else gene

    @cached_property
    def n_genes(self) -> int:
        """Genes that were ranked, from ``tables/rankings.parquet``; 0 where there is no such file."""
        path = self.path / "tables" / "rankings.parquet"
        if not path.is_file():
            return 0
        ranks = pd.read_parquet(path, columns=["rank"])["rank"]
        return int(ranks.max()) if len(ranks) else 0

    def mean_ranks(self, methods: Sequence[str]) -> pd.DataFrame | None:
        """Mean rank over replicates, from ``tables/rankings.parquet``.

        Parameters
        ----------
        methods
            Methods to read; the others are skipped in the file.

        Returns
        -------
        DataFrame or None
            Columns method, population, gene, rank; None where there is no such file.
        """
        path = self.path / "tables" / "rankings.parquet"
        if not path.is_file():
            return None
        columns = ["method", "population", "gene", "rank"]
        table = pd.read_parquet(path, columns=columns, filters=[("method", "in", list(methods))])
        table = table.astype(dict.fromkeys(columns[:3], "category"))
        return table.groupby(columns[:3], observed=True, sort=True)["rank"].mean().reset_index()
