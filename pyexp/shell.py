"""The shell: what a call of `run()` does. Options → look → plan → perform → report.

The store gathers facts, `plan` decides, the runner carries it out. The options are settled here: the command line wins
over `run()`, and `run()` over the decorator.
"""

import atexit
import functools
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from types import FrameType, SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple, cast, get_args

from pyexp import executors, runner
from pyexp.commandline import command_again, command_line, parse, parser
from pyexp.configs import FrozenConfig
from pyexp.errors import ConfigError, NoRunError, PyexpError, ResultError, SelectionError, StoreError, nearest
from pyexp.executors import validate_executor
from pyexp.leaves import script_name
from pyexp.look.folding import plan_for_stdout
from pyexp.look.screen import own_screen, say, tell
from pyexp.options import Options, UnknownKeyError, keys_of, overridden, settle
from pyexp.plan import FINISHED, Action, Cell, Facts, Mode, Plan, Status, cells_of, classify, component, explained, plan
from pyexp.results import cells_in_words, records_of
from pyexp.runner import Interrupted, Job, Snapshot
from pyexp.store import history, layout, pickling, records
from pyexp.store.layout import Run
from pyexp.store.records import Program
from pyexp.sweep import grid_of, slips, with_defaults
from pyexp.tables import Results, table
from pyexp.tensor import Tensor
from pyexp.worker.script import namespace_of
from pyexp.worker.sources import Codes

if TYPE_CHECKING:
    from pyexp.experiment import Experiment

NO_CONFIGS = "there are no configs: register a function with @experiment.configs, or pass run(configs=…)"
#: Mistakes in the script. All others are on the command line, or in what it names.
_OF_SCRIPT = (ConfigError, ResultError)
#: For each experiment that has read the command line, the name of its run if that was new, or else `""`.
_new_runs: list[str] = []
#: Filled once an experiment fails under `--check` while others of the script have yet to run.
_failed: list[bool] = []


class Call(NamedTuple):
    """A call of a method of an experiment: its configs, or the function that returns them (None: neither), its options.

    `experiments` are all that this process has made.
    """

    experiment: "Experiment[Any]"
    experiments: "Sequence[Experiment[Any]]"
    configs: Any
    said: Mapping[str, Any]

    @property
    def siblings(self) -> "list[Experiment[Any]]":
        """The experiments of the same script."""
        return [each for each in self.experiments if each.__module__ == self.experiment.__module__]

    def options(self, typed: Mapping[str, Any]) -> Options:
        """The options in force, with those that were typed. Raises `UsageError`, also for a wrong executor."""
        options = settle(self.experiment.options, self.said, typed)
        validate_executor(options.executor)
        return options

    def job(self, options: Options, configs: Tensor[FrozenConfig] | None, command: str = "", like: str = "") -> Job:
        """What these options run for these configs. `command` starts it again; `like` is a name for a new run."""
        initializer, own = self.experiment.registered.get("initializer"), _function(self.experiment)
        return Job(
            name=_folder(self.experiment, options),
            fn=self.experiment.fn,
            configs=configs,
            command=command,
            initializer=initializer,
            script=_script(self.experiment.fn),
            function=own,
            others=frozenset(map(_function, self.siblings)) - {own},
            program=_program(self.experiment.fn, initializer, self.experiment.defaults, _runs_what_is_loaded(options)),
            defaults=self.experiment.defaults,
            like=like,
        )


def run(call: Call, report: Any, argv: Sequence[str] | None, caller: FrameType) -> Any:
    """Run an experiment as `Experiment.run` says. `caller` is the frame that called it.

    Read the words and settle the options; `--list` ends here. Make the grid. Print the plan, or look, plan and run.
    Report, and check.
    """
    experiment = call.experiment
    if "_ARGCOMPLETE" in os.environ:
        _complete(call)
    words = command_line(caller) if argv is None else list(argv) or None
    experiment.has_run = True
    has_words = words is not None
    is_typed = has_words and argv is None
    call.options({})  # a mistake in the script keeps its traceback
    with _exit_on_error(has_words):
        typed = parse(words or [], os.path.basename(next(iter(sys.argv), "")))
        options = call.options(typed)
        if options.list_runs:
            say(_list_of_runs(experiment, options))
            return None
        if options.html or options.plot:
            from pyexp.look import page  # imported only for a page

            page.require()  # better now than after days of work
    # Not deeper, as the frames of pyexp stand above those of the user's function if that raises.
    made = grid(call.configs, options.mode)
    command = command_again(typed, words if argv is None else list(argv))
    # One name for the new runs of a command, so that --timestamp names them all.
    like = next(filter(None, _new_runs), "") if is_typed else ""
    with _exit_on_error(has_words):
        job = call.job(options, made, command, like)
        try:
            if options.dry_run:
                return _dry_run(job, options)
            done, safe = perform(job, options)
        except (SelectionError, UnknownKeyError) as error:
            if argv is not None or not _is_for_another(typed, call.experiments):
                raise
            tell(f"note: nothing of {job.name!r} is run, as the command line is for another experiment: {error}")
            return Results([])
        if is_typed:
            _new_runs.append(done[0].out.parent.name if options.timestamp is True and not options.latest else "")
    given = report if callable(report) else experiment.registered.get("report")
    value = _reported(done, given, options, has_words)
    if options.check:
        has_failed = any(each.failed if options.report else each.status == "failed" for each in records_of(done))
        more = bool(words) and argv is None and any(not each.has_run for each in call.siblings)
        _check(not safe or has_failed, wait=more)
    return value


def plan_of(call: Call) -> Plan:
    """The plan of an experiment, as `Experiment.plan` says."""
    options = call.options({})
    return look(call.job(options, grid(call.configs, options.mode)), options).plan


def results_of(call: Call) -> Results:
    """The results of a run, as `Experiment.results` says."""
    options = call.options({})
    return perform(call.job(options, grid(call.configs, options.mode)), options)[0]


def _folder(experiment: "Experiment[Any]", options: Options) -> str:
    return component(options.name or experiment.__name__, "the experiment's name")


def _function(experiment: "Experiment[Any]") -> str:
    """The name of the experiment's function in its module."""
    return str(getattr(experiment.fn, "__qualname__", type(experiment.fn).__qualname__))


def _script(fn: Any) -> str:
    """The module name of the script that defines the experiment; `""` if it has no file."""
    module = getattr(fn, "__module__", None) or "__main__"
    if module in pickling.MAIN:  # below a profiler, the module of that name is the profiler's
        own = namespace_of(fn)
        name = script_name(SimpleNamespace(__spec__=own.get("__spec__"), __file__=own.get("__file__")))
    else:
        name = str(module)
    return "" if name == "__main__" else name.rpartition(".")[2]


def _runs_what_is_loaded(options: Options) -> bool:
    """Whether the cells run the modules that this process has loaded, and not what their files hold now."""
    executor = options.executor if isinstance(options.executor, str) else type(options.executor).__name__
    return options.pdb or executor in ("inline", "fork", "InlineExecutor", "ForkExecutor")


def _program(fn: Any, initializer: Any, defaults: FrozenConfig, is_loaded: bool) -> Program:
    """The present program, with its code if the fingerprint of that can be taken.

    `is_loaded` says that the cells run what this process has loaded.
    """
    try:
        codes = Codes(fn, initializer, is_loaded=is_loaded)
    except Exception:  # a source may hold anything, and must not fail the run
        return Program(defaults=defaults)
    codes.of()  # reads the sources now
    return Program(codes.of, defaults)


def _is_for_another(typed: Mapping[str, Any], experiments: "Sequence[Experiment[Any]]") -> bool:
    """Whether cells or keys that an experiment lacks may belong to another experiment, which has run or has yet to."""
    chooses = bool(typed.get("select") or typed.get("overrides"))
    return chooses and (bool(_new_runs) or any(_takes(each, typed) for each in experiments if not each.has_run))


def _takes(experiment: "Experiment[Any]", typed: Mapping[str, Any]) -> bool:
    """Whether the command line selects cells of an experiment. True if that is unknown before it runs."""
    if "configs" not in experiment.registered:
        return True
    try:
        cells_for(grid(experiment.registered["configs"]), experiment.defaults, settle(experiment.options, {}, typed))
    except (SelectionError, UnknownKeyError):
        return False
    except Exception:  # its own run reports the error
        return True
    return True


def _dry_run(job: Job, options: Options) -> None:
    """Print the plan."""
    snapshot = look(job, options)
    for note in snapshot.notes:
        tell(note)
    say(plan_for_stdout(snapshot.plan, "-v shows all", whole=options.verbose))


def _list_of_runs(experiment: "Experiment[Any]", options: Options) -> str:
    from pyexp.look import runs  # imported only for the list

    base = layout.home(options.output_dir, _folder(experiment, options))
    found = history.kept(base)
    lines = runs.overview(found, own_screen().width) if found else []
    return "\n".join(lines) or f"there is no run of {_folder(experiment, options)!r} below {base} yet"


def _complete(call: Call) -> None:
    """Answer a terminal's shell that asks what a word may become, and end the process."""
    from pyexp.look.completion import complete

    def base(said: Any) -> str:
        typed = {key: getattr(said, key) for key in ("name", "output_dir") if getattr(said, key, None)}
        options = settle(call.experiment.options, {}, typed)
        return layout.home(options.output_dir, _folder(call.experiment, options))

    cells = functools.cache(lambda: grid(call.configs) or ())
    complete(
        parser(),
        {
            "timestamp": lambda said: [run.name for run in layout.runs(base(said))],
            "select": lambda said: [name for config in cells() if (name := config.get("name"))],
            "overrides": lambda said: dict.fromkeys(f"{key}=" for config in cells() for key in keys_of(config)),
            "executor": lambda said: get_args(executors.ExecutorName),
        },
    )


@contextmanager
def _exit_on_error(wanted: bool) -> Iterator[None]:
    """If a command line was given, turn a mistake on it, or Ctrl-C, into one line and an exit status.

    The user's own functions do not run inside, so that their errors keep their tracebacks.
    """
    try:
        yield
    except PyexpError as error:
        if not wanted or isinstance(error, _OF_SCRIPT):
            raise
        tell(f"error: {error}")
        raise SystemExit(2) from error
    except KeyboardInterrupt as error:
        if not wanted:
            raise
        told: BaseException | None = error
        while told is not None and not isinstance(told, Interrupted):  # once more while the run was being closed
            told = told.__context__
        told = told or Interrupted("interrupted by Ctrl-C; no cell was running", 128 + runner.CTRL_C)
        tell(str(told))
        raise SystemExit(told.status) from None


def _reported(done: Results, report: Any, options: Options, has_words: bool) -> Any:
    """What the report on the results returns. Write the page and the chart that the options ask for."""
    written = ""
    with _exit_on_error(has_words):
        if options.html:
            from pyexp.look import page

            try:
                written = f"page: {page.write(done)}"
            except (OSError, ResultError) as error:  # the report comes all the same
                tell(f"warning: the page could not be written: {error}")
        if report is None:
            screen, rest = own_screen(), "all are on the page" if options.html else "-v shows all"
            say(str(done) if options.verbose else table(done, screen.width, screen.height, rest))
    value = done if report is None else report(done)
    with _exit_on_error(has_words):
        if written:
            say(written)
        if options.plot:
            from pyexp.look import plots

            try:
                path = plots.write(done, options.plot)
            except (OSError, ResultError) as error:
                raise StoreError(f"the plot could not be written: {error}") from None
            say(f"plot: {path}")
    return value


def _check(failed: bool, *, wait: bool) -> None:
    """Exit with status 1 if a cell failed. `wait` for the other experiments of the script if they have yet to run."""
    if wait:
        if failed and not _failed:
            _failed.append(True)
            atexit.register(_exit_failed)
    elif failed or _failed:
        atexit.unregister(_exit_failed)
        raise SystemExit(1)


def _exit_failed() -> None:
    """End the process with status 1: an exit handler cannot set Python's exit status otherwise."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(1)


def grid(configs: Any, mode: Mode = Mode.RUN) -> Tensor[FrozenConfig] | None:
    """The configs, or what a function returns for them, as a grid; None if there are none and the mode needs none.

    Raises `ConfigError` for anything else.
    """
    if configs is None:
        if mode is Mode.REPORT:
            return None
        raise ConfigError(NO_CONFIGS)
    what = "configs"
    if callable(configs):
        function = f"the configs function {getattr(configs, '__name__', '?')!r}"
        configs = configs()
        if configs is None:
            raise ConfigError(f"{function} returned None; did it forget to return the list of configs?")
        what = f"what {function} returned"
    made = grid_of(configs, what)
    if not made:  # a selection may hold no config
        raise ConfigError(f"{what} is empty, of shape {made.shape}; a run needs at least one config")
    return made


def look(job: Job, options: Options) -> Snapshot:
    """The cells of the job, the facts about them on disk, and the plan. Changes nothing.

    Raises `NoRunError` if the run asked for is missing or belongs to another script, and `UsageError` for overrides
    that do not fit.
    """
    cells, chosen, unmatched = cells_for(job.configs, job.defaults, options)
    run, notes = find_run(job, options)
    notes += unmatched
    if job.configs is not None and options.mode is not Mode.REPORT:
        notes += tuple(  # a sweep creates the keys that are missing
            f"note: a variation sets {key!r}, beside the key {other!r}; "
            "if you mean two keys, put both in the base configs"
            for key, other in slips(job.configs, job.defaults).items()
        )
    if run is None:
        if options.dry_run and options.timestamp is True:
            notes += _finished_before(job, options, chosen)
        return Snapshot(None, plan(chosen, {}, options.mode), {}, cells, notes=notes)
    if options.latest and options.mode is not Mode.REPORT and not options.extend:
        validate_common(run, cells)
    facts = records.look(run, chosen, job.program)
    found = {folder: classify(seen) for folder, seen in facts.items()}
    if options.dry_run:
        found |= explained(chosen, found, _finished(run, facts, cells), job.defaults)
    is_described = history.describes(run, cells)
    return Snapshot(run, plan(chosen, found, options.mode), facts, cells, is_described, notes)


def _finished_before(job: Job, options: Options, cells: Tensor[Cell]) -> tuple[str, ...]:
    """A note in the plan of a new run on the cells that the latest run has finished: the user may mean that one."""
    base = layout.home(options.output_dir, job.name)
    name = layout.latest_run(base, job.began)
    if name is None:
        return ()
    facts = records.look(Run(os.path.join(base, name)), cells, job.program)
    number = sum(classify(seen).status in FINISHED for seen in facts.values())
    return (f"note: {number} of these cells are finished in {name}; --continue loads them",) if number else ()


def _finished(run: Run, facts: Mapping[str, Facts], cells: Tensor[Cell]) -> list[FrozenConfig]:
    """The configs of all finished cells of a run, also of other grids."""
    mine = {cell.folder for cell in cells}
    others = (cell for cell in history.history(run).cells if cell.folder not in mine)
    seen = (*facts.values(), *records.look(run, others, Program(), exact=False).values())
    return [each.record.config for each in seen if each.record and classify(each).status in FINISHED]


def validate_common(run: Run, cells: Tensor[Cell]) -> None:
    """Raise `NoRunError` if a run has cells but none of this grid: the user means another run."""
    there = layout.cell_folders(run)
    if there and there.isdisjoint(cell.folder for cell in cells):
        name = os.path.basename(run.path)
        raise NoRunError(
            f"the run {name} has {cells_in_words(len(there))}, and none of this grid; begin a new run, or add this "
            f"grid to it with --timestamp {name}"
        )


def cells_for(
    configs: Tensor[FrozenConfig] | None, defaults: FrozenConfig, options: Options
) -> tuple[Tensor[Cell], Tensor[Cell], tuple[str, ...]]:
    """All cells of a grid, with overrides; the selected ones; and notes on the selection."""
    if configs is None:
        raise ConfigError(NO_CONFIGS)
    configs = with_defaults(configs, defaults) if defaults else configs
    cells = cells_of(overridden(configs, options.overrides), defaults)
    return cells, *((cells, ()) if options.select is None else selected(cells, options.select))


def selected(cells: Tensor[Cell], select: str | tuple[str, ...]) -> tuple[Tensor[Cell], tuple[str, ...]]:
    """The cells whose name matches a glob, or any of several; and a note for each of several that matches none.

    Raises `SelectionError` with the nearest names if no cell matches.
    """
    globs = (select,) if isinstance(select, str) else select
    found: set[str] = set()
    unmatched: list[tuple[str, SelectionError]] = []
    for glob in globs:
        try:
            named = cells[glob]
        except SelectionError as error:
            unmatched.append((glob, error))
        else:
            found |= {cell.folder for cell in (named if isinstance(named, Tensor) else (named,))}
    if found:
        notes = (f"note: no cell is named {glob!r} or matches it" for glob, _ in unmatched)
        return cells.filter(lambda cell: cell.folder in found), tuple(notes)
    glob, refusal = unmatched[0]
    wider = f"*{glob}*"
    number = sum(fnmatchcase(cell.name, wider) for cell in cells)
    if number:
        raise SelectionError(f"no cell is named {glob!r} or matches it; {wider!r} matches {number}")
    raise refusal


def find_run(job: Job, options: Options) -> tuple[Run | None, tuple[str, ...]]:
    """The run that the options name, or None for a new one; and notes for the user.

    Raises `NoRunError` if the run asked for is missing, or if another script began it.
    """
    base = layout.home(options.output_dir, job.name)
    name = options.timestamp
    if options.latest:
        name = layout.latest_run(base, (lambda begun: True) if options.extend or not job.script else job.began)
        if name is None:
            raise NoRunError(_no_run(base, job))
    if name is True:
        return None, ()
    path = base if name is False else os.path.join(base, name)
    if os.path.isdir(path):
        begun = layout.run_at(os.path.dirname(path), os.path.basename(path))
        if begun is not None and job.script and not job.began(begun) and not options.extend:
            theirs = _beginner(begun, job)
            mine = job.script if theirs == begun.script else f"{job.script}.{job.function}"
            raise NoRunError(
                f"the run {begun.name} was begun by {theirs!r}, and this is {mine!r}; give this experiment another "
                "--name, or run both in one with --extend"
            )
        return Run(path, options.durable, options.trust or ""), ()
    known = [begun.name for begun in sorted(layout.runs(base))]
    if options.goes_on:
        hint = nearest(name or job.name, known, "the runs are") if known else f"{job.name!r} has no run yet"
        raise NoRunError(f"there is no run at {path}; {hint}")
    if not known or name is False:
        return None, ()
    return None, (f"note: this begins the new run {name!r}; {nearest(name, known, 'the runs are')}",)


def _beginner(run: layout.Begun, job: Job) -> str:
    """What began a run, in words: its script, or its function if the script is the job's."""
    return run.script if run.script != job.script else f"{run.script}.{run.function}"


def _no_run(base: str, job: Job) -> str:
    others = sorted({_beginner(begun, job) for begun in layout.runs(base)})
    if not others:
        return f"there is no run of {job.name!r} below {base} yet; run it first, without the option"
    return (
        f"no run of {job.name!r} below {base} was begun by {job.script!r}; its runs were begun by "
        f"{' and '.join(map(repr, others))}: give this experiment another --name, or use one of them with --extend"
    )


def perform(job: Job, options: Options) -> tuple[Results, bool]:
    """Carry out what the options ask for: a result for each cell, and whether no other process could run the same.

    Raises `Interrupted` after a signal. Raises what `look` raises, before anything runs.
    """
    if options.mode is not Mode.REPORT:
        return runner.run(job, options, look(job, options))
    results = _as_run(job, options) if options.as_run or job.configs is None else _in_grid(job, options)
    reasons = [record.message for record in records_of(results) if record.status == Status.FOREIGN.value]
    for note in runner.of_other_users(reasons):
        tell(note)
    return results, True


def _in_grid(job: Job, options: Options) -> Results:
    """The results of a run in the present grid. Raises `NoRunError` if none of its cells has ended."""
    snapshot = look(job, options)
    for note in snapshot.notes:
        tell(note)
    run = cast(Run, snapshot.run)  # a report is on a run that is there
    left_out = len(history.history(run).folders - {cell.folder for cell in snapshot.cells})
    more = f"{cells_in_words(left_out)} of other grids; --as-run shows all cells of the run"
    if all(step.action is Action.MISSING for step in snapshot.plan.steps):
        has = f"; there {'is' if left_out == 1 else 'are'} {more}" if left_out else ""
        why = next((f": {step.reason}" for step in snapshot.plan.steps if step.status is Status.FOREIGN), "")
        raise NoRunError(f"no cell of this grid has ended in {run.path}: there is nothing to report{has}{why}")
    if left_out and not options.quiet:
        tell(f"note: this grid leaves out {more}")
    for line in runner.of_other_code(runner.differences(snapshot)):
        tell(line)
    return records.reported(run, snapshot.plan.steps, snapshot.facts)


def _as_run(job: Job, options: Options) -> Results:
    """The results of a run in the grid as it was run, with its overrides. Raises `NoRunError`."""
    results = history.load_run(cast(Run, find_run(job, options)[0]))  # a report is on a run that is there
    if options.select is not None:
        cells = results.map(lambda result: Cell(result.record.config, result.name, result.record.hash, str(result.out)))
        chosen = {cell.folder for cell in selected(cells, options.select)[0]}
        results = Results.of(results.filter(lambda result: str(result.out) in chosen))
    differences = [
        # A record that was lost has lost its config too.
        job.program.difference(record.config, record.code) if not record.failed and record.code.get("parts") else ""
        for record in records_of(results)
        if record.has_run
    ]
    for line in runner.of_other_code(differences):
        tell(line)
    return results
