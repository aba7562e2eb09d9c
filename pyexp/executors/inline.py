"""Cells in this very process, one after the other: for debugging, with no isolation at all."""

import os
import sys
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from typing import Any

from pyexp.dotted import Config
from pyexp.executors.base import Pool, Running, Task, Terms
from pyexp.executors.worker import commit, leave_if_forked, unbuffered
from pyexp.outcome import Outcome, attempt


class _Finished(Running):
    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.outcome: Outcome = {}


class InlineExecutor(Pool):
    """Runs each cell in this process. A crash of the process is the end of the run; there is no timeout, and `-j` is 1.

    What a cell writes goes to its log unless capturing is off; `breakpoint()` brings the terminal back.
    """

    def open(self, fn: Callable[[Config], Any], terms: Terms) -> None:
        self._terms = terms

    def slots(self, terms: Terms) -> int:
        return 1

    def start(self, task: Task) -> _Finished:
        running = _Finished(task)
        here = os.getpid()
        with captured(task.log_path) if self._terms.capture else ExitStack():
            running.outcome = attempt(
                lambda: self._call(task), lambda value: commit(value, task.result_path, self._terms.durable, here)
            )
            leave_if_forked(running.outcome, here)
        if running.outcome["status"] != "done":
            with suppress(OSError):  # a failure leaves no result, whoever wrote one
                os.unlink(task.result_path)
        return running

    def _call(self, task: Task) -> Any:
        with self.halt.interrupting():
            return task.fn(task.private_config())

    def wait(self, running: Collection[_Finished], seconds: float) -> list[tuple[_Finished, Outcome]]:
        if not running:
            time.sleep(seconds)  # others have the cells that are left
        return [(one, one.outcome) for one in running]

    def kill(self, running: _Finished) -> None:
        """Nothing is left to kill: a cell that was started has ended."""


@contextmanager
def captured(path: str) -> Iterator[None]:
    """Send what this process writes to descriptors 1 and 2, and to sys.stdout and sys.stderr, to the file at `path`."""
    with ExitStack() as undo:
        log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o666)
        undo.callback(os.close, log)
        for descriptor, stream in ((1, sys.stdout), (2, sys.stderr)):
            with suppress(Exception):  # a stream that is closed has nothing to flush
                stream.flush()
            saved = _saved(descriptor)
            undo.callback(_restore, saved, descriptor)
            os.dup2(log, descriptor)
        undo.enter_context(redirect_stdout(unbuffered(1)))
        undo.enter_context(redirect_stderr(unbuffered(2)))
        debugger = sys.breakpointhook
        undo.callback(setattr, sys, "breakpointhook", debugger)

        def to_the_terminal(*args: Any, **kwargs: Any) -> Any:
            undo.close()
            return debugger(*args, **kwargs)

        sys.breakpointhook = to_the_terminal
        yield


def _saved(descriptor: int) -> int | None:
    try:
        return os.dup(descriptor)
    except OSError:  # it is closed, and will be again
        return None


def _restore(saved: int | None, descriptor: int) -> None:
    if saved is None:
        os.close(descriptor)
    else:
        os.dup2(saved, descriptor)
        os.close(saved)
