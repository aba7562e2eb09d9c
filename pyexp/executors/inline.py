"""Cells in this very process, one after the other: for debugging, with no isolation at all."""

import os
import sys
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from types import FrameType
from typing import Any

from pyexp.executors.base import Function, Running, RunSettings, Session, SessionExecutor, StopRequest, Task
from pyexp.results import Outcome, is_library
from pyexp.store import pickling
from pyexp.store.files import BINARY
from pyexp.worker.cell import leave_if_forked, standard_descriptors, umask, unbuffered
from pyexp.worker.outcome import attempt


class InlineExecutor(SessionExecutor):
    """Run the cells in this process, one after the other. A crash of a cell ends the run. It has no timeout.

    A cell's output and its traceback go to its log, unless capturing is off (`-s`). `breakpoint()` gives the terminal
    back.

    >>> from pyexp.configs import Config
    >>> InlineExecutor().run(lambda config: config.x + 1, Config(x=1), folder / "result.pkl")
    2
    """

    has_own_streams = False
    no_gpus = "its cells are this process, which may have opened its GPUs already"

    def session(self, fn: Function, settings: RunSettings, stop: StopRequest) -> "InlineSession":
        return InlineSession(settings, stop)


class InlineSession(Session):
    """Runs a cell when it is waited for."""

    def __init__(self, settings: RunSettings, stop: StopRequest) -> None:
        super().__init__(settings, stop)
        if settings.timeout is not None:
            self.notice = "note: inline has no timeout, as a cell is this process: cells may run for longer"
        if settings.initializer is not None:
            settings.initializer()

    def slots(self) -> int:
        return 1

    def start(self, task: Task) -> Running:
        return Running(task)

    def wait(self, running: Collection[Running], seconds: float) -> list[tuple[Running, Outcome]]:
        if not running:
            time.sleep(seconds)  # other processes have the cells that are left
        return [(one, self._run(one)) for one in running]

    def kill(self, running: Running) -> None:
        """Nothing is left to kill: a cell that was waited for has ended."""

    def _run(self, running: Running) -> Outcome:
        task, settings, here, mask = running.task, self.settings, os.getpid(), umask()
        running.began, running.started = time.monotonic(), time.time()
        returned = running.began
        raised: list[Exception] = []

        def call() -> Any:
            nonlocal returned
            try:
                with self.stop.interrupting(), joining_threads():
                    try:
                        return task.fn(task.private_config())
                    finally:
                        returned = time.monotonic()
            except Exception as error:
                if settings.pdb:  # only then: it holds on to the frames
                    raised.append(error)
                raise

        def save(value: Any) -> list[str]:
            os.umask(mask)
            if os.getpid() != here:
                return []
            return pickling.save(task.result_path, value, durable=settings.durable, code=task.code)

        with captured(task.log_path) if settings.capture else ExitStack():
            outcome = attempt(call, save, _has_terminal())
            leave_if_forked(outcome, here)
        os.umask(mask)
        if outcome["status"] != "done":
            with suppress(OSError):  # a failure leaves no result, even if the experiment wrote one
                os.unlink(task.result_path)
            if not self.stop.count:
                self._show(outcome["traceback"], task)
        if raised:
            with suppress(KeyboardInterrupt), self.stop.interrupting():
                debug(raised.pop())
        return {**outcome, "seconds": returned - running.began}

    def _show(self, traceback: str, task: Task) -> None:
        """Write a failed cell's traceback where the rest of its output is."""
        with suppress(OSError, ValueError, AttributeError):  # a full disk, or no stderr
            if self.settings.capture:
                with open(task.log_path, "a", encoding="utf-8") as log:
                    log.write(traceback)
            else:
                sys.stderr.write(traceback)
                sys.stderr.flush()


@contextmanager
def joining_threads() -> Iterator[None]:
    """Wait at the end for the threads that were started meanwhile, as Python does at its own end; not after Ctrl-C.

    Daemons and the threads of a pool that is still open go on: those end with this process.
    """
    before = set(threading.enumerate())
    is_interrupted = False
    try:
        yield
    except KeyboardInterrupt:
        is_interrupted = True
        raise
    finally:
        while not is_interrupted:
            begun = [each for each in threading.enumerate() if not each.daemon and each not in before]
            pools = getattr(sys.modules.get("concurrent.futures.thread"), "_threads_queues", ())
            left = [each for each in begun if each not in pools]
            if not left:
                break
            left[0].join()


def _has_terminal() -> bool:
    try:
        return sys.stdin.isatty()
    except (AttributeError, ValueError, OSError):  # stdin is missing or closed
        return False


@contextmanager
def captured(path: str) -> Iterator[None]:
    """Send what this process writes to descriptors 1 and 2, and to sys.stdout and sys.stderr, to the file at `path`."""
    with ExitStack() as undo:
        undo.enter_context(standard_descriptors())
        log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | BINARY, 0o666)
        undo.callback(os.close, log)
        for descriptor, stream in ((1, sys.stdout), (2, sys.stderr)):
            with suppress(Exception):  # a stream that is closed has nothing to flush
                stream.flush()
            saved = os.dup(descriptor)
            undo.callback(os.close, saved)
            undo.callback(os.dup2, saved, descriptor)
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
