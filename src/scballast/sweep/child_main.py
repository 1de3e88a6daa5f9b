"""The process of a trial: requests in, answers out; what answers them is loaded with the first."""

from __future__ import annotations

import os
import signal
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection

from scballast.config.schema import Config
from scballast.errors import ConfigError, ScballastError
from scballast.sweep import messages
from scballast.threads import seek_garbage_seldom


def main(connection: int, lifeline: int) -> None:
    """Answer requests until the worker closes the connection or is gone."""
    seek_garbage_seldom()
    threading.Thread(target=_end_with_worker, args=(lifeline,), daemon=True).start()
    # Not before the first request: an interrupt while modules load would show its traceback.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    pipe = Connection(connection)
    answers: Callable[[messages.Request], messages.Answer] | None = None
    while True:
        try:
            request: messages.Request = pipe.recv()
        except (EOFError, KeyboardInterrupt):
            return
        try:
            if answers is None:
                from scballast.sweep.answers import Answers

                answers = Answers()
            answer = answers(request)
        except KeyboardInterrupt:
            answer = messages.Interrupted()
        except ScballastError as error:
            answer = messages.Failed(str(error), "config" if isinstance(error, ConfigError) else "data")
        except BaseException as error:
            kind = "memory" if isinstance(error, MemoryError) else "error"
            answer = messages.Failed(f"{type(error).__name__}: {error}", kind, traceback.format_exc())
        pipe.send(answer)
        if isinstance(request, messages.DescribeRequest) and request.trains and isinstance(answer, messages.Described):
            try:
                _load_libraries(request.config)
            except KeyboardInterrupt:
                return


def _load_libraries(config: Config) -> None:
    """Import what training needs while the worker prepares the study."""
    from scballast.models import FAMILIES

    if FAMILIES[config.model.name].epochs:  # by scvi-tools, or as it does
        # What cannot be loaded, for whatever reason, is the first trial's to report.
        with suppress(Exception):
            import scvi  # noqa: F401


def _end_with_worker(lifeline: int) -> None:
    os.read(lifeline, 1)
    # Nobody waits for this trial any more; its run is ended by whoever finds its process gone.
    os._exit(1)
