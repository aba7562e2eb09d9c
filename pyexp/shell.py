"""The shell: look → plan → perform → report. The store gathers facts, `plan` decides, the runner carries it out."""

import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from pyexp import runner
from pyexp.configs import FrozenConfig
from pyexp.errors import ConfigError, NoRunError, ResultError, SelectionError, StoreError, UsageError, nearest
from pyexp.executors import validate_executor
from pyexp.options import FLAGS, GROUPS, OPTIONS, OVERRIDE_HELP, Options, checked, default_of, overridden, unknown_flag
from pyexp.plan import FINISHED, Action, Cell, Facts, Mode, Status, cells_of, classify, explained, plan, validate_size
from pyexp.results import cells_in_words, records_of
from pyexp.runner import Job, Performed, Snapshot
from pyexp.store import history, layout, records
from pyexp.store.layout import Run
from pyexp.sweep import grid_of, slips, with_defaults
from pyexp.tables import Results
from pyexp.tensor import Tensor

if TYPE_CHECKING:
    import argparse


NO_CONFIGS = "there are no configs: register a function with @experiment.configs, or pass run(configs=…)"


def grid(configs: Any) -> Tensor[FrozenConfig]:
    """The configs, or what a function returns for them, as a grid. Raises `ConfigError` for anything else."""
    if configs is None:
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
    cells, chosen = cells_of_job(job, options)
    run, notes = find_run(job, options)
    notes += _unmatched(cells, options.select)
    if options.mode is not Mode.REPORT:
        notes += _slips(job)
    if run is None:
        notes += _finished_before(job, options, chosen) if options.dry_run else ()
        return Snapshot(None, plan(chosen, {}, options.mode), {}, cells, notes=notes)
    if options.latest and options.mode is not Mode.REPORT and not options.extend:
        validate_common(run, cells)
    facts = records.look(run, chosen, records.Program(job.code, job.defaults))
    found = {folder: classify(seen) for folder, seen in facts.items()}
    if options.dry_run:
        found |= explained(chosen, found, _finished(run, facts, cells), job.defaults)
    is_described = history.describes(run, cells)
    return Snapshot(run, plan(chosen, found, options.mode), facts, cells, is_described, notes)


def _slips(job: Job) -> tuple[str, ...]:
    """A note on each key of a variation that looks like a slip of another key: a sweep creates what is missing."""
    found = {} if job.configs is None else slips(job.configs, job.defaults)
    return tuple(
        f"note: a variation sets {key!r}, beside the key {other!r}; if you mean two keys, put both in the base configs"
        for key, other in found.items()
    )


def _finished_before(job: Job, options: Options, cells: Tensor[Cell]) -> tuple[str, ...]:
    """A note on the cells of a new run that the latest run has finished: the user may mean to continue that."""
    base = layout.home(options.output_dir, job.name)
    name = layout.latest_run(base, job.began)
    if name is None or options.timestamp is not True:
        return ()
    facts = records.look(Run(os.path.join(base, name)), cells, records.Program(job.code, job.defaults))
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


def cells_of_job(job: Job, options: Options) -> tuple[Tensor[Cell], Tensor[Cell]]:
    """All cells of the job, with overrides, and the selected ones."""
    if job.configs is None:
        raise ConfigError(NO_CONFIGS)
    validate_size(job.configs)
    configs = with_defaults(job.configs, job.defaults) if job.defaults else job.configs
    cells = cells_of(overridden(configs, options.overrides), job.defaults)
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
        return _told(_as_run(job, options))
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
    for line in runner.of_other_code(snapshot):
        tell(line)
    return _told(records.reported(run, snapshot.plan.steps, snapshot.facts))


def _told(results: Results) -> Performed:
    """The results as what was performed, after a note on those that belong to a user you do not trust."""
    found = [record for record in records_of(results) if record.status == Status.FOREIGN.value]
    if found:
        tell(f"note: {cells_in_words(len(found))} not loaded: {found[0].message}")
    return Performed(results)


def _as_run(job: Job, options: Options) -> Results:
    """The results of a run in the grid as it was run, with its overrides. Raises `NoRunError`."""
    run, _ = find_run(job, options)
    if run is None:
        raise ConfigError(NO_CONFIGS)
    results = history.load_run(run)
    if options.select is None:
        return results
    cells = results.map(lambda result: Cell(result.record.config, result.name, result.record.hash, str(result.out)))
    found = {cell.folder for cell in selected(cells, options.select)}
    return Results.of(results.filter(lambda result: str(result.out) in found))


def refuse_without_page() -> None:
    """Raise `ExtraError` if no page can be made: better now than after days of work."""
    from pyexp.look import page  # only who wants a page pays for it

    page.require()


def write_page(results: Results) -> str:
    """Write the page of the run, and return a line that names it; where the disk is full, what went wrong."""
    from pyexp.look import page

    try:
        return f"page: {page.write(results)}"
    except (OSError, ResultError) as error:  # the report on what has run is not lost for it
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


def tell(line: str) -> None:
    """Write a line to stderr. Ignore a stderr that is closed."""
    with suppress(OSError, ValueError, AttributeError):  # stderr is closed: the exit status says it
        sys.stderr.write(f"{line}\n")


class Heard(NamedTuple):
    """The words of the command line (None: not for this call), and a notice if words are ignored."""

    words: list[str] | None
    notice: str = ""


def command_line(caller: FrameType) -> Heard:
    """The command line, if it is meant for the call of `run()` in this frame.

    It is meant for the script or installed entry point that was started, and for what these call. It is not meant for a
    call through a library: a test runner has its own arguments, and a library such as click has parsed them already.
    A notebook, a prompt, `python -c` and a run inside a cell have no command line either.
    """
    if getattr(sys.modules.get("pyexp.worker.cell"), "in_cell", False):
        return Heard(None)
    if caller.f_globals.get("__name__") == "__main__":
        return Heard(sys.argv[1:] if was_started(caller.f_globals) else None)
    between, frame = [], caller
    while not (frame.f_globals.get("__name__") == "__main__" and frame.f_code.co_name == "<module>"):
        between.append(frame)
        if frame.f_back is None:  # a thread, or what runs without a script
            return Heard(None)
        frame = frame.f_back
    if not was_started(frame.f_globals):
        return Heard(None)
    libraries = [each for each in between if _is_library(each, _package(caller))]
    if not libraries:
        return Heard(sys.argv[1:])
    if libraries[-1] is between[-1] or not sys.argv[1:]:  # the program is the library's
        return Heard(None)
    words = " ".join(sys.argv[1:])
    return Heard(
        None,
        f"note: the command line ({words}) is not read, because {_package(libraries[0])!r} calls run(); "
        "run(argv=sys.argv[1:]) reads it, and run(argv=[]) switches off this note",
    )


def typed_words(started: Sequence[str], script: str | None) -> list[str]:
    """The words after the script, in the words that started Python. With `-m cProfile main.py`, main.py is the script.

    >>> typed_words(["python", "-Wignore", "-X", "dev", "main.py", "--data", "x"], "main.py")
    ['--data', 'x']
    >>> typed_words(["python", "-Im", "package", "-j", "2"], None)
    ['-j', '2']
    """
    rest = iter(started[1:])
    for word in rest:
        if not word.startswith("-") or word == "-":
            return list(rest)
        letter = "" if word.startswith("--") else next((char for char in word[1:] if char in "XWmc"), "")
        if word == "--check-hash-based-pycs" or (letter and word.index(letter, 1) == len(word) - 1):
            next(rest, None)
        if letter in ("m", "c"):
            break
    words = list(rest)
    behind = [os.path.abspath(word) for word in words] if script else []
    at = behind.index(os.path.abspath(script)) + 1 if script and os.path.abspath(script) in behind else 0
    return words[at:]


def without_words(words: Sequence[str], some: Sequence[str]) -> list[str] | None:
    """The words without some of them, which stand there in this order. None if they do not.

    >>> without_words(["--data", "x", "-j", "2"], ["-j", "2"]), without_words(["-x"], ["-j", "2"])
    (['--data', 'x'], None)
    """
    left, wanted = [], list(some)
    for word in words:
        if wanted and word == wanted[0]:
            del wanted[0]
        else:
            left.append(word)
    return None if wanted else left


def was_started(namespace: Mapping[str, Any]) -> bool:
    """Whether this is the script that was started: the file, folder or archive in `sys.argv[0]`, or stdin."""
    started, file = Path(sys.argv[0] if sys.argv else ""), Path(namespace.get("__file__") or "<none>")
    other = {"__main__.py": file.parent.name, "<stdin>": "-"}.get(file.name, file.name)
    return _program(started.name) in (_program(file.name), _program(other))


def _program(name: str) -> str:
    """The name without the suffix that Windows adds to an entry point."""
    return re.sub(r"(-script\.pyw?|\.exe)$", "", name)


def _package(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]


def _is_library(frame: FrameType, own: str) -> bool:
    """Whether this is the code of a library other than the caller's own package."""
    package = _package(frame)
    is_installed = {"site-packages", "dist-packages"} & set(Path(frame.f_code.co_filename).parts)
    return package != own and (bool(is_installed) or package in ("unittest", "doctest"))


def parser(prog: str | None = None) -> "argparse.ArgumentParser":
    """The parser for the table of options. It raises `UsageError` for a wrong command line."""
    import argparse  # imported only to read a command line

    class Parser(argparse.ArgumentParser):
        def error(self, message: str) -> NoReturn:
            raise UsageError(message)

        def print_help(self, file: Any = None) -> None:
            say(self.format_help().rstrip())

    made = Parser(
        prog=prog,
        usage="%(prog)s [options] [key=value ...]",
        description="Run the experiment for each of its configs, load what is finished, and report on the results.",
        epilog="The --no- form of a switch (--no-check) undoes it if the script has set it. Results are kept below "
        "DIR/NAME/TIMESTAMP. Exit status: 0, 1 (--check, and a cell failed), 2 (wrong usage), 75 (--stop-after left "
        "cells), 130 (Ctrl-C).",
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    made.add_argument("overrides", nargs="*", metavar="key=value", help=OVERRIDE_HELP)
    for title, options in GROUPS.items():
        group = made.add_argument_group(title)
        for option in options:
            if option.metavar is not None:
                words, action = option.help + default_of(option), "append" if option.repeats else "store"
                group.add_argument(*option.flags, dest=option.field, metavar=option.metavar, action=action, help=words)
                continue
            on, off = ("store_true", "store_false") if option.sets else ("store_false", "store_true")
            group.add_argument(*option.flags, dest=option.field, action=on, help=option.help)
            if option.off is not None:
                group.add_argument(option.off, dest=option.field, action=off, help=argparse.SUPPRESS)
    return made


def parse(argv: Sequence[str], prog: str | None = None) -> dict[str, Any]:
    """The options on a command line, by field of `Options`. Fields that it does not name are absent.

    Raises `UsageError` for an unknown flag, naming the nearest known one, or for a wrong value. `--help` prints the
    help and exits.
    """
    if not argv:
        return {}
    found, unknown = parser(prog).parse_known_intermixed_args(list(argv))
    single = [word for word in argv if re.match("-[^-]", word) and f"-{word.partition('=')[0]}" in FLAGS]
    for argument in [*single, *unknown]:  # argparse takes -jobs for -j with the value "obs"
        raise UsageError(unknown_flag(argument.partition("=")[0]))
    said = {key: value for key, value in vars(found).items() if not (key == "overrides" and not value)}
    repeated = {option.field for option in OPTIONS if option.repeats}
    return checked({k: tuple(v) if k in repeated else v for k, v in said.items()}, "the command line")


def say(text: str) -> None:
    """Print the text. Escape characters that stdout cannot encode, and ignore a reader that has closed the pipe."""
    try:
        try:
            print(text, flush=True)
        except UnicodeEncodeError:
            encoding = sys.stdout.encoding
            print(text.encode(encoding, "backslashreplace").decode(encoding), flush=True)
    except BrokenPipeError:
        with suppress(OSError, ValueError):  # keep Python from complaining again when it exits
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
