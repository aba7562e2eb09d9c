"""Cells in fresh interpreters: how such a child is started, ahead of its cell if that pays, and what it is told.

Knows how an interpreter like this one is started; how it goes on from there is `children` and `worker`.
"""

import array
import marshal
import os
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from pyexp.configs import thaw
from pyexp.dotted import Config
from pyexp.errors import ExecutorError
from pyexp.executors import guardian, worker
from pyexp.executors.base import Task, Terms
from pyexp.executors.children import Child, Process, Processes, opened_log, status_pipe
from pyexp.executors.functions import pickled_function
from pyexp.files import dumps

# As much as a socket takes at once: what is longer is sent by a thread, as its reader may be slow, or dead.
_AT_ONCE = 16_384
# The worker and what it imports come from where they are here; the experiment's own import path comes after.
_CHILD = "import sys; sys.path[:] = sys.argv[2:]; from pyexp.executors.worker import main; main(int(sys.argv[1]))"


class SubprocessExecutor(Processes):
    """Runs each cell in a fresh interpreter, which gets the function by value and this process's import path.

    While cells run, up to `standby` interpreters for the next ones start and load the function, so that a cell need
    not wait for that. They do so before it is known which cell they get, and each runs one. With 0 there are none.
    """

    def __init__(self, standby: int = 2) -> None:
        self.standby = standby

    def open(self, fn: Callable[[Config], Any], terms: Terms) -> None:
        if not sys.executable:
            raise ExecutorError("this Python does not know its own interpreter (sys.executable); use executor='fork'")
        self._ready: deque[Interpreter] = deque()
        self._left = terms.cells
        self._flags = interpreter_flags()
        common = self._common(pickled_function(fn), terms)
        super().open(fn, terms)
        self._shared = unnamed_file(common)
        self._undo.callback(lambda: os.close(self._shared))
        self._undo.callback(self._send_away)
        self._get_ready()

    def start(self, task: Task) -> Process:
        self._left -= 1
        interpreter = self._waiting() or self._boot()
        try:
            with opened_log(task) as log:
                interpreter.take(task, self._cell(task), log)
        except BaseException:
            self._away(interpreter)
            raise
        running = Process(task, interpreter)
        self._crew.append(running)
        self._get_ready()
        return running

    def _waiting(self) -> "Interpreter | None":
        """An interpreter that is there already. One that has ended while it loaded the function says why in a cell."""
        while self._ready:
            interpreter = self._ready.popleft()
            if not interpreter.ended:
                return interpreter
            self._away(interpreter)
        return None

    def _get_ready(self) -> None:
        """Start interpreters for the next cells, if there are any; where the system refuses, none are, from then on."""
        try:
            while len(self._ready) < min(self.standby, self._left):
                self._ready.append(self._boot())
        except OSError:
            self._left = 0
            self._send_away()

    def _send_away(self) -> None:
        """End the interpreters that have no cell."""
        while self._ready:
            self._away(self._ready.popleft())

    def _boot(self) -> "Interpreter":
        """A new interpreter, which loads the function and waits for a cell. Raises OSError."""
        interpreter = Interpreter(
            [sys.executable, *self._flags, "-P", "-c", _CHILD, str(self._shared), *worker_path()],
            self._shared,
            self.environment,
        )
        try:
            # First the guardian, then the cell: a child whose parent dies in between has nothing to do, and ends.
            self._guardian.begins(interpreter.pid, interpreter.mark)
        except BaseException:
            self._away(interpreter)
            raise
        return interpreter

    def _common(self, fn: bytes, terms: Terms) -> bytes:
        """What all cells have in common."""
        world = {
            "argv": sys.argv,
            "path": import_path(),
            "main": getattr(sys.modules.get("__main__"), "__file__", None) or "",
            "durable": terms.durable,
        }
        return worker.packed(marshal.dumps(world), fn)

    def _cell(self, task: Task) -> bytes:
        """What a cell has to itself."""
        return worker.packed(os.fsencode(task.result_path), dumps(thaw(task.config), "config"))


class Interpreter(Child):
    """A fresh interpreter that loads the function, and then waits for a cell.

    What it writes before it has the cell's log goes to a file without a name; if it dies until then, to the log by way
    of this process.
    """

    def __init__(self, command: list[str], shared: int, environment: Callable[[str], dict[str, str]]) -> None:
        import fcntl  # not on Windows, where this is never reached

        mark = guardian.new_mark()
        self._log_path = ""
        with ExitStack() as ours:
            self._early = unnamed_file()
            ours.callback(os.close, self._early)
            # A process that an import has left writes there too, when it has been emptied.
            fcntl.fcntl(self._early, fcntl.F_SETFL, os.O_APPEND)
            self._link, theirs = socket.socketpair()
            ours.callback(self._link.close)
            with theirs, status_pipe() as ends:
                child = subprocess.Popen(
                    command,
                    stdin=theirs.fileno(),
                    stdout=ends.writer,
                    stderr=self._early,
                    env={**os.environ, **environment(mark)},
                    pass_fds=(shared,),
                    start_new_session=True,
                )
                super().__init__(child.pid, ends.status, mark, lambda: exit_status(child))
            ours.pop_all()

    def take(self, task: Task, cell: bytes, log: int) -> None:
        """Have the interpreter run this cell. It gets the descriptors of the log and of the cell's claim."""
        self._log_path = task.log_path
        descriptors = array.array("i", [log] if task.claim is None else [log, task.claim])
        with suppress(OSError):  # one that died early does not read it, and its death says why
            self._link.sendmsg([cell[:_AT_ONCE]], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)])
        feed(self._link, cell[_AT_ONCE:])

    def close(self) -> None:
        """Give the descriptors back, when what was written too early is in the log."""
        self._link.close()
        if self._log_path:
            with suppress(OSError), open(self._log_path, "ab") as log:
                log.write(os.pread(self._early, os.fstat(self._early).st_size, 0))
        os.close(self._early)
        super().close()


def unnamed_file(content: bytes = b"") -> int:
    """The descriptor of a file that has no name, and is gone with the last who has it open."""
    try:
        descriptor = os.memfd_create("pyexp")
    except (AttributeError, OSError):  # not Linux, or not allowed
        from tempfile import TemporaryFile

        with TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    worker.write_all(descriptor, content)
    return descriptor


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


def feed(link: socket.socket, rest: bytes) -> None:
    """Send the rest and hang up, without waiting for a reader."""

    def send() -> None:
        with suppress(OSError), link:
            link.sendall(rest)

    if rest:
        threading.Thread(target=send, name="pyexp config", daemon=True).start()
    else:
        link.close()


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
