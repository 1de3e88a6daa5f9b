"""What a failing store means for the user: one message that says what, where and what to do."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from scballast.errors import ScballastError
from scballast.tracking.location import TrackingSettings


class UnreachableError(ScballastError):
    """The MLflow server gave no answer; the results wait on disk."""

    #: Whether the user has been told of this silence already.
    told: bool = False


class DiskFullError(ScballastError):
    """The disk is full; what was finished is kept."""


@contextmanager
def clear_faults(settings: TrackingSettings) -> Iterator[None]:
    """Turn errors of the store and of the disk into ones that say what to do."""
    try:
        yield
    except ScballastError:
        raise
    except Exception as error:
        translated = translate(error, settings)
        if translated is None:
            raise
        raise translated from error


_FULL = (errno.ENOSPC, errno.EDQUOT)
READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST)

_WORDS_OF_FULL = (*(os.strerror(number).lower() for number in _FULL), "disk is full")

# What MLflow calls a request that was never answered, or that the server could not serve just now.
_PASSING = ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED", "IO_ERROR")
# What PostgreSQL says while it starts or stops.
_PASSING_REFUSALS = ("starting up", "shutting down", "recovery mode", "terminating connection")


def translate(error: Exception, settings: TrackingSettings) -> ScballastError | None:
    """Return the error that the user should see in place of one from MLflow or the disk.

    Returns
    -------
    ScballastError or None
        `UnreachableError` where waiting helps, `ScballastError` where the user can act; ``None`` where
        the error is neither and should go on as it is.
    """
    where = str(settings.root)
    numbers = {e.errno for e in _chain(error) if isinstance(e, OSError)}
    text = " ".join(str(e) for e in _chain(error)).lower()
    if settings.is_server and _is_passing(error):
        return UnreachableError(f"{settings.shown_uri} gives no answer ({_cause(error)})")
    if numbers & set(_FULL) or says_full(text):
        return DiskFullError(
            f"{where}: the disk is full, so not everything could be logged.\n"
            "What was finished is kept. Free some space, then run: scballast-ui --sync"
        )
    if settings.database is None and _is_cut_off(error, text):
        return UnreachableError(f"{settings.shown_uri} gives no answer (the connection to the database failed)")
    if numbers & set(READ_ONLY) or "readonly database" in text or "unable to open database file" in text:
        if settings.database not in (None, settings.root / "mlflow.db") and os.access(settings.root, os.W_OK):
            return ScballastError(
                f"{settings.database}: cannot be written.\nName another store (tracking.uri or MLFLOW_TRACKING_URI), "
                "or change its permissions."
            )
        return ScballastError(
            f"{where}: cannot be written.\nPoint runs_dir at a folder that can be, or change its permissions."
        )
    if "database is locked" in text:
        return ScballastError(
            f"{settings.shown_uri}: another program has locked the database for more than 20 seconds.\n"
            "What was finished is kept. Close that program, then run: scballast-ui --sync"
        )
    if "file is not a database" in text or "malformed" in text:
        return ScballastError(
            f"{settings.shown_uri}: is no intact SQLite database.\n"
            "Move it away: scballast-ui --sync then fills a new one from the result folders."
        )
    if _mlflow_code(error) in ("UNAUTHENTICATED", "PERMISSION_DENIED"):
        return ScballastError(
            f"{settings.shown_uri}: the server refuses access ({_first_line(error)}).\n"
            "Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN."
        )
    if _mlflow_code(error) is not None:
        return ScballastError(f"{settings.shown_uri}: MLflow did not accept a request: {_first_line(error)}")
    return None


def says_full(text: str) -> bool:
    """Return whether a message, the system's, SQLite's or this program's, is that the disk is full."""
    return any(words in text.lower() for words in _WORDS_OF_FULL)


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__


def _mlflow_code(error: Exception) -> str | None:
    """Return the code of an error of MLflow's; None for any other."""
    return str(getattr(error, "error_code", "")) if type(error).__module__.split(".")[0] == "mlflow" else None


def _is_passing(error: Exception) -> bool:
    module = type(error).__module__.split(".")[0]
    return (
        module in ("requests", "urllib3")
        or isinstance(error, ConnectionError | TimeoutError)
        or _mlflow_code(error) in _PASSING
    )


def _is_cut_off(error: Exception, text: str) -> bool:
    """Tell whether a database server was not reached, or ended a connection; not that it refused one for good."""
    names = {type(e).__name__ for e in _chain(error)}
    if not names & {"OperationalError", "InterfaceError"} or "connection" not in text:
        return False
    return "fatal:" not in text or any(words in text for words in _PASSING_REFUSALS)


def _cause(error: Exception) -> str:
    """Return why a request failed: what the system said, else what MLflow said."""
    said = [e.strerror for e in _chain(error) if isinstance(e, OSError) and e.strerror]
    return said[-1] if said else _first_line(error)


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    line = text.splitlines()[0]
    return line if len(line) <= 300 else f"{line[:300]}…"
