"""``scballast --help``: the groups, every key with its default and meaning, and how to begin."""

from __future__ import annotations

import dataclasses
import shutil
import textwrap
from typing import Any

from scballast.config.compose import config_groups
from scballast.config.schema import Config, to_leaves
from scballast.config.values import written

_SIMULATION = "data.simulation."  # these keys are described where they are defined, in `config.simulation`
_USE = """\
scballast                                     one experiment on embedded real data
scballast data=h5ad data.path=X.h5ad data.population_key=cell_type
                                              your own counts
scballast -m model.n_latent=5,10,20           a sweep over a grid
scballast -m sweep=optuna sweep.n_trials=40   a sweep tuned by Optuna
scballast … plan=true                         say what would run
scballast report RUN                          open the report of a run (name, id, or nothing: the last)
scballast check GENES.csv data=h5ad data.path=X.h5ad data.population_key=cell_type
                                              hold somebody's gene lists against your cells (check --help)
scballast-ui                                  the MLflow UI over runs/
scballast --cfg job                           the whole configuration
scballast --hydra-help                        Hydra's own flags
"""


def help_text(width: int | None = None) -> str:
    """Write the page of help.

    Parameters
    ----------
    width
        Columns; default: the terminal's.
    """
    columns = min(width or shutil.get_terminal_size().columns, 120)
    lines = ["scballast: which genes of a population can be trusted, and which way of getting them gives them?"]
    lines = [*textwrap.wrap(lines[0], columns), "", "Use", *textwrap.indent(_USE, "  ").splitlines()]
    lines += ["", "Groups (group=option)"]
    for group, options in config_groups().items():
        if not group.startswith("hydra"):
            lines += _entry(group, " | ".join(options), columns)
    lines += ["", "Keys (key=value), each with its default"]
    for key, default, meaning in described_keys():
        lines += _entry(f"{key}={default}", meaning, columns)
    lines += _entry(f"{_SIMULATION}…", "`scballast data=simulated --cfg job` prints the simulation's keys", columns)
    return "\n".join(lines) + "\n"


def described_keys() -> list[tuple[str, str, str]]:
    """Return every key but the simulation's with its default, as it is written, and what it means."""
    leaves = to_leaves(Config()).items()
    return [(key, _shown(default), _about(key)) for key, default in leaves if not key.startswith(_SIMULATION)]


def _about(key: str) -> str:
    """Return what a key means, with its allowed values."""
    place: Any = Config
    for part in key.split("."):
        entry = next(field for field in dataclasses.fields(place) if field.name == part)
        place = entry.default_factory if dataclasses.is_dataclass(entry.default_factory) else place
    allowed = entry.metadata.get("allowed")
    text: str = entry.metadata["about"]
    return f"{text} ({' | '.join(allowed)})" if allowed else text


def _shown(default: Any) -> str:
    return "[…]" if isinstance(default, (list, tuple, dict)) and default else written(default)


def _entry(name: str, text: str, columns: int) -> list[str]:
    """Put name and text side by side where there is room, else below each other."""
    side = 40
    if columns < 70:
        return [f"  {name}", *textwrap.wrap(text, columns, initial_indent="      ", subsequent_indent="      ")]
    start = f"  {name}".ljust(side)
    if len(start) > side:
        return [start, *textwrap.wrap(text, columns, initial_indent=" " * side, subsequent_indent=" " * side)]
    return textwrap.wrap(text, columns, initial_indent=start, subsequent_indent=" " * side) or [start.rstrip()]
