"""The answer: which method to trust, per population and estimand, or none.

The rule
--------
1. *Candidates* are the methods of the estimand with scores for the population; controls never are, nor methods
   whose models saw too few gradient steps for their lists to be trusted.
2. *Stable*: the lower bound of a candidate's stability is above its floor. Methods that are deterministic where
   replicates differ by seed alone have no stability: they are never the answer, but others may be compared with them.
3. *Concordant*: with at least one other stable method, the lower bound of the overlap is above the pair's floor. A
   method's concordance is its mean overlap with all other stable methods.
4. Of the methods that are stable and concordant the most concordant one is kept, with all whose concordance cannot
   be told from its own (the upper bound reaches it).
5. Of these, the one with the highest average precision where there is truth; otherwise the one whose lower bound of
   stability is farthest above its floor.

When step 2 or 3 leaves nothing, the answer is none, and the reason says how close the best method came. What the
floors contain is said in ``floors``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from scballast.verdict.score_set import CONTROLS

if TYPE_CHECKING:
    import pandas as pd

NONE = "none"


@dataclass(frozen=True)
class _Candidate:
    """What decides about one method."""

    name: str
    phi: float
    lower: float
    upper: float
    floor: float
    deterministic: bool
    references: tuple[str, ...] = ()
    concordance: float = math.nan
    concordance_lower: float = math.nan
    concordance_upper: float = math.nan
    concordance_floor: float = math.nan
    average_precision: float = math.nan

    @property
    def height(self) -> float:
        """Lower bound of stability above the floor."""
        return self.lower - self.floor

    @property
    def stable(self) -> bool:
        return self.height > 0.0


def rule_steps() -> tuple[str, ...]:
    """Return the rule at the head of this module, one step each, for reports that state it."""
    steps = re.findall(r"^\d\. (.*?)(?=^\d\. |\n\n|\Z)", __doc__.partition("--------\n")[2], re.MULTILINE | re.DOTALL)
    return tuple(" ".join(step.replace("*", "").split()) for step in steps)


def answer_table(
    stability: pd.DataFrame,
    concordance: pd.DataFrame,
    truth: pd.DataFrame | None = None,
    *,
    top_k: int = 50,
    controls: Sequence[str] = tuple(CONTROLS),
    untrusted: Collection[tuple[str, str]] = (),
) -> pd.DataFrame:
    """Decide which method to trust, by the rule at the head of this module.

    Parameters
    ----------
    stability, concordance
        From ``evaluation.stability_table`` and ``evaluation.concordance_table``.
    truth
        Simulated data: method, estimand, population, average_precision; several rows of one list are averaged.
    top_k
        The k whose stability decides.
    controls
        Methods that can never be the answer.
    untrusted
        (method, population) whose models saw too few gradient steps; neither the answer nor what confirms one.

    Returns
    -------
    DataFrame
        population, estimand, method ("none" when no method can be trusted), phi, lower, upper, floor,
        concordance (mean overlap with the reference methods), reference (their names), average_precision,
        reason (the numbers that decided). For "none" the numbers are NaN.
    """
    import pandas as pd

    precision = _average_precision(truth)
    headline = stability[stability["k"] == top_k]
    rows = []
    for (population, estimand), group in headline.groupby(["population", "estimand"], sort=False, observed=True):
        named = [row for row in group.to_dict("records") if row["method"] not in controls]
        candidates = [_candidate(row) for row in named if (row["method"], population) not in untrusted]
        short = [str(row["method"]) for row in named if (row["method"], population) in untrusted]
        pairs = concordance[(concordance["population"] == population) & (concordance["estimand"] == estimand)]
        overlaps = {
            frozenset((row["method_a"], row["method_b"])): {str(key): value for key, value in row.items()}
            for row in pairs.to_dict("records")
        }
        known = {
            candidate.name: precision.get((str(population), str(estimand), candidate.name), math.nan)
            for candidate in candidates
        }
        decided = _decide(candidates, overlaps, known)
        if short:
            left_out = f"Left out, since their models saw too few steps: {', '.join(short)}."
            decided["reason"] = f"{decided['reason']} {left_out}"
        rows.append({"population": population, "estimand": estimand, **decided})
    return pd.DataFrame(rows)


def _decide(
    candidates: Sequence[_Candidate],
    overlaps: Mapping[frozenset[str], Mapping[str, float]],
    precision: Mapping[str, float],
) -> dict[str, object]:
    stable = [candidate for candidate in candidates if candidate.stable]
    if not stable:
        return _none(_why_unstable(candidates))
    references = stable + [candidate for candidate in candidates if candidate.deterministic]
    compared = [_compare(candidate, references, overlaps) for candidate in stable]
    concordant = [candidate for candidate in compared if candidate.references]
    if not concordant:
        return _none(_why_alone(stable, references, overlaps))
    best = max(candidate.concordance for candidate in concordant)
    contenders = [
        replace(candidate, average_precision=precision[candidate.name])
        for candidate in concordant
        if candidate.concordance >= best or candidate.concordance_upper >= best
    ]
    judged = [candidate for candidate in contenders if math.isfinite(candidate.average_precision)]
    if judged:
        chosen = max(judged, key=lambda candidate: (candidate.average_precision, candidate.height))
    else:
        chosen = max(contenders, key=lambda candidate: candidate.height)
    return {
        "method": chosen.name,
        "phi": chosen.phi,
        "lower": chosen.lower,
        "upper": chosen.upper,
        "floor": chosen.floor,
        "concordance": chosen.concordance,
        "reference": ", ".join(chosen.references),
        "average_precision": chosen.average_precision,
        "reason": _why(chosen, len(stable), len(concordant), len(contenders)),
    }


def _candidate(row: Mapping[str, object]) -> _Candidate:
    phi, lower, upper, floor = (float(str(row[name])) for name in ("phi", "lower", "upper", "floor"))
    deterministic = str(row["reason"]).startswith("n/a")
    return _Candidate(str(row["method"]), phi, lower, upper, floor, deterministic=deterministic)


def _compare(
    candidate: _Candidate, references: Sequence[_Candidate], overlaps: Mapping[frozenset[str], Mapping[str, float]]
) -> _Candidate:
    """Fill in the concordance with the other stable methods, if it agrees with one of them beyond the floor."""
    found = {
        other.name: pair
        for other in references
        if (pair := overlaps.get(frozenset((candidate.name, other.name)))) is not None and other.name != candidate.name
    }
    if not any(pair["lower"] > pair["floor"] for pair in found.values()):
        return candidate

    def mean(column: str) -> float:
        return float(np.mean([pair[column] for pair in found.values()]))

    return replace(
        candidate,
        references=tuple(found),
        concordance=mean("overlap"),
        concordance_lower=mean("lower"),
        concordance_upper=mean("upper"),
        concordance_floor=mean("floor"),
    )


def _why(chosen: _Candidate, n_stable: int, n_concordant: int, n_contenders: int) -> str:
    text = (
        f"Stability {_range(chosen.phi, chosen.lower, chosen.upper)} against a floor of {chosen.floor:z.2f}; overlap "
        f"{_range(chosen.concordance, chosen.concordance_lower, chosen.concordance_upper)} with "
        f"{', '.join(chosen.references)} against {chosen.concordance_floor:z.2f}. "
        f"{n_stable} stable, {n_concordant} of them concordant, {n_contenders} about as concordant as the best"
    )
    if n_contenders == 1:
        return f"{text}: this one."
    if math.isfinite(chosen.average_precision):
        return f"{text}; of these it has the highest average precision, {chosen.average_precision:.2f}."
    return f"{text}; of these its lower bound of stability is farthest above the floor."


def _why_unstable(candidates: Sequence[_Candidate]) -> str:
    known = [candidate for candidate in candidates if math.isfinite(candidate.height)]
    if known:
        best = max(known, key=lambda candidate: candidate.height)
        return (
            f"No method is stable: the closest, {best.name}, has a stability of "
            f"{_range(best.phi, best.lower, best.upper)} against a floor of {best.floor:z.2f}."
        )
    if not candidates:
        return "No method gave scores."
    return "No method has both an interval of its stability (3 replicates or more) and a floor (2 populations or more)."


def _why_alone(
    stable: Sequence[_Candidate],
    references: Sequence[_Candidate],
    overlaps: Mapping[frozenset[str], Mapping[str, float]],
) -> str:
    names = ", ".join(f"{one.name} ({_range(one.phi, one.lower, one.upper)})" for one in stable)
    is_are = "is" if len(stable) == 1 else "are"
    pairs = [
        (pair["lower"] - pair["floor"], one.name, other.name, pair)
        for one in stable
        for other in references
        if (pair := overlaps.get(frozenset((one.name, other.name)))) is not None and other.name != one.name
    ]
    pairs = [pair for pair in pairs if math.isfinite(pair[0])]
    if not pairs:
        return f"{names} {is_are} stable, but there is no other stable method to confirm it."
    _, one, other, pair = max(pairs, key=lambda found: found[0])
    overlap = _range(pair["overlap"], pair["lower"], pair["upper"])
    return (
        f"{names} {is_are} stable, but no two stable methods agree beyond their floor: the closest, {one} and "
        f"{other}, have an overlap of {overlap} against a floor of {pair['floor']:z.2f}."
    )


def _none(reason: str) -> dict[str, object]:
    numbers = ("phi", "lower", "upper", "floor", "concordance")
    return {
        "method": NONE,
        **dict.fromkeys(numbers, math.nan),
        "reference": "",
        "average_precision": math.nan,
        "reason": reason,
    }


def _average_precision(truth: pd.DataFrame | None) -> dict[tuple[str, str, str], float]:
    if truth is None or truth.empty:
        return {}
    groups = truth.groupby(["population", "estimand", "method"], sort=False, observed=True)
    return {(str(p), str(e), str(m)): float(v) for (p, e, m), v in groups["average_precision"].mean().items()}


def _range(estimate: float, lower: float, upper: float) -> str:
    return f"{estimate:z.2f} [{lower:z.2f}, {upper:z.2f}]"
