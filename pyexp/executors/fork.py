"""Cells in forks of this process: what a child does with all that it has inherited."""

import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from pyexp.dotted import Config
from pyexp.errors import ExecutorError
from pyexp.executors import guardian, worker
from pyexp.executors.base import Task, Terms
from pyexp.executors.children import Child, Ends, Process, Processes, opened_log, reaped, status_pipe

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class ForkExecutor(Processes):
    """Runs each cell in a fork of this process as it is: modules, globals and all. Threads do not come along.

    Each cell begins with the same state of every random number generator, NumPy's global one too; only Python's
    `random` is seeded anew. Seed them from the config. Libraries that have started their threads already keep their
    number, whatever `-j` says.
    """

    def open(self, fn: Callable[[Config], Any], terms: Terms) -> None:
        if not hasattr(os, "fork"):
            raise ExecutorError("this system cannot fork; use executor='subprocess'")
        others = [thread.name for thread in threading.enumerate() if thread is not threading.current_thread()]
        if others:
            warnings.warn(
                f"forking a process with other live threads ({', '.join(others)}): a lock that one of them holds stays "
                "locked in the cell; use executor='subprocess' if a cell hangs",
                RuntimeWarning,
                stacklevel=2,
            )
        self._parent = os.getpid()
        super().open(fn, terms)
        self._streams = worker.streams()  # here once, and not in each child

    def start(self, task: Task) -> Process:
        mark = guardian.new_mark()
        for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
            with suppress(Exception):  # what is buffered belongs to this process, once
                stream.flush()  # type: ignore[union-attr]  # a stream that is None is passed over
        with status_pipe() as ends, opened_log(task) as log:
            # A signal that comes before the child has its own handlers waits until it has.
            blocked = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
            try:
                pid = _fork()
                if pid == 0:
                    self._child(task, mark, ends, log, blocked)
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
            running = Process(task, Child(pid, ends.status, mark, lambda: reaped(pid)))
            self._crew.append(running)
        try:
            self._guardian.begins(pid, mark)
        except BaseException:
            self.kill(running)
            raise
        return running

    def _child(self, task: Task, mark: str, ends: Ends, log: int, blocked: Any) -> None:
        """The cell's life after the fork, from which there is no way back into the caller's code."""
        try:
            self._be_a_child(mark)
            self._let_go(task)  # first, as there may be no other descriptor left to take
            os.close(ends.status)
            worker.write_to(log)
            status = worker.out_of_the_way(ends.writer)
            os.close(ends.writer)
            worker.fresh_streams(self._streams)

            def call() -> Any:
                signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
                return task.fn(task.private_config())

            worker.live(call, task.result_path, self._terms.durable, status, forked=True)
        finally:
            os._exit(worker.UNTOLD)

    def _be_a_child(self, mark: str) -> None:
        """Take leave of the parent: its session and its handlers."""
        os.setsid()
        with suppress(OSError):
            os.write(self._guardian.pipe, guardian.message(os.getpid(), mark))
        if os.getppid() != self._parent:  # it died meanwhile, and so perhaps did the guardian
            os._exit(worker.UNTOLD)
        with suppress(OSError):  # a fork's environment does not show its mark
            name = os.open("/proc/self/comm", os.O_WRONLY)
            os.write(name, mark.encode())
            os.close(name)
        os.environ.update(self.environment(mark))
        signal.set_wakeup_fd(-1)
        for number in _SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)

    def _let_go(self, task: Task) -> None:
        """Close what belongs to the other cells: their claims would be held for as long as this one lives."""
        os.close(self._guardian.pipe)
        theirs = (each for other in self._crew for each in (other.child.status, other.child.watch, other.task.claim))
        for descriptor in theirs:
            if descriptor is not None and descriptor != task.claim:
                with suppress(OSError):
                    os.close(descriptor)


def _fork() -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python's own about threads: said in open()
        return os.fork()
