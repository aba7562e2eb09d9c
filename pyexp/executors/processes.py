"""Cells in processes of their own: how they are started, waited for and ended, and how the run knows what they did.

Each cell's process leads a session where there are sessions, so that it is killed with what it started. Its outcome is
what it says on its status pipe; where it died without a word, the way it died. `SubprocessExecutor` has it forked from
a server that has loaded the script, or starts an interpreter for each. What goes on inside is `pyexp.worker`.
"""

import math
import os
import pickle
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, NamedTuple

from pyexp import devices
from pyexp.configs import thaw
from pyexp.errors import ExecutorError
from pyexp.executors.base import Function, Running, RunSettings, Session, SessionExecutor, StopRequest, Task, cores
from pyexp.executors.logs import Echo, log_tail
from pyexp.results import Outcome
from pyexp.store import claims, files, unix
from pyexp.store.pickling import dumps
from pyexp.worker import cell as cells
from pyexp.worker import guardian, messages
from pyexp.worker.main import reaped
from pyexp.worker.messages import Assignment, Fork, Kit, Lack, Reap
from pyexp.worker.naming import Shipment
from pyexp.worker.outcome import failure

#: Seconds after which a killed process that does not go (it hangs in the kernel, on a dead disk) is given up.
GIVEN_UP = 30.0
#: Seconds between two looks at children where nothing tells that one has ended.
LOOK = 0.02
#: Seconds that a thread has to take in what an ended process has said.
HEARD = 5.0
#: Seconds that a cell which is killed at its timeout has to write the stacks of its threads to its log.
STACKS_WAIT = 0.5
#: Seconds that a server has to answer: it does so in milliseconds, unless it was stopped.
ANSWER = 60.0
#: Seconds that loading the script may take where a cell's timeout is shorter: a server's cells do not pay for it.
LOADING = 60.0
#: Seconds that a server has for its exit handlers.
FAREWELL = 10.0
#: Whether the system tells which pipes can be read; elsewhere one can only read them.
CAN_POLL = hasattr(select, "poll")
#: Libraries that start a thread for each core unless they are limited: N cells at a time would start N times as many.
THREADS = (*(f"{library}_NUM_THREADS" for library in ("OMP", "OPENBLAS", "MKL", "NUMEXPR")), "VECLIB_MAXIMUM_THREADS")
# The worker and what it imports come from where they are here; the experiment's own import path comes after.
_CHILD = "import sys; sys.path[:] = sys.argv[2:]; from pyexp.worker.main import main; main()"


class Child:
    """A process that runs a cell: its id, its mark, what it has said and how it ended. Its id is its session's too.

    `gone` says whether it has ended, and leaves it in the table, so that its id stays its own until `reap` takes its
    exit status from the system: negative for a signal, None while it lives.
    """

    def __init__(
        self, pid: int, status: int, mark: str, *, gone: Callable[[], bool], reap: Callable[[], int | None]
    ) -> None:
        self.pid = pid
        self.status = status
        self.mark = mark
        self.exit: int | None = None
        self.is_silent = False
        self.is_guarded = False  # whether the guardian knows of it
        self.watch: int | None = None
        #: A file with what it wrote before it had a log, and the log which that is to end up in.
        self.early: tuple[Any, str] | None = None
        self._said = bytearray()
        self._gone, self._reap = gone, reap
        self._has_ended = False
        self._listener: threading.Thread | None = None
        if CAN_POLL:
            unix.os.set_blocking(status, False)
        else:  # a pipe can only be waited for by reading it
            self._listener = threading.Thread(target=self._hear_all, name="pyexp listens to a cell", daemon=True)
            self._listener.start()
        with suppress(AttributeError, OSError):  # elsewhere, it is asked again and again
            self.watch = int(unix.os.pidfd_open(pid))

    def listen(self) -> None:
        """Take in what is in the status pipe."""
        if self._listener is None:
            self._hear_all()
        elif self.has_ended:
            self._listener.join(HEARD)

    def _hear_all(self) -> None:
        with suppress(OSError):  # the pipe is empty for now
            while part := os.read(self.status, 1 << 16):
                self._said += part
            self.is_silent = True

    @property
    def has_ended(self) -> bool:
        """Whether the process has ended."""
        self._has_ended = self._has_ended or (self._gone() if self.watch is None else ready([self.watch]))
        return self._has_ended

    def reap(self) -> int | None:
        """The exit status, negative for a signal, taken from the system; None while the process lives."""
        if self.exit is None:
            self.exit = self._reap()
        return self.exit

    @property
    def words(self) -> list[bytes]:
        """What the worker has said, in whole messages: its outcome, then whether it leaves anything behind."""
        return messages.unpacked(bytes(self._said))

    @property
    def outcome(self) -> Outcome | None:
        """The outcome that the worker has said; None if it has not, or not all of it."""
        with suppress(Exception):  # an experiment may write anything there
            outcome = pickle.loads(self.words[0])
            return outcome if isinstance(outcome, dict) and "status" in outcome else None
        return None

    @property
    def is_alone(self) -> bool:
        """Whether it has ended, having said that it never had a child: then there is nothing to look for."""
        return self.has_ended and self.words[1:] == [cells.ALONE]

    def hear(self, limit: float) -> bytes:
        """Wait for what it says next. Raises EOFError if it has died, TimeoutError if it says nothing for so long."""
        deadline = time.monotonic() + limit
        while not self.words:
            if time.monotonic() > deadline:
                raise TimeoutError(f"the worker sent nothing for {limit:g} s")
            is_over = self.is_silent or self.has_ended  # before what it said last is taken in
            self.listen()
            if not self.words:
                if is_over:
                    raise EOFError("the interpreter has died")
                ready([self.status], 0.1)
        word = self.words[0]
        del self._said[: messages.WIDTH + len(word)]
        return word

    def close(self) -> None:
        """Give the descriptors back. What was written too early, or later by others to the same file, is logged."""
        if self.early is not None:
            with suppress(OSError), self.early[0] as early, open(self.early[1], "ab") as log:
                early.seek(0)
                log.write(early.read())
        if self._listener is None or not self._listener.is_alive():
            os.close(self.status)
        if self.watch is not None:
            os.close(self.watch)


def ready(descriptors: Iterable[int], seconds: float = 0.0) -> bool:
    """Whether one of the descriptors can be read, waiting up to so many seconds; True where that cannot be asked."""
    if not CAN_POLL:
        time.sleep(min(seconds, LOOK))
        return True
    system: Any = select
    poll = system.poll()
    for descriptor in descriptors:
        poll.register(descriptor, system.POLLIN)
    return bool(poll.poll(seconds * 1000))


class ProcessCell(Running):
    """A cell in a child of its own."""

    def __init__(self, task: Task, child: Child) -> None:
        super().__init__(task)
        self.child = child
        self.echo = Echo(task)


class ProcessSession(Session):
    """What the executors with a process for each cell share. Raises `ExecutorError` where no process can be guarded."""

    def __init__(self, settings: RunSettings, stop: StopRequest) -> None:
        super().__init__(settings, stop)
        if not sys.executable:  # inside another program
            raise ExecutorError(
                "this Python does not know its interpreter: set sys.executable, or use executor='inline'"
            )
        if guardian.facts_of(os.getpid()) is None:
            raise ExecutorError("nothing here tells which processes a cell has started; pip install psutil")
        self._cells: list[ProcessCell] = []
        share = "" if settings.jobs == 1 else str(max(cores() // settings.jobs, 1))
        self._environment = {name: share for name in THREADS if share and name not in os.environ}
        with ExitStack() as undo:
            undo.enter_context(cells.standard_descriptors())
            try:
                self._guardian = self.make_guardian()
            except OSError as error:
                raise ExecutorError(f"no process can be started here: {error}") from error
            undo.callback(self._guardian.dismiss)
            undo.callback(self._end_cells)
            self._undo = undo.pop_all()

    def make_guardian(self) -> guardian.Guardian:
        """What ends the cells in case that this process is killed."""
        return guardian.Guardian()

    def close(self) -> None:
        self._undo.close()

    def _end_cells(self) -> None:
        for running in list(self._cells):
            self.kill(running)

    def _cell(self, task: Task, mark: str) -> Assignment:
        """The cell as its worker gets it."""
        return Assignment(
            config=self._pickled_config(task),
            result_path=task.result_path,
            durable=self.settings.durable,
            code=task.code,
            log_path=task.log_path,
            mark=mark,
            environment={**self._marked(mark), **devices.environment(task.gpu)},
            title=task.label,
            claimed=task.claim is not None,
        )

    def _pickled_config(self, task: Task) -> bytes:
        return dumps(thaw(task.config), "config")

    def _marked(self, mark: str) -> dict[str, str]:
        """What to add to a cell's environment. The mark of a cell around this one stays, whose end ends this one."""
        marks = f"{os.environ.get(guardian.VARIABLE, '')} {mark}".strip()
        return {**self._environment, guardian.VARIABLE: marks}

    def _started(self, task: Task, child: Child) -> ProcessCell:
        """The cell, now that its process is there: from now on it is waited for, or killed."""
        running = ProcessCell(task, child)
        self._cells.append(running)
        try:
            self._guardian.begins(child.pid, child.mark, is_known=child.is_guarded)
            if task.claim is not None:
                claims.sign(task.claim, child.pid)
        except BaseException:
            self.kill(running)
            raise
        return running

    def wait(self, running: Collection[ProcessCell], seconds: float) -> list[tuple[ProcessCell, Outcome]]:
        watched = [one.child.watch for one in running if one.child.watch is not None]
        # An end that nobody writes to any more is always ready.
        spoken = [one.child.status for one in running if not (one.child.is_silent and one.child.watch)]
        ready(watched + spoken, seconds)
        found = []
        for one in running:
            one.child.listen()
            if one.child.has_ended:
                self._end(one)
                found.append((one, one.child.outcome or death(one)))
            else:
                self._show(one)
        return found

    def _show(self, one: ProcessCell, *, rest: bool = False) -> None:
        if not self.settings.capture:
            one.echo.show(several=self.settings.jobs > 1, rest=rest)

    def _end(self, one: ProcessCell) -> None:
        """Kill what is left of the cell, take in the last word, and give everything back."""
        self._remove(one.child)
        self._show(one, rest=True)
        self._cells.remove(one)

    def _remove(self, child: Child) -> None:
        """Kill what is left of a child, take in its last word, and give back what it took."""
        if child.has_ended:
            child.listen()
        if not child.is_alone:
            guardian.end(child.pid, child.mark)
        self._guardian.ended(child.pid)
        deadline = time.monotonic() + GIVEN_UP
        while child.reap() is None and time.monotonic() < deadline:
            time.sleep(0.001)
        child.listen()
        child.close()

    def kill(self, running: ProcessCell) -> Outcome | None:
        if running in self._cells:
            self._end(running)
        return running.child.outcome

    def overdue(self, running: ProcessCell) -> Outcome | None:
        """Kill a cell that exceeds its timeout, once it has written to its log where its threads are."""
        path, child = running.task.log_path, running.child
        before = files.stamp(path)
        if cells.STACKS_SIGNAL is not None and before and not child.has_ended:
            with suppress(OSError):
                os.kill(child.pid, cells.STACKS_SIGNAL)
            last = time.monotonic() + STACKS_WAIT
            while files.stamp(path) == before and not child.has_ended and time.monotonic() < last:
                time.sleep(0.005)
            time.sleep(0.02)  # it is written piece by piece
        return self.kill(running)

    def ask_to_stop(self, running: ProcessCell) -> None:
        if hasattr(signal, "CTRL_BREAK_EVENT"):  # on Windows, Ctrl-C cannot be sent to another group
            with suppress(OSError):
                os.kill(running.child.pid, signal.CTRL_BREAK_EVENT)
            return
        for name in ("killpg", "kill"):  # a child that was forked just now does not lead a group yet
            with suppress(OSError, AttributeError):
                getattr(os, name)(running.child.pid, signal.SIGINT)
                return


@contextmanager
def status_pipe() -> Iterator[tuple[int, int]]:
    """The status pipe for a child that is made meanwhile: its end to read from, and the child's, which is closed after.

    The reading end stays open, unless making the child fails. Raises OSError, also where no descriptor would be left
    for the run itself: it needs some to claim the next cell.
    """
    with ExitStack() as ours, ExitStack() as theirs:
        status, writer = os.pipe()
        ours.callback(os.close, status)
        theirs.callback(os.close, writer)
        for _ in range(3):
            theirs.callback(os.close, os.dup(status))
        yield status, writer
        ours.pop_all()


def death(one: ProcessCell) -> Outcome:
    """The outcome of a process that ended without a word, from its exit status and the end of its log."""
    kind, words = "Exited", ""
    match one.child.exit:
        case None:
            kind, words = "Killed", f"killed, but still in the system after {GIVEN_UP:g} s: it hangs there"
        case cells.UNKNOWN:
            why = "the server it was forked from has died, or this process ignores SIGCHLD or reaps all children"
            words = f"exited before it returned a result; nobody knows its status: {why}"
        case cells.UNTOLD:
            words = "pyexp's worker failed before the cell began; the log says why"
        case cells.MUTE:
            words = "the experiment closed its worker's status pipe, so its outcome is unknown"
        case status if status < 0:
            kind, words = "Killed", f"killed by signal {-status} ({signal_name(-status)})"
        case status:
            words = f"exited with status {status} before it returned a result"
    return failure(kind, words, log_tail(one.task.log_path))


def signal_name(number: int) -> str:
    """The name of a signal.

    >>> signal_name(11)
    'SIGSEGV'
    """
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return "unnamed"


def is_gone(pid: int) -> bool:
    """Whether a child of this process has ended; it stays in the table."""
    try:
        return unix.os.waitid(unix.os.P_PID, pid, unix.os.WEXITED | unix.os.WNOHANG | unix.os.WNOWAIT) is not None
    except AttributeError:  # this system has no such call
        return guardian.has_gone(pid)
    except ChildProcessError:  # somebody else took it
        return True


def exit_status(child: "subprocess.Popen[bytes]") -> int | None:
    """The child's exit status; None while it lives. If somebody else took it, `poll` alone would make one up."""
    if child.returncode is None and hasattr(os, "fork"):
        child.returncode = reaped(child.pid)
    return child.poll()


class SubprocessExecutor(SessionExecutor):
    """Run each cell in a clean process, which has loaded the script. The default.

    On Linux, one fresh interpreter loads the script once, and is forked for each cell; the child for the next cell
    waits while a cell runs. Each cell gets a fresh interpreter on Windows and macOS, with `fresh=True`, and if loading
    the script starts threads or opens an accelerator.

    >>> import pyexp
    >>> pyexp.experiment(lambda config: config.x, name="clean", executor=SubprocessExecutor(fresh=True))
    <Experiment 'clean'>
    """

    no_gpus = ""

    def __init__(self, fresh: bool = False) -> None:
        self.fresh = fresh

    def session(self, fn: Function, settings: RunSettings, stop: StopRequest) -> "WorkerSession":
        shipment = Shipment(fn, settings.initializer, import_path())
        session = WorkerSession(settings, stop, shipment.kit, shipment.rest, serves=not self.fresh and can_serve())
        try:
            session.get_ready()
        except BaseException:
            session.close()
            raise
        return session


class WorkerSession(ProcessSession):
    """Cells whose processes load the script: forked from a server that has loaded it, or fresh interpreters.

    They get ready with the kit, and then with the rest that is given for what a worker lacks.
    """

    def __init__(
        self, settings: RunSettings, stop: StopRequest, kit: Kit, rest_of: Callable[[Lack], bytes], *, serves: bool
    ) -> None:
        super().__init__(settings, stop)
        self._kit, self._rest_of, self._rest = kit, rest_of, b""
        self._flags = interpreter_flags()
        self._serves = serves
        self._server: Server | None = None
        self._ahead: Ahead | None = None
        self._first: tuple[Child, Any, Any] | None = None
        self._undo.callback(self._hang_up)

    def get_ready(self) -> None:
        """Have an interpreter load the script, to know what workers lack; keep it as the server, or for the next cell.

        Where it dies or takes too long, each cell has a fresh interpreter, which does so within the cell's timeout: how
        it died is that cell's outcome. Raises `ConfigError` for what workers lack and cannot be sent, OSError, and
        KeyboardInterrupt.
        """
        limit = math.inf if self.settings.timeout is None else max(self.settings.timeout, LOADING)
        unfit, lack, lives = "", Lack(failed=True), False
        child, link, early = self._first = self._waiting()
        pipe = self._guardian.pipe if self._serves else None
        try:
            with self.stop.interrupting():
                kit = self._kit._replace(answers=True, serves=self._serves, guardian=pipe)
                messages.write(link.fileno(), [pickle.dumps(kit)])
                lack = pickle.loads(child.hear(limit))
                messages.write(link.fileno(), [self._rest_of(lack)])
                if self._serves and (why := child.hear(limit).decode()):
                    unfit = f"once the script is loaded, {why}"
                lives = True
        except TimeoutError:
            unfit = f"loading the script took longer than {limit:g} s"
        except (EOFError, OSError):
            unfit = "the process that loaded the script died"
        self._rest = self._rest_of(lack)
        # Which GPUs its cell sees was not known when it loaded the script, and may have opened them.
        if not lives or (self.settings.gpus and (unfit or not self._serves)):
            self._hang_up(at_once=True)
        elif self._serves and not unfit:
            self._server, self._first = Server(child, link), None
            early.close()
        if unfit:
            self._serves = False
            self.notice = f"each cell gets a fresh interpreter: {unfit}"

    def start(self, task: Task) -> ProcessCell:
        for is_last in (False, True):
            if self._serves and self._server is None:
                self.get_ready()
            if self._server is None:
                break
            try:
                if self._server.child.has_ended:  # a child that waits would run its cell as an orphan
                    raise ConnectionError("the server has died")
                ahead, self._ahead = self._ahead or self._server.ask_for_child(), None
                child = self._server.child_of(ahead)
                try:
                    with ahead.link as link:
                        claim = [] if task.claim is None else [task.claim]
                        messages.send(link, pickle.dumps(self._cell(task, child.mark)), claim)
                except BaseException:
                    self._remove(child)
                    raise
                return self._started(task, child)
            except ConnectionError:  # it has died: another one is started
                self._hang_up(at_once=True)
                if is_last:
                    raise
        if self._first is not None:
            (child, link, early), self._first = self._first, None
            child.early = early, task.log_path
            try:
                with link:
                    messages.write(link.fileno(), [pickle.dumps(self._cell(task, child.mark))])
                return self._started(task, child)
            except OSError:  # it has died meanwhile
                self._remove(child)
        return self._started(task, self._fresh(task))

    def wait(self, running: Collection[ProcessCell], seconds: float) -> list[tuple[ProcessCell, Outcome]]:
        if self._server is not None and self._ahead is None:
            with suppress(OSError):  # it has died, or nothing more can be opened: `start` sees the same
                self._ahead = self._server.ask_for_child()
        return super().wait(running, seconds)

    def _fresh(self, task: Task) -> Child:
        """A fresh interpreter for a cell, which finds all that it is to do in a file. Raises OSError."""
        mark = guardian.new_mark()
        with open(task.log_path, "wb"):  # of an earlier attempt, nothing stays
            pass
        with TemporaryFile() as stdin, open(task.log_path, "ab") as log:
            stdin.write(messages.packed(pickle.dumps(self._kit), self._rest, pickle.dumps(self._cell(task, mark))))
            stdin.seek(0)
            return self._interpreter(mark, {**self._marked(mark), **devices.environment(task.gpu)}, stdin, log)

    def _waiting(self) -> tuple[Child, Any, Any]:
        """An interpreter that waits for messages, what they are written to, and the file that takes what it writes.

        Raises OSError.
        """
        mark = guardian.new_mark()
        ours, theirs = socket.socketpair() if self._serves else _pipe()
        with ExitStack() as undo, theirs:
            undo.enter_context(ours)
            early = undo.enter_context(TemporaryFile(buffering=0))
            if self._serves:  # its children would bear its mark in their environment, and are not to end with it
                child = self._interpreter(mark, self._environment, theirs.fileno(), early, self._guardian.pipe)
            else:
                child = self._interpreter(mark, self._marked(mark), theirs.fileno(), early)
            undo.pop_all()
        return child, ours, early

    def _interpreter(self, mark: str, environment: dict[str, str], stdin: Any, log: Any, *inherits: int) -> Child:
        with status_pipe() as (status, writer):
            process = subprocess.Popen(
                [sys.executable, *self._flags, "-P", "-c", _CHILD, *worker_path()],
                stdin=stdin,
                stdout=writer,
                stderr=log,
                env={**os.environ, **environment},
                pass_fds=inherits,
                **guardian.apart(),
            )
            child = Child(
                process.pid, status, mark, gone=lambda: is_gone(process.pid), reap=lambda: exit_status(process)
            )
        try:
            self._guardian.begins(child.pid, mark)
            child.is_guarded = True
        except BaseException:
            self._remove(child)
            raise
        return child

    def _hang_up(self, *, at_once: bool = False) -> None:
        """End an interpreter that has no cell, and the server: with its exit handlers, unless it is to end at once."""
        first, ahead, server = self._first, self._ahead, self._server
        self._first = self._ahead = self._server = None
        if ahead is not None and (pid := ahead.give_up()) is not None:
            self._guardian.ended(pid)
        if first is not None:
            child, *opened = first
            for file in opened:
                file.close()
            self._remove(child)
        if server is not None:
            try:
                server.link.close()
                last = time.monotonic() + (0.0 if at_once else FAREWELL)
                while not server.child.has_ended and time.monotonic() < last:
                    time.sleep(0.001)
            finally:
                self._remove(server.child)


def _pipe() -> tuple[Any, Any]:
    """A pipe's end to write to, and the one to read from."""
    read, write = os.pipe()
    return open(write, "wb", buffering=0), open(read, "rb", buffering=0)


class Ahead(NamedTuple):
    """A child that a server was asked for: its mark, its status pipe, and the socket to send its cell through."""

    mark: str
    status: int
    link: socket.socket

    def give_up(self) -> int | None:
        """Let it end: the run has no cell for it. Return its process id if it is known."""
        self.link.close()
        heard = b""
        with suppress(OSError):
            while ready([self.status], FAREWELL) and (part := os.read(self.status, 1 << 16)):
                heard += part
        os.close(self.status)
        answers = [pickle.loads(word) for word in messages.unpacked(heard)]
        return next((answer[0] for answer in answers if isinstance(answer, tuple)), None)


class Server:
    """An interpreter that has loaded the script, and forks a child for each cell."""

    def __init__(self, child: Child, link: socket.socket) -> None:
        self.child = child
        self.link = link
        self.link.settimeout(ANSWER)
        self._done: list[int] = []

    def ask_for_child(self) -> Ahead:
        """Ask for a child, without waiting for it. Raises `ConnectionError` if the server has died, OSError."""
        ours, theirs = socket.socketpair()
        with ExitStack() as undo, theirs, status_pipe() as (status, writer):
            undo.callback(ours.close)
            ahead = Ahead(guardian.new_mark(), status, ours)
            done, self._done = self._done, []
            messages.send(self.link, pickle.dumps(Fork(ahead.mark, done)), [writer, theirs.fileno()])
            undo.pop_all()
        return ahead

    def child_of(self, ahead: Ahead) -> Child:
        """The child that was asked for. Raises `ConnectionError` if the server has died, OSError if it cannot fork."""
        answer: Any = ConnectionError("the server has died, or does not answer")
        with suppress(EOFError):
            if ready([ahead.status], ANSWER):
                answer = pickle.loads(messages.read(partial(os.read, ahead.status)))
        if isinstance(answer, OSError):
            ahead.give_up()
            raise answer
        pid, is_guarded = answer
        child = Child(
            pid, ahead.status, ahead.mark, gone=lambda: guardian.has_gone(pid), reap=lambda: self._reap(child)
        )
        child.is_guarded = is_guarded
        return child

    def _reap(self, child: Child) -> int | None:
        pid = child.pid
        if child.has_ended and child.outcome is not None:  # how it ended is known: the server hears of it next time
            self._done.append(pid)
            return 0
        try:
            messages.send(self.link, pickle.dumps(Reap(pid)))
            status: int | None = pickle.loads(messages.read(self.link.recv))
        except (EOFError, OSError):  # the server has died, and how its child ended is not for us to know
            return cells.UNKNOWN if guardian.has_gone(pid) else None
        return status


def rest_for_others(shipment: Shipment, settings: RunSettings) -> bytes:
    """What workers on other machines are sent after the kit: what an interpreter here lacks, which ends then.

    What such a worker loads otherwise than one here (a host's name, a device that is there) stays as it is there.
    Raises `ConfigError` for what is lacking and cannot be sent.
    """
    kit = shipment.kit._replace(path=import_path())
    with WorkerSession(settings, StopRequest(), kit, shipment.rest, serves=False) as here:
        here.get_ready()
        return here._rest


def can_serve() -> bool:
    """Whether a process can be forked for each cell here: with its descriptors sent, and its threads counted."""
    return hasattr(os, "fork") and hasattr(socket, "SCM_RIGHTS") and os.path.isdir("/proc/self/task")


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
