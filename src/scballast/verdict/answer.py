"""The answer: which method to trust, per population and estimand, or none.

The rule
--------
1. *Candidates* are the methods of the estimand whose lists could be tested in unseen cells; controls never are, nor
   methods whose models saw too few gradient steps.
2. *Trusted* is a candidate of whose top k at least one tenth hold in cells it never saw, at 95% confidence: the lower
   bound of its confirmed share (``confirmation``) reaches 0.1. Of several candidates the best bound is looked at,
   and a few genes that covary because two cells stuck together are no program, so a bound above 0 is not enough.
3. Of the trusted methods, the one with the largest confirmed share; of equals, the one with the largest bound.

Otherwise the answer is none, and the reason says how close the best candidate came. Stability with its floor and the
concordance with the other trusted methods stand beside the answer; they do not decide it: a list can be stable and
wrong, since abundant and variable genes recur in every list.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from scballast.methods.registry import CONTROLS

NONE = "none"
SMALLEST_SHARE = 0.1
"""Lower bound of the confirmed share from which a method is trusted."""

_NUMBERS = ("phi", "lower", "upper", "floor", "concordance", "average_precision", "confirmed", "confirmed_lower")


@dataclass(frozen=True)
class _Candidate:
    """What decides about one method, and what stands beside it."""

    name: str
    confirmed: float
    confirmed_lower: float
    n_genes: int
    stability: Mapping[str, float]

    @property
    def trusted(self) -> bool:
        return self.confirmed_lower >= SMALLEST_SHARE

    @property
    def holds(self) -> str:
        """How many genes hold, in words."""
        # A share times k may fall a rounding error short of the whole number that it came from.
        n_lower = math.floor(self.confirmed_lower * self.n_genes + 1e-9)
        return (
            f"at least {n_lower} of {self.n_genes} genes hold in cells it never saw (95%), "
            f"{self.confirmed * self.n_genes:.0f} are confirmed"
        )


def rule_steps() -> tuple[str, ...]:
    """Return the rule at the head of this module, one step each, for reports that state it."""
    steps = re.findall(r"^\d\. (.*?)(?=^\d\. |\n\n|\Z)", __doc__.partition("--------\n")[2], re.MULTILINE | re.DOTALL)
    return tuple(" ".join(re.sub(r"[*`]", "", step).split()) for step in steps)


def answer_table(
    stability: pd.DataFrame,
    concordance: pd.DataFrame,
    confirmation: pd.DataFrame,
    truth: pd.DataFrame | None = None,
    *,
    top_k: int = 50,
    undertrained: Collection[tuple[str, str]] = (),
) -> pd.DataFrame:
    """Decide which method to trust, by the rule at the head of this module.

    Parameters
    ----------
    stability, concordance
        From ``tables.stability_table`` and ``tables.concordance_table``: what stands beside the answer.
    confirmation
        ``confirmation.Confirmation.summary``: what decides.
    truth
        Simulated data: method, estimand, population, average_precision; several rows of one list are averaged. It
        stands beside the answer and does not decide it.
    top_k
        The k whose stability is shown.
    undertrained
        (method, population) whose models saw too few gradient steps.

    Returns
    -------
    DataFrame
        population, estimand, method ("none" when no method can be trusted), phi, lower, upper, floor (stability),
        concordance (mean overlap with the other trusted methods), reference (their names), average_precision,
        confirmed, confirmed_lower (shares of the top k), reason (the numbers that decided). For "none" the numbers
        are NaN.
    """
    precision = _average_precision(truth)
    headline = stability[stability["k"] == top_k]
    beside = headline.set_index(["population", "method"])[["phi", "lower", "upper", "floor"]].to_dict("index")
    rows = []
    for (population, estimand), group in confirmation.groupby(["population", "estimand"], sort=False, observed=True):
        barred = {method for method, where in undertrained if where == population}
        records = [row for row in group.to_dict("records") if row["method"] not in CONTROLS]
        tested = [row for row in records if math.isfinite(row["confirmed"])]
        candidates = [
            _Candidate(name, row["confirmed"], row["lower"], row["n_genes"], beside.get((population, name), {}))
            for row in tested
            if (name := row["method"]) not in barred
        ]
        if not candidates:
            decided = _none(_why_untested(records, barred))
        else:
            overlaps = _overlaps(concordance, population, estimand)
            decided = _decide(candidates, overlaps)
            decided["average_precision"] = precision.get((population, estimand, decided["method"]), math.nan)
        rows.append({"population": population, "estimand": estimand, **decided})
    columns = ["population", "estimand", "method", *_NUMBERS[:5], "reference", *_NUMBERS[5:], "reason"]
    return pd.DataFrame(rows, columns=columns)


def _decide(candidates: Sequence[_Candidate], overlaps: Mapping[frozenset[str], float]) -> dict[str, Any]:
    trusted = [candidate for candidate in candidates if candidate.trusted]
    best = max(trusted or candidates, key=lambda candidate: (candidate.confirmed, candidate.confirmed_lower))
    if not trusted:
        return _none(
            f"No method is confirmed: of the list of {best.name}, the closest, {best.holds}; "
            f"{math.ceil(SMALLEST_SHARE * best.n_genes)} are asked for."
        )
    overlap_by_reference = {
        other.name: overlaps[pair]
        for other in trusted
        if other.name != best.name and (pair := frozenset((best.name, other.name))) in overlaps
    }
    rest = ", ".join(
        f"{candidate.name} {candidate.confirmed * candidate.n_genes:.0f}"
        for candidate in sorted(trusted, key=lambda candidate: -candidate.confirmed)[:4]
        if candidate.name != best.name
    )
    nearest = f" Next: {rest}." if rest else ""
    return {
        "method": best.name,
        **{name: best.stability.get(name, math.nan) for name in ("phi", "lower", "upper", "floor")},
        "concordance": float(np.mean(list(overlap_by_reference.values()))) if overlap_by_reference else math.nan,
        "reference": ", ".join(overlap_by_reference),
        "confirmed": best.confirmed,
        "confirmed_lower": best.confirmed_lower,
        "reason": f"{best.holds[0].upper()}{best.holds[1:]}: the most of {len(trusted)} trusted "
        f"{'method' if len(trusted) == 1 else 'methods'} among {len(candidates)}.{nearest}",
    }


def _overlaps(concordance: pd.DataFrame, population: object, estimand: object) -> dict[frozenset[str], float]:
    pairs = concordance[(concordance["population"] == population) & (concordance["estimand"] == estimand)]
    return {frozenset((row["method_a"], row["method_b"])): row["overlap"] for row in pairs.to_dict("records")}


def _why_untested(records: Sequence[Mapping[Any, Any]], barred: Collection[str]) -> str:
    left_out = sorted({str(row["method"]) for row in records} & set(barred))
    reasons = sorted({str(row["reason"]) for row in records if row["method"] not in barred and row["reason"]})
    if not records:
        return "No method gave scores."
    parts = [f"No list could be tested: {'; '.join(reasons)}."] if reasons else []
    if left_out:
        parts.append(f"Models that saw too few gradient steps are not named: {', '.join(left_out)}.")
    return " ".join(parts)


def _none(reason: str) -> dict[str, Any]:
    return {"method": NONE, **dict.fromkeys(_NUMBERS, math.nan), "reference": "", "reason": reason}


def _average_precision(truth: pd.DataFrame | None) -> dict[tuple[str, str, str], float]:
    if truth is None or truth.empty:
        return {}
    groups = truth.groupby(["population", "estimand", "method"], sort=False, observed=True)
    return dict(groups["average_precision"].mean())
