"""Carries out a plan cell by cell: loads finished cells, runs the others, and writes each record at once.

It drives the executors and the store. The plan decides which cells run, and is asked again after each claim. Here are
only the decisions that need the running run: fail-fast, results that do not load, and results that vanish. Retries
within a run are `loop.is_tried_again`.
"""

import math
import os
import shlex
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from pyexp.configs import Config, FrozenConfig, thaw
from pyexp.devices import NO_GPUS
from pyexp.errors import ConfigError, ResultError
from pyexp.leaves import has_encoders
from pyexp.look.progress import Progress, progress
from pyexp.options import Options
from pyexp.plan import FINISHED, Action, Cell, Facts, Mode, Plan, Status, Step, after_claim, classify
from pyexp.results import Attempt, Record, cells_in_words, clipped, labels, record_of
from pyexp.store import claims, files, history, layout, modules, records
from pyexp.store.claims import Claim
from pyexp.store.code import as_data, identity, short_identity
from pyexp.store.layout import Run
from pyexp.store.pickling import dumps
from pyexp.store.records import Program
from pyexp.tables import Results
from pyexp.tensor import Tensor
from pyexp.worker import script
from pyexp.worker.outcome import failed

if TYPE_CHECKING:  # a finished run loads no executor, and a script that only imports pyexp loads none of these
    from pyexp.executors.base import Executor, Session, StopRequest, Task
    from pyexp.executors.loop import Ended

#: The exit status if `stop_after` has left cells: EX_TEMPFAIL of sysexits.h, which asks to run the command again.
LEFT = 75
#: Seconds after a signal before a line says what the run is waiting for.
SOON = 0.3
#: The signal that Ctrl-C sends.
CTRL_C = 2


class Job(NamedTuple):
    """What to run: the experiment's name, its function, its grid of configs (None: the grid of the run).

    `command` starts it again, without the options that choose the run; `""` if no script was started. `script` is the
    module name of the script, `function` the name of the experiment's function in it, and `others` those of its other
    experiments. `program` is the present one, with its code. `like` is the name of the run that the script's first
    experiment has; a new run gets it too.
    """

    name: str
    fn: Callable[[Config], Any]
    configs: Tensor[FrozenConfig] | None
    command: str
    initializer: Callable[[], Any] | None
    script: str
    function: str
    others: frozenset[str]
    program: Program
    defaults: FrozenConfig
    like: str

    def began(self, run: layout.Begun) -> bool:
        """Whether this experiment has joined the run, or may have begun it: its script did, and no other of that."""
        is_own = run.script in ("", self.script) and run.function not in self.others
        return is_own or f"{self.script}.{self.function}" in run.joined.split("/")


class Snapshot(NamedTuple):
    """What was found before a run: its folder (None: not made yet), the facts about its cells, and the plan.

    The plan is for the selected cells, `cells` is the whole grid, and `is_described` says whether `run.json` has it.
    """

    run: Run | None
    plan: Plan
    facts: dict[str, Facts]
    cells: Tensor[Cell]
    is_described: bool = False
    notes: tuple[str, ...] = ()


class Interrupted(KeyboardInterrupt):
    """Raised when a run ends before its cells: after a signal, or by `stop_after`. Says how to continue.

    `status` is the exit status.
    """

    def __init__(self, words: str, status: int) -> None:
        super().__init__(words)
        self.status = status


def again(job: Job, options: Options, run: Run, *flags: str) -> str:
    """The command to type, or the call to make, to continue this run."""
    name = [] if options.timestamp is False else [Path(run.path).name]
    if job.command and job.others and options.latest:  # the latest runs of the other experiments have other names
        return " ".join([job.command, *(flags or ["--continue"])])
    if job.command:
        return " ".join([job.command, *(f"--timestamp {shlex.quote(each)}" for each in name), *flags])
    said = [*(f"timestamp={each!r}" for each in name), *("last_failed=True" for _ in flags)]
    return f"experiment.run({', '.join(said)})"


def run(job: Job, options: Options, snapshot: Snapshot) -> tuple[Results, bool]:
    """Carry out the plan, and return a result for each cell, and whether no other process could run the same cells.

    Raises `Interrupted` if the run ends before its cells.
    """
    last_start = math.inf if options.stop_after is None else time.monotonic() + options.stop_after
    steps = snapshot.plan.steps
    loaded, warnings = _loaded(snapshot, job.program, accepts=options.accept_code)
    waiting = deque(
        step for step in steps
        if step.action in (Action.RUN, Action.WAIT) or (step.action is Action.LOAD and step.cell.folder not in loaded)
    )  # fmt: skip
    for step in waiting:
        job.program.code_for(step.cell.config)  # reads the sources of what its config names, before a worker does
    with ExitStack() as stack:
        executor = session = None
        about_gpus = ""
        if waiting:
            validate_picklable(step.cell for step in waiting)
            executor, session, about_gpus = _session(job, options, last_start)
            stack.enter_context(session)
        folder = snapshot.run or layout.make_run(
            options.output_dir, job.name, options.timestamp,
            durable=options.durable, trust=options.trust or "", like=job.like,
        )  # fmt: skip
        if waiting or not snapshot.is_described:
            from pyexp.store.provenance import Git, code_folder

            git = stack.enter_context(closing(Git(code_folder())))
            head = {"experiment": job.name, "script": job.script, "function": job.function}
            stack.enter_context(history.journal(folder, head, snapshot.cells, git, _sources(job)))
        is_free = options.capture and not options.pdb and executor is not None and executor.has_own_streams
        display = progress(len(waiting), quiet=options.quiet, verbose=options.verbose, terminal_is_free=is_free)
        stack.enter_context(closing(display))
        safe = not waiting or claims.locks_work(folder.claims)
        cells = [step.cell for step in steps]
        display.names = dict(zip((cell.hash for cell in cells), labels(cells), strict=True))
        display.holders = partial(_processes, folder)
        display.began(folder.path, snapshot.plan.summary())
        about = of_other_code(differences(snapshot), accepts=options.accept_code)
        about += of_other_users([step.reason for step in steps if step.status is Status.FOREIGN])
        for line in (*snapshot.notes, *about, *warnings, *(() if safe else (NO_LOCKS,))):
            display.line(line)
        if about_gpus:
            display.note(about_gpus)
        if executor is not None and session is not None:
            runner = Runner(job, options, snapshot, folder, session, type(executor).__name__, display, loaded)
            runner.run(waiting)
            loaded = runner.records
        else:
            if options.mode is Mode.FAILED:
                display.line("none of these cells has failed: nothing to run again")
            records.tidy(folder)
        done = [record for record in loaded.values() if not record.failed]
        if done and all(not each.spread and each.kinds == {"value": "NoneType"} for each in done):
            display.note("every result is None: did the function forget to return it?")
    return records.results(folder, steps, _still_failed(snapshot, options) | loaded), safe


def _processes(run: Run) -> dict[str, str]:
    """The processes of running cells by folder, as far as they are known: a claim in this one's name says nothing."""
    own = f"(process {os.getpid()} on "
    return {name: words for name, words in claims.holders(run.claims).items() if not words.startswith(own)}


def _still_failed(snapshot: Snapshot, options: Options) -> dict[str, Record]:
    """The records of cells that have failed in an earlier run: they hold for those that this run does not reach."""
    facts = {} if options.mode is Mode.RERUN else snapshot.facts
    return {
        folder: seen.record for folder, seen in facts.items() if seen.record and classify(seen).status is Status.FAILED
    }


NO_LOCKS = (
    "WARNING: locks do not work in the folder of this run: another process that runs it at the same time would run the "
    "same cells again, and may overwrite results. Use a folder on a local disk, or one process at a time"
)


def differences(snapshot: Snapshot) -> list[str]:
    """How the code of each loaded result differs from the present code, in words; `""` where it does not."""
    loaded = [step for step in snapshot.plan.steps if step.action is Action.LOAD]
    return [snapshot.facts[step.cell.folder].difference if step.status is Status.CHANGED else "" for step in loaded]


def of_other_code(loaded: Sequence[str], *, accepts: bool = False) -> list[str]:
    """A note on loaded results that other code made: how many, what changed, and what to do. Empty without any.

    `loaded` has the difference of each. `accepts` says that the run marks them as made by this code.
    """
    other = [*filter(None, loaded)]
    if not other:
        return ["note: --accept-code has nothing to accept: every loaded result is of this code"] if accepts else []
    were = "result was" if len(other) == 1 else "results were"
    changes = dict.fromkeys(change for words in other for change in words.split(", "))
    what = clipped(", ".join(changes))
    if accepts:
        return [f"note: {len(other)} of {len(loaded)} loaded results accepted as made by this code: {what}"]
    how = "--rerun-changed runs them again, --accept-code says that the change does not matter"
    return [f"note: {len(other)} of {len(loaded)} loaded {were} made by other code: {what}; {how}"]


def of_other_users(reasons: Sequence[str]) -> list[str]:
    """A note on the cells of users you do not trust, from the reason for each. Empty without any."""
    return [f"note: {cells_in_words(len(reasons))} not loaded: {reasons[0]}"] if reasons else []


def _loaded(snapshot: Snapshot, program: Program, *, accepts: bool) -> tuple[dict[str, Record], list[str]]:
    """The records of the finished cells, and warnings. Repairs records on disk.

    Leaves out a cell whose result cannot be loaded. With `accepts`, marks results of other code as made by this one.
    """
    found: dict[str, Record] = {}
    warnings: list[str] = []
    unwritten: list[tuple[str, OSError]] = []
    run = cast(Run, snapshot.run)  # what is to load is there
    for step in snapshot.plan.steps:
        if step.action is not Action.LOAD:
            continue
        folder = step.cell.folder
        try:
            found[folder] = _recorded(run, step.cell, snapshot.facts[folder], program, accepts=accepts)
        except ResultError as error:
            warnings.append(f"warning: {folder}: its result is unreadable: {error}; the cell is run again")
        except OSError as error:
            unwritten.append((folder, error))
            found[folder] = records.record_for(run, step.cell, snapshot.facts[folder], program)
    if unwritten:
        folder, why = unwritten[0]
        more = f" and {len(unwritten) - 1} more" if len(unwritten) > 1 else ""
        warnings.append(f"warning: cannot write the record of {folder}{more}; the results are kept: {why}")
    return found, warnings


def _recorded(run: Run, cell: Cell, facts: Facts, program: Program, *, accepts: bool) -> Record:
    """The record of a cell that has ended. Repairs it on disk if necessary.

    Raises `ResultError` if the result cannot be loaded, and OSError if the record cannot be written.
    """
    record, is_accepted = records.record_for(run, cell, facts, program), accepts and bool(facts.difference)
    if is_accepted and (code := program.code_for(cell.config)) is not None:
        record = record._replace(code={**record.code, "accepted": [*record.code.get("accepted", ()), identity(code)]})
    if not record.failed and (facts.needs_repair or is_accepted) and (claim := records.claim(run, cell)) is not None:
        try:
            records.repair(run, cell, record)
        finally:
            claim.release()
    return record


def _sources(job: Job) -> dict[str, bytes]:
    """The sources of the experiment's code by module, from which the fingerprint was taken."""
    found = {name: source.text for name, source in script.fingerprinted.items()}
    main = script.script_of(getattr(job.fn, "__globals__", {}))
    return found if main is None or not modules.is_project(main.file) else {**found, job.script: main.source}


def _session(job: Job, options: Options, last_start: float) -> "tuple[Executor, Session, str]":
    """The executor, a session of it that is ready to run the job's cells, and a line about the GPUs that they share."""
    from pyexp.executors import get_executor
    from pyexp.executors.base import RunSettings, StopRequest
    from pyexp.executors.gpus import tokens_for

    executor = get_executor("inline" if options.pdb else options.executor)
    has_gpus = options.gpus not in (None, NO_GPUS)
    gpus, about_gpus = tokens_for(executor, options.gpus, options.jobs) if has_gpus else ((), "")
    jobs = executor.auto_jobs() if options.jobs == "auto" else options.jobs or len(gpus) or executor.default_jobs()
    settings = RunSettings(
        jobs=min(jobs, len(gpus) or jobs),
        gpus=gpus,
        timeout=options.timeout,
        retries=options.retries,
        capture=options.capture and not options.pdb,
        durable=options.durable,
        results=layout.absolute(options.output_dir),
        initializer=job.initializer,
        grace=options.grace,
        pdb=options.pdb,
    )
    try:
        return executor, executor.session(job.fn, settings, StopRequest(last_start)), about_gpus
    except KeyboardInterrupt:
        raise Interrupted("interrupted by Ctrl-C before the first cell began", 128 + CTRL_C) from None


def validate_picklable(cells: Iterable[Cell]) -> None:
    """Raise `ConfigError` for a config that cannot be sent to a worker.

    pyexp can pickle every value that it can hash by itself. Only a value of a registered type may fail.
    """
    for cell in cells if has_encoders() else ():
        try:
            dumps(thaw(cell.config), "config")
        except TypeError as error:
            raise ConfigError(f"of config {cell.name!r}, {error}") from None


def _failed(cell: Cell, error: Exception, started: float) -> Record:
    """The record of a cell that failed with an error in this process."""
    return record_of(cell.name, cell.config, cell.hash, failed(error), started=started)


@dataclass
class Runner:
    """One run: its claims, its records and its failures.

    `from_others` says of each result that another process has made meanwhile how its code differs from this one.
    """

    job: Job
    options: Options
    snapshot: Snapshot
    folder: Run
    session: "Session"
    executor: str
    display: Progress
    records: dict[str, Record]
    held: dict[str, tuple[Cell, Claim]] = field(default_factory=dict)
    failures: list[tuple[Record, str]] = field(default_factory=list)
    earlier: dict[str, tuple[Attempt, ...]] = field(default_factory=dict)
    begun: list[tuple[str, str]] = field(default_factory=list)
    from_others: list[str] = field(default_factory=list)
    stopping: bool = False
    halting: bool = False

    def run(self, waiting: deque[Step]) -> None:
        """Run the waiting cells, and those whose result another process removes meanwhile. Raises `Interrupted`."""
        from pyexp.executors.loop import schedule

        if self.session.notice:
            self.display.line(self.session.notice)
        asked = [step.cell.folder for step in waiting]
        with ExitStack() as undo:
            stop = undo.enter_context(self.session.stop)
            undo.callback(records.tidy, self.folder)
            undo.callback(self._release_all)
            self._set_apart(waiting)
            while waiting:
                endings = schedule(self.session, self._tasks(waiting), partial(self._tick, stop, waiting))
                undo.callback(endings.close)  # whatever happens, so that no cell is left running
                for ended in endings:
                    self._commit(ended)
                waiting = deque() if stop.count or stop.is_late else self._lost()
                self.display.total += len(waiting)
            for line in of_other_code(self.from_others):
                self.display.line(line)
            is_cut = stop.is_late and not (self.options.fail_fast and self.failures)
            is_cut = is_cut and any(folder not in self.records for folder in asked)
            if stop.signal is not None or is_cut:
                self.display.summary(self.failures)
                if stop.signal is None:
                    why, status = f"stopped after {self.options.stop_after:g} s", LEFT
                else:
                    name = "Ctrl-C" if stop.signal == CTRL_C else f"signal {stop.signal}"
                    why, status = f"interrupted by {name}", 128 + stop.signal
                left = f"{self.display.left} of {cells_in_words(self.snapshot.plan.steps.size)} are left"
                raise Interrupted(f"{why}; {left}; to go on: {again(self.job, self.options, self.folder)}", status)
        self.display.summary(self.failures, f"to run them again: {again(self.job, self.options, self.folder, '--lf')}")

    def _tick(self, stop: "StopRequest", waiting: Collection[Step]) -> None:
        while self.begun:  # shown once the cells whose slots they have are shown as ended
            self.display.started(*self.begun.pop(0))
        self.display.tick()
        if stop.is_late and waiting and self.held and not self.stopping:
            self.stopping = True
            self.display.line(f"no new cell begins after {self.options.stop_after:g} s; those that run may finish")
        if time.monotonic() - stop.since > SOON and not self.halting:
            self.halting = True
            number = cells_in_words(len(self.held))
            limit = f"{self.session.settings.grace:g} s"
            self.display.line(f"waiting up to {limit} for {number} to stop; once more (Ctrl-C) kills what is left")

    def _lost(self) -> deque[Step]:
        """Cells whose result another process removed because it is rerunning them. Wait for its new result."""
        lost: deque[Step] = deque()
        if (self.options.fail_fast and self.failures) or not records.is_shared(self.folder):
            return lost
        for step in self.snapshot.plan.steps:
            record = self.records.get(step.cell.folder)
            path = self.folder.file(step.cell, layout.RESULT)
            if record is not None and not record.failed and files.stamp(path) != record.stamp:
                self.snapshot.facts.pop(step.cell.folder, None)
                lost.append(step)
        return lost

    def _set_apart(self, steps: Iterable[Step]) -> None:
        """Set apart the results of all cells to rerun, before the first of them runs."""
        for step in steps:
            seen = self.snapshot.facts.get(step.cell.folder)
            if seen is None or seen.default or not self._begins_anew(step):
                continue
            if (claim := records.claim(self.folder, step.cell)) is not None:
                try:
                    records.set_apart(self.folder, step.cell, seen.stamp)
                except OSError as error:
                    self.display.line(f"warning: cannot set the old result of {step.cell.folder} apart: {error}")
                finally:
                    claim.release()

    def _begins_anew(self, step: Step) -> bool:
        """Whether the cell has ended and is rerun, so that its folder has to be empty."""
        return self.options.mode is Mode.RERUN or (step.action is Action.RUN and step.status in FINISHED)

    def _tasks(self, waiting: deque[Step]) -> Iterator["Task | None"]:
        """A task for each cell that no other process has claimed; None while others have claimed all that are left."""
        from pyexp.executors.base import Task

        turned_away = 0
        while waiting and not (self.options.fail_fast and self.failures):
            step = waiting.popleft()
            cell = step.cell
            if not self._claim(step):
                waiting.append(step)
                turned_away += 1
                if turned_away >= len(waiting):
                    turned_away = 0
                    self.display.waiting(len(waiting))
                    yield None
                continue
            turned_away = 0
            if cell.folder in self.held:
                _, claim = self.held[cell.folder]
                self.begun.append((cell.folder, self.display.names[cell.hash]))
                code = short_identity(self.job.program.code_for(cell.config))
                yield Task(cell.folder, self.job.fn, cell.config, self.folder.folder(cell), claim.descriptor, code)

    def _claim(self, step: Step) -> bool:
        """Claim the cell and prepare it, or take its record if it has ended. False if another process has claimed it.

        A cell that is to run is in `held` then.
        """
        cell = step.cell
        try:
            claim = records.claim(self.folder, cell)
            if claim is None:
                return False
            self.held[cell.folder] = (cell, claim)
            if not self._make_ready(step):
                self._release(cell)
        except OSError as error:  # a disk error fails this cell only
            self._take(cell, _failed(cell, error, time.time()))
        return True

    def _make_ready(self, step: Step) -> bool:
        """Prepare a claimed cell. False if another process has run it meanwhile; then take its record."""
        cell = step.cell
        seen, now = self.snapshot.facts.get(cell.folder, Facts()), records.facts(self.folder, cell, self.job.program)
        action, why = after_claim(step, seen, now, self.options.mode).action, now.fault
        if action is Action.LOAD:
            try:
                record = records.record_for(self.folder, cell, now, self.job.program)
                if not record.failed and now.needs_repair:
                    records.repair(self.folder, cell, record)
                self._take(cell, record)
                self.from_others.append(now.difference)  # that process may have started before the code was edited
                return False
            except ResultError as error:
                why = str(error)
        elif action is not Action.RUN:
            return False
        if now.default:
            records.keep_apart(self.folder, cell)
        elif self._begins_anew(step):
            records.set_apart(self.folder, cell, seen.stamp)
        elif now.record is not None and now.record.failed:
            last = Attempt(now.record.type, now.record.message, now.record.started, now.record.seconds)
            self.earlier[cell.folder] = (*now.record.attempts, last)
        aside = records.prepare(self.folder, cell)
        if aside:
            why = f"its result is unreadable: {why}" if why else "a run that failed left a result"
            self.display.line(f"warning: {cell.folder}: {why}; kept as {aside}, and the cell is run again")
        return True

    def _release(self, cell: Cell) -> None:
        if cell.folder in self.held:
            self.held.pop(cell.folder)[1].release()

    def _release_all(self) -> None:
        for cell, _ in list(self.held.values()):
            self._release(cell)

    def _commit(self, ended: "Ended") -> None:
        """Commit the record of a cell that has ended, and take it."""
        from socket import gethostname

        cell = self.held[ended.task.label][0]
        record = record_of(
            cell.name,
            cell.config,
            cell.hash,
            ended.outcome,
            started=ended.started,
            seconds=ended.seconds,
            attempts=(*self.earlier.get(cell.folder, ()), *ended.task.failures),
            host=ended.outcome.get("host") or gethostname(),
            executor=self.executor,
            gpu=ended.task.gpu,
            code=as_data(self.job.program.code_for(cell.config)),
        )
        try:
            record = records.commit(self.folder, cell, record)
        except OSError as error:
            self.display.line(f"warning: cannot write the record of {cell.folder}: {error}")
            if isinstance(error, FileNotFoundError) and not record.failed:  # the result has vanished
                record = _failed(cell, error, record.started)
        self._take(cell, record)

    def _take(self, cell: Cell, record: Record) -> None:
        """Take the record of a cell that has ended, and release the claim to it."""
        self.records[cell.folder] = record
        path = self.folder.file(cell, layout.LOG)
        log = path if record.failed and os.path.exists(path) else ""  # a custom executor leaves none
        if record.failed:
            self.failures.append((record, log))
        self.display.cell(cell.folder, record, log)
        self._release(cell)
