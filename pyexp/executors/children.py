"""What cells in processes of their own have in common: waiting for them, ending them, and saying how they ended.

Knows processes, groups, pipes and how a process dies. Each cell's process leads a session where there are sessions, so
that it is killed with what it started; what it did is known from its status pipe, and, where it died without a word,
from how it died.
"""

import os
import pickle
import select
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, NamedTuple

from pyexp.configs import Config, thaw
from pyexp.errors import ExecutorError
from pyexp.executors.base import Pool, Running, Task, Terms, log_tail
from pyexp.executors.echo import Echo
from pyexp.results import Outcome
from pyexp.store import claims
from pyexp.store.pickling import dumps
from pyexp.worker import cell as cells
from pyexp.worker import guardian, messages, unix
from pyexp.worker.cell import Cell
from pyexp.worker.outcome import failure

#: Seconds after which a killed process that does not go (it hangs in the kernel, on a dead disk) is given up.
GIVEN_UP = 30.0
#: Seconds between two looks at children where nothing tells that one has ended.
LOOK = 0.02
#: Seconds that a thread has to take in what an ended process has said.
HEARD = 5.0
#: Whether the system tells which pipes can be read; elsewhere one can only read them.
CAN_POLL = hasattr(select, "poll")
#: Seconds that a cell which is killed at its timeout has to write the stacks of its threads to its log.
STACKS = 0.5
#: Libraries that start a thread for each core unless told otherwise: N cells at a time would start N times as many.
THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


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
        self.said = bytearray()
        self.silent = False
        self.exit: int | None = None
        self._gone, self._reap = gone, reap
        self._ended = False
        self._listener: threading.Thread | None = None
        if CAN_POLL:
            unix.os.set_blocking(status, False)
        else:  # a pipe can only be waited for by reading it
            self._listener = threading.Thread(target=self._hear_all, name="pyexp listens to a cell", daemon=True)
            self._listener.start()
        self.watch = _watch(pid)

    def listen(self) -> None:
        """Take in what is in the status pipe."""
        if self._listener is not None:
            if self.ended:
                self._listener.join(HEARD)
            return
        with suppress(BlockingIOError):
            while part := os.read(self.status, 1 << 16):
                self.said += part
            self.silent = True

    def _hear_all(self) -> None:
        with suppress(OSError):
            while part := os.read(self.status, 1 << 16):
                self.said += part
        self.silent = True

    @property
    def ended(self) -> bool:
        """Whether the process has ended."""
        if not self._ended:
            self._ended = self._gone() if self.watch is None else ready([self.watch])
        return self._ended

    def reap(self) -> int | None:
        """The exit status, negative for a signal, taken from the system; None while the process lives."""
        if self.exit is None:
            self.exit = self._reap()
        return self.exit

    @property
    def words(self) -> list[bytes]:
        """What the worker has said, in whole messages: its outcome, then whether it leaves anything behind."""
        return messages.unpacked(bytes(self.said))

    @property
    def outcome(self) -> Outcome | None:
        """The worker's word, if it is complete."""
        with suppress(Exception):  # what an experiment has written there is no word
            outcome = pickle.loads(self.words[0])
            return outcome if isinstance(outcome, dict) and "status" in outcome else None
        return None

    @property
    def alone(self) -> bool:
        """Whether it has ended, having said that it never had a child: then there is nothing to look for."""
        return self.ended and self.words[1:] == [cells.ALONE]

    def close(self) -> None:
        """Give the descriptors back."""
        if self._listener is None or not self._listener.is_alive():
            os.close(self.status)
        if self.watch is not None:
            os.close(self.watch)


def ready(descriptors: Iterable[int], seconds: float = 0.0) -> bool:
    """Whether one of the descriptors can be read, waiting up to so many seconds.

    Where that cannot be asked, it is so after a moment.
    """
    if not CAN_POLL:
        time.sleep(min(seconds, LOOK))
        return True
    system: Any = select
    poll = system.poll()
    for descriptor in descriptors:
        poll.register(descriptor, system.POLLIN)
    return bool(poll.poll(seconds * 1000))


class Process(Running):
    """A cell in a child of its own."""

    def __init__(self, task: Task, child: Child) -> None:
        super().__init__(task)
        self.child = child
        self.echo = Echo(task)


def _watch(pid: int) -> int | None:
    """A descriptor that tells at once that the process has ended; where there is none, the loop's tick does."""
    try:
        return int(unix.os.pidfd_open(pid))
    except (AttributeError, OSError):
        return None


class Processes(Pool):
    """What the executors with a process for each cell share."""

    #: What `close` gives back: nothing, where `open` has not got that far.
    _undo = ExitStack()

    def open(self, fn: Callable[[Config], Any], terms: Terms) -> None:
        if guardian.facts_of(os.getpid()) is None:
            raise ExecutorError("nothing here tells which processes a cell has started; pip install psutil")
        self._terms = terms
        self._crew: list[Process] = []
        self._environment = thread_limits(os.environ, terms.jobs)
        with ExitStack() as undo:
            undo.enter_context(standard_descriptors())
            try:
                self._guardian = guardian.Guardian()
            except OSError as error:
                raise ExecutorError(f"no process can be started here: {error}") from error
            undo.callback(self._end_all)
            self._undo = undo.pop_all()

    def close(self) -> None:
        self._undo.close()

    def _end_all(self) -> None:
        for running in list(self._crew):
            self.kill(running)
        self._guardian.dismiss()

    def cell(self, task: Task, mark: str) -> Cell:
        """The cell as its worker gets it."""
        return Cell(
            config=self.pickled_config(task),
            result_path=task.result_path,
            durable=self._terms.durable,
            log_path=task.log_path,
            mark=mark,
            environment=self.environment(mark),
            title=task.label,
        )

    def pickled_config(self, task: Task) -> bytes:
        """The config as a pickle that a worker can load."""
        return dumps(thaw(task.config), "config")

    def environment(self, mark: str) -> dict[str, str]:
        """What to add to a cell's environment. The mark of a cell around this one stays: that one's end is ours too."""
        marks = f"{os.environ.get(guardian.VARIABLE, '')} {mark}".strip()
        return {**self._environment, guardian.VARIABLE: marks}

    def going(self, task: Task, child: Child) -> Process:
        """The cell, now that its process is there: from now on it is waited for, or killed."""
        running = Process(task, child)
        self._crew.append(running)
        try:
            self._guardian.begins(child.pid, child.mark)
            if task.claim is not None:
                claims.sign(task.claim, child.pid)
        except BaseException:
            self.kill(running)
            raise
        return running

    def wait(self, running: Collection[Process], seconds: float) -> list[tuple[Process, Outcome]]:
        watched = [one.child.watch for one in running if one.child.watch is not None]
        # An end that nobody writes to any more is always ready.
        spoken = [one.child.status for one in running if not (one.child.silent and one.child.watch)]
        ready(watched + spoken, seconds)
        return [(one, outcome) for one in running if (outcome := self._look(one)) is not None]

    def _look(self, one: Process) -> Outcome | None:
        """The outcome of a process, if it has ended, with all it started."""
        one.child.listen()
        if not self._terms.capture:
            one.echo.show(several=self._terms.jobs > 1)
        if not one.child.ended:
            return None
        self._end(one)
        return one.child.outcome or death(one)

    def _end(self, one: Process) -> None:
        """Kill what is left of the cell, take in the last word, and give everything back."""
        self._away(one.child)
        if not self._terms.capture:
            one.echo.show(several=self._terms.jobs > 1, rest=True)
        self._crew.remove(one)

    def _away(self, child: Child) -> None:
        """Kill what is left of a child, take in its last word, and give back what it took."""
        if child.ended:
            child.listen()
        if not child.alone:
            guardian.end(child.pid, child.mark)
        self._guardian.ended(child.pid)
        deadline = time.monotonic() + GIVEN_UP
        while child.reap() is None and time.monotonic() < deadline:
            time.sleep(0.001)
        child.listen()
        child.close()

    def kill(self, running: Process) -> Outcome | None:
        if running in self._crew:
            self._end(running)
        return running.child.outcome

    def overdue(self, running: Process) -> Outcome | None:
        """Kill a cell that exceeds its timeout, once it has written to its log where its threads are."""
        _write_stacks(running)
        return self.kill(running)

    def ask_to_stop(self, running: Process) -> None:
        if hasattr(signal, "CTRL_BREAK_EVENT"):  # on Windows, Ctrl-C cannot be sent to another group
            with suppress(OSError):
                os.kill(running.child.pid, signal.CTRL_BREAK_EVENT)
            return
        for name in ("killpg", "kill"):  # a child that was forked just now does not lead a group yet
            with suppress(OSError, AttributeError):
                getattr(os, name)(running.child.pid, signal.SIGINT)
                return


def _write_stacks(running: Process) -> None:
    """Have the cell write the stacks of its threads to its log, and wait a moment for it."""
    size = _size(running.task.log_path)
    if cells.STACKS is None or size is None or running.child.ended:
        return
    with suppress(OSError):
        os.kill(running.child.pid, cells.STACKS)
    last = time.monotonic() + STACKS
    while _size(running.task.log_path) == size and not running.child.ended and time.monotonic() < last:
        time.sleep(0.005)
    time.sleep(0.02)  # it is written piece by piece


def _size(path: str) -> int | None:
    try:
        return os.stat(path).st_size
    except OSError:
        return None


class Ends(NamedTuple):
    """The descriptors by which a child is heard: the status pipe's end that is read, and the child's own."""

    status: int
    writer: int


@contextmanager
def status_pipe() -> Iterator[Ends]:
    """The status pipe for a child that is made meanwhile: the end that is the child's is closed after.

    The reading end stays open, unless making the child fails. Raises OSError.
    """
    with ExitStack() as ours, ExitStack() as theirs:
        status, writer = os.pipe()
        ours.callback(os.close, status)
        theirs.callback(os.close, writer)
        yield Ends(status, writer)
        ours.pop_all()


@contextmanager
def standard_descriptors() -> Iterator[None]:
    """While this lasts, the descriptors 0, 1 and 2 are open: where they are not, a pipe or a lock would get the number.

    What was closed is nothing but /dev/null, and closed again after.
    """
    opened = []
    while (null := os.open(os.devnull, os.O_RDWR)) <= 2:
        opened.append(null)
    os.close(null)
    try:
        yield
    finally:
        for descriptor in opened:
            os.close(descriptor)


def thread_limits(environment: Mapping[str, str], jobs: int) -> dict[str, str]:
    """What to add to the environment of children, so that so many at a time share the cores."""
    if jobs == 1:
        return {}
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return {name: str(max(cores // jobs, 1)) for name in THREADS if name not in environment}


def death(one: Process) -> Outcome:
    """The outcome of a process that ended without a word, from its exit status and the end of its log."""
    tail = log_tail(one.task.log_path)
    match one.child.exit:
        case None:
            return failure("Killed", f"killed, but still in the system after {GIVEN_UP:g} s: it hangs there", tail)
        case cells.UNKNOWN:
            why = "the server it was forked from has died, or this process ignores SIGCHLD or reaps all children"
            return failure("Exited", f"exited before it returned a result; nobody knows its status: {why}", tail)
        case cells.MUTE:
            return failure("Exited", "the experiment closed its worker's status pipe, so its outcome is unknown", tail)
        case status if status < 0:
            return failure("Killed", f"killed by signal {-status} ({signal_name(-status)})", tail)
        case status:
            return failure("Exited", f"exited with status {status} before it returned a result", tail)


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
    if not hasattr(unix.os, "waitid"):
        return guardian.has_gone(pid)
    try:
        return _waited_for(pid) is not None
    except ChildProcessError:  # somebody else took it
        return True


def is_taken(pid: int) -> bool:
    """Whether somebody else took the exit status of this child of ours, as far as that can be known."""
    try:
        _waited_for(pid)
    except (AttributeError, ChildProcessError) as error:
        return isinstance(error, ChildProcessError)
    return False


def _waited_for(pid: int) -> Any:
    return unix.os.waitid(unix.os.P_PID, pid, unix.os.WEXITED | unix.os.WNOHANG | unix.os.WNOWAIT)
