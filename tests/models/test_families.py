"""Every family of models is where users look for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from scballast.config.compose import compose_config
from scballast.config.schema import conf_dir
from scballast.errors import ConfigError
from scballast.models import FAMILIES, family_of

METHODS_PAGE = (Path(__file__).parents[2] / "docs" / "methods.md").read_text(encoding="utf-8")


def test_every_group_of_model_is_a_family_and_every_family_has_one() -> None:
    assert {path.stem for path in (conf_dir() / "model").glob("*.yaml")} == set(FAMILIES)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_is_named_by_its_group_and_described_in_the_documentation(name: str) -> None:
    assert compose_config([f"model={name}"]).model.name == name
    assert f"| `{name}` |" in METHODS_PAGE


def test_what_is_not_trained_yet_is_said_before_any_data_are_read() -> None:
    assert [name for name, family in FAMILIES.items() if family.not_yet is not None] == ["drvi"]
    needs = (
        r"^model\.name: drvi is not trained by this version .* scvi-tools 1\.5 .* Python 3\.12 or later\. Use model="
    )
    with pytest.raises(ConfigError, match=needs):
        family_of(compose_config(["model=drvi"]))
