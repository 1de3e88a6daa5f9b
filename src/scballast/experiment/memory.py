"""Whether an experiment fits the memory of this machine, told before it starts."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, replace
from pathlib import Path

from scballast.config.schema import Config
from scballast.data.dataset import Dataset
from scballast.data.outline import Outline
from scballast.engine.shuffled_copy import MOST_VALUES
from scballast.engine.windows import Windows
from scballast.errors import ConfigError
from scballast.methods.cell_view import MOST_CELLS
from scballast.methods.logreg import MOST_DENSE
from scballast.methods.registry import METHODS
from scballast.models import FAMILIES
from scballast.threads import at_once

logger = logging.getLogger(__name__)

GIGABYTE = 1e9
LIBRARIES = 1.0 * GIGABYTE
"""Python with torch, scvi-tools and scanpy, and the tables."""
ADDRESSES = 1.3 * GIGABYTE
"""Addresses that libraries and threads reserve and never touch: they count where these are limited (``ulimit -v``)."""
VALUE_BYTES = 8
"""A count (float32) and the number of its gene."""
WORKING_BYTES = 54
"""Per value of a replicate: its own counts, their logarithms in float64, a copy of these at work; measured."""
DENSE_BYTES = 24
"""Per number of a dense matrix: itself and two copies at work."""
HOTSPOT_BYTES = 40
"""The same of hotspot, which has its expectations and variances besides."""
DENSE_BY_POPULATION = (
    *("within_pca", "residual_pca", "cross_covariance", "sparse_factors"),
    *("within_dispersion", "hotspot"),
)
"""Methods that hold the cells of one population as a dense matrix, ``cell_view.MOST_CELLS`` of them at most.

All but hotspot have a few populations at once (``threads.side_by_side``).
"""
WINDOWS = 3
"""Windows of cells that training from disk holds: one that is trained on, one that is read, and a copy at work."""
CELL_BYTES = 40
"""Per cell of training from disk: where its row lies in each order, and its total."""
MEMBER_BYTES = 16
"""Per cell of a model that trains from disk: its cells, their split and the order of an epoch."""
STATISTICS = 8
"""Numbers per gene of a model beside its weights of the encoder and of the latent dimensions."""
LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
"""Where Linux says how much memory a container may take."""
MARGIN = 1.25
"""What the estimate may be too high by: up to it an experiment is tried, with a warning."""
STEP = 100
"""Numbers of genes that are recommended are multiples of it."""


@dataclass(frozen=True)
class MemoryNeed:
    """Memory that an experiment takes at its largest, in bytes.

    Attributes
    ----------
    n_cells, n_genes
        Analysed.
    counts
        The analysed counts, which are there all the time; with ``train.data=stream`` what training holds of them, and
        its models.
    reading, working
        Besides, while the file is read, and while a replicate is scored.
    by_genes
        The file stores its matrix by genes and is read as a whole.
    streamed
        The counts stay on disk.
    """

    n_cells: int
    n_genes: int
    counts: float
    reading: float
    working: float
    by_genes: bool = False
    streamed: bool = False

    @property
    def total(self) -> float:
        """All of it."""
        return LIBRARIES + self.counts + max(self.reading, self.working)


def memory_need(config: Config, dataset: Dataset) -> MemoryNeed:
    """Return what an experiment on these data takes; they may be an outline."""
    if dataset.outline is not None:
        return expected_need(config, dataset.outline)
    n_largest = max(population.n_cells for population in dataset.populations)
    n_populations = len(dataset.populations)
    return _need(config, dataset.adata.n_obs, dataset.adata.n_vars, int(dataset.adata.X.nnz), n_largest, n_populations)


def expected_need(config: Config, outline: Outline) -> MemoryNeed:
    """Return what an experiment takes on data that have not been read."""
    at_least = math.ceil(outline.n_cells / max(1, outline.n_largest))
    need = _need(config, outline.n_cells, outline.n_genes, outline.n_values, outline.n_largest, at_least)
    return replace(need, reading=float(outline.reading_bytes), by_genes=outline.by_genes)


def cache_obstacle(config: Config, outline: Outline) -> str | None:
    """Say why the counts of a large file cannot be left on disk, and what to set; None: they can, or need not."""
    size = _count_bytes(outline.n_cells, outline.n_values)
    if config.train.data == "memory":
        return None
    if outline.n_values > MOST_VALUES:
        return (
            f"train.data: stream reads {MOST_VALUES:,} counts at most from disk, and the analysed genes have about "
            f"{outline.n_values:,} here. Lower data.n_top_genes, or use train.data=memory."
        )
    if 2 * size <= config.cache_gib * 2**30:
        return None
    # Twice: the copy in random order lies beside them.
    return (
        f"cache_gib: train.data=stream reads the prepared counts from the cache, {size / GIGABYTE:.1f} GB here and as "
        f"much again in random order, and cache_gib={config.cache_gib:g}. Set cache_gib={math.ceil(2 * size / 2**30)}."
    )


def _count_bytes(n_cells: int, n_values: int) -> float:
    return float((n_values + n_cells) * VALUE_BYTES)


def _training_bytes(config: Config, share: float, n_cells: int, n_genes: int, n_values: int, n_models: int) -> float:
    """Return what training from disk holds: windows of counts, and all members at once."""
    window = min(1.0, Windows(n_cells).window_cells / n_cells) * n_values * VALUE_BYTES
    n_replicates, model = config.resample.n_replicates * config.sweep.fused, config.model
    orders = n_replicates * share * n_cells * MEMBER_BYTES * (2 if n_models > 1 else 1)
    weights = n_genes * (2 * model.n_hidden + model.n_latent + STATISTICS) * 4
    moments = 3 * n_replicates * n_models * weights
    return WINDOWS * window + n_cells * CELL_BYTES + orders + moments


def _need(
    config: Config, n_cells: int, n_genes: int, n_values: int, n_largest: int, n_populations: int = 0
) -> MemoryNeed:
    share = config.resample.fraction if config.resample.kind in ("subsample", "thin") else 1.0
    methods = config.baselines.methods if config.methods is None else config.methods
    dense = 0.0
    n_dense = min(share * n_largest, MOST_CELLS)
    if set(methods) & set(DENSE_BY_POPULATION) - {"hotspot"}:
        dense = at_once() * n_dense * n_genes * DENSE_BYTES
    if "hotspot" in methods:
        dense = max(dense, n_dense * n_genes * HOTSPOT_BYTES)
    if config.programs.find:
        dense = max(dense, min(n_largest, 2 * MOST_CELLS) * n_genes * DENSE_BYTES)
    if "logreg" in methods and share * n_cells * n_genes <= MOST_DENSE:
        dense = max(dense, share * n_cells * n_genes * DENSE_BYTES)
    roles = {role for name in methods if name in METHODS for role in METHODS[name].roles}
    models = config.methods is None or bool(roles)
    if models:
        dense = max(dense, share * n_cells * n_genes * FAMILIES[config.model.name].dense_bytes)
    working = share * n_values * WORKING_BYTES + dense
    counts, streamed = _count_bytes(n_cells, n_values), config.train.data == "stream"
    if streamed:
        by_population = config.methods is None or "per_population" in roles
        counts = _training_bytes(config, share, n_cells, n_genes, n_values, 1 + n_populations * by_population)
    return MemoryNeed(n_cells, n_genes, counts, 0.0, working, streamed=streamed)


def machine_memory() -> float:
    """Return the bytes of memory that this machine has, or that this container or process may take."""
    import psutil

    smallest_limit = float(psutil.virtual_memory().total)
    for path in LIMITS:
        try:
            smallest_limit = min(smallest_limit, float(Path(path).read_text(encoding="ascii")))
        except (OSError, ValueError):  # not there, or "max"
            continue
    return min(smallest_limit, _address_limit())


def _address_limit() -> float:
    """Return the bytes that a limit on this process's addresses leaves for memory; infinite: there is none."""
    try:
        import resource
    except ImportError:  # Windows
        return math.inf
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return math.inf if limit == resource.RLIM_INFINITY else max(0.0, limit - ADDRESSES)


def check_fits(need: MemoryNeed) -> None:
    """Raise where an experiment takes clearly more memory than there is, and warn where it may.

    Raises
    ------
    ConfigError
        It does; the message says what takes it, and what to set.
    """
    available = machine_memory()
    obstacle = memory_obstacle(need, available)
    if obstacle is None:
        return
    if need.total > MARGIN * available:
        raise ConfigError(obstacle)
    logger.warning("%s The estimate is rough: it is tried.", obstacle)


def memory_obstacle(need: MemoryNeed, available: float) -> str | None:
    """Say why an experiment may not fit, and what to set; None: it fits."""
    if need.total <= available:
        return None
    if available == _address_limit():
        enough = math.ceil((need.total + ADDRESSES) / 1024)
        return (
            f"data: the experiment takes about {need.total / GIGABYTE:.1f} GB of memory, and the limit on this "
            f"process's addresses leaves {available / GIGABYTE:.1f}, for libraries reserve some that they never use. "
            f"Raise it (ulimit -v {enough} or more), or use a file with fewer cells."
        )
    what = f"the counts of {need.n_cells:,} cells × {need.n_genes:,} genes"
    if need.streamed:
        what = f"windows of {what} and the models"
    message = (
        f"data: the experiment takes about {need.total / GIGABYTE:.1f} GB of memory, and there are "
        f"{available / GIGABYTE:.1f} here: {what} take {need.counts / GIGABYTE:.1f}, "
    )
    if need.by_genes and need.reading > need.working:
        return (
            f"{message}and reading them {need.reading / GIGABYTE:.1f}, for the matrix is stored by genes (CSC) and is "
            "read as a whole. Write it by cells (adata.X = adata.X.tocsr()), which is read in blocks."
        )
    message += f"and the work on them {max(need.reading, need.working) / GIGABYTE:.1f}. "
    grows = need.counts + need.working
    fewer = int(need.n_genes * (available - LIBRARIES) / grows) // STEP * STEP if grows else 0
    if fewer >= STEP and need.working >= need.reading:
        return f"{message}Set data.n_top_genes={fewer}, or use a file with fewer cells or a machine with more memory."
    return f"{message}Use a file with fewer cells, or a machine with more memory."
