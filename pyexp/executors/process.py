"""Cells in processes that get ready by themselves: forked from a server that has loaded the script, or interpreters.

Knows how an interpreter like this one is started, and what it is told; how it goes on from there is `pyexp.worker`.
"""

import math
import os
import pickle
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from pyexp.configs import Config
from pyexp.errors import ExecutorError
from pyexp.executors.base import TICK, Task, Terms
from pyexp.executors.children import Child, Process, Processes, is_gone, is_taken, ready, status_pipe
from pyexp.executors.shipment import Shipment
from pyexp.worker import cell as cells
from pyexp.worker import guardian, messages
from pyexp.worker.cell import Cell
from pyexp.worker.main import Fork, Kit, Lack, Reap

# The worker and what it imports come from where they are here; the experiment's own import path comes after.
_CHILD = "import sys; sys.path[:] = sys.argv[2:]; from pyexp.worker.main import main; main()"
#: Seconds that a server has to answer: it does so in milliseconds, unless it was stopped.
ANSWER = 60.0
#: Seconds that loading the script may take where a cell's timeout is shorter: a server's cells do not pay for it.
LOADING = 60.0
#: Seconds that a server has for its exit handlers.
FAREWELL = 10.0


class SubprocessExecutor(Processes):
    """Runs each cell in a clean process, which has loaded the script and nothing else of what happened here.

    Where it is safe (Linux), one fresh interpreter loads the script, and is forked for each cell. Elsewhere, with
    `fresh`, and where loading the script starts threads or opens an accelerator, each cell has a fresh interpreter.
    """

    def __init__(self, fresh: bool = False) -> None:
        self.fresh = fresh

    def open(self, fn: Callable[[Config], Any], terms: Terms) -> None:
        if not sys.executable:
            raise ExecutorError("this Python does not know its own interpreter (sys.executable); use executor='fork'")
        self._shipment = Shipment(fn, terms.initializer, import_path())
        self._kit = self._shipment.kit
        self._prepare(terms)
        try:
            self._get_ready()
        except BaseException:
            self.close()
            raise

    def _prepare(self, terms: Terms) -> None:
        """Be able to start interpreters, and to end them."""
        super().open(lambda _: None, terms)
        self._flags = interpreter_flags()
        self._serves = not self.fresh and can_serve()
        self._server: Server | None = None
        self._spare: Interpreter | None = None
        self._undo.callback(self._hang_up)

    def _get_ready(self) -> None:
        """Start an interpreter that is to serve, or to run the first cell.

        If it dies, it is kept: how it died is the outcome of the cell that it is given. If it hangs, so may the others:
        each of them loads the script within the timeout of its cell.
        """
        limit = loading_limit(self._terms)
        self._spare = first = self._interpreter(serves=self._serves)
        pipe = self._guardian.pipe if self._serves else None
        try:
            self._introduce(first, self._kit._replace(serves=self._serves, guardian=pipe), limit)
            unfit = first.hear(limit).decode() if self._serves else ""
        except TimeoutError:
            self._serves, self._spare = False, None
            self._away(first)
            self.notice = f"each cell gets a fresh interpreter: loading the script took longer than {limit:g} s"
            return
        except (EOFError, OSError):
            return
        if self._serves and not unfit:
            self._server, self._spare = Server(first), None
        elif self._serves:
            self._serves = False
            self.notice = f"each cell gets a fresh interpreter: once the script is loaded, {unfit}"

    def _introduce(self, first: "Interpreter", kit: Kit, limit: float) -> None:
        """Send an interpreter what it gets ready with, and what it lacks then. Raises OSError if it has died.

        What it lacks and cannot be sent is refused: raises `ConfigError`.
        """
        try:
            lack = first.lack(kit, limit)
        except TimeoutError:
            self._rest = self._shipment.rest(Lack(failed=True))
            raise
        self._rest = self._shipment.rest(lack)
        first.send(self._rest)

    def start(self, task: Task) -> Process:
        if self._serves and self._server is None and self._spare is None:
            self._get_ready()
        child = self._forked(self._server, task) if self._server is not None else self._fresh(task)
        return self.going(task, child)

    def _forked(self, server: "Server", task: Task) -> Child:
        """A child of the server. If that has died, another one is started."""
        try:
            return server.fork(self.cell(task, guardian.new_mark()), task.claim)
        except ConnectionError:
            self._server = None
            self._away(server.interpreter)
            self._get_ready()
        if self._server is None:
            return self._fresh(task)
        return self._server.fork(self.cell(task, guardian.new_mark()), task.claim)

    def _fresh(self, task: Task) -> Child:
        """An interpreter for this cell alone: the one that is there already, or a new one."""
        interpreter, self._spare = self._spare, None
        told = []
        if interpreter is None:
            interpreter = self._interpreter()
            told = [pickle.dumps(self._kit), self._rest]
        try:
            interpreter.take(task.log_path, [*told, pickle.dumps(self.cell(task, interpreter.mark))])
        except BaseException:
            self._away(interpreter)
            raise
        return interpreter

    def _interpreter(self, *, serves: bool = False) -> "Interpreter":
        """A new interpreter, which waits to be told. Raises OSError."""
        mark = guardian.new_mark()
        # A server's children would bear its mark, and are not to end with it.
        environment = {**os.environ, **(self._environment if serves else self.environment(mark))}
        interpreter = Interpreter(mark, self._flags, environment, self._guardian.pipe if serves else None)
        try:
            # First the guardian, then the cell: a child whose parent dies in between has nothing to do, and ends.
            self._guardian.begins(interpreter.pid, mark)
        except BaseException:
            self._away(interpreter)
            raise
        return interpreter

    def _hang_up(self) -> None:
        """Let the server come to its end, and end an interpreter that has no cell."""
        server, spare, self._server, self._spare = self._server, self._spare, None, None
        if spare is not None:
            self._away(spare)
        if server is not None:
            server.hang_up()
            self._away(server.interpreter)


class Interpreter(Child):
    """A fresh interpreter, which is told what to get ready with, and then which cell to run or that it is to serve.

    What it writes before it has a cell's log goes to a file without a name; if it dies until then, to the log by way of
    this process. A server also inherits the guardian's `pipe`, for its children.
    """

    def __init__(self, mark: str, flags: Sequence[str], environment: dict[str, str], pipe: int | None = None) -> None:
        self._log_path = ""
        self._fed = False
        self.link: socket.socket | None = None
        with ExitStack() as ours:
            self._early = ours.enter_context(TemporaryFile(buffering=0))
            with ExitStack() as theirs, status_pipe() as ends:
                stdin: Any = subprocess.PIPE
                if pipe is not None:
                    self.link, other = socket.socketpair()
                    ours.callback(self.link.close)
                    stdin = theirs.enter_context(other).fileno()
                child = subprocess.Popen(
                    [sys.executable, *flags, "-P", "-c", _CHILD, *worker_path()],
                    stdin=stdin,
                    stdout=ends.writer,
                    stderr=self._early,
                    bufsize=0,
                    env=environment,
                    pass_fds=() if pipe is None else (pipe,),
                    **guardian.apart(),
                )
                self._stdin = child.stdin
                super().__init__(
                    child.pid,
                    ends.status,
                    mark,
                    gone=lambda: is_gone(child.pid),
                    reap=lambda: exit_status(child),
                )
            ours.pop_all()

    def send(self, message: bytes) -> None:
        """Tell it this, and wait until it has been read. Raises OSError if it has died."""
        if self.link is not None:
            self.link.sendall(messages.packed(message))
        else:
            assert self._stdin is not None
            messages.write(self._stdin.fileno(), [message])

    def lack(self, kit: Kit, limit: float) -> Lack:
        """Have it load the script, and hear what it lacks of that; that loading failed, also if it dies of it.

        Raises TimeoutError if it says nothing for so long.
        """
        try:
            self.send(pickle.dumps(kit._replace(answers=True)))
            lack: Lack = pickle.loads(self.hear(limit))
        except TimeoutError:
            raise
        except (EOFError, OSError):
            return Lack(failed=True)
        return lack

    def hear(self, limit: float) -> bytes:
        """Wait for what it says next. Raises EOFError if it has died, TimeoutError if it says nothing for so long."""
        deadline = time.monotonic() + limit
        while not self.words:
            if time.monotonic() > deadline:
                raise TimeoutError(f"nothing was said for {limit:g} s")
            self.listen()
            if (self.silent or self.ended) and not self.words:
                self.listen()
                raise EOFError("the interpreter has died")
            if not self.words:
                ready([self.status], TICK)
        word = self.words[0]
        del self.said[: messages.WIDTH + len(word)]
        return word

    def take(self, log_path: str, told: list[bytes]) -> None:
        """Have it run the cell that the messages end with.

        They are sent by a thread: their reader may be slow, or dead.
        """
        self._log_path, self._fed = log_path, True

        def feed() -> None:
            with suppress(OSError):
                for message in told:
                    self.send(message)
            self._hang_up()

        threading.Thread(target=feed, name="pyexp feeds a cell", daemon=True).start()

    def _hang_up(self) -> None:
        for end in (self.link, self._stdin):
            if end is not None:
                with suppress(OSError):
                    end.close()

    def close(self) -> None:
        """Give the descriptors back, when what was written too early is in the log."""
        if not self._fed:
            self._hang_up()
        if self._log_path:
            self._early.seek(0)
            with suppress(OSError), open(self._log_path, "ab") as log:
                log.write(self._early.read())
        self._early.close()
        super().close()


class Server:
    """An interpreter that has loaded the script, and forks a child for each cell."""

    def __init__(self, interpreter: Interpreter) -> None:
        assert interpreter.link is not None
        self.interpreter = interpreter
        self._link = interpreter.link
        self._link.settimeout(ANSWER)
        self._done: list[int] = []

    def fork(self, cell: Cell, claim: int | None) -> Child:
        """A child that runs the cell. Raises `ConnectionError` if the server has died, OSError if it cannot fork."""
        with status_pipe() as ends:
            descriptors = [ends.writer] if claim is None else [claim, ends.writer]
            done, self._done = self._done, []
            pid = self._ask(Fork(cell, len(descriptors), done), descriptors)
            child = Child(
                pid, ends.status, cell.mark, gone=lambda: guardian.has_gone(pid), reap=lambda: self._reap(child)
            )
            return child

    def _reap(self, child: Child) -> int | None:
        pid = child.pid
        if child.ended and child.outcome is not None:  # how it ended is known: the server hears of it next time
            self._done.append(pid)
            return 0
        try:
            status: int | None = self._ask(Reap(pid))
        except OSError:  # the server has died, and how its child ended is not for us to know
            return cells.UNKNOWN if guardian.has_gone(pid) else None
        return status

    def _ask(self, what: Any, descriptors: Sequence[int] = ()) -> Any:
        message = messages.packed(pickle.dumps(what))
        unix_socket: Any = socket
        try:
            sent = unix_socket.send_fds(self._link, [message[: messages.WIDTH]], descriptors)
            self._link.sendall(message[sent:])
            answer = pickle.loads(messages.read(self._link.recv))
        except (EOFError, OSError) as error:
            raise ConnectionError("the server has died") from error
        if isinstance(answer, OSError):
            raise answer
        return answer

    def hang_up(self) -> None:
        """Let the server end as any Python process does, with its exit handlers, and wait for that a while."""
        with suppress(OSError):
            for pid in self._done:
                self._ask(Reap(pid))
        self._link.close()
        last = time.monotonic() + FAREWELL
        while not self.interpreter.ended and time.monotonic() < last:
            time.sleep(0.001)


def rest_for_others(shipment: Shipment, terms: Terms) -> bytes:
    """What workers on other machines are sent after the kit: what an interpreter here lacks, which ends then.

    What such a worker loads otherwise than one here (a host's name, a device that is there) stays as it is there.
    Raises `ConfigError` for what is lacking and cannot be sent.
    """
    here = SubprocessExecutor(fresh=True)
    here._prepare(terms)
    try:
        here._spare = first = here._interpreter()
        lack = first.lack(shipment.kit._replace(path=import_path()), loading_limit(terms))
    except TimeoutError:
        lack = Lack(failed=True)
    finally:
        here.close()
    return shipment.rest(lack)


def loading_limit(terms: Terms) -> float:
    """Seconds that loading the script may take before each cell's interpreter loads it within the cell's timeout."""
    return math.inf if terms.timeout is None else max(terms.timeout, LOADING)


def can_serve() -> bool:
    """Whether a process can be forked for each cell here: with its descriptors sent, and its threads counted."""
    return hasattr(os, "fork") and hasattr(socket, "SCM_RIGHTS") and os.path.isdir("/proc/self/task")


def exit_status(child: "subprocess.Popen[bytes]") -> int | None:
    """The child's exit status; None while it lives. If somebody else took it, `poll` alone would make one up."""
    if child.returncode is None and is_taken(child.pid):
        child.poll()  # so that it knows that there is nothing to wait for
        return cells.UNKNOWN
    return child.poll()


def interpreter_flags() -> list[str]:
    """The options with which this interpreter was started, as multiprocessing hands them on."""
    flags: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # no public name for it
    return flags


def import_path() -> list[str]:
    """Where this process finds modules, with an entry for the working directory spelled out."""
    return [os.path.abspath(entry) if entry == "" else entry for entry in sys.path if isinstance(entry, str)]


def worker_path() -> list[str]:
    """Where a worker finds what it is made of: the standard library, and this pyexp.

    No more, so that a `random.py` beside the script, or in the working directory, is not taken for Python's.
    """
    library = os.path.dirname(os.__file__)
    own = (library, os.path.join(library, "lib-dynload"), os.path.join(sys.base_exec_prefix, "DLLs"))
    here = set(map(os.path.normcase, own))
    python = [entry for entry in import_path() if entry.endswith(".zip") or os.path.normcase(entry) in here]
    return [*python, str(Path(__file__).resolve().parents[2])]
