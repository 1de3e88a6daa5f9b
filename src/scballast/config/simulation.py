"""Settings of the simulated data set; the generative model itself is in ``data.simulate``."""

from __future__ import annotations

import math
from dataclasses import dataclass

from scballast.errors import ConfigError

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
        object.__setattr__(self, "population_sizes", tuple(int(size) for size in self.population_sizes))
        object.__setattr__(self, "without_program", tuple(int(number) for number in self.without_program))
        self._check_ranges()
        self._check_programs()
        self._check_arms()
        self._check_room_for_genes()

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

    def _check_ranges(self) -> None:
        for name, lowest in (
            ("n_genes", 10),
            ("n_markers", 0),
            ("n_programs", 0),
            ("n_program_genes", 1),
            ("n_donors", 1),
        ):
            _require(getattr(self, name) >= lowest, name, getattr(self, name), f"at least {lowest}")
        for name in ("marker_log_fold_change", "program_strength", "donor_effect", "donor_population_effect"):
            value = getattr(self, name)
            _require(math.isfinite(value) and 0 <= value <= 5, name, value, "between 0 and 5 (natural-log units)")
        _require(
            math.isfinite(self.mean_counts) and self.mean_counts > 0,
            "mean_counts",
            self.mean_counts,
            "above 0",
        )
        if self.library_log_sd is not None:
            _require(
                0 <= self.library_log_sd <= 3,
                "library_log_sd",
                self.library_log_sd,
                "between 0 and 3, or null",
            )
        _require(0 <= self.overlap <= 1, "overlap", self.overlap, "between 0 and 1")

    def _check_programs(self) -> None:
        _require(self.programs in PROGRAMS, "programs", self.programs, ", ".join(PROGRAMS))
        n_populations = len(self.population_sizes)
        _require(
            all(1 <= number <= n_populations for number in self.without_program),
            "without_program",
            list(self.without_program),
            f"numbers of populations, 1 to {n_populations}",
        )
        for name in ("doublet_share", "ambient_share"):
            share = getattr(self, name)
            _require(share is None or 0 <= share <= 0.5, name, share, "between 0 and 0.5, or null")

    def _check_arms(self) -> None:
        sizes, fewest = self.population_sizes, 1 if self.null_split else 2
        _require(
            len(sizes) >= fewest,
            "population_sizes",
            list(sizes),
            f"at least {fewest} population{'s' if fewest > 1 else ''} (one suffices with null_split=true)",
        )
        _require(min(sizes) >= 2, "population_sizes", list(sizes), "at least 2 cells in each population")
        if self.null_split:
            _require(
                sizes[0] >= 4,
                "population_sizes",
                list(sizes),
                "at least 4 cells in the first with null_split=true",
            )
        if self.donor_only:
            _require(self.n_donors >= 2, "n_donors", self.n_donors, "at least 2 with donor_only=true")

    def _check_room_for_genes(self) -> None:
        n_programs = self.n_programs * self.n_program_genes
        from_markers = round(self.overlap * n_programs)
        _require(
            from_markers <= self.n_markers,
            "overlap",
            self.overlap,
            f"at most n_markers / (n_programs * n_program_genes) = {self.n_markers / max(n_programs, 1):.2f}",
        )
        shared = self.n_program_genes if self.has_shared_program else 0
        planted = self.n_markers + n_programs - from_markers + shared
        _require(
            planted <= self.n_genes,
            "n_genes",
            self.n_genes,
            f"at least {planted}, the genes planted in one population"
            " (n_markers + n_programs * n_program_genes less the overlap, and the shared program)",
        )


def _require(condition: bool, name: str, observed: object, allowed: str) -> None:  # noqa: FBT001
    if not condition:
        shown = repr(observed)  # one line, whatever the text
        shown = shown if len(shown) <= 100 else f"{shown[:99]}…"
        msg = f"data.simulation.{name} is {shown}. Allowed: {allowed}."
        raise ConfigError(msg)
