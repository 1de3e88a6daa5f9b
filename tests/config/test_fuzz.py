"""Any values in any shape end in a configuration or in one message."""

from __future__ import annotations

import math
from typing import Any

from hypothesis import HealthCheck, event, example, given, settings
from hypothesis import strategies as st
from tests.helpers.fuzzing import examples

from scballast.config.compose import compose_config
from scballast.config.schema import Config, build_config, config_hash, to_leaves, to_nested
from scballast.errors import ConfigError

DEFAULTS = to_leaves(Config())
LEAVES = sorted(DEFAULTS)
GROUPS = sorted({key.rpartition(".")[0] for key in LEAVES if "." in key})

NUMBERS = st.one_of(
    st.integers(-3, 60),
    st.sampled_from([0, 1, -1, 2**31, 2**63, 10**30, -(10**400), 10**400]),
    st.floats(),
    st.sampled_from([0.0, 0.5, 1.0, 1e-300, 1e308, math.nan, math.inf]),
)
TEXTS = st.one_of(
    st.sampled_from(
        ["", " ", "null", "nan", "1e3", "0x10", "细胞", "a/b", "..", "~", "~nobody/x", "a\x00b", "\udc80", "\n", "{}"]
    ),
    st.sampled_from(
        ["file", "embedded", "ldvae", "pca", "ln", "zinb", "donor", "subsample", "seed", "cuda", "x.h5ad", "optuna"]
    ),
    st.text(max_size=12),
)
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS)
OBJECTIVES = st.lists(
    st.fixed_dictionaries(
        {"metric": st.one_of(SCALARS, st.sampled_from(["stability/contrast", "fit/heldout_nll", "/", "fit"]))},
        optional={"direction": st.one_of(SCALARS, st.sampled_from(["maximize", "minimize"])), "weight": NUMBERS},
    ),
    max_size=3,
)
NESTED = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.tuples(inner), st.dictionaries(st.one_of(TEXTS, NUMBERS), inner, max_size=3)
    ),
    max_leaves=5,
)


@st.composite
def valid_like(draw: st.DrawFn, key: str) -> Any:
    """Return a value near the default of a key: of its type, or one of the texts that some key allows."""
    default = DEFAULTS[key]
    if isinstance(default, bool):
        return draw(st.booleans())
    if isinstance(default, int):
        return draw(st.integers(0, 100))
    if isinstance(default, float):
        return draw(st.floats(0, 1))
    return draw(st.one_of(st.just(default), TEXTS))


@st.composite
def configurations(draw: st.DrawFn) -> dict[str, Any]:
    """Return nested values: some leaves near their defaults, and at most two that may be anything."""
    nested: dict[str, Any] = {}
    for key in draw(st.lists(st.sampled_from(LEAVES), max_size=4, unique=True)):
        _put(nested, key, draw(OBJECTIVES if key == "objectives" else valid_like(key)))
    odd = draw(st.sampled_from(["none", "none", "leaf", "leaf", "group", "unknown"]))
    if odd == "leaf":
        _put(nested, draw(st.sampled_from(LEAVES)), draw(NESTED))
    if odd == "group":
        _put(nested, draw(st.sampled_from(GROUPS)), draw(NESTED))
    if odd == "unknown":
        nested[draw(st.one_of(TEXTS, NUMBERS, st.none(), st.tuples(NUMBERS)))] = draw(SCALARS)
    return nested


def _put(nested: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    place = nested
    for parent in parents:
        inner = place.setdefault(parent, {})
        if not isinstance(inner, dict):
            return
        place = inner
    place[last] = value


def check_message(error: ConfigError) -> None:
    message = str(error)
    assert message
    assert "\n" not in message
    assert len(message) < 2000
    message.encode("utf-8")


@settings(max_examples=examples(600), suppress_health_check=list(HealthCheck))
@given(values=configurations())
def test_any_values_end_in_a_configuration_or_a_message(values: dict[str, Any]) -> None:
    try:
        config = build_config(values)
    except ConfigError as error:
        event("message")
        check_message(error)
        return
    event("configuration")
    assert build_config(to_nested(config)) == config
    name = config_hash(config)
    assert len(name) == 16
    assert name.isalpha(), "no table takes it for a number"
    for key, value in to_leaves(config).items():
        for number in value if isinstance(value, list) else [value]:
            assert not isinstance(number, float) or math.isfinite(number), key
    assert 0.0 <= config.model.dropout_rate < 1.0
    assert config.rank.top_k >= 1
    assert config.resample.kind != "subsample" or config.resample.fraction <= 0.5


@settings(max_examples=examples(60), suppress_health_check=list(HealthCheck))
@given(
    words=st.lists(
        st.one_of(
            st.text(max_size=20),
            st.builds("{}={}".format, st.sampled_from([*LEAVES, *GROUPS, "hydra", "experiment"]), SCALARS),
            st.builds("{}={}".format, st.sampled_from(LEAVES), st.text("ab01[]{}(),:'\"$=+~ \\\n.", max_size=8)),
            st.builds("{}{}".format, st.sampled_from(["+", "++", "~"]), st.sampled_from(LEAVES)),
        ),
        max_size=3,
    )
)
@example(["=\n"])
def test_any_words_end_in_a_configuration_or_a_message(words: list[str]) -> None:
    try:
        config = compose_config(words)
    except ConfigError as error:
        event("message")
        check_message(error)
        return
    event("configuration")
    assert isinstance(config, Config)
