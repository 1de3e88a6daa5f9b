"""Counts with known marker and program genes: the generative model of the ``simulated`` data set."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy import sparse

from scballast.arrays import BoolArray, FloatArray, IntArray
from scballast.config.simulation import SimulationConfig
from scballast.data import simulation_model
from scballast.data.planting import program_sets
from scballast.data.simulation_fit import SimulationParameters, fit_simulation_parameters
from scballast.errors import DataError, require
from scballast.seeds import Stream, generator_for

if TYPE_CHECKING:
    from anndata import AnnData


POPULATION_KEY = "population"
DONOR_KEY = "donor"

_TRUTHS = ("marker_effect", "program_variance", "marker_set", "program_set")
"""In the order of `Truth`'s arrays; in ``varm`` with ``truth_`` before them."""

_CHUNK_CELLS = 512
_DONOR_SHARE_SHAPE = 5.0  # of the gamma weights by which donors share a population: a spread of 45%


@dataclass(frozen=True)
class Truth:
    """What was planted in a simulated data set, and what it amounts to in the realised rates ρ.

    Attributes
    ----------
    populations
        The labels that the rows below belong to.
    marker_effect
        (n_populations, n_genes) E_c[log ρ] − E_c̄[log ρ], over the cells in and outside the population.
    program_variance
        (n_populations, n_genes) Var_c(log ρ), over the population's cells.
    marker_sets, program_sets
        (n_populations, n_genes) bool, the planted M_c, and the union of the programs active in c.
    """

    populations: tuple[str, ...]
    marker_effect: FloatArray
    program_variance: FloatArray
    marker_sets: BoolArray
    program_sets: BoolArray


class _Moments:
    """Sums of log ρ − log softmax(b) by label, from which both truths follow."""

    def __init__(self, n_labels: int, n_genes: int) -> None:
        self.n_cells = np.zeros(n_labels)
        self.sums = np.zeros((n_labels, n_genes))
        self.squares = np.zeros((n_labels, n_genes))

    def add(self, labels: IntArray, values: FloatArray) -> None:
        for label in np.unique(labels):
            chosen = values[labels == label]
            self.n_cells[label] += chosen.shape[0]
            self.sums[label] += chosen.sum(axis=0)
            self.squares[label] += (chosen**2).sum(axis=0)

    def marker_effect(self) -> FloatArray:
        others = (self.sums.sum(axis=0) - self.sums) / (self.n_cells.sum() - self.n_cells)[:, None]
        return np.asarray(self.sums / self.n_cells[:, None] - others)

    def variance(self) -> FloatArray:
        mean = self.sums / self.n_cells[:, None]
        return np.maximum(self.squares / self.n_cells[:, None] - mean**2, 0.0)


@lru_cache(maxsize=1)
def default_parameters() -> SimulationParameters:
    """Return the parameters fitted from the embedded data set, which needs no network."""
    from scballast.data.embedded import POPULATION_KEY as EMBEDDED_KEY
    from scballast.data.embedded import embedded_adata

    embedded = embedded_adata()
    # Labels from sorted cells and clusters each leave different cells together; what they both join is one population.
    groups = embedded.obs.groupby([EMBEDDED_KEY, "louvain"], observed=True).ngroup().to_numpy()
    source = f"pbmc68k (embedded in scanpy), populations: {EMBEDDED_KEY} x louvain"
    return fit_simulation_parameters(embedded.X, groups, min_cells=10, source=source)


def simulate(config: SimulationConfig, seed: int, *, parameters: SimulationParameters | None = None) -> AnnData:
    r"""Simulate counts with planted marker genes and planted programs.

    .. math::
        \eta_{ig} = b_g + \delta_{cg}[g \in M_c] + \sum_p t_{ip} a_{pg}[g \in P_p] + d_{jg} + d_{jcg}, \quad
        \rho_i = \mathrm{softmax}(\eta_i), \quad x_{ig} \sim NB(\ell_i \rho_{ig}, \phi_g)

    for cell i of population c and donor j, with lognormal library sizes of mean ``mean_counts``. This is the
    ``latent`` form of programs; others put another function of the activity in place of t a, and add what a second
    cell and ambient counts bring into the droplet. The truth is that of the cells' own rates.

    Parameters
    ----------
    config
        Sizes, depth, planted genes and arms.
    seed
        >= 0. All numbers follow identity: appending populations, donors (from two on) or cells to a
        population changes no cell that was there and stays with its donor.
    parameters
        Gene levels, dispersions and the spread of library sizes; default: fitted from the embedded data set.
        Rates are drawn from the fitted genes, each used once before any is used again.

    Returns
    -------
    AnnData
        ``X`` (n_cells, n_genes) counts, CSR float32. ``obs``: ``population``, ``donor`` (categorical) and
        ``expected_counts``; with doublets or ambient counts also ``doublet_with`` (the number of the second cell's
        population, 0 for none) and ``ambient_share``. ``var``: ``log_rate``, ``dispersion``.
        ``obsm["program_activity"]``: t_ip of the cell's own programs (0 where its population lacks one), and of the
        shared one last. ``varm``: the truth, see :func:`truth_from_adata`. ``uns["simulation"]``: the settings, the
        seed and the provenance of the fitted parameters.
    """
    import pandas as pd
    from anndata import AnnData

    fitted = default_parameters() if parameters is None else parameters
    model = simulation_model.CellModel(config, seed, fitted)
    genes = model.genes
    labels, label_parents = _labels(config)
    moments = _Moments(len(labels), config.n_genes)

    counts: list[sparse.csr_matrix] = []
    tables: list[pd.DataFrame] = []
    activities: list[FloatArray] = []
    for population, size in enumerate(config.population_sizes):
        stream = generator_for(seed, Stream.SIMULATION, "library", population)
        libraries = simulation_model.draw_libraries(config, fitted, stream, size)
        codes, donors = _labels_of_cells(config, seed, population), _donors_of_cells(config, seed, population)
        others = simulation_model.second_cells(config, seed, population)
        ambient = simulation_model.ambient_shares(config, seed, population)
        activity = np.zeros((size, model.n_activities))
        for column, program in model.active(population):
            activity[:, column] = program.activities(seed, population, size)
        activities.append(activity)
        for start in range(0, size, _CHUNK_CELLS):
            cells = slice(start, min(start + _CHUNK_CELLS, size))
            shift = model.shift(population, activity[cells], donors[cells])
            rho, log_rho_shift = simulation_model.softmax(genes.log_rate, shift)
            moments.add(codes[cells], log_rho_shift)
            expected = libraries[cells] * (1 - ambient[cells])
            drawn = _draw_counts(rho, expected, genes.dispersion, seed, population, start)
            for cell in (start + np.flatnonzero(ambient[cells])).tolist():
                lost = libraries[cell] * ambient[cell]
                drawn[cell - start] += simulation_model.draw_ambient(model.ambient_rates, lost, seed, population, cell)
            for cell in (start + np.flatnonzero(others[cells] >= 0)).tolist():
                second, library = model.second_cell(int(others[cell]), int(donors[cell]), population, cell)
                drawn[cell - start] += second
                libraries[cell] += library
            counts.append(sparse.csr_matrix(drawn))
        names = [f"population_{population + 1}:cell_{cell + 1}" for cell in range(size)]
        of_cells = {POPULATION_KEY: codes, DONOR_KEY: donors, "expected_counts": libraries}
        beside = {"doublet_with": others + 1, "ambient_share": ambient} if config.doublets or config.ambient else {}
        tables.append(pd.DataFrame({**of_cells, **beside}, index=pd.Index(names)))

    obs = pd.concat(tables)
    donor_names = [f"donor_{donor + 1}" for donor in range(config.n_donors)]
    for key, categories in ((POPULATION_KEY, labels), (DONOR_KEY, donor_names)):
        obs[key] = pd.Categorical.from_codes(obs[key], categories=categories)
    width = len(str(config.n_genes))
    var = pd.DataFrame(
        {"log_rate": genes.log_rate, "dispersion": genes.dispersion},
        index=pd.Index([f"gene_{gene + 1:0{width}d}" for gene in range(config.n_genes)]),
    )
    adata = AnnData(X=sparse.vstack(counts, format="csr", dtype=np.float32), obs=obs, var=var)
    if activities[0].shape[1] > 0:
        adata.obsm["program_activity"] = np.concatenate(activities)
    marker_sets = model.log_fold_changes[label_parents] > 0
    if len(config.population_sizes) == 1:
        marker_sets[:] = False  # what both halves of the null split share sets neither apart
    programs = program_sets(model.programs, label_parents, config.n_genes)
    for name, truth in zip(_TRUTHS, (moments.marker_effect(), moments.variance(), marker_sets, programs), strict=True):
        adata.varm[f"truth_{name}"] = truth.T
    resolved = dataclasses.replace(config, doublet_share=config.doublets, ambient_share=config.ambient)
    settings = {key: value for key, value in dataclasses.asdict(resolved).items() if value is not None}
    for key in ("population_sizes", "without_program"):
        settings[key] = np.asarray(settings[key], dtype=np.int64)
    adata.uns["simulation"] = {
        "config": settings,
        "seed": seed,
        "populations": np.asarray(labels, dtype=object),
        "null_split": np.asarray(labels[:2] if config.null_split else [], dtype=object),
        "fitted_from": dict(fitted.provenance),
    }
    return adata


def truth_from_adata(adata: AnnData, populations: Sequence[str] | None = None) -> Truth:
    """Return the truth of a simulated data set, for the genes that ``adata`` still has.

    Parameters
    ----------
    adata
        From :func:`simulate`, or a subset of its genes or cells; the truth is that of the whole simulation.
    populations
        Labels wanted, in this order; default: all, in the order of the simulation.

    Raises
    ------
    DataError
        ``adata`` is not simulated, or a population is not in it.
    """
    if "simulation" not in adata.uns or f"truth_{_TRUTHS[0]}" not in adata.varm:
        msg = "the data hold no truth: uns['simulation'] and varm['truth_*'] come with data.kind=simulated only."
        raise DataError(msg)
    known = [str(name) for name in adata.uns["simulation"]["populations"]]
    wanted = known if populations is None else list(populations)
    unknown = sorted(set(wanted) - set(known))
    require(not unknown, f"populations {unknown} are not in the simulation, which has {known}.", DataError)
    rows = [known.index(name) for name in wanted]
    stored = (np.ascontiguousarray(np.asarray(adata.varm[f"truth_{name}"]).T[rows]) for name in _TRUTHS)
    effect, variance, *sets = stored
    return Truth(tuple(wanted), effect, variance, *(planted.astype(bool) for planted in sets))


def _labels(config: SimulationConfig) -> tuple[list[str], IntArray]:
    """Return the labels, and the population that each belongs to."""
    names = [f"population_{population + 1}" for population in range(len(config.population_sizes))]
    parents = np.arange(len(names))
    if not config.null_split:
        return names, parents
    return [f"{names[0]}_a", f"{names[0]}_b", *names[1:]], np.concatenate([[0], parents])


def _labels_of_cells(config: SimulationConfig, seed: int, population: int) -> IntArray:
    size = config.population_sizes[population]
    if not config.null_split:
        return np.full(size, population)
    if population > 0:
        return np.full(size, population + 1)
    # One coin per pair of cells: both halves are of equal size, and more cells relabel none.
    coins = generator_for(seed, Stream.SIMULATION, "null_split").integers(0, 2, size=(size + 1) // 2)
    return np.asarray(np.column_stack([coins, 1 - coins]).ravel()[:size])


def _donors_of_cells(config: SimulationConfig, seed: int, population: int) -> IntArray:
    """Return each cell's donor: the first to arrive, so that one more donor only takes cells over."""
    arrivals = np.empty((config.n_donors, config.population_sizes[population]))
    for donor in range(config.n_donors):
        stream = generator_for(seed, Stream.SIMULATION, "donor_cells", population, donor)
        share = stream.gamma(_DONOR_SHARE_SHAPE)
        arrivals[donor] = stream.standard_exponential(arrivals.shape[1]) / share
    return np.asarray(arrivals.argmin(axis=0))


def _draw_counts(
    rho: FloatArray, library: FloatArray, dispersion: FloatArray, seed: int, population: int, first_cell: int
) -> npt.NDArray[np.float32]:
    """Draw a chunk's counts, each cell from a stream of its own: draws take a varying number of random bits."""
    counts = np.empty(rho.shape, dtype=np.float32)
    for row in range(rho.shape[0]):
        stream = generator_for(seed, Stream.SIMULATION, "counts", population, first_cell + row)
        counts[row] = simulation_model.draw_cell(rho[row], library[row], dispersion, stream)
    return counts
