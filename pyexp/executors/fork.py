"""Cells in forks of this process: what a child does with all that it has inherited."""

import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from pyexp.configs import Config
from pyexp.errors import ExecutorError
from pyexp.executors.base import Task, Terms
from pyexp.executors.children import Child, Ends, Process, Processes, is_gone, status_pipe
from pyexp.worker import cell as cells
from pyexp.worker import guardian, unix
from pyexp.worker.cell import Cell
from pyexp.worker.main import begin, reaped, threads_after_fork


class ForkExecutor(Processes):
    """Runs each cell in a fork of this process as it is: modules, globals and all. Threads do not come along.

    A cell begins with the state that every random number generator has here, but for Python's and NumPy's global ones,
    which are seeded anew. Libraries that have started their threads already keep their number, whatever `-j` says.
    """

    def open(self, fn: Callable[[Config], Any], terms: Terms) -> None:
        if not hasattr(os, "fork"):
            raise ExecutorError("this system cannot fork; use executor='subprocess'")
        others = [thread.name for thread in threading.enumerate() if thread is not threading.current_thread()]
        with _quietly():
            native = threads_after_fork() - 1 - len(others)
        if native > 0:
            others.append(f"{native} of a library's own")
        if others:
            warnings.warn(
                f"forking a process with other live threads ({', '.join(others)}): a lock that one of them holds stays "
                "locked in the cell; use executor='subprocess' if a cell hangs",
                RuntimeWarning,
                stacklevel=2,
            )
        self._parent = os.getpid()
        super().open(fn, terms)
        if terms.initializer is not None:
            terms.initializer()
        self._streams = cells.streams()  # here once, and not in each child

    def start(self, task: Task) -> Process:
        mark = guardian.new_mark()
        cell = self.cell(task, mark)
        for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
            with suppress(Exception):  # what is buffered belongs to this process, once
                stream.flush()  # type: ignore[union-attr]  # a stream that is None is passed over
        with status_pipe() as ends:
            # A signal that comes before the child has its own handlers waits until it has.
            blocked = unix.signal.pthread_sigmask(unix.signal.SIG_BLOCK, guardian.STOPPING)
            try:
                with _quietly():
                    pid = unix.os.fork()
                if pid == 0:
                    self._child(task, cell, ends, blocked)
            finally:
                unix.signal.pthread_sigmask(unix.signal.SIG_SETMASK, blocked)
            child = Child(pid, ends.status, mark, gone=lambda: is_gone(pid), reap=lambda: reaped(pid))
        return self.going(task, child)

    def _child(self, task: Task, cell: Cell, ends: Ends, blocked: Any) -> None:
        """The cell's life after the fork, from which there is no way back into the caller's code."""
        try:
            begin(cell.mark, self._guardian.pipe, self._parent, _handlers())
            before = cells.set_apart()
            self._let_go(task)  # first, as there may be no other descriptor left to take
            os.close(ends.status)
            cells.become(cell, None)
            cells.reseed()
            status = cells.out_of_the_way(ends.writer)
            os.close(ends.writer)
            cells.fresh_streams(self._streams)

            def call() -> Any:
                cells.take_log(cell.log_path, b"")
                unix.signal.pthread_sigmask(unix.signal.SIG_SETMASK, blocked)
                return task.fn(task.private_config())

            cells.live(call, cell, status, before)
        finally:
            os._exit(cells.UNTOLD)

    def _let_go(self, task: Task) -> None:
        """Close what belongs to the other cells: their claims would be held for as long as this one lives."""
        theirs = (each for other in self._crew for each in (other.child.status, other.child.watch, other.task.claim))
        for descriptor in theirs:
            if descriptor is not None and descriptor != task.claim:
                with suppress(OSError):
                    os.close(descriptor)


def _handlers() -> dict[int, Any]:
    """What a cell does at the signals that stop it, in place of what this process does; what is ignored stays so."""
    default = {signal.SIGINT: signal.default_int_handler}
    return {
        number: default.get(number, signal.SIG_DFL)
        for number in guardian.STOPPING
        if signal.getsignal(number) is not signal.SIG_IGN
    }


@contextmanager
def _quietly() -> Iterator[None]:
    """Without Python's own warning that a fork of a process with threads may hang: it is said in open()."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield
