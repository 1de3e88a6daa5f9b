"""Every family of models is where users look for it."""

from __future__ import annotations

from dataclasses import replace
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


@pytest.mark.parametrize("name", FAMILIES)
def test_what_a_family_needs_that_is_not_here_is_said_before_any_data_are_read(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(FAMILIES, name, replace(FAMILIES[name], obstacle=f"{name} needs what is not here."))
    with pytest.raises(ConfigError, match=rf"^model\.name: {name} needs what is not here\.$"):
        family_of(compose_config([f"model={name}"]))


def test_only_drvi_needs_more_than_the_oldest_versions_have() -> None:
    assert {name for name, family in FAMILIES.items() if family.obstacle is not None} <= {"drvi"}


def test_drvi_is_trained_as_its_authors_do_unless_the_command_line_says_otherwise() -> None:
    words = ["model=drvi", "train=quick"]
    assert compose_config(words).train.kl_warmup_epochs == 1.0
    assert compose_config([*words, "train.kl_warmup_epochs=0.5"]).train.kl_warmup_epochs == 0.5
    assert compose_config(["train=quick"]).train.kl_warmup_epochs == 0.5
