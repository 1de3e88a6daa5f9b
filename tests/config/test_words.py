"""Words that messages suggest: what a shell and Hydra make of them is the name that was meant."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from scballast.config.compose import compose_config
from scballast.config.hydra_compat import parse_override
from scballast.config.words import shown_word

FILE = ("data=h5ad", "data.path=x.h5ad", "data.population_key=c")
AWKWARD = [
    "counts ", " lead", "a b", "a=b", "1", "0.50", "1e3", "true", "null", "nan", "x,y", "[x]", "${x}", "\\${x}", "é",
    "a'b", 'a"b', "{a}", "#h", "a\\", "a\\b", "\\\\\"", "*?", "$HOME", "!x", "(x)", "a;b", "~", "a' \"b", "`id`",
]  # fmt: skip


def understood(shown: str) -> object:
    """Return what a shell, Hydra and OmegaConf make of a word in turn."""
    (word,) = shlex.split(shown)
    return OmegaConf.to_container(OmegaConf.create({"value": parse_override(word).value()}), resolve=True)["value"]


@pytest.mark.parametrize("name", AWKWARD)
def test_a_suggestion_is_read_as_it_was_meant(name: str) -> None:
    assert understood(shown_word("data.layer", name)) == name


def test_the_whole_configuration_keeps_what_was_meant() -> None:
    keys = ("layer", "batch_key", "sample_key", "labels", "name")
    names = ["counts ", "0.50", "a='b\"", "${x}", "a\\"]
    words = [shlex.split(shown_word(f"data.{key}", name))[0] for key, name in zip(keys, names, strict=True)]
    config = compose_config([*FILE, *words])
    assert [getattr(config.data, key) for key in keys] == names


def test_a_shell_passes_suggestions_on_as_one_word_each() -> None:
    words = [shown_word("data.layer", name) for name in AWKWARD]
    done = subprocess.run(["sh", "-c", f"printf '%s\\n' {' '.join(words)}"], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [shlex.split(word)[0] for word in words]


@given(st.text("ab \\\"'$,=:#{}[]()", min_size=1, max_size=6))
def test_any_signs(name: str) -> None:
    assert understood(shown_word("data.layer", name)) == name


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
@pytest.mark.parametrize("name", ["a\nb", "counts\u00a0", "a\u200b1", "\x1cA\t'b\\", "\U000e0041x"])
def test_what_cannot_be_seen_stands_as_its_number(name: str) -> None:
    word = shown_word("data.layer", name)
    assert word.isprintable()
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    done = subprocess.run(["bash", "-c", f"printf %s {word}"], capture_output=True, env=environment, check=True)
    assert OmegaConf.create({"value": parse_override(done.stdout.decode()).value()})["value"] == name


@pytest.mark.parametrize("name", ["counts", "layers/raw", "a.b", "my:col"])
def test_a_plain_name_is_not_quoted(name: str) -> None:
    assert shown_word("data.layer", name) == f"data.layer={name}"
