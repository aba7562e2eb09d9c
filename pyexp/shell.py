"""The shell: look → plan → perform → report. It asks the world, lets `plan` decide, and has the devices do it."""

import os
from contextlib import closing
from fnmatch import fnmatchcase
from typing import Any

from pyexp import archive, index, store
from pyexp.cli import Options
from pyexp.collector import collecting_later
from pyexp.configs import FrozenConfig
from pyexp.errors import ConfigError, NoRunError, SelectionError, nearest
from pyexp.executors import refuse_unknown
from pyexp.job import Job, Look
from pyexp.overrides import overridden
from pyexp.plan import Action, Cell, Found, Mode, Step, cells_of, plan, refuse_too_many
from pyexp.progress import progress
from pyexp.results import Result, missing
from pyexp.store import Run, Sight
from pyexp.sweep import grid_of
from pyexp.tables import Results
from pyexp.tensor import Tensor


def grid(configs: Any) -> Tensor[FrozenConfig]:
    """The configs, or what a function of no argument returns, as a grid. Raises `ConfigError` for what is none."""
    if configs is None:
        raise ConfigError("there are no configs: register a function with @experiment.configs, or pass run(configs=…)")
    if not callable(configs):
        return _filled(grid_of(configs), "configs")
    label = f"the configs function {getattr(configs, '__name__', '?')!r}"
    made = configs()
    if made is None:
        raise ConfigError(f"{label} returned None; did it forget to return the list of configs?")
    label = f"what {label} returned"
    return _filled(grid_of(made, label), label)


def _filled(grid: Tensor[FrozenConfig], what: str) -> Tensor[FrozenConfig]:
    """The grid, if there is a config in it: a selection may hold none, and would be a run of nothing."""
    if not grid:
        raise ConfigError(f"{what} is empty, of shape {grid.shape}; a run needs at least one config")
    return grid


def look(job: Job, options: Options) -> Look:
    """The cells of the job, what is on disk of them, and the plan. Changes nothing.

    Raises `NoRunError` if a run is asked for that is not there, `UsageError` for overrides that do not fit.
    """
    refuse_too_many(job.configs)
    with collecting_later():
        return _look(job, options)


def _look(job: Job, options: Options) -> Look:
    cells, chosen = cells_of_job(job, options)
    run = find_run(job, options)
    if run is None:
        return Look(None, plan(chosen, {}, options.mode), {}, cells)
    known = index.read(run.path)
    is_indexed = archive.is_indexed(run, cells, known)
    is_described = is_indexed or archive.describes(run, cells)
    sights = store.look(run, chosen, known)
    found: dict[str, Found] = {folder: sight.found for folder, sight in sights.items()}
    return Look(run, plan(chosen, found, options.mode), sights, cells, is_described, known, is_indexed)


def cells_of_job(job: Job, options: Options) -> tuple[Tensor[Cell], Tensor[Cell]]:
    """All cells of the job with the overrides, and those of them that are selected."""
    cells = cells_of(overridden(job.configs, options.overrides))
    return cells, cells if options.select is None else selected(cells, options.select)


def selected(cells: Tensor[Cell], glob: str) -> Tensor[Cell]:
    """The cells whose name matches. Raises `SelectionError` with the nearest names if there are none."""
    try:
        found = cells[glob]
    except SelectionError:
        wider = f"*{glob}*"
        number = sum(fnmatchcase(cell.name, wider) for cell in cells)
        if not number:
            raise
        raise SelectionError(f"no cell is named {glob!r} or matches it; {wider!r} matches {number}") from None
    return found if isinstance(found, Tensor) else cells.filter(lambda cell: cell is found)


def find_run(job: Job, options: Options) -> Run | None:
    """The folder of the run that the options name; None if a new one is to be made. Raises `NoRunError`."""
    base = store.home(options.output_dir, job.name)
    name = options.timestamp
    if options.latest:
        name = store.latest_run(base)
        if name is None:
            raise NoRunError(f"there is no run of {job.name!r} below {base} yet; run it first, without the option")
    if name is True:
        return None
    path = base if name is False else os.path.join(base, name)
    if os.path.isdir(path):
        return Run(path, options.durable)
    if options.report or options.last_failed or options.resume:
        known = [run for _, run in sorted(store.runs(base))]
        raise NoRunError(f"there is no run at {path}; {nearest(name or job.name, known, 'the runs are')}")
    return None


def perform(job: Job, options: Options) -> Results:
    """Carry out what the options ask for, and return a result for each cell.

    Raises `Interrupted` if a signal came, and what `look` raises before anything has run.
    """
    refuse_unknown(options.executor)
    with collecting_later():
        seen = look(job, options)
        if options.mode is Mode.REPORT:
            return reported(seen)
        if seen.run is not None and finished(seen, seen.run):
            _conclude(seen, seen.run, options)
            return reported(seen)
    from pyexp.performance import performed  # what it takes to run anything, a run that is finished need not pay for

    return Results.of(performed(job, options, seen))


def _conclude(seen: Look, run: Run, options: Options) -> None:
    """Leave a finished run tidy and indexed, and say that it is finished."""
    store.tidy(run)
    new = {name: sight.record for name, sight in seen.sights.items() if sight.record is not None and not sight.indexed}
    if new or not seen.is_indexed:
        archive.remember(run, seen.cells, seen.known, new)
    with closing(progress(0, quiet=options.quiet, terminal_is_free=False, environ=os.environ)) as display:
        display.began(run.path, seen.plan.summary())


def finished(seen: Look, run: Run) -> bool:
    """Whether every cell is there and written down, and nobody else is at it: then there is only to report."""
    return (
        seen.plan.mode is Mode.RUN
        and all(step.action is Action.LOAD for step in seen.plan.steps)
        and not any(sight.fresh for sight in seen.sights.values())
        and not store.is_shared(run)
        and seen.is_described
    )


def reported(seen: Look) -> Results:
    """The results that are there, and for every other cell one that says it is missing.

    Raises `NoRunError` if there is nothing at all to show.
    """
    run = seen.run
    if run is None or all(step.action is Action.MISSING for step in seen.plan.steps):
        where = "" if run is None else f" in {run.path}"
        raise NoRunError(f"no cell of this grid has ended{where}: there is nothing to report")
    return Results.of(seen.plan.steps.map(lambda step: _shown(run, step, seen.sights.get(step.cell.folder))))


def _shown(run: Run, step: Step, sight: Sight | None) -> Result:
    cell = step.cell
    if step.action is Action.LOAD and sight is not None and sight.record is not None:
        return store.result(run, cell, sight.record)
    return store.result(run, cell, missing(cell.name, cell.config, cell.hash, step.reason))
