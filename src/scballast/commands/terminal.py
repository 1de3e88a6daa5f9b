"""The command ``scballast``: one experiment, or with ``-m`` a sweep."""

from __future__ import annotations

import errno
import importlib
import logging
import os
import shlex
import shutil
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from scballast import __version__
from scballast.commands.output import forgive_characters
from scballast.config.compose import check_sweep_words, compose_config, from_omegaconf
from scballast.config.schema import Config, conf_dir
from scballast.data.early import check_file, say_suggestions
from scballast.engine.cache_folders import settle_matplotlib
from scballast.errors import ConfigError, DataError, ScballastError, TrainingError
from scballast.threads import seek_garbage_seldom

if TYPE_CHECKING:
    from omegaconf import DictConfig

logger = logging.getLogger(__name__)

_FAILED = 1
_BAD_INPUT = 2
_SWEEP_FLAGS = ("-m", "--multirun")


def main() -> None:
    """Run ``scballast``; exit status 0 done, 2 bad configuration or data, 1 anything else."""
    seek_garbage_seldom()
    words = sys.argv[1:]
    if words[:1] in (["report"], ["check"]):
        command = importlib.import_module(f"scballast.commands.{words[0]}_command")
        settle_matplotlib()
        with _errors_said():
            sys.exit(command.main(words[1:]))
    if _answered(words):
        return
    import hydra

    settle_matplotlib()
    forgive_characters()
    made: list[Path] = []
    try:
        if "${" in os.getcwd():
            message = (
                f"{os.getcwd()}: '${{' in the name of the folder stands for a key to Hydra. Work in another folder."
            )
            raise ConfigError(message)
        if not _asks_hydra(words):
            config = compose_config(_overrides(words))
            check_file(config.data, config.association.keys)
            made = _made_folders(config)
        elif _sweeps(words):
            check_file(check_sweep_words(_overrides(words)))
            # Hydra takes no words on both sides of its flag.
            sys.argv[1:] = ["-m", *(word for word in words if word not in _SWEEP_FLAGS)]
    except ScballastError as error:
        _fail(error)

    def run(composed: DictConfig) -> None:
        _run(composed, made)

    hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")(run)()


def _run(composed: DictConfig, made: Sequence[Path]) -> None:
    from hydra.core.hydra_config import HydraConfig

    from scballast.sweep.signals import reader_may_leave, signals_interrupt

    folder = Path(HydraConfig.get().runtime.output_dir)
    try:
        with _errors_said(), signals_interrupt(), reader_may_leave():
            try:
                _run_single(composed)
            except (ConfigError, DataError):
                _remove(folder, made)
                raise
    except KeyboardInterrupt:
        command = shlex.join(["scballast", *sys.argv[1:]])
        sys.stderr.write(f"Stopped. Scores of finished baselines are kept; run it again with: {command}\n")
        sys.exit(_FAILED)


_FULL = (errno.ENOSPC, errno.EDQUOT)
_OF_THE_DISK = (errno.EFBIG, errno.EIO, errno.ESTALE, errno.EROFS)
"""A limit on the size of files, a disk that fails, a network drive that went away, or one that became read-only."""


@contextmanager
def _errors_said() -> Iterator[None]:
    """End with a message, and no traceback, on what a user or a machine can cause."""
    try:
        yield
    except (ScballastError, TrainingError, MemoryError) as error:
        _fail(error)
    except OSError as error:
        if error.errno not in (*_FULL, *_OF_THE_DISK):
            raise
        _fail(error)


def _run_single(composed: DictConfig) -> None:
    from scballast.commands.summary import print_first_answer, print_summary
    from scballast.sweep.trial import run_trial

    config = from_omegaconf(composed)
    if config.plan:
        from scballast.sweep.plan import print_plan

        print_plan(config)
        say_suggestions(config.data, config.association.keys)
        return
    outcome = run_trial(
        config,
        on_checked=lambda: say_suggestions(config.data, config.association.keys),
        on_first_answer=lambda tables: print_first_answer(tables, config.rank.top_k),
    )
    print_summary(outcome, config)


def _answered(words: Sequence[str]) -> bool:
    """Answer what needs no configuration: the version and the help."""
    if "--version" in words:
        print(f"scballast {__version__}")
        return True
    if "--help" in words or "-h" in words:
        from scballast.commands.help_page import help_text

        if hasattr(signal, "SIGPIPE"):
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `scballast --help | head` ends here without a word
        print(help_text(), end="")
        return True
    return False


def _asks_hydra(words: Sequence[str]) -> bool:
    """Return whether the words ask for something other than an experiment: help, shell completion, a sweep."""
    flags = [word for word in words if word.startswith("-")]
    return any(flag not in ("-n", "--run") for flag in flags)


def _sweeps(words: Sequence[str]) -> bool:
    """Return whether the words ask for a sweep; its own configurations are checked where it starts."""
    return any(word in _SWEEP_FLAGS for word in words)


def _overrides(words: Sequence[str]) -> list[str]:
    return [word for word in words if not word.startswith("-")]


def _made_folders(config: Config) -> list[Path]:
    """Make the folder of the runs, and return what was made: itself and parents, the innermost first.

    Hydra would make it too, and fail in words of its own where it cannot.
    """
    from scballast.sweep.trial import runs_dir

    root = Path(os.path.abspath(Path(config.runs_dir).expanduser()))
    missing = [folder for folder in (root, *root.parents) if not folder.exists()]
    runs_dir(config)
    return missing


def _remove(folder: Path, made: Sequence[Path]) -> None:
    """Remove Hydra's folder of a run that never started, and the folders that were made for it alone."""
    shutil.rmtree(folder, ignore_errors=True)
    # Hydra's folders by day and time lie in the folder of the runs.
    for parent in (*folder.parents[:2], *made):
        try:
            parent.rmdir()
        except OSError:
            return  # something else is in it


def _fail(error: BaseException) -> NoReturn:
    """Say what happened and what helps, and exit: with 2 if the user gave bad input, else with 1."""
    sys.stderr.write(f"{_message(error)}\n")
    sys.exit(_BAD_INPUT if isinstance(error, (ConfigError, DataError)) else _FAILED)


def _message(error: BaseException) -> str:
    text = str(error).strip()
    if isinstance(error, MemoryError):
        remedy = "Use fewer cells or genes (data.n_top_genes), a smaller model, or a machine with more memory."
        return f"There is not enough memory{f' ({text})' if text else ''}. {remedy}"
    if isinstance(error, OSError):
        where = f" ({error.filename})" if error.filename else ""
        if error.errno in _OF_THE_DISK:
            reason = os.strerror(error.errno or 0)
            return (
                f"A file cannot be read or written{where}: {reason}. Look at the disk and ulimit -f, and run it again."
            )
        return f"The disk is full{where}. Free some space, and run it again."
    return text


if __name__ == "__main__":
    main()
