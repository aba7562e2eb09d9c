"""The shell: what a call of `run()` does. Options → look → plan → perform → report.

The store gathers facts, `plan` decides, the runner carries it out. The options are settled here: the command line wins
over `run()`, and `run()` over the decorator.
"""

import atexit
import functools
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from types import FrameType, SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

from pyexp import executors, runner
from pyexp.commandline import Heard, command_again, command_line, parse, parser, say, tell
from pyexp.configs import FrozenConfig
from pyexp.errors import (
    ConfigError,
    ExecutorError,
    ExtraError,
    NoRunError,
    ResultError,
    SelectionError,
    StoreError,
    UsageError,
    nearest,
)
from pyexp.executors import validate_executor
from pyexp.leaves import script_name
from pyexp.look.folding import for_stdout, plan_for_stdout
from pyexp.look.screen import own_screen
from pyexp.options import Options, UnknownKeyError, keys_of, overridden, settle
from pyexp.plan import (
    FINISHED,
    Action,
    Cell,
    Facts,
    Mode,
    Plan,
    Status,
    cells_of,
    classify,
    component,
    explained,
    plan,
    validate_size,
)
from pyexp.results import Record, cells_in_words, records_of
from pyexp.runner import Interrupted, Job, Performed, Snapshot
from pyexp.store import history, layout, pickling, records
from pyexp.store.layout import Run
from pyexp.sweep import grid_of, slips, with_defaults
from pyexp.tables import Results
from pyexp.tensor import Tensor
from pyexp.worker.script import namespace_of

if TYPE_CHECKING:
    from pyexp.experiment import Experiment
    from pyexp.store.code import Code

NO_CONFIGS = "there are no configs: register a function with @experiment.configs, or pass run(configs=…)"
#: Mistakes on the command line, or in what it names; not in the script.
_MISTAKES = (UsageError, NoRunError, StoreError, SelectionError, ExecutorError, ExtraError)
#: For each experiment that has read the command line, the name of its run if that was new, or else `""`.
_new_runs: list[str] = []
#: Filled once an experiment fails under `--check` while others of the script have yet to run.
_failed: list[bool] = []


class Call(NamedTuple):
    """A call of a method of an experiment: its configs (None: the registered ones) and its options.

    `others` are the experiments that this process has beside it.
    """

    experiment: "Experiment[Any]"
    others: "Sequence[Experiment[Any]]"
    configs: Any
    said: Mapping[str, Any]

    @property
    def siblings(self) -> "list[Experiment[Any]]":
        """The other experiments of the same script."""
        return [other for other in self.others if other.__module__ == self.experiment.__module__]

    @property
    def given(self) -> Any:
        """The configs, or the function that returns them; None if there are none."""
        return self.experiment.registered.get("configs") if self.configs is None else self.configs

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
            code_for=_code_for(self.experiment.fn, initializer, _runs_what_is_loaded(options)),
            defaults=self.experiment.defaults,
            like=like,
        )


def run(call: Call, report: Any, argv: Sequence[str] | None, caller: FrameType) -> Any:
    """Run an experiment as `Experiment.run` says. `caller` is the frame that called it.

    Read the words and settle the options; `--list` ends here. Make the grid. Print the plan, or look, plan and run.
    Report, and check.
    """
    experiment = call.experiment
    _complete_if_asked(call)
    heard = command_line(caller) if argv is None else Heard(list(argv) or None)
    if heard.notice:
        tell(heard.notice)
    experiment.has_run = True
    words, has_words = heard.words, heard.words is not None
    is_typed = has_words and argv is None
    said = {**call.said, "report": report} if isinstance(report, bool) else call.said
    validate_executor(settle(experiment.options, said, {}).executor)  # a mistake in the script keeps its traceback
    with _exit_on_error(has_words):
        typed = parse(words or [], os.path.basename(next(iter(sys.argv), "")))
        options = settle(experiment.options, said, typed)
        validate_executor(options.executor)
        if options.list_runs:
            say(_list_of_runs(experiment, options))
            return None
        if options.html or options.plot:
            refuse_without_page()
    # Not deeper, as the frames of pyexp stand above those of the user's function if that raises.
    made = grid(call.given, options.mode)
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
            if argv is not None or not _is_for_another(typed, call.others):
                raise
            tell(f"note: nothing of {job.name!r} is run, as the command line is for another experiment: {error}")
            return Results([])
        if is_typed:
            _new_runs.append(done[0].out.parent.name if options.timestamp is True and not options.latest else "")
    given = report if callable(report) else experiment.registered.get("report")
    value = _reported(done, given, options, has_words)
    if options.check:
        more = bool(words) and argv is None and any(not each.has_run for each in call.siblings)
        _check(not safe or _has_failed(done, options), wait=more)
    return value


def plan_of(call: Call) -> Plan:
    """The plan of an experiment, as `Experiment.plan` says."""
    options = settle(call.experiment.options, call.said, {})
    validate_executor(options.executor)
    return look(call.job(options, grid(call.given, options.mode)), options).plan


def results_of(call: Call) -> Results:
    """The results of a run, as `Experiment.results` says."""
    options = settle(call.experiment.options, {**call.said, "report": True}, {})
    return perform(call.job(options, grid(call.given, options.mode)), options).results


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


def _code_for(fn: Any, initializer: Any, is_loaded: bool) -> "Callable[[FrozenConfig], Code | None]":
    """A function that gives the fingerprint of the code for a config; None if it cannot be taken.

    `is_loaded` says that the cells run what this process has loaded.
    """
    from pyexp.worker.sources import Codes

    try:
        codes = Codes(fn, initializer, is_loaded=is_loaded)
    except Exception:  # a source may hold anything, and must not fail the run
        return lambda config: None
    codes.of()  # reads the sources now
    return codes.of


def _is_for_another(typed: Mapping[str, Any], others: "Sequence[Experiment[Any]]") -> bool:
    """Whether cells or keys that an experiment lacks may belong to another experiment of the script."""
    chooses = bool(typed.get("select") or typed.get("overrides"))
    return chooses and (bool(_new_runs) or any(_takes(each, typed) for each in others if not each.has_run))


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


def _complete_if_asked(call: Call) -> None:
    """Answer a terminal's shell that asks what a word may become, and end the process."""
    if "_ARGCOMPLETE" not in os.environ:
        return
    from pyexp.look.completion import complete

    def base(said: Any) -> str:
        typed = {key: getattr(said, key) for key in ("name", "output_dir") if getattr(said, key, None)}
        options = settle(call.experiment.options, {}, typed)
        return layout.home(options.output_dir, _folder(call.experiment, options))

    cells = functools.cache(lambda: grid(call.given) or ())
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
    except _MISTAKES as error:
        if not wanted:
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
    with _exit_on_error(has_words):
        page = write_page(done) if options.html else ""
        if report is None:
            rest = "all are on the page" if options.html else "-v shows all"
            say(for_stdout(done, rest, whole=options.verbose))
    value = done if report is None else report(done)
    with _exit_on_error(has_words):
        if page:
            say(page)
        if options.plot:
            say(write_plot(done, options.plot))
    return value


def _has_failed(results: Results, options: Options) -> bool:
    """Whether a cell has failed, or has no result for a report."""
    records = records_of(results)
    return any(record.failed if options.report else record.status == "failed" for record in records)


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
    if not callable(configs):
        return _not_empty(grid_of(configs), "configs")
    label = f"the configs function {getattr(configs, '__name__', '?')!r}"
    made = configs()
    if made is None:
        raise ConfigError(f"{label} returned None; did it forget to return the list of configs?")
    label = f"what {label} returned"
    return _not_empty(grid_of(made, label), label)


def _not_empty(grid: Tensor[FrozenConfig], what: str) -> Tensor[FrozenConfig]:
    """The grid. Raise `ConfigError` if it is empty: a selection may hold no config."""
    if not grid:
        raise ConfigError(f"{what} is empty, of shape {grid.shape}; a run needs at least one config")
    return grid


def look(job: Job, options: Options) -> Snapshot:
    """The cells of the job, the facts about them on disk, and the plan. Changes nothing.

    Raises `NoRunError` if the run asked for is missing or belongs to another script, and `UsageError` for overrides
    that do not fit.
    """
    cells, chosen = cells_for(job.configs, job.defaults, options)
    run, notes = find_run(job, options)
    notes += _unmatched(cells, options.select) + _slips(job, options)
    if run is None:
        notes += _finished_before(job, options, chosen)
        return Snapshot(None, plan(chosen, {}, options.mode), {}, cells, notes=notes)
    if options.latest and options.mode is not Mode.REPORT and not options.extend:
        validate_common(run, cells)
    facts = records.look(run, chosen, records.Program(job.code_for, job.defaults))
    found = {folder: classify(seen) for folder, seen in facts.items()}
    if options.dry_run:
        found |= explained(chosen, found, _finished(run, facts, cells), job.defaults)
    is_described = history.describes(run, cells)
    return Snapshot(run, plan(chosen, found, options.mode), facts, cells, is_described, notes)


def _slips(job: Job, options: Options) -> tuple[str, ...]:
    """A note on each key of a variation that looks like a slip of another key: a sweep creates what is missing."""
    found = {} if job.configs is None or options.mode is Mode.REPORT else slips(job.configs, job.defaults)
    return tuple(
        f"note: a variation sets {key!r}, beside the key {other!r}; if you mean two keys, put both in the base configs"
        for key, other in found.items()
    )


def _finished_before(job: Job, options: Options, cells: Tensor[Cell]) -> tuple[str, ...]:
    """A note in the plan of a new run on the cells that the latest run has finished: the user may mean that one."""
    if not options.dry_run or options.timestamp is not True:
        return ()
    base = layout.home(options.output_dir, job.name)
    name = layout.latest_run(base, job.began)
    if name is None:
        return ()
    facts = records.look(Run(os.path.join(base, name)), cells, records.Program(job.code_for, job.defaults))
    number = sum(classify(seen).status in FINISHED for seen in facts.values())
    return (f"note: {number} of these cells are finished in {name}; --continue loads them",) if number else ()


def _finished(run: Run, facts: Mapping[str, Facts], cells: Tensor[Cell]) -> list[FrozenConfig]:
    """The configs of all finished cells of a run, also of other grids."""
    mine = {cell.folder for cell in cells}
    others = records.look(
        run, (cell for cell in history.history(run).cells if cell.folder not in mine), records.Program(), exact=False
    )
    seen = (*facts.values(), *others.values())
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
) -> tuple[Tensor[Cell], Tensor[Cell]]:
    """All cells of a grid, with overrides, and the selected ones."""
    if configs is None:
        raise ConfigError(NO_CONFIGS)
    validate_size(configs)
    configs = with_defaults(configs, defaults) if defaults else configs
    cells = cells_of(overridden(configs, options.overrides), defaults)
    return cells, cells if options.select is None else selected(cells, options.select)


def selected(cells: Tensor[Cell], select: str | tuple[str, ...]) -> Tensor[Cell]:
    """The cells whose name matches a glob, or any of several.

    Raises `SelectionError` with the nearest names if there is none.
    """
    if isinstance(select, str):
        return _matching(cells, select)
    found = {cell.folder for glob in select for cell in _matching_or_none(cells, glob)}
    return cells.filter(lambda cell: cell.folder in found) if found else _matching(cells, select[0])


def _matching_or_none(cells: Tensor[Cell], glob: str) -> Iterable[Cell]:
    try:
        return _matching(cells, glob)
    except SelectionError:
        return ()


def _unmatched(cells: Tensor[Cell], select: str | tuple[str, ...] | None) -> tuple[str, ...]:
    """A note for each of several globs that matches no cell."""
    globs = select if isinstance(select, tuple) else ()
    return tuple(
        f"note: no cell is named {glob!r} or matches it" for glob in globs if not _matching_or_none(cells, glob)
    )


def _matching(cells: Tensor[Cell], glob: str) -> Tensor[Cell]:
    try:
        found = cells[glob]
    except SelectionError:
        wider = f"*{glob}*"
        number = sum(fnmatchcase(cell.name, wider) for cell in cells)
        if not number:
            raise
        raise SelectionError(f"no cell is named {glob!r} or matches it; {wider!r} matches {number}") from None
    return found if isinstance(found, Tensor) else cells.filter(lambda cell: cell is found)


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
            mine, theirs = job.script, begun.script
            if mine == theirs:
                mine, theirs = f"{mine}.{job.function}", f"{theirs}.{begun.function}"
            raise NoRunError(
                f"the run {begun.name} was begun by {theirs!r}, and this is {mine!r}; give this experiment another "
                "--name, or run both in one with --extend"
            )
        return Run(path, options.durable, options.trust or ""), ()
    known = [begun.name for begun in sorted(layout.runs(base))]
    if options.mode in (Mode.REPORT, Mode.FAILED, Mode.CHANGED) or options.resume:
        hint = nearest(name or job.name, known, "the runs are") if known else f"{job.name!r} has no run yet"
        raise NoRunError(f"there is no run at {path}; {hint}")
    if not known or name is False:
        return None, ()
    return None, (f"note: this begins the new run {name!r}; {nearest(name, known, 'the runs are')}",)


def _no_run(base: str, job: Job) -> str:
    others = sorted(
        {
            begun.script if begun.script != job.script else f"{begun.script}.{begun.function}"
            for begun in layout.runs(base)
        }
    )
    if not others:
        return f"there is no run of {job.name!r} below {base} yet; run it first, without the option"
    return (
        f"no run of {job.name!r} below {base} was begun by {job.script!r}; its runs were begun by "
        f"{' and '.join(map(repr, others))}: give this experiment another --name, or use one of them with --extend"
    )


def perform(job: Job, options: Options) -> Performed:
    """Carry out what the options ask for, and return a result for each cell.

    Raises `Interrupted` after a signal. Raises what `look` raises, before anything runs.
    """
    validate_executor(options.executor)
    if options.mode is Mode.REPORT and (options.as_run or job.configs is None):
        return _reported_on(_as_run(job, options))
    snapshot = look(job, options)
    if options.mode is not Mode.REPORT:
        return runner.run(job, options, snapshot)
    for note in snapshot.notes:
        tell(note)
    run = snapshot.run
    left_out = 0 if run is None else len(history.history(run).folders - {cell.folder for cell in snapshot.cells})
    more = f"{cells_in_words(left_out)} of other grids; --as-run shows all cells of the run" if left_out else ""
    if run is None or all(step.action is Action.MISSING for step in snapshot.plan.steps):
        where = "" if run is None else f" in {run.path}"
        has = f"; there {'is' if left_out == 1 else 'are'} {more}" if left_out else ""
        why = next((f": {step.reason}" for step in snapshot.plan.steps if step.status is Status.FOREIGN), "")
        raise NoRunError(f"no cell of this grid has ended{where}: there is nothing to report{has}{why}")
    if left_out and not options.quiet:
        tell(f"note: this grid leaves out {more}")
    for line in runner.of_other_code(runner.differences(snapshot)):
        tell(line)
    return _reported_on(records.reported(run, snapshot.plan.steps, snapshot.facts))


def _reported_on(results: Results) -> Performed:
    """The results of a run that are only reported on. Write a note on those that belong to a user you do not trust."""
    reasons = [record.message for record in records_of(results) if record.status == Status.FOREIGN.value]
    for note in runner.of_other_users(reasons):
        tell(note)
    return Performed(results)


def _as_run(job: Job, options: Options) -> Results:
    """The results of a run in the grid as it was run, with its overrides. Raises `NoRunError`."""
    run, _ = find_run(job, options)
    if run is None:
        raise ConfigError(NO_CONFIGS)
    results = history.load_run(run)
    if options.select is not None:
        cells = results.map(lambda result: Cell(result.record.config, result.name, result.record.hash, str(result.out)))
        chosen = {cell.folder for cell in selected(cells, options.select)}
        results = Results.of(results.filter(lambda result: str(result.out) in chosen))
    program = records.Program(job.code_for)

    def difference(record: Record) -> str:
        is_known = not record.failed and record.code.get("parts")  # a record that was lost has lost its config too
        return program.difference(record.config, record.code) if is_known else ""

    for line in runner.of_other_code([difference(record) for record in records_of(results) if record.has_run]):
        tell(line)
    return results


def refuse_without_page() -> None:
    """Raise `ExtraError` if no page can be made: better now than after days of work."""
    from pyexp.look import page  # imported only for a page

    page.require()


def write_page(results: Results) -> str:
    """Write the page of the run, and return a line that names it. If that fails, write a warning and return `""`."""
    from pyexp.look import page

    try:
        return f"page: {page.write(results)}"
    except (OSError, ResultError) as error:  # the report comes all the same
        tell(f"warning: the page could not be written: {error}")
        return ""


def write_plot(results: Results, wanted: str) -> str:
    """Write a chart of the run as a picture, and return a line that names it.

    Raises `UsageError` for an output or an axis that is not there, `StoreError` if it cannot be written.
    """
    from pyexp.look import plots

    try:
        return f"plot: {plots.write(results, wanted)}"
    except (OSError, ResultError) as error:
        raise StoreError(f"the plot could not be written: {error}") from None
