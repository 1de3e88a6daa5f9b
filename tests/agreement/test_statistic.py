"""Numbers that know why they are undefined."""

from __future__ import annotations

import math
import pickle

import pytest

from scballast.agreement.factors import SubspaceAgreement
from scballast.agreement.rank_agreement import KendallW
from scballast.agreement.statistic import Statistic, undefined


def test_a_statistic_is_a_number() -> None:
    value = Statistic(0.25)
    assert value + 1 == 1.25
    assert max(value, 0.5) == 0.5
    assert repr(value) == "0.25"
    assert value.reason == ""


def test_the_undefined_says_why() -> None:
    value = undefined("one replicate")
    assert math.isnan(value)
    assert value.reason == "one replicate"
    assert repr(value) == "nan (one replicate)"


@pytest.mark.parametrize(
    "value", [undefined("why"), KendallW(0.5, chance_corrected=0.25), SubspaceAgreement(0.5, chance=0.1)]
)
def test_statistics_are_frozen_and_survive_pickling(value: Statistic) -> None:
    copy = pickle.loads(pickle.dumps(value))
    assert type(copy) is type(value)
    assert repr(copy) == repr(value)
    for name in ("reason", "chance_corrected", "chance"):
        assert getattr(copy, name, None) == getattr(value, name, None)
    with pytest.raises(AttributeError, match="frozen"):
        value.reason = "other"
