"""Cells in processes of their own: a fresh interpreter, or a fork of this one, for each.

Knows processes, groups, pipes and signals. Each cell's process leads a group, so that it is killed with what it
started; what it did is known from its status pipe, and, where it died without a word, from how it died.
"""

import importlib.util
import marshal
import os
import select
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pyexp.dotted import Config
from pyexp.errors import ConfigError, ExecutorError
from pyexp.executors import worker
from pyexp.executors.base import Pool, Running, Task, Terms, log_tail
from pyexp.files import dumps
from pyexp.outcome import Outcome, failure

#: Seconds that a worker has, once it has said its last word, to run what the experiment left for the exit.
LAST_ORDERS = 10.0
# As much as a pipe takes at once: what is longer is written by a thread, as its reader may be slow, or dead.
_PIPE = 16_384
_CHILD = "import sys; sys.path[:] = sys.argv[1:]; from pyexp.executors.worker import main; main()"
#: Libraries that start a thread for each core unless told otherwise: N cells at a time would start N times as many.
THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


class Process(Running):
    """A cell in a process: its id (which is its group's too), what it has said so far, and how it ended."""

    def __init__(self, task: Task, pid: int, status: int, reap: Callable[[], int | None]) -> None:
        super().__init__(task)
        self.pid = pid
        self.status = status
        self.said = bytearray()
        self.last_word: float | None = None
        self.echoed = 0
        self.exit: int | None = None
        self._reap = reap
        os.set_blocking(status, False)
        # Tells at once that the process has ended; where the system has none, the loop's tick does.
        self.watch = os.pidfd_open(pid) if hasattr(os, "pidfd_open") else None

    def listen(self) -> None:
        """Take in what is in the status pipe."""
        with suppress(BlockingIOError):
            while part := os.read(self.status, 1 << 16):
                self.said += part

    @property
    def ended(self) -> bool:
        """Whether the process has ended. It is left in the table, so that its id stays its own until it is reaped."""
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
    def outcome(self) -> Outcome | None:
        """The worker's word, if it is complete."""
        if len(self.said) < worker.WIDTH:
            return None
        try:
            (message, *_) = worker.unpacked(bytes(self.said))
            outcome: Outcome = marshal.loads(message)
        except (EOFError, ValueError, TypeError):
            return None
        return outcome

    def close(self) -> None:
        """Give the descriptors back."""
        os.close(self.status)
        if self.watch is not None:
            os.close(self.watch)


class Processes(Pool):
    """What the two executors share: waiting for processes, killing them, and saying how they ended."""

    def open(self, fn: Callable[[Config], Any], terms: Terms) -> None:
        if os.name != "posix":
            raise ExecutorError(f"{type(self).__name__} needs a POSIX system; use executor='inline'")
        self._terms = terms
        self._crew: list[Process] = []
        self._environment = thread_limits(os.environ, terms.jobs)

    def close(self) -> None:
        for running in list(self._crew):
            self.kill(running)

    def wait(self, running: Collection[Process], seconds: float) -> list[tuple[Process, Outcome]]:
        poll = select.poll()
        for one in running:
            poll.register(one.status, select.POLLIN)
            if one.watch is not None:
                poll.register(one.watch, select.POLLIN)
        ready = {number for number, _ in poll.poll(seconds * 1000)}
        return [(one, outcome) for one in running if (outcome := self._look(one, ready)) is not None]

    def _look(self, one: Process, ready: set[int]) -> Outcome | None:
        """The outcome of a process, if it has ended, with all it started."""
        if one.status in ready:
            one.listen()
        self._echo(one)
        if not one.ended and not self._dawdles(one):
            return None
        self._end(one)
        return one.outcome or death(one)

    def _dawdles(self, one: Process) -> bool:
        """Whether it has said its last word and is still there, beyond its time for the exit."""
        if one.last_word is None and one.outcome is not None:
            one.last_word = time.monotonic()
        return one.last_word is not None and time.monotonic() - one.last_word > LAST_ORDERS

    def _end(self, one: Process) -> None:
        """Kill what is left of the group, take in the last word, and give everything back."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(one.pid, signal.SIGKILL)
        while one.reap() is None:
            time.sleep(0.001)
        one.listen()
        self._echo(one)
        one.close()
        self._crew.remove(one)

    def kill(self, running: Process) -> None:
        if running in self._crew:
            self._end(running)

    def ask_to_stop(self, running: Process) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(running.pid, signal.SIGINT)

    def _echo(self, one: Process) -> None:
        """Show what the cell has written since, on stderr, if the run is not to capture it."""
        if self._terms.capture:
            return
        with suppress(OSError), open(one.task.log_path, "rb") as log:
            log.seek(one.echoed)
            fresh = log.read()
            if one.exit is None and self._terms.jobs > 1:  # of several cells' output, whole lines only
                fresh = fresh[: fresh.rfind(b"\n") + 1]
            one.echoed += len(fresh)
            if fresh:
                sys.stderr.write(_prefixed(fresh.decode("utf-8", "replace"), one.task.label, self._terms.jobs))
                sys.stderr.flush()

    def _log(self, task: Task) -> int:
        return os.open(task.log_path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o666)


def _prefixed(text: str, label: str, jobs: int) -> str:
    if jobs == 1:
        return text
    return "".join(f"[{label}] {line}\n" for line in text.splitlines())


def thread_limits(environment: Mapping[str, str], jobs: int) -> dict[str, str]:
    """What to add to the environment of children, so that so many at a time share the cores."""
    if jobs == 1:
        return {}
    each = str(max((os.cpu_count() or 1) // jobs, 1))
    return {name: each for name in THREADS if name not in environment}


def death(one: Process) -> Outcome:
    """The outcome of a process that ended without a word, from its exit status and the end of its log."""
    tail = log_tail(one.task.log_path)
    status = one.exit or 0
    if status < 0:
        return failure("Killed", f"killed by signal {-status} ({signal_name(-status)})", tail)
    if status == worker.MUTE:
        return failure("Exited", "the experiment closed its worker's status pipe, so its outcome is unknown", tail)
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


class SubprocessExecutor(Processes):
    """Runs each cell in a fresh interpreter, which gets the function by value and this process's import path."""

    def open(self, fn: Callable[[Config], Any], terms: Terms) -> None:
        super().open(fn, terms)
        if not sys.executable:
            raise ExecutorError("this Python does not know its own interpreter (sys.executable); use executor='fork'")
        self._fn = pickled_function(fn)
        self._command = [sys.executable, *interpreter_flags(), "-P", "-c", _CHILD, *import_path()]

    def start(self, task: Task) -> Process:
        payload = self._payload(task)
        log = self._log(task)
        try:
            child = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, **self._environment},
                pass_fds=() if task.claim is None else (task.claim,),
                process_group=0,
            )
        finally:
            os.close(log)
        assert child.stdin is not None
        assert child.stdout is not None
        feed(child.stdin, payload)
        # The pipe outlives the Popen object, which would close it.
        running = Process(task, child.pid, os.dup(child.stdout.fileno()), child.poll)
        child.stdout.close()
        self._crew.append(running)
        return running

    def _payload(self, task: Task) -> bytes:
        terms = {
            "argv": sys.argv,
            "main": getattr(sys.modules.get("__main__"), "__file__", None) or "",
            "result_path": task.result_path,
            "durable": self._terms.durable,
        }
        return worker.packed(marshal.dumps(terms), self._fn, dumps(task.private_config(), "config"))


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


def pickled_function(fn: Callable[[Config], Any]) -> bytes:
    """The function as a pickle, by value where a child could not import it. Raises `ConfigError` if it has none."""
    import cloudpickle

    try:
        return cloudpickle.dumps(fn, protocol=5)  # type: ignore[no-any-return]  # cloudpickle has no types
    except Exception as error:
        raise ConfigError(
            f"the experiment {getattr(fn, '__name__', fn)!r} cannot be sent to another process: {error}; "
            "make what it uses inside the function, or run it with executor='inline'"
        ) from error


def import_path() -> list[str]:
    """Where this process finds modules, with an entry for the working directory spelled out, and pyexp itself found."""
    found = [os.path.abspath(entry) if entry == "" else entry for entry in sys.path]
    home = str(Path(__file__).resolve().parents[2])
    spec = importlib.util.find_spec("pyexp")
    known = spec is not None and spec.origin is not None and home in map(os.path.abspath, found)
    return found if known else [*found, home]


class ForkExecutor(Processes):
    """Runs each cell in a fork of this process as it is: modules, globals and all. Threads do not come along."""

    def open(self, fn: Callable[[Config], Any], terms: Terms) -> None:
        if not hasattr(os, "fork"):
            raise ExecutorError("this system cannot fork; use executor='subprocess'")
        super().open(fn, terms)
        others = [thread.name for thread in threading.enumerate() if thread is not threading.current_thread()]
        if others:
            warnings.warn(
                f"forking a process with other live threads ({', '.join(others)}): a lock that one of them holds stays "
                "locked in the cell; use executor='subprocess' if a cell hangs",
                RuntimeWarning,
                stacklevel=2,
            )

    def start(self, task: Task) -> Process:
        reader, writer = os.pipe()
        log = self._log(task)
        for stream in (sys.stdout, sys.stderr):
            with suppress(Exception):  # what is buffered belongs to this process, once
                stream.flush()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # Python's own about threads: said in open()
            pid = os.fork()
        if pid == 0:
            try:
                self._child(task, reader, writer, log)
            finally:
                os._exit(worker.UNTOLD)
        os.close(writer)
        os.close(log)
        with suppress(OSError):  # the child does it too: whoever is first
            os.setpgid(pid, pid)
        running = Process(task, pid, reader, lambda: reaped(pid))
        self._crew.append(running)
        return running

    def _child(self, task: Task, reader: int, writer: int, log: int) -> None:
        """The cell's life after the fork. What the parent would do at its exit is not done here."""
        import atexit

        os.setpgid(0, 0)
        atexit._clear()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        os.close(reader)
        for other in self._crew:  # their claims would be held for as long as this cell lives
            for descriptor in (other.status, other.watch, other.task.claim):
                with suppress(OSError, TypeError):
                    os.close(descriptor)  # type: ignore[arg-type]  # None is passed over
        status = worker._out_of_the_way(writer)
        os.close(writer)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.close(log)
        worker._empty_stdin()
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115  # for the rest of the process
        sys.stdout, sys.stderr = worker.unbuffered(1), worker.unbuffered(2)
        os.environ.update(self._environment)
        fn = task.fn
        worker.live(lambda: fn(task.private_config()), task.result_path, self._terms.durable, status)


def reaped(pid: int) -> int | None:
    """The exit status of a child, negative for a signal; None while it lives."""
    try:
        found, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:  # somebody else took it, or SIGCHLD is ignored: it is gone, and nobody knows how
        return 0
    return os.waitstatus_to_exitcode(status) if found else None
