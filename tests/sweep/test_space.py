"""Search spaces in Hydra's syntax: what is searched is what was written."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import optuna
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from scballast.config.schema import build_config, conf_dir
from scballast.errors import ConfigError
from scballast.models import FAMILIES
from scballast.sweep.check import without_missing_families
from scballast.sweep.space import (
    describe,
    enumerate_points,
    n_asked_for,
    parse_dimension,
    point_overrides,
    point_words,
    split_words,
)


def draw(word: str, n: int = 200, seed: int = 0) -> list[object]:
    dimension = parse_dimension(word)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    return [dimension.suggest(study.ask()) for _ in range(n)]


@pytest.mark.parametrize(
    ("word", "values"),
    [
        ("model.n_latent=range(5,31,step=5)", {5, 10, 15, 20, 25, 30}),
        ("model.n_latent=5,10,20", {5, 10, 20}),
        ("model.n_latent=interval(2,4)", {2, 3, 4}),
        ("model.n_latent=tag(log,int(interval(1,3)))", {1, 2, 3}),
        ("model.gene_likelihood=choice(nb,zinb)", {"nb", "zinb"}),
        ("model.use_observed_lib_size=true,false", {True, False}),
        ("train.max_epochs=null,20", {None, 20}),
        ("model.dropout_rate=range(0.1,0.4,step=0.1)", {0.1, 0.2, 0.3}),
    ],
)
def test_every_value_is_drawn_and_no_other(word: str, values: set[object]) -> None:
    found = draw(word)
    assert {round(v, 9) if isinstance(v, float) else v for v in found} == values
    # Equal is not enough: 5.0 == 5, and a model of 5.0 dimensions is none.
    assert {type(v) for v in found} == {type(v) for v in values}


def test_an_interval_of_integers_holds_integers_where_the_key_takes_nothing_else() -> None:
    assert {type(v) for v in draw("model.n_hidden=interval(8,64)")} == {int}
    assert {type(v) for v in draw("train.lr=interval(1,2)")} == {float}


def test_a_logarithmic_interval_is_uniform_in_the_logarithm() -> None:
    found = [math.log10(v) for v in draw("train.lr=tag(log,interval(1e-5,1e-1))", n=2000)]  # type: ignore[arg-type]
    assert min(found) >= -5
    assert max(found) <= -1
    counts = [sum(low <= v < low + 1 for v in found) for low in (-5, -4, -3, -2)]
    # 500 expected in each decade; the standard deviation is 19.
    assert all(400 < count < 600 for count in counts)


@pytest.mark.parametrize(
    ("word", "complaint"),
    [
        ("model.n_latnt=1,2", "Did you mean 'model.n_latent'"),
        ("train.lr=tag(log,interval(0,1))", "must lie above 0"),
        ("train.lr=interval(2,1)", "start must lie below its end"),
        ("model.n_latent=interval(1.5,4)", "takes integers"),
        ("model.n_latent=range(5,5)", "no value"),
        ("runs_dir=a,b", "cannot search"),
        ("tracking.uri=a,b", "cannot search"),
        ("model=ldvae,pcaa", "Did you mean 'pca'"),
        ("model.n_latent=interval(1,2", "not understood"),
    ],
)
def test_what_cannot_be_searched_is_refused_with_its_reason(word: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint.replace("(", r"\(")):
        split_words([word], {})


def test_the_command_line_comes_before_the_stored_space() -> None:
    stored = {"model.n_latent": "range(5,20,step=5)", "model": {"n_hidden": [64, 128]}, "train.lr": None}
    words = ["model.n_latent=2,3", "seed=4"]
    shared, space = split_words(words, stored)
    assert shared == ["seed=4"]
    assert describe(space) == {"model.n_latent": "2, 3", "model.n_hidden": "64, 128"}
    # A key that is set is searched no more.
    shared, space = split_words(["model.n_latent=7"], stored)
    assert shared == ["model.n_latent=7"]
    assert list(describe(space)) == ["model.n_hidden"]


def test_a_grid_is_the_product_of_its_values_and_counts_what_is_asked_twice() -> None:
    _, space = split_words(["model.n_latent=5,10,5", "model.gene_likelihood=nb,zinb"], {})
    points = [tuple(point.values()) for point in enumerate_points(space)]
    assert points == list(itertools.product((5, 10), ("nb", "zinb")))
    assert n_asked_for(space) == 6


def test_a_grid_refuses_an_interval() -> None:
    _, space = split_words(["model.n_latent=interval(2,9)"], {})
    with pytest.raises(ConfigError, match="no finite list"):
        list(enumerate_points(space))


@given(st.floats(1e-6, 10.0), st.integers(1, 10_000), st.sampled_from(["nb", "zinb"]))
def test_a_point_written_as_words_is_read_back_exactly(lr: float, n_latent: int, likelihood: str) -> None:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    words = ["train.lr=interval(1e-7,10)", "model.n_latent=interval(1,10000)", "model.gene_likelihood=nb,zinb"]
    _, space = split_words(words, {})
    point = {"train.lr": lr, "model.n_latent": n_latent, "model.gene_likelihood": likelihood}
    parser = OverridesParser.create()
    for written in (point_words(space, point), point_overrides(space, point)):
        read = {o.key_or_group: o.value() for o in (parser.parse_override(word) for word in written)}
        assert read == point
        assert [type(value) for value in read.values()] == [float, int, str]


def test_the_shipped_space_is_valid_at_all_its_ends() -> None:
    shipped = yaml.safe_load((conf_dir() / "sweep" / "optuna.yaml").read_text())
    _, space = split_words([], shipped["search_space"])
    wanted = {"n_latent", "gene_likelihood", "latent_distribution", "lr", "kl_warmup_epochs", "n_hidden"}
    assert wanted < {key.split(".")[1] for key in describe(space)}
    assert "logarithmic" in describe(space)["train.lr"]
    for dimension in space:
        for value in dimension.ends():
            group, key = dimension.key.split(".")
            built = build_config({group: {key: value}})
            assert getattr(getattr(built, group), key) == value


@pytest.mark.parametrize("key", ["model", "model.name"])
def test_families_that_cannot_be_trained_here_are_left_out_and_the_others_go_on(
    key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(FAMILIES, "drvi", replace(FAMILIES["drvi"], obstacle="it is not here."))
    monkeypatch.setitem(FAMILIES, "pca", replace(FAMILIES["pca"], obstacle=None))
    _, space = split_words([f"{key}=nmf,drvi,pca,nmf", "seed=1,2"], {})
    kept, left_out = without_missing_families(space)
    assert left_out == {f"{key}=drvi": "it is not here."}
    assert [point_words(kept, point) for point in enumerate_points(kept)] == [
        [f"{key}={name}", f"seed={seed}"] for name in ("nmf", "pca") for seed in (1, 2)
    ]
    assert n_asked_for(kept) == 6
    assert describe(kept)[key] == "nmf, pca"
    assert parse_dimension(f"{key}={kept[0].text}").choices == kept[0].choices


def test_a_sweep_over_nothing_but_missing_families_is_left_to_its_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FAMILIES, "drvi", replace(FAMILIES["drvi"], obstacle="it is not here."))
    _, space = split_words(["model=choice(drvi)"], {})
    assert without_missing_families(space) == (space, {})
