"""A run on its way: the plan is carried out, cell by cell, and what comes of each is put down at once.

It drives the executors and the store as the plan says. A run of which everything is finished never gets here.
"""

import os
import signal
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from pyexp.configs import Config, FrozenConfig, thaw
from pyexp.errors import ConfigError
from pyexp.executors import get_executor
from pyexp.executors.base import Executor, RunSettings, Session, StopRequest, Task
from pyexp.executors.loop import Ended, schedule
from pyexp.leaves import has_encoders
from pyexp.options import Options
from pyexp.plan import Action, Cell, Mode, Plan, Step
from pyexp.progress import Progress, progress
from pyexp.results import Attempt, Record, Result, cells_in_words, missing, record_of
from pyexp.store import history as archive
from pyexp.store import records as store
from pyexp.store.claims import Claim
from pyexp.store.index import EMPTY, Index
from pyexp.store.pickling import dumps
from pyexp.store.provenance import Git, code_folder
from pyexp.store.records import Run, Sight
from pyexp.tensor import Tensor
from pyexp.worker.outcome import failed

Function = Callable[[Config], Any]


class Job(NamedTuple):
    """What is to be run: the experiment's name, its function, its grid of configs.

    `command` asks for it once more, but for the options that say which run; `""` where no script was started.
    """

    name: str
    fn: Function
    configs: Tensor[FrozenConfig]
    command: str = ""
    initializer: Callable[[], Any] | None = None


class Look(NamedTuple):
    """What was found before a run: its folder (None: there is none yet), what is in it, and the plan made of that.

    The plan is for the cells that were selected, `cells` is the whole grid, and `is_described` says whether `run.json`
    has it, `is_indexed` whether the index, which is `known`, says that.
    """

    run: Run | None
    plan: Plan
    sights: dict[str, Sight]
    cells: Tensor[Cell]
    is_described: bool = False
    known: Index = EMPTY
    is_indexed: bool = False

    def unindexed(self, records: Mapping[str, Record]) -> dict[str, Record]:
        """Those of the records, by folder, that the index did not have when it was looked at."""
        had = {folder: sight.record for folder, sight in self.sights.items() if sight.indexed}
        return {folder: record for folder, record in records.items() if had.get(folder) is not record}


class Interrupted(KeyboardInterrupt):
    """A run that a signal ended; says what is finished and how to go on."""

    def __init__(self, words: str, number: int) -> None:
        super().__init__(words)
        self.status = 128 + number


def again(job: Job, options: Options, run: Run, *flags: str) -> str:
    """What to type, or to call, to go on with this run."""
    name = [] if options.timestamp is False else [Path(run.path).name]
    if job.command:
        return " ".join([job.command, *(f"--timestamp {each}" for each in name), *flags])
    said = [*(f"timestamp={each!r}" for each in name), *("last_failed=True" for _ in flags)]
    return f"experiment.run({', '.join(said)})"


def performed(job: Job, options: Options, seen: Look) -> Tensor[Result]:
    """Carry out the plan, and return a result for each cell. Raises `Interrupted` if a signal came."""
    executor = get_executor("inline" if options.pdb else options.executor)
    session, stop = None, StopRequest()
    git = Git(code_folder())
    refuse_unpicklable(seen.plan.steps.map(lambda step: step.cell))
    jobs = executor.auto_jobs() if options.jobs == "auto" else int(options.jobs)
    results = os.path.abspath(options.output_dir)
    terms = RunSettings(
        jobs=jobs,
        timeout=options.timeout,
        retries=options.retries,
        capture=options.capture and not options.pdb,
        durable=options.durable,
        results=results,
        initializer=job.initializer,
        grace=options.grace,
        pdb=options.pdb,
    )
    with ExitStack() as at_end:
        at_end.callback(git.close)
        if seen.plan.works:  # else nobody has to get ready
            try:
                session = at_end.enter_context(executor.session(job.fn, terms, stop))
            except KeyboardInterrupt:
                raise Interrupted("interrupted by Ctrl-C before the first cell began", signal.SIGINT) from None
        run = seen.run or store.make_run(options.output_dir, job.name, options.timestamp, durable=options.durable)
        if seen.plan.works or (options.mode is Mode.RUN and not seen.is_described):
            at_end.enter_context(archive.journal(run, job.name, seen.cells, git))
        performance = Performance(job, options, run, seen, executor, terms, stop, session)
        results = performance.results()
    archive.remember(run, seen.cells, seen.known, seen.unindexed(performance.records))
    return results


def refuse_unpicklable(cells: Tensor[Cell]) -> None:
    """Raise `ConfigError` for a config that could not be sent to a worker.

    Every value that pyexp can hash by itself can be pickled; only what was registered may not.
    """
    for cell in cells if has_encoders() else ():
        try:
            dumps(thaw(cell.config), "config")
        except TypeError as error:
            raise ConfigError(f"of config {cell.name!r}, {error}") from None


def returned_nothing(records: Iterable[Record]) -> bool:
    """Whether there are results, and each of them is None."""
    done = [record for record in records if not record.failed]
    return bool(done) and all(not record.spread and record.kinds == {"value": "NoneType"} for record in done)


#: Seconds after a signal for which nobody asks what the run is waiting for.
SOON = 0.3


@dataclass
class Performance:
    """One run on its way: the steps still to be taken, the claims held, the records made."""

    job: Job
    options: Options
    run: Run
    seen: Look
    executor: Executor
    terms: RunSettings
    stop: StopRequest
    session: Session | None  # None where nothing is to run
    records: dict[str, Record] = field(default_factory=dict)
    held: dict[str, tuple[Cell, Claim]] = field(default_factory=dict)
    failures: list[tuple[Record, str]] = field(default_factory=list)
    stopping: bool = False

    def results(self) -> Tensor[Result]:
        """The result of every cell, once all that is to be run has run."""
        steps = self.seen.plan.steps
        waiting = deque(step for step in steps if step.action in (Action.RUN, Action.WAIT))
        with closing(self._progress(len(waiting))) as self.progress, self.stop as halt:
            self.progress.began(self.run.path, self.seen.plan.summary())
            if self.session is not None and self.session.notice:
                self.progress.line(self.session.notice)
            if self.options.mode is Mode.FAILED and not waiting:
                self.progress.line("no cell of this run has failed: there is nothing to run again")
            try:
                self._load()
                if self.options.mode is Mode.RERUN:
                    self._discard(waiting)
                while waiting:
                    self._run(waiting, halt)
                    waiting = deque() if halt.count else self._lost()
            finally:
                for _, claim in self.held.values():
                    claim.release()
                store.tidy(self.run)
            if halt.signal is not None:
                raise Interrupted(self._how_to_go_on(halt.signal), halt.signal)
            self.progress.summary(self.failures, f"to run them again: {self._again('--lf')}")
            if returned_nothing(self.records.values()):
                self.progress.note("every result is None: did the function forget to return it?")
        return steps.map(self._result)

    def _progress(self, number: int) -> Progress:
        """The display for so many cells; a live one only if their output does not come to the terminal."""
        elsewhere = self.terms.capture and self.executor.has_own_streams
        return progress(number, quiet=self.options.quiet, terminal_is_free=elsewhere, environ=os.environ)

    def _run(self, waiting: deque[Step], halt: StopRequest) -> None:
        """Run the cells that wait, and put each down as it ends."""
        assert self.session is not None
        endings = schedule(self.session, self._tasks(waiting), lambda: self._tick(halt))
        with closing(endings):  # whatever happens, so that no cell is left running
            for ended in endings:
                self._commit(ended)

    def _tick(self, halt: StopRequest) -> None:
        self.progress.tick()
        if time.monotonic() - halt.since > SOON and not self.stopping:
            self.stopping = True
            number = cells_in_words(len(self.held))
            limit = f"{self.terms.grace:g} s"
            self.progress.line(f"waiting up to {limit} for {number} to stop; once more (Ctrl-C) kills what is left")

    def _lost(self) -> deque[Step]:
        """The finished cells whose results others, that run them again, have removed since: theirs are waited for."""
        lost: deque[Step] = deque()
        if (self.options.fail_fast and self.failures) or not store.is_shared(self.run):
            return lost
        for step in self.seen.plan.steps:
            record = self.records.get(step.cell.folder)
            if record is not None and not record.failed and store.stamp(self.run, step.cell) != record.stamp:
                self.seen.sights.pop(step.cell.folder, None)
                lost.append(step)
        return lost

    def _load(self) -> None:
        """Take the records of the cells that are finished; write those down that had to be made again."""
        for step in self.seen.plan.steps:
            sight = self.seen.sights.get(step.cell.folder, store.UNSEEN)
            if step.action is Action.LOAD and sight.record is not None:
                self.records[step.cell.folder] = sight.record
                self._adopt(step.cell, sight)

    def _adopt(self, cell: Cell, sight: Sight) -> None:
        """Write down a record that had to be made again."""
        if sight.fresh:
            with self._trying(f"write the record of {cell.folder}; its result is kept"):
                self._with_claim(cell, store.adopt, sight.record)

    def _discard(self, steps: Iterable[Step]) -> None:
        """Remove the results of all cells that are to run again before the first of them does."""
        for step in steps:
            stamp = self.seen.sights.get(step.cell.folder, store.UNSEEN).stamp
            if stamp:
                with self._trying(f"remove the old result of {step.cell.folder}"):
                    self._with_claim(step.cell, store.discard, stamp)

    def _with_claim(self, cell: Cell, do: Callable[[Run, Cell, Any], None], what: Any) -> None:
        """Do something to a cell, unless another process has it: then it is that one's to do."""
        if cell.folder in self.held:
            do(self.run, cell, what)
            return
        claim = store.claim(self.run, cell)
        if claim is not None:
            try:
                do(self.run, cell, what)
            finally:
                claim.release()

    @contextmanager
    def _trying(self, what: str) -> Iterator[None]:
        """Where the disk says no: a line that says what could not be done, and the run goes on."""
        try:
            yield
        except OSError as error:
            self.progress.line(f"warning: cannot {what}: {error}")

    def _tasks(self, waiting: deque[Step]) -> Iterator[Task | None]:
        """A task for each cell that nobody else has; None when others have all that are left."""
        turned_away = 0
        while waiting and not (self.options.fail_fast and self.failures):
            step = waiting.popleft()
            cell = step.cell
            if not self._is_ours(cell):
                waiting.append(step)
                turned_away += 1
                if turned_away >= len(waiting):
                    turned_away = 0
                    self.progress.waiting(len(waiting))
                    yield None
                continue
            turned_away = 0
            if cell.folder in self.held:
                _, claim = self.held[cell.folder]
                self.progress.started(cell.folder, cell.name)
                yield Task(cell.folder, self.job.fn, cell.config, self.run.folder(cell), claim.descriptor)

    def _is_ours(self, cell: Cell) -> bool:
        """Whether no other process has the cell. Then it is held and ready to run, or its record has been taken."""
        try:
            claim = store.claim(self.run, cell)
            if claim is None:
                return False
            self.held[cell.folder] = (cell, claim)
            if self._done_meanwhile(cell):
                self._release(cell)
        except OSError as error:  # if the disk says no, that is this cell's failure and no other's
            self._take(cell, record_of(cell.name, cell.config, cell.hash, failed(error), started=time.time()))
            self._release(cell)
        return True

    def _release(self, cell: Cell) -> None:
        if cell.folder in self.held:
            self.held.pop(cell.folder)[1].release()

    def _done_meanwhile(self, cell: Cell) -> bool:
        """Whether another process has run a cell since it was looked at; then its record is taken, else it is ready."""
        before = self.seen.sights.get(cell.folder, store.UNSEEN)
        now = store.sight(self.run, cell)
        if now.record is not None and now.version != before.version:
            self._adopt(cell, now)
            self._take(cell, now.record)
            return True
        if self.options.mode is Mode.RERUN:
            store.discard(self.run, cell, before.stamp)
        aside = store.prepare(self.run, cell)
        if aside:
            why = now.damage or "a run that failed left a result"
            self.progress.line(f"warning: {cell.folder}: {why}; kept as {aside}, and the cell is run again")
        return False

    def _commit(self, ended: Ended) -> None:
        """Make the record of a cell that has ended, and give the cell back."""
        cell = self.held[ended.task.label][0]
        self._take(cell, self._conclude(cell, self._record(cell, ended, ended.task.failures)))
        self._release(cell)

    def _record(self, cell: Cell, ended: Ended, attempts: tuple[Attempt, ...]) -> Record:
        return record_of(
            cell.name,
            cell.config,
            cell.hash,
            ended.outcome,
            started=ended.started,
            seconds=ended.seconds,
            attempts=attempts,
            host=ended.outcome.get("host") or socket.gethostname(),
            executor=type(self.executor).__name__,
        )

    def _conclude(self, cell: Cell, record: Record) -> Record:
        """Write the record down; a result that has vanished is a failure, and if the disk is full it is told."""
        with self._trying(f"write the record of {cell.folder}"):
            try:
                return store.conclude(self.run, cell, record)
            except FileNotFoundError as error:
                if not record.failed:  # there is nothing beside which a record could stand
                    record = record_of(cell.name, cell.config, cell.hash, failed(error), started=record.started)
                raise
        return record

    def _take(self, cell: Cell, record: Record) -> None:
        self.records[cell.folder] = record
        log = ""
        if record.failed:
            path = self.run.file(cell, store.LOG)
            log = path if os.path.exists(path) else ""  # a custom executor leaves none
            self.failures.append((record, log))
        self.progress.cell(cell.folder, record, log)

    def _result(self, step: Step) -> Result:
        cell = step.cell
        record = self.records.get(cell.folder) or missing(cell.name, cell.config, cell.hash, step.reason)
        return store.result(self.run, cell, record)

    def _how_to_go_on(self, number: int) -> str:
        name = "Ctrl-C" if number == 2 else f"signal {number}"
        known = (self.records.get(step.cell.folder) for step in self.seen.plan.steps)
        left = sum(1 for record in known if record is None or record.failed)
        size = cells_in_words(self.seen.plan.steps.size)
        return f"interrupted by {name}; {left} of {size} are left; to go on: {self._again()}"

    def _again(self, *flags: str) -> str:
        return again(self.job, self.options, self.run, *flags)
