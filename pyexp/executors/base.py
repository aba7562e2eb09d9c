"""What every executor is: the interface that users subclass, the richer one of the built-ins, and the loop over both.

Knows tasks, slots, deadlines and signals; not what a cell is on disk, nor how a process is started.
"""

import errno
import math
import os
import pickle
import signal
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Generator, Iterator
from contextlib import contextmanager, suppress
from copy import copy
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Any, Literal, TypeAlias

from pyexp.configs import Config, FrozenConfig, thaw
from pyexp.errors import ExecutorError
from pyexp.results import LOG_ENDS, Attempt, Outcome, done
from pyexp.store import files, pickling
from pyexp.worker.guardian import STOPPING
from pyexp.worker.outcome import attempt, failed, failure

#: Seconds after which the loop looks for signals and for cells that others have left, while nothing else happens.
TICK = 0.1

RESULT = "result.pkl"
LOG = "log.txt"


@dataclass(frozen=True, slots=True)
class Terms:
    """What holds for every cell of a run; `results` is the folder that all runs are kept in.

    `initializer` is called once in each process that gets ready for cells. `grace` is the seconds that a cell has to
    stop when it is asked to, before it is killed. With `pdb`, an executor that runs cells in this process opens the
    debugger where one raises.
    """

    jobs: int = 1
    timeout: float | None = None
    retries: int = 0
    capture: bool = True
    durable: bool = True
    results: str = ""
    grace: float = 10.0
    pdb: bool = False
    initializer: Callable[[], Any] | None = None


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


ExecutorName: TypeAlias = Literal["inline", "subprocess", "fork", "ray"]


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
        self.begins()

    def begins(self) -> None:
        """It begins now."""
        self.began = time.monotonic()
        self.started = time.time()


class Pool(Executor):
    """The richer interface of the built-in executors: many cells at a time, which can be waited for and killed."""

    #: The signals that came while the pool is driven; an experiment in this thread runs in its `interrupting()`.
    halt: "Halt"
    #: What the run prints about how its cells run, if `open` found something worth a line.
    notice = ""

    def open(self, fn: Callable[[Config], Any], terms: Terms) -> None:
        """Get ready to run cells of `fn`. Raises `ExecutorError` or `UsageError` if that cannot be done here."""

    def close(self) -> None:
        """Leave nothing behind."""

    def auto(self) -> int:
        """What `-j auto` stands for: a cell for each core that this process may use."""
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

    def slots(self, terms: Terms) -> int:
        """How many cells can be on their way at a time, just now: it is asked before each cell, and may change."""
        return terms.jobs

    @abstractmethod
    def start(self, task: Task) -> Running:
        """Set a cell going. What goes wrong with it is its outcome, not an error here."""

    @abstractmethod
    def wait(self, running: Collection[Any], seconds: float) -> list[tuple[Any, Outcome]]:
        """Those that have ended, each with its outcome, waiting up to so many seconds for the first."""

    @abstractmethod
    def kill(self, running: Any) -> Outcome | None:
        """End a cell and all its descendants now, and be done with it; its outcome, if it was told nevertheless."""

    def overdue(self, running: Any) -> Outcome | None:
        """End a cell that exceeds its timeout, as `kill` does."""
        return self.kill(running)

    def ask_to_stop(self, running: Any) -> None:
        """Ask a cell to stop, as Ctrl-C does."""

    def run(self, fn: Callable[[Config], Any], config: Config, result_path: Path) -> Any:
        """What `fn(config)` returns, run as one cell here. Raises `ExecutorError` with the cell's error if it failed.

        The folder of `result_path` is the cell's `out`, and is made if it is not there.
        """
        from pyexp.configs import freeze

        path = Path(result_path).absolute()
        path.parent.mkdir(parents=True, exist_ok=True)
        frozen = freeze({key: value for key, value in config.items() if key != "out"})
        terms = Terms()
        pool = copy(self)  # several threads may call this at a time, and what `open` sets belongs to one of them
        pool.open(fn, terms)
        try:
            (ended,) = drive(pool, iter([Task(path.parent.name, fn, frozen, str(path.parent))]), terms, Halt())
        finally:
            pool.close()
        if ended.outcome["status"] != "done":
            told = ended.outcome
            raise ExecutorError(f"{told['type']}: {told['message']}\n{told['traceback']}".rstrip())
        if path.name != RESULT:
            os.replace(path.parent / RESULT, path)
        return pickle.loads(path.read_bytes())


@dataclass(frozen=True, slots=True)
class Ended:
    """A cell that came to its end: its outcome, when it began and how long it took."""

    task: Task
    outcome: Outcome
    started: float
    seconds: float


class Halt:
    """Ctrl-C and its kin as a fact to look at: which signal came first and when (monotonic clock), how many came.

    As a context it takes over `STOPPING`, in the main thread only, and not where they are ignored.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self.since = math.inf
        self.count = 0
        self._interrupts = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Halt":
        if threading.current_thread() is threading.main_thread():
            for number in STOPPING:
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    @contextmanager
    def interrupting(self) -> Iterator[None]:
        """While this lasts, a signal raises KeyboardInterrupt: for an experiment that runs in this very thread.

        Everywhere else it is only noted, so that it cannot come between two steps that belong together.
        """
        self._interrupts = True
        try:
            if self.count:
                raise KeyboardInterrupt
            yield
        finally:
            self._interrupts = False

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self.signal = self.signal or number
        self.since = min(self.since, time.monotonic())
        self.count += 1
        if self._interrupts:
            raise KeyboardInterrupt


def drive(
    pool: Pool, tasks: Iterator[Task | None], terms: Terms, halt: Halt, tick: Callable[[], None] = lambda: None
) -> Generator[Ended, None, None]:
    """Run the tasks in the pool, as many at a time as it has slots, and give each as it ends.

    A task is taken when there is a slot for it; None in its place means that there is none just now. A cell that fails
    is tried again as often as the terms say, one that exceeds their timeout is killed. At a signal, or if the caller
    stops, the cells on their way are asked to stop, then killed; of these only the finished are given. `tick` is called
    again and again, for who wants to show that time goes by, or that cells take theirs to stop.
    """
    pool.halt = halt
    crew = _Crew(pool, tasks, terms, halt, tick)
    try:
        ended: list[Ended] = []
        while crew.busy and not halt.count:
            if any(one.outcome["status"] != "done" for one in ended):  # after a failure there may be no next cell
                yield from ended
                ended = []
            try:
                ended += crew.fill()  # the next cells begin before the caller has put the last ones down
            finally:
                yield from ended
            tick()
            ended = list(crew.harvest()) if crew.busy else []
        yield from ended
        yield from crew.wind_down()
    finally:
        crew.wind_down()


@dataclass
class _Crew:
    """The cells on their way, and what is to follow them: first those that could not be started or failed, then new."""

    pool: Pool
    tasks: Iterator[Task | None]
    terms: Terms
    halt: Halt
    tick: Callable[[], None]
    running: list[Running] = field(default_factory=list)
    backlog: list[Task] = field(default_factory=list)
    more: bool = True
    #: The cells that the system can carry, once it has refused one.
    carried: float = math.inf

    @property
    def busy(self) -> bool:
        return bool(self.more or self.backlog or self.running)

    def fill(self) -> Iterator[Ended]:
        """Start cells while there are slots and tasks; give those that could not be started at all."""
        while self._has_room() and not self.halt.count and (task := self._next()) is not None:
            try:
                self.running.append(self.pool.start(task))
            except Exception as error:  # whatever the system refuses, the other cells go on
                if self.running and isinstance(error, OSError) and error.errno in _SCARCE:
                    self.carried = len(self.running)  # this one waits for its turn
                    self.backlog.append(task)
                else:
                    yield Ended(task, failed(error), time.time(), 0.0)

    def _has_room(self) -> bool:
        return len(self.running) < min(self.pool.slots(self.terms), self.carried)

    def _next(self) -> Task | None:
        if self.backlog:
            return self.backlog.pop(0)
        task = next(self.tasks, _END) if self.more else None
        if task is _END:
            self.more = False
        return task if isinstance(task, Task) else None

    def harvest(self) -> Iterator[Ended]:
        """Wait a little, and give the cells that have ended or exceeded the timeout."""
        for running, outcome in self.pool.wait(self.running, self._patience()):
            yield from self._settle(running, outcome)
        limit = self.terms.timeout
        for running in self.running[:] if limit is not None else ():
            if limit is not None and time.monotonic() - running.began > limit:
                words = f"ran for longer than {limit:g} s and was killed"
                outcome = self.pool.overdue(running) or failure("TimeoutError", words, log_tail(running.task.log_path))
                yield from self._settle(running, outcome)

    def _patience(self) -> float:
        """Seconds to wait at most: until the next deadline, and not longer than a tick."""
        if self.terms.timeout is None or not self.running:
            return TICK
        first = min(running.began for running in self.running) + self.terms.timeout
        return min(max(first - time.monotonic(), 0.0), TICK)

    def _settle(self, running: Running, outcome: Outcome) -> Iterator[Ended]:
        """The end of a cell, unless it is to be tried again; then its log is kept beside the next one's."""
        self.running.remove(running)
        task, seconds = running.task, outcome.get("seconds", time.monotonic() - running.began)
        if outcome["status"] != "done":
            outcome = committed(task) or outcome
        if outcome["status"] == "done" or len(task.failures) >= self.terms.retries:
            yield Ended(task, outcome, running.started, seconds)
            return
        tried = Attempt(outcome["type"], outcome["message"], running.started, seconds)
        with suppress(OSError):
            os.replace(task.log_path, os.path.join(task.folder, f"log-{len(task.failures) + 1}.txt"))
        self.backlog.append(replace(task, failures=(*task.failures, tried)))

    def wind_down(self) -> list[Ended]:
        """Ask the cells that are left to stop, and kill them when their grace is over or a second signal comes.

        Return the cells that finished before they were killed.
        """
        finished = []
        for running in self.running:
            self.pool.ask_to_stop(running)
        deadline = time.monotonic() + self.terms.grace
        while self.running and time.monotonic() < deadline and self.halt.count < 2:
            for running, outcome in self.pool.wait(self.running, TICK):
                self.running.remove(running)
                if outcome["status"] == "done":
                    seconds = outcome.get("seconds", time.monotonic() - running.began)
                    finished.append(Ended(running.task, outcome, running.started, seconds))
            if self.running:
                self.tick()
        while self.running:
            self.pool.kill(self.running.pop())
        return finished


def committed(task: Task) -> Outcome | None:
    """The outcome that the cell's result tells, if pyexp has sealed it; else None.

    A worker that dies between its commit and its last word leaves such a result: nothing is lost, or to be tried again.
    """
    try:
        content = files.read(task.result_path, trusted=True)
        size, sealed = files.unsealed(content)
        return done(*pickling.load_noting(content, size)) if sealed else None
    except Exception:  # none there, or damaged, or not to be loaded
        return None


_END = object()
#: What the system says when it has no process, descriptor or memory to give: later it may.
_SCARCE = (errno.EAGAIN, errno.EMFILE, errno.ENFILE, errno.ENOMEM)


def log_tail(path: str, size: int = 16_000) -> str:
    """The end of a log, at most `size` bytes (a crash leaves a long traceback), with a line that says what it is."""
    try:
        with open(path, "rb") as log:
            log.seek(max(os.path.getsize(path) - size, 0))
            text = log.read(size).decode("utf-8", "replace")
    except OSError:
        return ""
    return f"{LOG_ENDS}\n{text}" if text.strip() else ""


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
        returned: list[Any] = []
        outcome = attempt(
            lambda: returned.append(self.executor.run(task.fn, task.private_config(), Path(task.result_path))),
            lambda _: [],
        )
        with running.ending:
            if running.left:  # the cell's folder is not its own any more
                return
            if returned:
                outcome = attempt(
                    returned.pop, lambda value: pickling.save(task.result_path, value, durable=self._durable)
                )
            if outcome["status"] != "done":
                with suppress(OSError):  # it may have written a result before it failed
                    os.unlink(task.result_path)
            running.outcome = outcome
        self._some_ended.set()

    def wait(self, running: Collection["_Thread"], seconds: float) -> list[tuple["_Thread", Outcome]]:
        self._some_ended.wait(seconds)
        self._some_ended.clear()
        return [(one, one.outcome) for one in running if one.outcome is not None]

    def kill(self, running: "_Thread") -> Outcome | None:
        """A thread cannot be killed. It is left to itself, and what it returns is neither looked at nor kept.

        Unless that is just being kept: then it has ended after all.
        """
        with running.ending:
            running.left = True
            return running.outcome


class _Thread(Running):
    """A cell in a thread. Who holds `ending` says how it ends: with an `outcome`, or `left` to itself."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.ending = threading.Lock()
        self.outcome: Outcome | None = None
        self.left = False
