"""Cells on any engine that takes a function by `submit` and gives a future for it.

Knows futures, as far as all engines have them: `done`, `result`, perhaps `cancel`. What the engine carries is in
`attempts`.
"""

import math
import os
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Any, Protocol

from pyexp.errors import UsageError
from pyexp.executors.attempts import Luggage, PackedCell, packed, perform
from pyexp.executors.base import Function, Running, RunSettings, Session, SessionExecutor, StopRequest, Task
from pyexp.executors.logs import Echo
from pyexp.executors.threads import Outcome
from pyexp.results import Outcome as Told
from pyexp.store import claims, files
from pyexp.store.layout import WANTED
from pyexp.worker.outcome import failed, failure

#: Seconds between two looks at the futures.
LOOK = 0.02
#: Seconds that the engine has to end the cells that the run kills; after that they are left to it.
PATIENCE = 10.0


class Pool(Protocol):
    """An object with `submit`, such as an executor of `concurrent.futures`."""

    def submit(self, fn: Callable[..., Any], /, *args: Any) -> Any: ...


class FuturesCell(Running):
    """A cell that the engine has. Its start is unknown here, so its timeout is kept where it runs."""

    def __init__(self, task: Task, wanted: str, future: Any) -> None:
        super().__init__(task)
        self.handed_over, self.began = self.began, math.inf
        self.wanted = wanted
        self.future = future
        self.echo = Echo(task)


class FuturesExecutor(SessionExecutor):
    """Run each cell on an engine with `submit`: `concurrent.futures`, loky, submitit, dask's Client, executorlib.

    pyexp does not shut the pool down. All its machines have to see the output folder under the same path. The pool gets
    up to `jobs` cells at a time, running or queued; `-j` overrides it.

    >>> from concurrent.futures import ThreadPoolExecutor
    >>> FuturesExecutor(ThreadPoolExecutor(4), jobs=8).jobs
    8

    Raises `UsageError` for a pool without `submit`, and for `jobs` below 1.
    """

    no_gpus = "the engine places cells: ask it for GPUs when you make the pool"

    def __init__(self, pool: Pool, jobs: int = 100) -> None:
        if isinstance(pool, type) or not callable(getattr(pool, "submit", None)):
            raise UsageError(f"pool is {pool!r}; it takes an object that has submit(), such as ProcessPoolExecutor(4)")
        if isinstance(jobs, bool) or not isinstance(jobs, int) or jobs < 1:
            raise UsageError(f"jobs is {jobs!r}; it takes a number from 1")
        self.pool = pool
        self.jobs = jobs

    def session(self, fn: Function, settings: RunSettings, stop: StopRequest) -> "FuturesSession":
        return FuturesSession(self.pool, packed(fn, settings), settings, stop)

    def auto_jobs(self) -> int:
        """As many cells as the engine is given by default: it knows how many it can run."""
        return self.jobs

    default_jobs = auto_jobs


class FuturesSession(Session):
    """Hands cells to a pool, and asks their futures again and again."""

    def __init__(self, pool: Pool, luggage: Luggage, settings: RunSettings, stop: StopRequest) -> None:
        super().__init__(settings, stop)
        self._pool = pool
        self._luggage = luggage
        self._cells: list[FuturesCell] = []
        self._given_up = math.inf

    def close(self) -> None:
        for running in list(self._cells):
            self.kill(running)

    def start(self, task: Task) -> FuturesCell:
        # The cell is wanted while this file exists. Preparing the folder for the next attempt removes it.
        wanted = os.path.join(task.folder, files.temporary_name(WANTED))
        with open(wanted, "xb") as file:
            file.write(b"1")
        try:
            cell = PackedCell.of(self._luggage, task.config, task.folder, wanted, task.code)
            future = self._pool.submit(perform, cell)
        except BaseException:
            os.unlink(wanted)
            raise
        running = FuturesCell(task, wanted, future)
        self._cells.append(running)
        return running

    def wait(self, running: Collection[FuturesCell], seconds: float) -> list[tuple[FuturesCell, Told]]:
        deadline = time.monotonic() + seconds
        while not (ended := [one for one in running if one.future.done()]) and time.monotonic() < deadline:
            time.sleep(LOOK)
        if not self.settings.capture:
            for one in running:
                one.echo.show(several=self.settings.jobs > 1, rest=one in ended)
        return [(one, self._outcome(one)) for one in ended]

    def _outcome(self, one: FuturesCell) -> Told:
        """How a cell ended whose future is done: as it says itself, or as the engine lost it."""
        self._cells.remove(one)
        claims.end_holders([one.wanted])  # the engine may have lost sight of it, and a retry has the same folder
        one.began = one.handed_over
        try:
            told = one.future.result()
        except BaseException as error:  # an engine raises anything, and a cancelled future no Exception in asyncio
            return failed(error)
        if not isinstance(told, Outcome):
            return failure("ExecutorError", f"the engine gave {told!r} in place of the outcome of the cell")
        one.started = told["started"]
        return {key: value for key, value in told.items() if key != "started"}

    def ask_to_stop(self, running: FuturesCell) -> None:
        with suppress(OSError):
            os.truncate(running.wanted, 0)

    def kill(self, running: FuturesCell) -> Told | None:
        """Make the cell end where it runs, by removing its file, and wait a while for that."""
        if running not in self._cells:
            return None
        with suppress(OSError):
            os.unlink(running.wanted)
        with suppress(Exception):  # the engine lacks it, or it is too late
            running.future.cancel()
        self._given_up = min(self._given_up, time.monotonic() + PATIENCE)
        while not running.future.done() and time.monotonic() < self._given_up:
            time.sleep(LOOK)
        if running.future.done():
            outcome = self._outcome(running)
            return outcome if outcome["status"] == "done" else None
        self._cells.remove(running)
        return None
