"""A number that knows why it is undefined, and an interval around one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NoReturn, Self

import numpy as np

from scballast.arrays import FloatArray


class Statistic(float):
    """A number; where it is NaN, ``reason`` says why.

    It is a ``float`` in every respect, so callers compare and average it as one.

    Parameters
    ----------
    value
        The number.
    reason
        Why it is undefined; empty when it is defined.
    **beside
        Numbers that a kind of statistic has beside it.
    """

    reason: str

    def __new__(cls, value: float, reason: str = "", **beside: float) -> Self:
        """Keep the reason and the other numbers beside the number."""
        self = super().__new__(cls, value)
        self.__dict__.update(reason=reason, **beside)
        return self

    def __setattr__(self, name: str, value: object) -> NoReturn:
        message = f"{type(self).__name__} is frozen: {name} cannot be set"
        raise AttributeError(message)

    def __repr__(self) -> str:
        return f"{float(self)!r} ({self.reason})" if self.reason else repr(float(self))


def undefined(reason: str) -> Statistic:
    """NaN with the reason."""
    return Statistic(math.nan, reason)


@dataclass(frozen=True)
class Interval:
    """A point estimate and its confidence interval.

    Attributes
    ----------
    estimate, lower, upper, standard_error
        NaN where undefined; the estimate may be defined where its interval is not.
    reason
        Why the estimate or the interval is undefined; empty when both are defined.
    """

    estimate: float
    lower: float
    upper: float
    standard_error: float
    reason: str = ""


@dataclass(frozen=True)
class Tested:
    """Tests of some genes, or dimensions.

    Attributes
    ----------
    p_value : (n_tested,) float
        NaN where ``reason`` is given.
    reason
        Why there is no test; empty where there is one.
    """

    p_value: FloatArray
    reason: str = ""


def untested(n: int, reason: str) -> Tested:
    """Return that nothing of so many could be tested, and why."""
    return Tested(np.full(n, np.nan), reason)


def no_interval(reason: str, estimate: float = math.nan) -> Interval:
    """Return an estimate, or none, without an interval, and why."""
    return Interval(estimate, math.nan, math.nan, math.nan, reason)
