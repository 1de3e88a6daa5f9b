"""What a method is: a name, what it estimates, what it needs, and a score from the evidence of one replicate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from scballast.arrays import FloatArray

if TYPE_CHECKING:
    import numpy as np

    from scballast.methods.cell_view import CellView
    from scballast.methods.rankers import FactorView
    from scballast.models.family import ModelFamily

Estimand = Literal["marker", "program", "response"]
ESTIMANDS: tuple[Estimand, ...] = ("marker", "program", "response")
LIST_ESTIMANDS: tuple[Estimand, ...] = ("marker", "program")
"""What somebody's list of a population may claim; a response needs conditions, which such a list does not name."""
RESPONSE_NULL = "response_permuted"
"""The control whose lists are the floor of ``response``: conditions without a meaning."""
# Which models of a replicate: trained on its cells (``global``), on those of one population, or conditioned on the
# population; ``scvi``: a non-linear model beside the configured one.
Role = Literal["global", "per_population", "conditioned", "scvi"]


class Evidence(Protocol):
    """One replicate, as methods see it; models are read out when first asked for."""

    @property
    def cells(self) -> CellView:
        """The replicate's cells as arrays."""

    @property
    def de_mode(self) -> Literal["change", "vanilla"]:
        """How a model's own differential expression is turned into a score."""

    def factors(self, role: Role, population: int = -1) -> FactorView | None:
        """Return a model's cells and loadings, or None where it has no result."""

    def model(self, role: Role) -> Any | None:
        """Return a scvi-tools model of the replicate's cells, or None where it has no result."""

    def seed(self, method: str) -> int:
        """Return the method's own seed in this replicate."""

    def shuffling(self) -> np.random.Generator:
        """Return the generator that shuffles labels in this replicate."""


@dataclass(frozen=True)
class DataHave:
    """What the data have that a method may need.

    Attributes
    ----------
    samples
        ``data.sample_key`` is set.
    conditions
        ``data.condition_key`` is set.
    """

    samples: bool = False
    conditions: bool = False


@dataclass(frozen=True)
class Need:
    """What a method needs of the model family or the data, and what to say where it is not there.

    Attributes
    ----------
    holds
        From the model family and what the data have.
    obstacle
        Why the method cannot run; ``{model}`` stands for the name of the family.
    """

    holds: Callable[[ModelFamily, DataHave], bool]
    obstacle: str


LOADINGS = Need(lambda family, _: family.linear, "it needs loadings, and model.name={model} has none")
CONDITIONAL = Need(lambda family, _: family.conditional, "model.name={model} cannot be conditioned on the population")
LIKELIHOOD = Need(lambda family, _: family.likelihood, "model.name is {model}; it comes with ldvae, scvi and drvi")
LDVAE = Need(
    lambda family, _: family.name == "ldvae", "model.name is {model}, and only model.name=ldvae trains an LDVAE"
)
SAMPLES = Need(lambda _, data: data.samples, "it needs data.sample_key, the obs column of the samples")
CONDITIONS = Need(lambda _, data: data.conditions, "it needs data.condition_key, the obs column of two conditions")


@dataclass(frozen=True)
class NamedMethod:
    """A method as the statistics see it.

    Attributes
    ----------
    name
        As in configs, metrics and tables.
    estimand
        What it ranks genes by; methods with different estimands are never compared.
    deterministic
        The same cells always give the same scores; under ``resample.kind=seed`` it has no stability.
    """

    name: str
    estimand: Estimand
    deterministic: bool = False


@dataclass(frozen=True, kw_only=True)
class Method(NamedMethod):
    """A method that can be run.

    Attributes
    ----------
    score
        From the evidence of one replicate to (n_populations, n_genes) scores, higher is stronger. A row of NaN: the
        population could not be scored, and the log says why.
    label
        What it is, in a few words.
    roles
        The models that it reads; none: the cells alone.
    needs
        What the model family or the data must have.
    of_every_model
        Whether it runs by default with every model that has what it needs; otherwise ``baselines.methods`` names it.
    as_the_model
        Whether it is deterministic where the model family is.
    control
        Whether it is there to be no method: never the answer.
    references
        Where its parts come from; none: it is scballast's own.
    """

    score: Callable[[Evidence], FloatArray]
    label: str
    roles: tuple[Role, ...] = ()
    needs: tuple[Need, ...] = ()
    of_every_model: bool = False
    as_the_model: bool = False
    control: bool = False
    references: tuple[str, ...] = ()

    def obstacle(self, family: ModelFamily, data: DataHave) -> str | None:
        """Say why it cannot run with this model and these data, or None."""
        missing = next((need for need in self.needs if not need.holds(family, data)), None)
        return None if missing is None else missing.obstacle.format(model=family.name)
