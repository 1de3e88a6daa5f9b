"""Matplotlib gets a folder of ours where it has none, and keeps its own where it has one."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from scballast.engine.cache_folders import settle_matplotlib, temporary_folder


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delitem(sys.modules, "matplotlib", raising=False)
    for name in ("XDG_CONFIG_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MPLCONFIGDIR", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("name", "value"), [("HOME", "/dev/null/home"), ("XDG_CONFIG_HOME", "/dev/null"), ("XDG_CACHE_HOME", "/dev/null")]
)
def test_a_folder_that_cannot_be_made_is_replaced(
    name: str, value: str, machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    settle_matplotlib()
    assert os.environ["MPLCONFIGDIR"] == str(machine / f"scballast-{os.getuid()}") == str(temporary_folder())


def test_a_folder_of_its_own_is_kept(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settle_matplotlib()
    assert os.environ["MPLCONFIGDIR"] == ""
    assert (machine / ".config" / "matplotlib").is_dir()
    monkeypatch.setenv("MPLCONFIGDIR", "/dev/null/chosen")
    settle_matplotlib()
    assert os.environ["MPLCONFIGDIR"] == "/dev/null/chosen"


def test_the_folder_of_another_user_is_not_used(machine: Path) -> None:
    planted = machine / f"scballast-{os.getuid()}"
    planted.mkdir()
    planted.chmod(0o777)
    assert temporary_folder() != planted
