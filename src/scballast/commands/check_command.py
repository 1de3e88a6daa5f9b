"""Hold somebody's lists of genes per population against your own cells.

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

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from scballast.commands.output import forgive_characters
from scballast.commands.report_command import find_folder
from scballast.data.early import say_suggestions
from scballast.data.published_lists import read_published_lists
from scballast.sweep.list_checks import check_and_write, check_configuration, runs_dir_of

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
    run = None if options.run is None else find_folder(options.run, Path(runs_dir_of(options.overrides)))
    config = check_configuration(options.overrides, run)
    try:
        results, folder = check_and_write(config, lists, run)
    except KeyboardInterrupt:
        sys.stderr.write("Stopped. Scores of finished baselines are kept.\n")
        return 1
    from scballast.commands.check_summary import print_check

    say_suggestions(config.data)
    print_check(results, lists, folder, config)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scballast check",
        description=__doc__,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("genes", metavar="GENES", help="the table of lists: .csv or .tsv, also .gz")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="data and replicates, as for an experiment (scballast --help)"
    )
    parser.add_argument("--run", help="name or folder of a finished run: its data, replicates and methods")
    return parser
