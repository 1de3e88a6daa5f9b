"""What this program uses of Hydra beyond its documented interface: one place to look when Hydra moves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from omegaconf import DictConfig


def parse_override(word: str, *, loader: Any = None) -> Any:
    """Return Hydra's ``Override`` of one word of the command line; raises ``HydraException`` for what is none.

    Parameters
    ----------
    word
        ``key=value`` in Hydra's syntax.
    loader
        Hydra's config loader, for ``glob``.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser

    return OverridesParser.create(config_loader=loader).parse_override(word)


def choices_of(override: Any) -> list[tuple[Any, str]]:
    """Return the values of a swept override, each with its text as it is written after ``key=``."""
    from hydra.core.override_parser.types import Transformer

    values = override.sweep_iterator(transformer=Transformer.encode)
    return list(zip(values, override.sweep_string_iterator(), strict=True))


def forget_composition() -> None:
    """Let configurations be composed anew in a process that has composed before."""
    from hydra.core.global_hydra import GlobalHydra

    GlobalHydra.instance().clear()


def compose_job(loader: Any, master: DictConfig, words: Sequence[str]) -> DictConfig:
    """Return the configuration of one job of a sweep as Hydra composes it, its own part included."""
    composed: DictConfig = loader.load_sweep_config(master, list(words))
    return composed


def launch_jobs(context: Any, master: DictConfig, task: Any, jobs: Sequence[Sequence[str]]) -> None:
    """Run jobs by the launcher that the configuration names; raises what a job raised.

    Parameters
    ----------
    context
        Hydra's own.
    master
        The composed configuration of the command line without what it sweeps.
    task
        Called with each job's configuration, wherever the launcher runs it.
    jobs
        Words of the command line of each.
    """
    from hydra.core.plugins import Plugins

    launcher = Plugins.instance().instantiate_launcher(hydra_context=context, task_function=task, config=master)
    for done in launcher.launch([list(words) for words in jobs], initial_job_idx=0):
        _raise(done)


def run_as_job(context: Any, composed: DictConfig, task: Callable[[DictConfig], Any]) -> Any:
    """Run a task as a Hydra job, with a job's folder and callbacks; returns what it returned."""
    from hydra.core.utils import run_job

    done = run_job(
        task_function=task,
        config=composed,
        job_dir_key="hydra.sweep.dir",
        job_subdir_key="hydra.sweep.subdir",
        hydra_context=context,
        configure_logging=False,
    )
    _raise(done)
    return done.return_value


def _raise(done: Any) -> None:
    # Asked for by its public name, a failed job logs its error and ends the program.
    if isinstance(done._return_value, BaseException):
        raise done._return_value
