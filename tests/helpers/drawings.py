"""Drawings that tell which process drew them, for tests of drawing side by side."""

from __future__ import annotations

import errno
import os
import time
import warnings
from typing import TYPE_CHECKING

from scballast.report.html import Picture

if TYPE_CHECKING:
    from pathlib import Path

    from scballast.report.stored_tables import StoredFolder

_PATIENCE_SECONDS = 120.0


def signed(folder: StoredFolder, name: str) -> Picture:
    """Return a picture whose caption is the process."""
    return Picture(name, str(os.getpid()), "", "")


def meeting(folder: StoredFolder, name: str, others: tuple[str, ...]) -> Picture:
    """Wait until others are drawn in the same moment."""
    (folder.path / name).touch()
    for other in others:
        _wait_for(folder.path / other)
    return signed(folder, name)


def failing(folder: StoredFolder, name: str) -> Picture:
    message = f"{name} has no height"
    raise ZeroDivisionError(message)


def full_elsewhere(folder: StoredFolder, here: int) -> Picture:
    """Meet a full disk in any other process than one, which waits for that."""
    if os.getpid() == here:
        return _after_the_other(folder)
    _leave_word(folder)
    raise OSError(errno.ENOSPC, "No space left on device", "figures/a.png")


def without_pickle(folder: StoredFolder, here: int) -> Picture:
    """Fail with an error that cannot be sent, in any other process than one."""

    class Local(Exception):
        pass

    if os.getpid() == here:
        return _after_the_other(folder)
    _leave_word(folder)
    raise Local("cannot be sent")  # noqa: EM101


def warning_elsewhere(folder: StoredFolder, here: int) -> Picture:
    """Warn in any other process than one."""
    if os.getpid() == here:
        return _after_the_other(folder)
    _leave_word(folder)
    warnings.warn("a font is missing", UserWarning, stacklevel=1)
    return signed(folder, "warned")


def always_warning(folder: StoredFolder) -> Picture:
    """Warn in any process."""
    warnings.warn("a font is missing", UserWarning, stacklevel=1)
    return signed(folder, "warned")


def dying_elsewhere(folder: StoredFolder, here: int) -> Picture:
    """End any other process than one."""
    if os.getpid() == here:
        return _after_the_other(folder)
    _leave_word(folder)
    os._exit(3)


def interrupted_here(folder: StoredFolder, here: int) -> Picture:
    """Be at it in another process for ever; in one, Ctrl-C when the other has begun."""
    if os.getpid() == here:
        _after_the_other(folder)
        raise KeyboardInterrupt
    _leave_word(folder)
    time.sleep(10 * _PATIENCE_SECONDS)
    return signed(folder, "too late")


def other_process(folder: Path) -> int:
    """Return the process that left word."""
    return int((folder / "word").read_text(encoding="ascii"))


def _leave_word(folder: StoredFolder) -> None:
    half = folder.path / "half"
    half.write_text(str(os.getpid()), encoding="ascii")
    half.rename(folder.path / "word")


def _after_the_other(folder: StoredFolder) -> Picture:
    _wait_for(folder.path / "word")
    return signed(folder, "waited")


def _wait_for(path: Path) -> None:
    end = time.monotonic() + _PATIENCE_SECONDS
    while not path.exists():
        assert time.monotonic() < end, f"nobody made {path}"
        time.sleep(0.01)
