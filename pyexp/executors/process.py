"""Cells in fresh interpreters: what such a child is started with, and told.

Knows how an interpreter like this one is started; how it goes on from there is `children` and `worker`.
"""

import marshal
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from pyexp.dotted import Config
from pyexp.errors import ExecutorError
from pyexp.executors import guardian, worker
from pyexp.executors.base import Task, Terms
from pyexp.executors.children import Process, Processes, child_ends
from pyexp.executors.functions import pickled_function
from pyexp.files import dumps

# As much as a pipe takes at once: what is longer is written by a thread, as its reader may be slow, or dead.
_PIPE = 16_384
# The worker and what it imports come from where they are here; the experiment's own import path comes after.
_CHILD = "import sys; sys.path[:] = sys.argv[1:]; from pyexp.executors.worker import main; main()"


class SubprocessExecutor(Processes):
    """Runs each cell in a fresh interpreter, which gets the function by value and this process's import path."""

    def open(self, fn: Callable[[Config], Any], terms: Terms) -> None:
        if not sys.executable:
            raise ExecutorError("this Python does not know its own interpreter (sys.executable); use executor='fork'")
        self._fn = pickled_function(fn)
        self._command = [sys.executable, *interpreter_flags(), "-P", "-c", _CHILD, *worker_path()]
        super().open(fn, terms)

    def start(self, task: Task) -> Process:
        payload = self._payload(task)
        mark = guardian.new_mark()
        with child_ends(task) as ends:
            child = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=ends.writer,
                stderr=ends.log,
                env={**os.environ, **self.environment(mark)},
                pass_fds=() if task.claim is None else (task.claim,),
                start_new_session=True,
            )
            running = Process(task, child.pid, ends.status, mark, lambda: exit_status(child))
            self._crew.append(running)
        try:
            # First the guardian, then the payload: a child whose parent dies in between has nothing to do, and ends.
            self._guardian.begins(child.pid, mark)
            feed(child.stdin, payload)
        except BaseException:
            self.kill(running)
            raise
        return running

    def _payload(self, task: Task) -> bytes:
        terms = {
            "argv": sys.argv,
            "path": import_path(),
            "main": getattr(sys.modules.get("__main__"), "__file__", None) or "",
            "result_path": task.result_path,
            "durable": self._terms.durable,
        }
        return worker.packed(marshal.dumps(terms), self._fn, dumps(task.private_config(), "config"))


def exit_status(child: "subprocess.Popen[bytes]") -> int | None:
    """The child's exit status; None while it lives. If somebody else took it, `poll` alone would make one up."""
    if child.returncode is None and hasattr(os, "waitid"):
        try:
            os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            child.poll()  # so that it knows that there is nothing to wait for
            return worker.UNKNOWN
    return child.poll()


def interpreter_flags() -> list[str]:
    """The options with which this interpreter was started, as multiprocessing hands them on."""
    flags: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # no public name for it
    return flags


def feed(pipe: Any, payload: bytes) -> None:
    """Write the payload to the pipe and close it, without waiting for a reader."""

    def write() -> None:
        with suppress(OSError), pipe:  # a child that died early does not read it, and its death says why
            pipe.write(payload)

    if len(payload) <= _PIPE:
        write()
    else:
        threading.Thread(target=write, name="pyexp payload", daemon=True).start()


def import_path() -> list[str]:
    """Where this process finds modules, with an entry for the working directory spelled out."""
    return [os.path.abspath(entry) if entry == "" else entry for entry in sys.path if isinstance(entry, str)]


def worker_path() -> list[str]:
    """Where a worker finds what it is made of: the standard library, and this pyexp.

    No more, so that a `random.py` beside the script, or in the working directory, is not taken for Python's.
    """
    library = os.path.dirname(os.__file__)
    python = [entry for entry in import_path() if entry.endswith(".zip") or _is_inside(entry, library)]
    return [*python, str(Path(__file__).resolve().parents[2])]


def _is_inside(entry: str, library: str) -> bool:
    return entry in (library, os.path.join(library, "lib-dynload"))
