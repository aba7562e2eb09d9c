"""Cells in this very process, one after the other: for debugging, with no isolation at all."""

import os
import sys
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from types import FrameType
from typing import Any, NamedTuple

from pyexp.executors.base import Function, Running, RunSettings, Session, SessionExecutor, StopRequest, Task
from pyexp.results import Outcome, is_library
from pyexp.store import files, pickling
from pyexp.worker.cell import leave_if_forked, umask, unbuffered
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
        task, settings, here = running.task, self.settings, os.getpid()
        with _lock:  # reading it sets it for a moment
            mask = umask()
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
            files.keep_unsealed(task.result_path)
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
        while not is_interrupted and (
            left := [each for each in threading.enumerate() if each not in before and _is_to_end(each)]
        ):
            left[0].join()


def _is_to_end(thread: threading.Thread) -> bool:
    """Whether Python waits for this thread at its end. A pool that is open (of joblib too) ends its own threads."""
    homes = [vars(sys.modules[name]) for name in (_POOLS, type(thread).__module__) if name in sys.modules]
    of_pools = [home.get(name, ()) for home in homes for name in ("_threads_queues", "_threads_wakeups")]
    return not thread.daemon and not any(thread in threads for threads in of_pools)


#: Holds the threads of thread pools, which are of no class of their own.
_POOLS = "concurrent.futures.thread"


def _has_terminal() -> bool:
    try:
        return sys.stdin.isatty()
    except (AttributeError, ValueError, OSError):  # stdin is missing or closed
        return False


@contextmanager
def captured(path: str) -> Iterator[None]:
    """Send what this process writes to descriptors 1 and 2, and to sys.stdout and sys.stderr, to the file at `path`."""
    with ExitStack() as undo:
        log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | files.BINARY, 0o666)
        undo.callback(os.close, log)
        begin_capture(log, undo)
        yield


class Surroundings(NamedTuple):
    """Where a process writes: duplicates of its descriptors 1 and 2 (None: closed), its streams, its debugger."""

    descriptors: tuple[int | None, int | None]
    streams: tuple[Any, Any]
    debugger: Any

    def restore(self) -> None:
        sys.stdout, sys.stderr = self.streams
        sys.breakpointhook = self.debugger
        for descriptor, saved in zip((1, 2), self.descriptors, strict=True):
            if saved is None:
                os.close(descriptor)
            else:
                os.dup2(saved, descriptor)
        self.close()

    def close(self) -> None:
        for saved in self.descriptors:
            if saved is not None:
                os.close(saved)


#: What each capture of this process has to restore, the latest last. Captures in several threads may end in any order.
_before: dict[int, Surroundings] = {}
_lock = threading.Lock()


def begin_capture(log: int, undo: ExitStack) -> None:
    """Send what this process writes to a log until `undo` is closed, which `breakpoint()` does too."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):  # a stream that is closed has nothing to flush
            stream.flush()

    class ToTheTerminal:
        # A property, because it has returned when Python calls what it gives: a debugger stops in the frame of its
        # caller, which has to be the experiment's and not one of this module.
        @property
        def __call__(self) -> Any:
            if os.environ.get("PYTHONBREAKPOINT") != "0":  # with it, breakpoint() does nothing
                undo.close()
            return debugger

    with _lock:
        debugger = sys.breakpointhook
        _before[log] = Surroundings((_saved(1), _saved(2)), (sys.stdout, sys.stderr), debugger)
        undo.callback(_end_capture, log)
        os.dup2(log, 1)
        os.dup2(log, 2)
        sys.stdout, sys.stderr = unbuffered(1), unbuffered(2)
        sys.breakpointhook = ToTheTerminal()


def _end_capture(log: int) -> None:
    """Restore what was before a capture. If later ones go on, leave that to the next of them."""
    with _lock:
        captures = [*_before]
        later = captures[captures.index(log) + 1 :]
        mine = _before.pop(log)
        if later:
            _before[later[0]].close()
            _before[later[0]] = mine
        else:
            mine.restore()


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
