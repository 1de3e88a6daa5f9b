"""One check of somebody's gene lists: run, written to a folder, reported."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from scballast.config import keys
from scballast.config.compose import check_keys, compose_config
from scballast.config.schema import Config, build_config
from scballast.data.early import check_file
from scballast.data.published_lists import PublishedLists
from scballast.engine.cache_folders import settle_matplotlib
from scballast.errors import ConfigError, memory_errors
from scballast.results import Results, read_config, result_folder, write_results


def runs_dir_of(words: Sequence[str]) -> str:
    """Return the folder of the runs from words that may name nothing else: a finished run has its data and replicates.

    Raises
    ------
    ConfigError
        A word names something else, or is no override.
    """
    check_keys(words)
    unwanted = [word for word in words if not word.startswith("runs_dir=")]
    if unwanted:
        message = f"--run: data and replicates are the run's, so {unwanted[0]!r} cannot be set. Leave one of them out."
        raise ConfigError(message)
    return next((word.partition("=")[2] for word in words), "runs")


def check_configuration(words: Sequence[str], run: Path | None) -> Config:
    """Return the configuration of a check against data; its files are looked at, no more.

    Parameters
    ----------
    words
        What was asked for.
    run
        Results of a finished run whose data and replicates are the check's; None: those of the words.

    Raises
    ------
    ConfigError, DataError
        See `runs_dir_of`, and :func:`scballast.config.compose.compose_config`; or a file is not there.
    """
    if run is None:
        # Those of `baselines=full` that `fast` lacks take minutes with many donors.
        quick = () if any(word.startswith("baselines=") for word in words) else ("baselines=fast",)
        config = compose_config([*quick, *words])
    else:
        runs_dir = runs_dir_of(words)
        config = replace(build_config(read_config(run)), runs_dir=runs_dir)
    check_file(config.data, config.association.keys)
    return config


def check_and_write(config: Config, lists: PublishedLists, run: Path | None) -> tuple[Results, Path]:
    """Hold lists against the data, and write tables and report to a folder that appears when it is whole.

    Parameters
    ----------
    config
        Of the experiment.
    lists
        Somebody's lists.
    run
        Results of the run whose rankings must be used; None: a finished run's, where one has these data and
        replicates and ``methods`` asks for none.

    Returns
    -------
    Results, Path
        What was found, and the folder.

    Raises
    ------
    ConfigError, DataError
        What is wrong with the configuration, the data or the lists.
    """
    from scballast.experiment.check import run_check
    from scballast.experiment.stored import finished_runs
    from scballast.report.check_report import render_check_report
    from scballast.sweep.trial import cache_dir, runs_dir

    settle_matplotlib()
    runs = [run] if run is not None else finished_runs(runs_dir(config)) if config.methods is None else []
    with memory_errors():
        results = run_check(config, lists, runs=runs, cache_dir=cache_dir(config), must_reuse=run is not None)
    stem = re.sub(r"[^A-Za-z0-9_-]+", "_", lists.label.split(".")[0]).strip("_") or "lists"
    stamp = datetime.now().astimezone().strftime("%Y%m%d-%H%M%S-%f")
    folder = runs_dir(config) / "checks" / f"{stem}-{results.tags[keys.DATASET]}-{stamp}"
    with result_folder(folder) as part:
        write_results(results, part)
        render_check_report(part)
    return results, folder
