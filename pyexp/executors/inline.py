"""Cells in this very process, one after the other: for debugging, with no isolation at all."""

import os
import sys
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from types import FrameType
from typing import Any

from pyexp.configs import Config
from pyexp.executors.base import Pool, Running, Task, Terms
from pyexp.results import Outcome, is_library
from pyexp.store.files import BINARY
from pyexp.worker.cell import commit, leave_if_forked, unbuffered
from pyexp.worker.outcome import attempt


class InlineExecutor(Pool):
    """Runs each cell in this process. A crash of the process is the end of the run; there is no timeout, and `-j` is 1.

    What a cell writes goes to its log unless capturing is off, and so does the traceback if it fails; `breakpoint()`
    brings the terminal back.
    """

    def open(self, fn: Callable[[Config], Any], terms: Terms) -> None:
        self._terms = terms
        if terms.initializer is not None:
            terms.initializer()

    def slots(self, terms: Terms) -> int:
        return 1

    def start(self, task: Task) -> Running:
        return Running(task)

    def _run(self, running: Running) -> Outcome:
        task = running.task
        running.begins()
        here = os.getpid()
        raised: list[Exception] = []

        def call() -> Any:
            try:
                with self.halt.interrupting():
                    return task.fn(task.private_config())
            except Exception as error:
                if self._terms.pdb:  # else nothing may hold on to the frames
                    raised.append(error)
                raise

        with captured(task.log_path) if self._terms.capture else ExitStack():
            outcome = attempt(
                call, lambda value: commit(value, task.result_path, self._terms.durable, here), _has_terminal()
            )
            leave_if_forked(outcome, here)
        if outcome["status"] != "done":
            with suppress(OSError):  # a failure leaves no result, whoever wrote one
                os.unlink(task.result_path)
            if not self.halt.count:
                self._show(outcome["traceback"], task)
        if raised:
            with suppress(KeyboardInterrupt), self.halt.interrupting():
                debug(raised.pop())
        return outcome

    def _show(self, traceback: str, task: Task) -> None:
        """Write a failed cell's traceback where the rest of its output is."""
        with suppress(OSError, ValueError, AttributeError):  # a full disk, or no stderr
            if self._terms.capture:
                with open(task.log_path, "a", encoding="utf-8") as log:
                    log.write(traceback)
            else:
                sys.stderr.write(traceback)
                sys.stderr.flush()

    def wait(self, running: Collection[Running], seconds: float) -> list[tuple[Running, Outcome]]:
        """Run the cells that were started: here, waiting for one is running it."""
        if not running:
            time.sleep(seconds)  # others have the cells that are left
        return [(one, self._run(one)) for one in running]

    def kill(self, running: Running) -> None:
        """Nothing is left to kill: a cell that was waited for has ended."""


def _has_terminal() -> bool:
    try:
        return sys.stdin.isatty()
    except (AttributeError, ValueError, OSError):  # there is no stdin, or it is closed
        return False


@contextmanager
def captured(path: str) -> Iterator[None]:
    """Send what this process writes to descriptors 1 and 2, and to sys.stdout and sys.stderr, to the file at `path`."""
    with ExitStack() as undo:
        log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | BINARY, 0o666)
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

        class ToTheTerminal:
            # A property, because it has returned when Python calls what it gives: a debugger stops in the frame of its
            # caller, which has to be the experiment's and not one of this module.
            @property
            def __call__(self) -> Any:
                if os.environ.get("PYTHONBREAKPOINT") != "0":  # with it, breakpoint() does nothing
                    undo.close()
                return debugger

        sys.breakpointhook = ToTheTerminal()
        yield


def debug(error: Exception) -> None:
    """Open pdb where the error was raised: in the last frame of the user's own code; `down` leads into libraries."""
    from bdb import BdbQuit
    from pdb import Pdb

    if isinstance(error, BdbQuit):  # the user has just left a debugger
        return

    class Debugger(Pdb):
        def get_stack(self, frame: Any, trace: Any) -> tuple[list[tuple[FrameType, int]], int]:
            stack, last = super().get_stack(frame, trace)
            own = [at for at, (each, _) in enumerate(stack) if not is_library(each.f_code.co_filename)]
            return stack, own[-1] if own else last

    debugger = Debugger(nosigint=True)  # Ctrl-C stays the run's own when the debugger is left by `continue`
    debugger.reset()
    debugger.interaction(None, error.__traceback__)


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
