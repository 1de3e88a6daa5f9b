"""What is noted of runs, trials and sweeps is named in one place."""

from __future__ import annotations

import re
from pathlib import Path

import scballast
from scballast.config import keys

PACKAGE = Path(scballast.__file__).parent
NAMES = {value for name, value in vars(keys).items() if name.isupper()}


def is_module(name: str) -> bool:
    path = PACKAGE / name.removeprefix("scballast.")
    return path.is_dir() or path.with_suffix(".py").is_file()


def test_each_name_is_there_once() -> None:
    assert len(NAMES) == sum(name.isupper() for name in vars(keys))
    assert all(re.fullmatch(r"scballast\.[a-z_]+", name) for name in NAMES)


def test_no_other_module_spells_a_name_out() -> None:
    found = [
        f"{path.relative_to(PACKAGE)}: {name}"
        for path in sorted(PACKAGE.rglob("*.py"))
        if path != PACKAGE / "config" / "keys.py"
        for name in re.findall(r"[\"'](scballast\.[a-z_]+)[\"']", path.read_text(encoding="utf-8"))
        # Modules have names of the same form.
        if name in NAMES or not is_module(name)
    ]
    assert found == []


def test_every_name_is_used() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py"))
    unused = [name for name in vars(keys) if name.isupper() and not re.search(rf"\bkeys\.{name}\b", text)]
    assert unused == []
