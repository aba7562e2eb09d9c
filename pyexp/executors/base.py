"""What every executor is: the class that users subclass, and the session in which a run's cells go.

Knows tasks, settings and the signals that stop a run; not what a cell is on disk, nor how a process is started.
"""

import math
import os
import signal
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, ClassVar, Literal, Self, TypeAlias

from pyexp.configs import Config, FrozenConfig, thaw
from pyexp.results import Attempt, Outcome
from pyexp.store.layout import LOG, RESULT
from pyexp.worker.guardian import STOPPING

Function: TypeAlias = Callable[[Config], Any]
ExecutorName: TypeAlias = Literal["inline", "subprocess", "fork", "ray"]
"""The names of the built-in executors, for type checkers."""


@dataclass(frozen=True, slots=True)
class RunSettings:
    """What holds for every cell of a run; `results` is the folder that all runs are kept in.

    `initializer` is called once in each process that gets ready for cells. `grace` is the seconds that a cell has to
    stop when it is asked to, before it is killed. With `pdb`, an executor that runs cells in this process opens the
    debugger where one raises. Each cell holds one of the tokens `gpus` while it runs; without tokens, cells
    see what this process sees.
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
    gpus: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Task:
    """One cell to run: the function, its config, and the folder it has to itself.

    `claim` is the descriptor of the lock on the cell, which a worker inherits, so that an orphan keeps it. `code` is
    the short identity of its code, for the seal of its result. `failures` are the attempts that went before this one,
    and `gpu` is the token that the cell holds, `""` where there are none.
    """

    label: str
    fn: Function
    config: FrozenConfig
    folder: str
    claim: int | None = None
    code: str = ""
    failures: tuple[Attempt, ...] = ()
    gpu: str = ""

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


class StopRequest:
    """Ctrl-C and its kin as a fact to look at: which signal came first and when (monotonic clock), how many came.

    As a context it handles the signals of `STOPPING`, in the main thread only, and not those that are ignored. After
    `last_start` no cell begins any more, and those that run may finish.
    """

    def __init__(self, last_start: float = math.inf) -> None:
        self.last_start = last_start
        self.signal: int | None = None
        self.since = math.inf
        self.count = 0
        self._interrupts = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in STOPPING:
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    @property
    def is_late(self) -> bool:
        """Whether it is too late for a cell to begin."""
        return time.monotonic() > self.last_start

    @contextmanager
    def interrupting(self) -> Iterator[None]:
        """While this lasts, a signal raises KeyboardInterrupt: for code in this thread that may take long.

        Everywhere else a signal is only noted, so that it cannot come between two steps that belong together.
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


class Running:
    """A cell that was started. `began` is on the monotonic clock, `started` in seconds since 1970."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.began = time.monotonic()
        self.started = time.time()


class Session(ABC):
    """A run's cells in an executor: many at a time, which can be waited for and killed.

    Ready when it is made; as a context it leaves nothing behind.
    """

    #: A line for the run to print about how its cells run, if there is something to say.
    notice = ""

    def __init__(self, settings: RunSettings, stop: StopRequest) -> None:
        self.settings = settings
        self.stop = stop

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:  # noqa: B027  # a session may have nothing to leave
        """Leave nothing behind."""

    def slots(self) -> int:
        """How many cells can run at a time. Asked before each cell: it may change."""
        return self.settings.jobs

    @abstractmethod
    def start(self, task: Task) -> Running:
        """Start a cell. What goes wrong with the cell is its outcome, not an error here.

        Raises KeyboardInterrupt if the run was asked to stop before the cell began.
        """

    @abstractmethod
    def wait(self, running: Collection[Any], seconds: float) -> list[tuple[Any, Outcome]]:
        """The cells that have ended, each with its outcome, waiting up to so many seconds for the first."""

    @abstractmethod
    def kill(self, running: Any) -> Outcome | None:
        """End a cell and all its descendants now. Return its outcome if it had one nevertheless."""

    def overdue(self, running: Any) -> Outcome | None:
        """End a cell that exceeds its timeout, as `kill` does."""
        return self.kill(running)

    def ask_to_stop(self, running: Any) -> None:  # noqa: B027  # some sessions cannot
        """Ask a cell to stop, as Ctrl-C does."""


class Executor(ABC):
    """A way to run cells. Subclass it, implement `run`, and give an instance to `experiment.run(executor=…)`.

    >>> class HereExecutor(Executor):
    ...     def run(self, fn, config, result_path):
    ...         return fn(config)
    >>> HereExecutor().run(lambda config: config["x"] + 1, Config(x=1), Path("result.pkl"))
    2
    """

    #: Whether a cell writes to streams of its own, and not to those of this process.
    has_own_streams: ClassVar[bool] = False
    #: Why this executor cannot give a cell the GPUs of a token; `""` for one that can.
    no_gpus: ClassVar[str] = "its cells run in threads of this process, which have one environment"

    @abstractmethod
    def run(self, fn: Function, config: Config, result_path: Path) -> Any:
        """Run `fn(config)` anywhere, and return what it returns. Called in a thread of its own for each cell.

        What this returns or raises becomes the cell's result. pyexp writes the result to `result_path`, so you need not
        write it. Return a `pyexp.Outcome` to say how a cell ended elsewhere (see `pyexp.attempt`).
        """

    def close(self) -> None:  # noqa: B027  # an executor may have nothing to put away
        """Close what `run` has opened. Called once at the end of each run, after the last cell has started."""

    def session(self, fn: Function, settings: RunSettings, stop: StopRequest) -> Session:
        """A session that runs cells of `fn`. Raises `ExecutorError` or `UsageError` if that is impossible here."""
        from pyexp.executors.threads import ThreadSession

        return ThreadSession(self, settings, stop)

    def auto_jobs(self) -> int:
        """The number of cells at a time for `-j auto`: one for each core that this process may use."""
        return cores()

    def default_jobs(self) -> int:
        """The number of cells at a time without `-j`."""
        return 1


def cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class SessionExecutor(Executor):
    """An executor with a session of its own, as the built-in ones are: subclass it and implement `session`."""

    has_own_streams = True
    no_gpus = "it places cells by itself (Ray by num_gpus, as in RayExecutor(num_gpus=1))"

    @abstractmethod
    def session(self, fn: Function, settings: RunSettings, stop: StopRequest) -> Session: ...

    def run(self, fn: Function, config: Config, result_path: Path) -> Any:
        """What `fn(config)` returns, run as one cell here. Raises `ExecutorError` with the cell's error if it failed.

        The folder of `result_path` is the cell's `out`, and is made if it is not there.
        """
        from pyexp.executors.loop import run_one

        return run_one(self, fn, config, Path(result_path).absolute())
