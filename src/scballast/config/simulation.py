"""Settings of the simulated data set; the generative model itself is in ``data.simulate``."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

from scballast.config.values import shown
from scballast.errors import ConfigError

_Rule = tuple[str, bool, str]
"""Of which field, whether it holds, and what is allowed."""

PROGRAMS = ("latent", "additive", "switch", "path", "shared", "none")

# Of the cells, and of their counts, where the programs are not `latent`: as in a usual droplet experiment.
_DOUBLET_SHARE = 0.03
_AMBIENT_SHARE = 0.05


@dataclass(frozen=True)
class SimulationConfig:
    """What to simulate: sizes, depth, planted genes, and the arms of a benchmark.

    Effects are in natural-log units of a gene's rate. Random numbers follow identity (the population's
    position in ``population_sizes``, the donor's number, the cell's number), so appending a population, a
    donor or cells leaves every other cell as it was; an appended population does take its part of the second cells of
    doublets and of the ambient counts.

    Attributes
    ----------
    n_genes
        Genes simulated.
    population_sizes
        Cells in each population; the default ends with one that holds 2% of all cells.
    mean_counts
        Mean counts per cell (2,500 as in a usual experiment, 600 for a shallow one).
    library_log_sd
        Standard deviation of the log counts per cell; None: as fitted from the real data.
    n_markers
        Genes in the marker set M_c of each population.
    marker_log_fold_change
        Mean of the shifts δ_cg > 0 of a population's markers.
    programs
        Form of the programs. ``latent``: activities are normal and act on log rates, as in a linear latent variable
        model. ``additive``: sparse gamma activities add to the rates. ``switch``: a third of the cells is on, half of
        the genes go down. ``path``: cells lie on a path along which each gene switches, up or down, at a point of its
        own. ``shared``: an additive program shared by all populations, and programs of their own in every other
        population. ``none``: no programs at all.
    without_program
        Numbers (``population_3`` is 3) of populations without any program, the shared one included.
    doublet_share
        Share of the droplets that hold a second cell, of a population drawn with equal chances; None: 0.03, but 0
        for ``latent``.
    ambient_share
        Mean share of a cell's counts that are ambient, of the mean rates over populations; None: 0.05, but 0 for
        ``latent``.
    n_programs
        Programs within each population (0: none).
    n_program_genes
        Genes in each program; the programs of one population share no gene.
    program_strength
        Root mean square of the loadings a_pg of a population's first program, whose activities t_ip have
        variance 1 (along a ``path`` a gene that switches halfway has the standard deviation a).
    equal_strength
        All programs of a population are equally strong (the worst case for reading single axes, since any
        rotation fits as well); otherwise each is 0.75 times as strong as the one before.
    overlap
        Share of a population's own program genes that are its markers too: 0 for M_c and P_c disjoint,
        1 for P_c within M_c.
    shared_program
        Add one program, of ``n_program_genes`` genes, active in every population and marker of none.
    null_split
        The first population is given two labels at random. With ``population_sizes`` of one entry these two
        labels are all there is; otherwise each half keeps what sets the population apart from the others.
    n_donors
        Donors; the effects below need at least two.
    donor_effect
        Standard deviation over genes of a donor's effect on all its cells.
    donor_population_effect
        Standard deviation over genes of a donor's effect on its cells of one population.
    donor_only
        Donor effects without any population's: no markers and no programs, so every planted set is empty.
    """

    n_genes: int = 1000
    population_sizes: tuple[int, ...] = (900, 600, 400, 250, 120, 46)
    mean_counts: float = 2500.0
    library_log_sd: float | None = None
    n_markers: int = 80
    marker_log_fold_change: float = 0.8
    programs: str = "latent"
    without_program: tuple[int, ...] = ()
    doublet_share: float | None = None
    ambient_share: float | None = None
    n_programs: int = 2
    n_program_genes: int = 40
    program_strength: float = 1.0
    equal_strength: bool = False
    overlap: float = 0.0
    shared_program: bool = False
    null_split: bool = False
    n_donors: int = 1
    donor_effect: float = 0.3
    donor_population_effect: float = 0.1
    donor_only: bool = False

    def __post_init__(self) -> None:
        for name in ("population_sizes", "without_program"):
            object.__setattr__(self, name, tuple(map(int, getattr(self, name))))
        for name, holds, allowed in chain(self._ranges(), self._arms(), self._room()):
            if not holds:
                observed = getattr(self, name)
                text = shown(list(observed) if isinstance(observed, tuple) else observed)
                msg = f"data.simulation.{name} is {text}. Allowed: {allowed}."
                raise ConfigError(msg)

    @property
    def has_shared_program(self) -> bool:
        """Whether all populations share a program."""
        return (self.shared_program or self.programs == "shared") and self.programs != "none"

    @property
    def doublets(self) -> float:
        """``doublet_share``, or what its None stands for."""
        return self._contamination(self.doublet_share, _DOUBLET_SHARE)

    @property
    def ambient(self) -> float:
        """``ambient_share``, or what its None stands for."""
        return self._contamination(self.ambient_share, _AMBIENT_SHARE)

    def _contamination(self, share: float | None, usual: float) -> float:
        if share is not None:
            return share
        return 0.0 if self.programs == "latent" else usual

    def _ranges(self) -> Iterator[_Rule]:
        fewest = {"n_genes": 10, "n_markers": 0, "n_programs": 0, "n_program_genes": 1, "n_donors": 1}
        for name, lowest in fewest.items():
            yield name, getattr(self, name) >= lowest, f"at least {lowest}"
        for name in ("marker_log_fold_change", "program_strength", "donor_effect", "donor_population_effect"):
            yield name, 0 <= getattr(self, name) <= 5, "between 0 and 5 (natural-log units)"
        yield "mean_counts", 0 < self.mean_counts < math.inf, "above 0"
        yield "library_log_sd", 0 <= (self.library_log_sd or 0) <= 3, "between 0 and 3, or null"
        yield "overlap", 0 <= self.overlap <= 1, "between 0 and 1"
        yield "programs", self.programs in PROGRAMS, ", ".join(PROGRAMS)
        for name in ("doublet_share", "ambient_share"):
            yield name, 0 <= (getattr(self, name) or 0) <= 0.5, "between 0 and 0.5, or null"

    def _arms(self) -> Iterator[_Rule]:
        n, fewest = len(self.population_sizes), 1 if self.null_split else 2
        populations = f"population{'s' if fewest > 1 else ''} (one suffices with null_split=true)"
        yield "without_program", all(1 <= i <= n for i in self.without_program), f"numbers of populations, 1 to {n}"
        yield "population_sizes", n >= fewest, f"at least {fewest} {populations}"
        yield "population_sizes", min(self.population_sizes) >= 2, "at least 2 cells in each population"
        if self.null_split:
            enough = self.population_sizes[0] >= 4
            yield "population_sizes", enough, "at least 4 cells in the first with null_split=true"
        if self.donor_only:
            yield "n_donors", self.n_donors >= 2, "at least 2 with donor_only=true"

    def _room(self) -> Iterator[_Rule]:
        """Yield the rules of how many genes are planted, and where."""
        n_programs = self.n_programs * self.n_program_genes
        from_markers = round(self.overlap * n_programs)
        allowed = f"at most n_markers / (n_programs * n_program_genes) = {self.n_markers / max(n_programs, 1):.2f}"
        yield "overlap", from_markers <= self.n_markers, allowed
        planted = self.n_markers + n_programs - from_markers + self.has_shared_program * self.n_program_genes
        allowed = (
            f"at least {planted}, the genes planted in one population"
            " (n_markers + n_programs * n_program_genes less the overlap, and the shared program)"
        )
        yield "n_genes", planted <= self.n_genes, allowed
