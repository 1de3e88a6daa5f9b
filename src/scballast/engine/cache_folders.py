"""Folders for what may be made again, where a machine has none: no home, or one that cannot be written."""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from contextlib import suppress
from pathlib import Path


def temporary_folder() -> Path:
    """Return this user's own temporary folder; what lies in it is run, so nobody else may have made it."""
    folder = Path(tempfile.gettempdir()) / f"scballast-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o022:
        return folder
    return Path(tempfile.mkdtemp(prefix="scballast-"))


def settle_matplotlib() -> None:
    """Give Matplotlib a temporary folder where its own cannot be written: it would say so in lines of its own.

    To be called before anything imports it; child processes inherit the folder.
    """
    if "matplotlib" in sys.modules or os.environ.get("MPLCONFIGDIR"):
        return
    if not all(_writable(*place) for place in (("XDG_CONFIG_HOME", ".config"), ("XDG_CACHE_HOME", ".cache"))):
        with suppress(OSError):  # no temporary folder either: Matplotlib says what it lacks
            os.environ["MPLCONFIGDIR"] = str(temporary_folder())


def _writable(variable: str, in_home: str) -> bool:
    """Make Matplotlib's folder as it does itself, and return whether it can be written."""
    try:
        folder = Path(os.environ.get(variable) or Path.home() / in_home) / "matplotlib"
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # a user without a home
        return False
    return os.access(folder, os.W_OK)
