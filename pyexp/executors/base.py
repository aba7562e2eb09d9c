"""What every executor is: the interface that users subclass, the richer one of the built-ins, and the loop over both.

Knows tasks, slots, deadlines and signals; not what a cell is on disk, nor how a process is started.
"""

import os
import pickle
import signal
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

from pyexp import files
from pyexp.configs import FrozenConfig, thaw
from pyexp.dotted import Config
from pyexp.errors import ExecutorError
from pyexp.outcome import Outcome, attempt, failed, failure
from pyexp.results import Attempt

#: Seconds after which the loop looks for signals and for cells that others have left, while nothing else happens.
TICK = 0.1
#: Seconds that a cell which was asked to stop has, before it is killed.
GRACE = 3.0

RESULT = "result.pkl"
LOG = "log.txt"


@dataclass(frozen=True, slots=True)
class Terms:
    """What holds for every cell of a run."""

    jobs: int = 1
    timeout: float | None = None
    retries: int = 0
    capture: bool = True
    durable: bool = True


@dataclass(frozen=True, slots=True)
class Task:
    """One cell to run: the function, its config, and the folder it has to itself.

    `claim` is the descriptor of the lock on the cell, which a worker inherits, so that an orphan keeps it. `failures`
    are the attempts that went before this one.
    """

    label: str
    fn: Callable[[Config], Any]
    config: FrozenConfig
    folder: str
    claim: int | None = None
    failures: tuple[Attempt, ...] = ()

    @property
    def result_path(self) -> str:
        """The file that a result is committed to."""
        return os.path.join(self.folder, RESULT)

    @property
    def log_path(self) -> str:
        """The file that takes what the experiment writes."""
        return os.path.join(self.folder, LOG)

    def private_config(self) -> Config:
        """The config as the experiment gets it: its own, with its folder as `out`."""
        config: Config = thaw(self.config)
        config["out"] = Path(self.folder)
        return config


class Executor(ABC):
    """An execution strategy. Subclass it and implement `run`; hand an instance to `experiment.run(executor=…)`."""

    @abstractmethod
    def run(self, fn: Callable[[Config], Any], config: Config, result_path: Path) -> Any:
        """What `fn(config)` returns, however it is run. It is called in a thread of its own.

        What it returns or raises becomes the cell's record, whether or not it wrote `result_path`, the file that pyexp
        commits the result to.
        """


class Running:
    """A cell on its way. `began` is on the monotonic clock, `started` in seconds since 1970."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.began = time.monotonic()
        self.started = time.time()


class Pool(Executor):
    """The richer interface of the built-in executors: many cells at a time, which can be waited for and killed."""

    #: Whether the experiment runs in this thread, so that a signal has to interrupt it here.
    in_this_thread = False

    def open(self, fn: Callable[[Config], Any], terms: Terms) -> None:
        """Get ready to run cells of `fn`. Raises `ExecutorError` or `UsageError` if that cannot be done here."""

    def close(self) -> None:
        """Leave nothing behind."""

    def slots(self, terms: Terms) -> int:
        """How many cells can be on their way at a time."""
        return terms.jobs

    @abstractmethod
    def start(self, task: Task) -> Running:
        """Set a cell going. What goes wrong with it is its outcome, not an error here."""

    @abstractmethod
    def wait(self, running: Collection[Any], seconds: float) -> list[tuple[Any, Outcome]]:
        """Those that have ended, each with its outcome, waiting up to so many seconds for the first."""

    @abstractmethod
    def kill(self, running: Any) -> None:
        """End a cell and all its descendants now, and be done with it."""

    def ask_to_stop(self, running: Any) -> None:
        """Ask a cell to stop, as Ctrl-C does."""

    def run(self, fn: Callable[[Config], Any], config: Config, result_path: Path) -> Any:
        """What `fn(config)` returns, run as one cell here. Raises `ExecutorError` with the cell's error if it failed.

        The folder of `result_path` is the cell's `out`.
        """
        from pyexp.configs import freeze

        path = Path(result_path).absolute()
        frozen = freeze({key: value for key, value in config.items() if key != "out"})
        terms = Terms()
        self.open(fn, terms)
        try:
            (ended,) = drive(self, iter([Task(path.parent.name, fn, frozen, str(path.parent))]), terms, Halt())
        finally:
            self.close()
        if ended.outcome["status"] != "done":
            told = ended.outcome
            raise ExecutorError(f"{told['type']}: {told['message']}\n{told['traceback']}".rstrip())
        return pickle.loads(path.read_bytes())


@dataclass(frozen=True, slots=True)
class Ended:
    """A cell that came to its end: its outcome, when it began and how long it took."""

    task: Task
    outcome: Outcome
    started: float
    seconds: float


class Halt:
    """Ctrl-C and its kin as a fact to look at: which signal came first, and how many came.

    As a context it takes over SIGINT, SIGTERM and SIGHUP, in the main thread only, and not where they are ignored.
    """

    def __init__(self, in_this_thread: bool = False) -> None:
        self.signal: int | None = None
        self.count = 0
        self.interrupts = in_this_thread
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Halt":
        if threading.current_thread() is threading.main_thread():
            for name in ("SIGINT", "SIGTERM", "SIGHUP"):
                number = getattr(signal, name, None)
                if number is not None and signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self.signal = self.signal or number
        self.count += 1
        if self.interrupts:  # the experiment runs here: it has to be interrupted as it would be without pyexp
            raise KeyboardInterrupt


def drive(pool: Pool, tasks: Iterator[Task | None], terms: Terms, halt: Halt) -> Generator[Ended, None, None]:
    """Run the tasks in the pool, as many at a time as it has slots, and give each as it ends.

    A task is taken when there is a slot for it; None in its place means that there is none just now. A cell that fails
    is tried again as often as the terms say, one that exceeds their timeout is killed. At a signal, or if the caller
    stops, the cells on their way are ended and give nothing.
    """
    crew: list[Running] = []
    slots = pool.slots(terms)
    more = True
    try:
        while (more or crew) and not halt.count:
            while more and len(crew) < slots and not halt.count:
                task = next(tasks, _END)
                if task is None:
                    break
                if not isinstance(task, Task):
                    more = False
                elif (stillborn := _begin(pool, task, crew)) is not None:
                    yield stillborn
            for running, outcome in [*pool.wait(crew, _patience(crew, terms)), *_overdue(pool, crew, terms)]:
                if halt.count:
                    break
                crew.remove(running)
                again = _again(running, outcome, terms)
                ended = _ended(running, outcome) if again is None else _begin(pool, again, crew)
                if ended is not None:
                    yield ended
    finally:
        _end_all(pool, crew, halt)


_END = object()


def _begin(pool: Pool, task: Task, crew: list[Running]) -> Ended | None:
    """Start the task; if that fails (no process, no disk), that is how this cell ended."""
    try:
        crew.append(pool.start(task))
    except Exception as error:  # whatever the system refuses, the other cells go on
        return Ended(task, failed(error), time.time(), 0.0)
    return None


def _ended(running: Running, outcome: Outcome) -> Ended:
    return Ended(running.task, outcome, running.started, time.monotonic() - running.began)


def _patience(crew: list[Running], terms: Terms) -> float:
    """Seconds to wait at most: until the next deadline, and not longer than a tick."""
    if terms.timeout is None or not crew:
        return TICK
    first = min(running.began for running in crew) + terms.timeout
    return min(max(first - time.monotonic(), 0.0), TICK)


def _overdue(pool: Pool, crew: list[Running], terms: Terms) -> list[tuple[Running, Outcome]]:
    """The cells that exceeded the timeout, killed."""
    if terms.timeout is None:
        return []
    late = [running for running in crew if time.monotonic() - running.began > terms.timeout]
    told = []
    for running in late:
        pool.kill(running)
        words = f"ran for longer than {terms.timeout:g} s and was killed"
        told.append((running, failure("TimeoutError", words, log_tail(running.task.log_path))))
    return told


def _again(running: Running, outcome: Outcome, terms: Terms) -> Task | None:
    """The task to try once more after a failure, if the terms allow it; its log is kept beside the next one's."""
    task = running.task
    if outcome["status"] == "done" or len(task.failures) >= terms.retries:
        return None
    tried = Attempt(outcome["type"], outcome["message"], running.started, time.monotonic() - running.began)
    with suppress(OSError):
        os.replace(task.log_path, os.path.join(task.folder, f"log-{len(task.failures) + 1}.txt"))
    return replace(task, failures=(*task.failures, tried))


def _end_all(pool: Pool, crew: list[Running], halt: Halt) -> None:
    """Ask the cells that are left to stop, and kill them when their grace is over or a second signal comes."""
    if not crew:
        return
    halt.interrupts = False
    for running in crew:
        pool.ask_to_stop(running)
    deadline = time.monotonic() + GRACE
    while crew and time.monotonic() < deadline and halt.count < 2:
        for running, _ in pool.wait(crew, TICK):
            crew.remove(running)
    for running in crew:
        pool.kill(running)


def log_tail(path: str, size: int = 4000) -> str:
    """The end of a log, at most `size` bytes of it, with a line that says what it is."""
    try:
        with open(path, "rb") as log:
            log.seek(max(os.path.getsize(path) - size, 0))
            text = log.read(size).decode("utf-8", "replace")
    except OSError:
        return ""
    return f"The log ends with:\n{text}" if text.strip() else ""


class Threads(Pool):
    """Runs a user's executor: each call of its `run` in a thread of its own, so that the loop stays awake."""

    def __init__(self, executor: Executor) -> None:
        self.executor = executor
        self._durable = True
        self._some_ended = threading.Event()

    def open(self, fn: Callable[[Config], Any], terms: Terms) -> None:
        self._durable = terms.durable

    def start(self, task: Task) -> "_Thread":
        running = _Thread(task)
        # A daemon: Python must be able to exit while a thread that cannot be killed is still at it.
        thread = threading.Thread(target=self._perform, args=(running,), name=f"pyexp {task.label}", daemon=True)
        thread.start()
        return running

    def _perform(self, running: "_Thread") -> None:
        task = running.task
        path = Path(task.result_path)
        outcome = attempt(
            lambda: self.executor.run(task.fn, task.private_config(), path),
            lambda value: files.save(str(path), value, durable=self._durable),
        )
        if outcome["status"] != "done":
            path.unlink(missing_ok=True)  # it may have written a result before it failed
        running.outcome = outcome
        self._some_ended.set()

    def wait(self, running: Collection["_Thread"], seconds: float) -> list[tuple["_Thread", Outcome]]:
        self._some_ended.wait(seconds)
        self._some_ended.clear()
        return [(one, one.outcome) for one in running if one.outcome is not None]

    def kill(self, running: "_Thread") -> None:
        """Nothing: a thread cannot be killed. It is left to itself, and what it returns is not looked at."""


class _Thread(Running):
    outcome: Outcome | None = None
