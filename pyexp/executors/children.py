"""What cells in processes of their own have in common: waiting for them, ending them, and saying how they ended.

Knows processes, groups, pipes and how a process dies. Each cell's process leads a session, so that it is killed with
what it started; what it did is known from its status pipe, and, where it died without a word, from how it died.
"""

import marshal
import os
import select
import signal
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, NamedTuple

from pyexp.dotted import Config
from pyexp.errors import ExecutorError
from pyexp.executors import guardian, worker
from pyexp.executors.base import Pool, Running, Task, Terms, log_tail
from pyexp.executors.echo import Echo
from pyexp.outcome import Outcome, failure

#: Seconds that a worker has, once it has said its last word, to run what the experiment left for the exit.
LAST_ORDERS = 10.0
#: Seconds after which a killed process that does not go (it hangs in the kernel, on a dead disk) is given up.
GIVEN_UP = 30.0
#: Libraries that start a thread for each core unless told otherwise: N cells at a time would start N times as many.
THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


class Child:
    """A process that runs a cell, or is getting ready for one: its id, its mark, what it has said and how it ended.

    Its id is its session's too.
    """

    def __init__(self, pid: int, status: int, mark: str, reap: Callable[[], int | None]) -> None:
        self.pid = pid
        self.status = status
        self.mark = mark
        self.said = bytearray()
        self.silent = False
        self.exit: int | None = None
        self._gone = False
        self._reap = reap
        os.set_blocking(status, False)
        self.watch = _watch(pid)

    def listen(self) -> None:
        """Take in what is in the status pipe."""
        with suppress(BlockingIOError):
            while part := os.read(self.status, 1 << 16):
                self.said += part
            self.silent = True

    @property
    def ended(self) -> bool:
        """Whether the process has ended. It is left in the table, so that its id stays its own until it is reaped."""
        if not self._gone:
            self._gone = self._has_ended()
        return self._gone

    def _has_ended(self) -> bool:
        if not hasattr(os, "waitid"):
            return self.reap() is not None
        try:
            return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:  # somebody else took it
            return True

    def reap(self) -> int | None:
        """The exit status, negative for a signal, taken from the system; None while the process lives."""
        if self.exit is None:
            self.exit = self._reap()
        return self.exit

    @property
    def words(self) -> list[bytes]:
        """What the worker has said, in whole messages: its outcome, then whether it leaves anything behind."""
        return worker.unpacked(bytes(self.said))

    @property
    def outcome(self) -> Outcome | None:
        """The worker's word, if it is complete."""
        if not self.words:
            return None
        try:
            outcome = marshal.loads(self.words[0])
        except (EOFError, ValueError, TypeError):
            return None
        return outcome if isinstance(outcome, dict) else None

    @property
    def alone(self) -> bool:
        """Whether it has ended, having said that it never had a child: then there is nothing to look for."""
        return self.ended and self.words[1:] == [worker.ALONE]

    def close(self) -> None:
        """Give the descriptors back."""
        os.close(self.status)
        if self.watch is not None:
            os.close(self.watch)


class Process(Running):
    """A cell in a child of its own. `last_word` is when it said its outcome, on the monotonic clock."""

    def __init__(self, task: Task, child: Child) -> None:
        super().__init__(task)
        self.child = child
        self.last_word: float | None = None
        self.echo = Echo(task)


def _watch(pid: int) -> int | None:
    """A descriptor that tells at once that the process has ended; where there is none, the loop's tick does."""
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return None


class Processes(Pool):
    """What the executors with a process for each cell share."""

    #: What `close` gives back: nothing, where `open` has not got that far.
    _undo = ExitStack()

    def open(self, fn: Callable[[Config], Any], terms: Terms) -> None:
        if os.name != "posix":
            raise ExecutorError(f"{type(self).__name__} needs a POSIX system; use executor='inline'")
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

    def environment(self, mark: str) -> dict[str, str]:
        """What to add to a cell's environment. The mark of a cell around this one stays: that one's end is ours too."""
        marks = f"{os.environ.get(guardian.VARIABLE, '')} {mark}".strip()
        return {**self._environment, guardian.VARIABLE: marks}

    def wait(self, running: Collection[Process], seconds: float) -> list[tuple[Process, Outcome]]:
        poll = select.poll()
        for one in running:
            child = one.child
            if not (child.silent and child.watch):  # an end that nobody writes to any more is always ready
                poll.register(child.status, select.POLLIN)
            if child.watch is not None:
                poll.register(child.watch, select.POLLIN)
        ready = {number for number, _ in poll.poll(seconds * 1000)}
        return [(one, outcome) for one in running if (outcome := self._look(one, ready)) is not None]

    def _look(self, one: Process, ready: set[int]) -> Outcome | None:
        """The outcome of a process, if it has ended, with all it started."""
        if one.child.status in ready:
            one.child.listen()
        if not self._terms.capture:
            one.echo.show(several=self._terms.jobs > 1)
        if not one.child.ended and not self._over(one):
            return None
        self._end(one)
        return one.child.outcome or death(one)

    def _over(self, one: Process) -> bool:
        """Whether it has said its last word, and either waits to be ended with its children, or takes too long."""
        if one.last_word is None and one.child.outcome is not None:
            one.last_word = time.monotonic()
        if one.last_word is None:
            return False
        return worker.PARENT in one.child.words[1:] or time.monotonic() - one.last_word > LAST_ORDERS

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

    def ask_to_stop(self, running: Process) -> None:
        for kill in (os.killpg, os.kill):  # a child that was forked just now does not lead a group yet
            try:
                kill(running.child.pid, signal.SIGINT)
            except OSError:
                continue
            return


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
def opened_log(task: Task) -> Iterator[int]:
    """A descriptor of the cell's log, empty, while this lasts. Raises OSError."""
    log = os.open(task.log_path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o666)
    try:
        yield log
    finally:
        os.close(log)


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
        case worker.UNKNOWN:
            return failure("Exited", "exited before it returned a result; this process ignores SIGCHLD or reaps all "
                           "children, so that its exit status is unknown", tail)  # fmt: skip
        case worker.MUTE:
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


def reaped(pid: int) -> int | None:
    """The exit status of a child, negative for a signal; None while it lives."""
    try:
        found, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:  # somebody else took it, or SIGCHLD is ignored: it is gone, and nobody knows how
        return worker.UNKNOWN
    return os.waitstatus_to_exitcode(status) if found else None
