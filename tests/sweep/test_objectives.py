"""Which objectives a sweep has where its methods do not measure all of the default ones."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from scballast.config.hydra_compat import parse_override
from scballast.config.schema import DEFAULT_OBJECTIVES, Config, Objective, build_config
from scballast.errors import ConfigError
from scballast.sweep.controller import Sweep, _settle_objectives
from scballast.sweep.objectives import settled_objectives

CONTRAST, LOCAL = DEFAULT_OBJECTIVES


def config(*objectives: Objective, **changes: Any) -> Config:
    tuned = build_config({"sweep": {"kind": "optuna"}})
    return replace(tuned, **({"objectives": objectives} if objectives else {}), **changes)


def word_in(message: str) -> list[dict[str, str]]:
    """Return what Hydra reads in a message's override."""
    written = "objectives=" + message.split("objectives='")[1].split("'")[0]
    value: list[dict[str, str]] = parse_override(written).value()
    return value


def test_a_default_objective_whose_method_is_not_run_is_left_out_for_study_and_trials(
    capsys: pytest.CaptureFixture[str],
) -> None:
    dataset: Any = SimpleNamespace(methods=("contrast", "axis"))
    sweep = Sweep(["methods=[contrast,axis]"], (), [], config())
    settled = _settle_objectives(sweep, dataset)
    assert settled.config.objectives == (CONTRAST,)
    first, last = settled.words
    assert first == "methods=[contrast,axis]"
    assert parse_override(last).value() == [{"metric": "confirmed/contrast", "direction": "maximize"}]
    said = capsys.readouterr().err
    assert said == (
        "Note: confirmed/local is no objective here, since this sweep's methods are contrast, axis; it tunes "
        "confirmed/contrast.\n"
    )
    # What has been settled stays so, and nothing is said where nothing is missing.
    assert _settle_objectives(settled, dataset) is settled
    assert _settle_objectives(sweep, SimpleNamespace(methods=("local", "contrast"))) is sweep  # type: ignore[arg-type]
    assert not capsys.readouterr().err


@pytest.mark.parametrize(
    ("objectives", "methods", "missing", "remedy"),
    [
        ((), ("wilcoxon", "axis"), "'confirmed/contrast' is not measured: 'contrast'", "confirmed/axis"),
        ((), ("wilcoxon",), "'confirmed/contrast'", "confirmed/wilcoxon"),
        ((CONTRAST, Objective("stability/local")), ("contrast",), "'stability/local'", "confirmed/contrast"),
        ((LOCAL,), ("contrast", "axis"), "'confirmed/local'", "confirmed/contrast"),
    ],
)
def test_an_objective_that_was_named_is_refused_with_one_that_is_measured(
    objectives: tuple[Objective, ...], methods: tuple[str, ...], missing: str, remedy: str
) -> None:
    with pytest.raises(ConfigError, match=missing) as caught:
        settled_objectives(config(*objectives), methods)
    assert word_in(str(caught.value)) == [{"metric": remedy, "direction": "maximize"}]


def test_a_grid_keeps_what_it_has_and_a_fit_needs_samples() -> None:
    grid = replace(config(), sweep=replace(config().sweep, kind="grid"))
    assert settled_objectives(grid, ("wilcoxon",)) == (DEFAULT_OBJECTIVES, "")
    fit = Objective("fit/heldout_nll", "minimize")
    without = config(fit, fit=replace(config().fit, n_mc_samples=0))
    with pytest.raises(ConfigError, match=r"fit\.n_mc_samples=0"):
        settled_objectives(without, ("contrast",))
