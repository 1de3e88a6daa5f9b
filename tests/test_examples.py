"""The examples in docstrings give what they say."""

from __future__ import annotations

import doctest
import importlib

import pytest

MODULES = (
    "agreement.association", "agreement.factors", "agreement.ranking", "agreement.stability", "config.compose",
    "data.replicates", "agreement.residuals", "seeds", "verdict.truth",
)  # fmt: skip


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    results = doctest.testmod(importlib.import_module(f"scballast.{name}"))
    assert results.attempted > 0
    assert results.failed == 0
