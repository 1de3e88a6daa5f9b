"""Whether an experiment fits the memory of this machine, told before it starts."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, replace
from pathlib import Path

from scballast.config.schema import Config
from scballast.data.dataset import Dataset
from scballast.data.outline import Outline
from scballast.errors import ConfigError
from scballast.methods.cell_view import MOST_CELLS
from scballast.methods.logreg import MOST_DENSE
from scballast.methods.registry import METHODS

logger = logging.getLogger(__name__)

GIGABYTE = 1e9
LIBRARIES = 1.0 * GIGABYTE
"""Python with torch, scvi-tools and scanpy, and the tables."""
ADDRESSES = 1.3 * GIGABYTE
"""Addresses that libraries and threads reserve and never touch: they count where these are limited (``ulimit -v``)."""
VALUE_BYTES = 8
"""A count (float32) and the number of its gene."""
WORKING_BYTES = 44
"""Per value of a replicate: its own counts, their logarithms in float64, and a copy of these at work."""
DENSE_BYTES = 24
"""Per number of a dense matrix: itself and two copies at work."""
HOTSPOT_BYTES = 40
"""The same of hotspot, which has its expectations and variances besides."""
GLMPCA_BYTES = 110
"""The same of glmpca, over all cells of a replicate: counts, rates and steps; measured."""
DENSE_BY_POPULATION = (
    *("within_pca", "residual_pca", "cross_covariance", "sparse_factors"),
    *("within_dispersion", "hotspot"),
)
"""Methods that hold the cells of one population as a dense matrix, ``cell_view.MOST_CELLS`` of them at most."""
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
        The analysed counts, which are there all the time.
    reading, working
        Besides, while the file is read, and while a replicate is scored.
    by_genes
        The file stores its matrix by genes and is read as a whole.
    """

    n_cells: int
    n_genes: int
    counts: float
    reading: float
    working: float
    by_genes: bool = False

    @property
    def total(self) -> float:
        """All of it."""
        return LIBRARIES + self.counts + max(self.reading, self.working)


def memory_need(config: Config, dataset: Dataset) -> MemoryNeed:
    """Return what an experiment on these data takes; they may be an outline."""
    if dataset.outline is not None:
        return expected_need(config, dataset.outline)
    n_largest = max(population.n_cells for population in dataset.populations)
    return _need(config, dataset.adata.n_obs, dataset.adata.n_vars, int(dataset.adata.X.nnz), n_largest)


def expected_need(config: Config, outline: Outline) -> MemoryNeed:
    """Return what an experiment takes on data that have not been read."""
    need = _need(config, outline.n_cells, outline.n_genes, outline.n_values, outline.n_largest)
    return replace(need, reading=float(outline.reading_bytes), by_genes=outline.by_genes)


def _need(config: Config, n_cells: int, n_genes: int, n_values: int, n_largest: int) -> MemoryNeed:
    share = config.resample.fraction if config.resample.kind in ("subsample", "thin") else 1.0
    methods = config.baselines.methods if config.methods is None else config.methods
    dense = 0.0
    if set(methods) & set(DENSE_BY_POPULATION):
        n_dense = min(share * n_largest, MOST_CELLS)
        dense = n_dense * n_genes * (HOTSPOT_BYTES if "hotspot" in methods else DENSE_BYTES)
    if config.programs.find:
        dense = max(dense, min(n_largest, 2 * MOST_CELLS) * n_genes * DENSE_BYTES)
    if "logreg" in methods and share * n_cells * n_genes <= MOST_DENSE:
        dense = max(dense, share * n_cells * n_genes * DENSE_BYTES)
    models = config.methods is None or any(name in METHODS and METHODS[name].roles for name in methods)
    if config.model.name == "glmpca" and models:
        dense = max(dense, share * n_cells * n_genes * GLMPCA_BYTES)
    working = share * n_values * WORKING_BYTES + dense
    return MemoryNeed(n_cells, n_genes, float((n_values + n_cells) * VALUE_BYTES), 0.0, working)


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
    message = (
        f"data: the experiment takes about {need.total / GIGABYTE:.1f} GB of memory, and there are "
        f"{available / GIGABYTE:.1f} here: the counts of {need.n_cells:,} cells × {need.n_genes:,} genes take "
        f"{need.counts / GIGABYTE:.1f}, "
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
