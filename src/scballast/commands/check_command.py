"""``scballast check GENES.csv data=…``: somebody's gene lists held against one's own cells."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from scballast.commands.output import forgive_characters
from scballast.config.compose import check_keys, compose_config
from scballast.config.schema import Config, build_config
from scballast.data.early import check_file
from scballast.data.published_lists import PublishedLists, read_published_lists
from scballast.errors import ConfigError

if TYPE_CHECKING:
    from scballast.experiment.check import Check

_ABOUT = """\
Hold somebody's lists of genes per population against your own cells.

GENES is a .csv or .tsv with the columns population, gene and, where there is
an order, rank. Each list is tested in cells as the lists of the methods are, as
markers and as a program: how much of it is confirmed, does it beat random genes
and the lists of other populations, with which methods does it agree, which
genes fail, and which would have been found instead. Genes may be symbols or
ids; those that are not among the most variable are tested too.

Nothing is trained: the methods beside it need no model, unless
methods=[contrast,local] asks for some. A finished run of the same data and
replicates in the runs folder is used as it is, with all of its methods.
"""
_EXAMPLES = """\
scballast check atlas.csv data=h5ad data.path=counts.h5ad data.population_key=cell_type
scballast check atlas.csv --run pbmc68k-ldvae-20260101-120000-abcdef
scballast check atlas.csv                    the embedded cells
"""


def main(words: Sequence[str]) -> int:
    """Run the command.

    Returns
    -------
    int
        Exit status: 0 done, 1 stopped.

    Raises
    ------
    ConfigError, DataError
        What is wrong with the configuration, the data or the lists.
    """
    forgive_characters()
    options = _parser().parse_intermixed_args(words)
    # What costs nothing is looked at before anything heavy is loaded.
    lists = read_published_lists(options.genes)
    config, run = _configuration(options.overrides, options.run)
    check_file(config.data, config.association.keys)
    try:
        check = _check(config, lists, run)
    except KeyboardInterrupt:
        sys.stderr.write("Stopped. Scores of finished baselines are kept.\n")
        return 1
    folder = _write(check, config, lists)
    from scballast.commands.check_summary import print_check

    print_check(check, lists, folder, config)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scballast check",
        description=_ABOUT,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("genes", metavar="GENES", help="the table of lists: .csv or .tsv, also .gz")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="data and replicates, as for an experiment (scballast --help)"
    )
    parser.add_argument("--run", help="name or folder of a finished run: its data, replicates and methods")
    return parser


def _configuration(words: Sequence[str], run: str | None) -> tuple[Config, Path | None]:
    """Return the configuration, and the run whose rankings must be used."""
    if run is None:
        # Those of `baselines=full` that `fast` lacks take minutes with many donors.
        quick = () if any(word.startswith("baselines=") for word in words) else ("baselines=fast",)
        return compose_config([*quick, *words]), None
    import yaml

    from scballast.commands.report_command import find_folder

    check_keys(words)
    unwanted = [word for word in words if not word.startswith("runs_dir=")]
    if unwanted:
        message = f"--run: data and replicates are the run's, so {unwanted[0]!r} cannot be set. Leave one of them out."
        raise ConfigError(message)
    runs_dir = next((word.partition("=")[2] for word in words), "runs")
    folder = find_folder(run, Path(runs_dir))
    stored = yaml.safe_load((folder / "config" / "resolved.yaml").read_text(encoding="utf-8"))
    return replace(build_config(stored), runs_dir=runs_dir), folder


def _check(config: Config, lists: PublishedLists, run: Path | None) -> Check:
    from scballast.errors import memory_errors
    from scballast.experiment.check import run_check
    from scballast.experiment.stored import finished_runs
    from scballast.sweep.trial import cache_dir, runs_dir

    runs = [run] if run is not None else finished_runs(runs_dir(config)) if config.methods is None else []
    with memory_errors():
        return run_check(config, lists, runs=runs, cache_dir=cache_dir(config), must_reuse=run is not None)


def _write(check: Check, config: Config, lists: PublishedLists) -> Path:
    """Write tables and report; they appear when they are whole."""
    from scballast.report import render_check_report
    from scballast.results import result_folder, write_results
    from scballast.sweep.trial import runs_dir

    stem = re.sub(r"[^A-Za-z0-9_-]+", "_", lists.label.split(".")[0]).strip("_") or "lists"
    stamp = datetime.now().astimezone().strftime("%Y%m%d-%H%M%S-%f")
    folder = runs_dir(config) / "checks" / f"{stem}-{check.dataset}-{stamp}"
    with result_folder(folder) as part:
        write_results(check.results, part)
        render_check_report(part)
    return folder
