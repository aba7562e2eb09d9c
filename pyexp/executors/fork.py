"""Cells in forks of this process: what a child does with all that it has inherited."""

import os
import signal
import sys
import threading
import warnings
from contextlib import suppress
from typing import Any

from pyexp.errors import ExecutorError
from pyexp.executors.base import Function, RunSettings, SessionExecutor, StopRequest, Task
from pyexp.executors.processes import Child, ProcessCell, ProcessSession, is_gone, status_pipe
from pyexp.store import claims, unix
from pyexp.worker import cell as cells
from pyexp.worker import guardian, script
from pyexp.worker.main import opened_device, reaped, separate, threads_after_fork
from pyexp.worker.messages import Assignment


class ForkExecutor(SessionExecutor):
    """Run each cell in a fork of this process (POSIX). It has all modules and globals of this process, but no threads.

    Python's and NumPy's global random number generators are seeded anew in each cell. Any other generator has the same
    state in every cell. A library that has started its threads keeps their number, whatever `-j` says.

    >>> import pyexp
    >>> pyexp.experiment(lambda config: config.x, name="forked", executor=ForkExecutor())
    <Experiment 'forked'>
    """

    no_gpus = ""

    def session(self, fn: Function, settings: RunSettings, stop: StopRequest) -> "ForkSession":
        if not hasattr(os, "fork"):
            raise ExecutorError("this system cannot fork; use executor='subprocess'")
        if settings.gpus and (device := opened_device()):
            raise ExecutorError(
                f"this process has {device} open, so its forks would not see GPUs of their own; use "
                "executor='subprocess', or open GPUs inside the experiment only"
            )
        others = [thread.name for thread in threading.enumerate() if thread is not threading.current_thread()]
        # Python's own warning about such forks says less than the one below.
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
            native = threads_after_fork() - 1 - len(others)
        if native > 0:
            others.append(f"{native} of a library's own")
        if others:
            warnings.warn(
                f"forking a process with other live threads ({', '.join(others)}): a lock that one of them holds stays "
                "locked in the cell; use executor='subprocess' if a cell hangs",
                RuntimeWarning,
                stacklevel=_outside(),
            )
        return ForkSession(settings, stop)


class ForkSession(ProcessSession):
    """Cells in forks of this process."""

    def __init__(self, settings: RunSettings, stop: StopRequest) -> None:
        finder = script.Finder(script.project_sources())  # so that an edit meanwhile reaches no cell
        if settings.initializer is not None:
            settings.initializer()
        super().__init__(settings, stop)
        self._parent, self._finder = os.getpid(), finder

    def start(self, task: Task) -> ProcessCell:
        cell = self._cell(task, guardian.new_mark())
        for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
            with suppress(Exception):  # what is buffered belongs to this process, once
                stream.flush()  # type: ignore[union-attr]  # a stream that is None is passed over
        with status_pipe() as (status, writer):
            # A signal that comes before the child has its own handlers waits until it has.
            blocked = unix.signal.pthread_sigmask(unix.signal.SIG_BLOCK, guardian.STOPPING)
            try:
                with claims.inherited(task.claim):
                    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # `session` has warned
                        pid = unix.os.fork()
                    if pid == 0:
                        with cells.leaving(cell):
                            self._live(task, cell, status, writer, blocked)
            finally:
                unix.signal.pthread_sigmask(unix.signal.SIG_SETMASK, blocked)
            child = Child(pid, status, cell.mark, gone=lambda: is_gone(pid), reap=lambda: reaped(pid))
        return self._started(task, child)

    def _live(self, task: Task, cell: Assignment, parents: int, writer: int, blocked: Any) -> None:
        """Live as the cell, after the fork, to its end: never return into the caller's code."""
        # What this process ignores, the cell ignores too.
        heeded = [each for each in guardian.STOPPING if signal.getsignal(each) is not signal.SIG_IGN]
        handlers = {each: signal.default_int_handler if each == signal.SIGINT else signal.SIG_DFL for each in heeded}
        separate(cell.mark, self._guardian.pipe, self._parent, handlers)
        before = cells.note_what_exists()
        sys.meta_path.insert(0, self._finder)
        for other in self._cells:
            for descriptor in (other.child.status, other.child.watch):
                if descriptor is not None:
                    with suppress(OSError):
                        os.close(descriptor)
        os.close(parents)
        cells.become(cell)
        cells.reopen(cells.files_being_read())
        cells.reseed()
        status = cells.out_of_the_way(writer)
        os.close(writer)
        cells.fresh_streams()

        def call() -> Any:
            cells.take_log(cell.log_path, b"")
            unix.signal.pthread_sigmask(unix.signal.SIG_SETMASK, blocked)
            return task.fn(task.private_config())

        cells.live(call, cell, status, before)


def _outside() -> int:
    """How many frames above the caller's the user's code is, as `warnings.warn` counts them."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("pyexp."):
        level, frame = level + 1, frame.f_back
    return level
