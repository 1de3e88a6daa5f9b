"""The command ``scballast``: one experiment, or with ``-m`` a sweep."""

from __future__ import annotations

import logging
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from scballast.compose import check_keys, compose_config, from_omegaconf
from scballast.config import conf_dir
from scballast.errors import ScballastError

if TYPE_CHECKING:
    from omegaconf import DictConfig

logger = logging.getLogger(__name__)

_BAD_INPUT = 2


def main() -> None:
    """Run ``scballast``; exit status 0 done, 2 bad configuration or data, 1 anything else."""
    import hydra

    words = sys.argv[1:]
    try:
        if not _asks_hydra(words):
            compose_config(_overrides(words))
        elif _sweeps(words):
            check_keys(_overrides(words))
    except ScballastError as error:
        _fail(error)
    application = hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")(_run)
    application()


def _run(composed: DictConfig) -> object:
    from hydra.core.hydra_config import HydraConfig

    folder = Path(HydraConfig.get().runtime.output_dir)
    try:
        _run_single(composed)
    except ScballastError as error:
        shutil.rmtree(folder, ignore_errors=True)
        _fail(error)
    except KeyboardInterrupt:
        command = shlex.join(["scballast", *sys.argv[1:]])
        sys.stderr.write(f"Stopped. Scores of finished baselines are kept; run it again with: {command}\n")
        sys.exit(1)
    return None


def _run_single(composed: DictConfig) -> None:
    from scballast.summary import print_summary
    from scballast.trial import run_trial

    config = from_omegaconf(composed)
    if config.plan:
        from scballast.sweep.plan import print_plan

        print_plan(config)
        return
    print_summary(run_trial(config), config)


def _asks_hydra(words: Sequence[str]) -> bool:
    """Return whether the words ask for something other than an experiment: help, shell completion, a sweep."""
    flags = [word for word in words if word.startswith("-")]
    return any(flag not in ("-n", "--run") for flag in flags)


def _sweeps(words: Sequence[str]) -> bool:
    """Return whether the words ask for a sweep; its own configurations are checked where it starts."""
    return any(word in ("-m", "--multirun") for word in words)


def _overrides(words: Sequence[str]) -> list[str]:
    return [word for word in words if not word.startswith("-")]


def _fail(error: ScballastError) -> None:
    sys.stderr.write(f"{error}\n")
    sys.exit(_BAD_INPUT)


if __name__ == "__main__":
    main()
