"""The examples in docstrings give what they say."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

MODULES = (
    "agreement.association", "agreement.factors", "agreement.ranking", "agreement.stability", "config.compose",
    "data.replicates", "agreement.residuals", "seeds", "verdict.truth", "api",
)  # fmt: skip


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # where runs/ is made
    results = doctest.testmod(importlib.import_module(f"scballast.{name}"))
    assert results.attempted > 0
    assert results.failed == 0
