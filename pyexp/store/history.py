"""Runs as they lie on disk: described while they go on, and later listed and loaded without the script.

Nothing is unpickled here; a result is when its value is looked at.
"""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from hashlib import sha256
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

from pyexp.configs import FrozenConfig
from pyexp.errors import NoRunError, ResultError, StoreError, nearest
from pyexp.plan import Cell, Status
from pyexp.results import FORMAT, Record, Result, cells_in_words, from_json, missing, plain, restored
from pyexp.store import claims, index
from pyexp.store import records as store
from pyexp.store.index import Index
from pyexp.store.records import Run
from pyexp.tables import Results
from pyexp.tensor import Axis, Tensor, default_axes

if TYPE_CHECKING:
    from pyexp.store.provenance import Git


class Kept(NamedTuple):
    """A run that is on disk: its name, when it began, the shape of its grid, how many cells have which status."""

    name: str
    path: str
    started: float
    shape: tuple[int, ...]
    statuses: Mapping[str, int]

    def line(self, now: float, width: int = 0) -> str:
        """The run in a line, its name filled up to a width."""
        counts = ", ".join(f"{number} {status}" for status, number in self.statuses.items())
        shape = "×".join(map(str, self.shape))
        when = f"{age(now - self.started)} ago"
        return f"{self.name:<{width}}  {when:>10}  {shape:>9} = {cells_in_words(prod(self.shape))}: {counts}"


def age(seconds: float) -> str:
    """A time span in its largest unit.

    >>> age(59.9), age(60), age(200_000)
    ('59 s', '1 min', '2 d')
    """
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return f"{int(max(seconds, 0))} s"


def grid_json(cells: Tensor[Cell]) -> dict[str, Any]:
    """The grid as `run.json` has it: shape, axes with their coordinates, and every cell's name, hash and folder."""
    return {
        "shape": list(cells.shape),
        "axes": [{"name": axis.name, "coords": [plain(at) for at in axis.coords]} for axis in cells.axes],
        "cells": [{"name": cell.name, "hash": cell.hash, "folder": cell.folder} for cell in cells],
    }


def fingerprint(cells: Tensor[Cell]) -> str:
    """What tells this grid from others. A folder's name holds the hash of its config, and so of the cell's name."""
    axes = [(axis.name, axis.coords) for axis in cells.axes]
    lines = [repr(axes), *(cell.folder for cell in cells)]
    return sha256("\n".join(lines).encode("utf-8", "surrogatepass")).hexdigest()


def described(run: Run) -> dict[str, Any]:
    """What `run.json` says; empty if there is none that can be read. Raises `StoreError` if its format is newer."""
    return current(store.described(run), run)


def current(told: dict[str, Any], run: Run) -> dict[str, Any]:
    """What `run.json` says. Raises `StoreError` if its format is newer."""
    version = told.get("format", FORMAT)
    if not isinstance(version, int):  # it is damaged
        return {}
    if version > FORMAT:
        raise StoreError(
            f"the run at {run.path} was written by a newer pyexp (its format is {version}, and this one reads up to "
            f"{FORMAT}): upgrade pyexp, or begin a new run"
        )
    return told


def describes(run: Run, cells: Tensor[Cell]) -> bool:
    """Whether `run.json` has this very grid. Raises `StoreError` if its format is newer."""
    return grid_json(cells).items() <= described(run).items()


def is_indexed(run: Run, cells: Tensor[Cell], known: Index) -> bool:
    """Whether the index says that `run.json` has this very grid."""
    return known.grid == fingerprint(cells) and known.run == index.stamp(os.path.join(run.path, store.RUN))


def remember(run: Run, cells: Tensor[Cell], known: Index, records: Mapping[str, Record]) -> None:
    """Write the index of a run, with these records by folder, what was known before, and whether it has this grid.

    It saves the next look into the run the reading of each record.
    """
    described_by = index.stamp(os.path.join(run.path, store.RUN))  # before it is read: another process may write it
    made = {
        folder: index.entry(record, os.path.join(run.path, folder, store.RECORD)) for folder, record in records.items()
    }
    entries = {**known.entries, **{folder: entry for folder, entry in made.items() if entry is not None}}
    with suppress(StoreError):  # a newer pyexp has written it meanwhile
        grid = fingerprint(cells) if describes(run, cells) else ""
        index.write(run.path, Index(entries, grid, described_by))


@contextmanager
def journal(run: Run, experiment: str, cells: Tensor[Cell], git: "Git") -> Iterator[None]:
    """Write down in `run.json` what is run here: the grid and this command before, how it ended after.

    What is there of earlier commands, and when the run began, is kept. Raises `StoreError` if it cannot be written.
    """
    from pyexp.store.provenance import UNKNOWN, this_command  # who only reads need not pay for it

    entry = {**this_command(), "git": git.answer(PATIENCE_AT_START) or UNKNOWN}
    grid = grid_json(cells)
    _enter(run, experiment, grid, entry)
    status = "failed"
    try:
        yield
        status = "finished"
    except KeyboardInterrupt:
        status = "interrupted"
        raise
    finally:
        entry |= {"git": git.answer(PATIENCE_AT_END) or UNKNOWN, "ended": time.time(), "status": status}
        with suppress(StoreError):  # the disk may be full by now; the results are what counts
            _enter(run, experiment, grid, entry)


#: Seconds that git may delay the first cell, and the end.
PATIENCE_AT_START, PATIENCE_AT_END = 0.1, 2.0


def _enter(run: Run, experiment: str, grid: Mapping[str, Any], entry: Mapping[str, Any]) -> None:
    """Write `run.json` with the entry for this command in it, in the place of the one it has."""
    mine = {key: entry[key] for key in ("host", "process", "started")}

    def tell(told: dict[str, Any]) -> dict[str, Any]:
        commands = current(told, run).get("commands")
        others = [
            one
            for one in (commands if isinstance(commands, list) else [])
            if not (isinstance(one, dict) and mine.items() <= one.items())
        ]
        head = {"format": FORMAT, "started": store.beginning(run), "experiment": experiment}
        return {**head, "commands": [*others, entry], **grid}

    store.describe(run, tell)


def runs(base: str) -> list[Kept]:
    """The runs of an experiment, the first begun first."""
    own = store.described(Run(base)).get("started")  # where there is no level of timestamps
    found = [(own, ".")] if isinstance(own, (int, float)) else []
    return [_kept(base, name, started) for started, name in sorted([*found, *store.runs(base)])]


def _kept(base: str, name: str, started: float) -> Kept:
    run = Run(os.path.normpath(os.path.join(base, name)))
    told = store.described(run)
    folders = _folders(run, told)
    busy = claims.holders(os.path.join(run.path, store.CLAIMS))
    known = index.read(run.path)
    found = [_status(run, folder, busy, known).value for folder in folders]
    counts: dict[str, int] = {status.value: found.count(status.value) for status in Status if status.value in found}
    return Kept(name, run.path, started, _shape(told, len(folders)), counts)


def _folders(run: Run, told: Mapping[str, Any]) -> dict[str, str]:
    """The folders of a run's cells, with the cells' names; where its description is lost, those that are there."""
    with suppress(KeyError, TypeError):
        return {str(cell["folder"]): str(cell["name"]) for cell in told["cells"]}
    with suppress(OSError):
        return {name: "" for name in sorted(os.listdir(run.path)) if _is_cell(os.path.join(run.path, name))}
    return {}


def _is_cell(path: str) -> bool:
    return any(os.path.exists(os.path.join(path, name)) for name in (store.RECORD, store.RESULT))


def _shape(told: Mapping[str, Any], size: int) -> tuple[int, ...]:
    shape = told.get("shape")
    if isinstance(shape, list) and all(isinstance(n, int) for n in shape) and prod(shape) == size:
        return tuple(shape)
    return (size,)


def _status(run: Run, folder: str, busy: Mapping[str, str], known: Index) -> Status:
    """The status of a cell as the index or its folder shows it, without a look into its result."""
    path = os.path.join(run.path, folder)
    if folder in busy:
        return Status.BUSY
    entry = known.entries.get(folder)
    if entry is not None and index.holds(entry, os.path.join(path, store.RESULT), os.path.join(path, store.RECORD)):
        return Status.DONE
    record = _record(path)
    if isinstance(record, Record) and record.failed:
        return Status.FAILED
    if os.path.exists(os.path.join(path, store.RESULT)):
        return Status.DONE
    return Status.UNFINISHED if os.path.isdir(path) else Status.NEW


def _record(path: str) -> Record | None:
    """The record in a cell's folder; None if there is none that can be read."""
    told = store.read_checked(os.path.join(path, store.RECORD))
    try:
        return from_json(told) if isinstance(told, dict) else None
    except (ResultError, ValueError, OverflowError, RecursionError):
        return None


def load(path: str | os.PathLike[str]) -> Any:
    """What is kept at a path: the Results of a run's folder, or the Result of a cell's, without the script.

    The folder of an experiment stands for its latest run. Only the records are read, so that in configs a
    `NotLoaded` stands for what needs a class of the script's, such as a member of an Enum, and for what is too long for
    a record. A value is loaded when it is looked at, and a results folder is code: load only your own.

    Raises `NoRunError` if there is neither, `StoreError` if it was written by a newer pyexp.
    """
    folder = os.path.abspath(os.fspath(path))
    run = Run(folder)
    told = described(run)
    if not told and _is_cell(folder):
        return _result(Run(os.path.dirname(folder)), os.path.basename(folder))
    if not told and (latest := store.latest_run(folder)) is not None:
        run = Run(os.path.join(folder, latest))
        told = described(run)
    folders = _folders(run, told)
    if not folders:
        above = os.path.dirname(folder)
        known = sorted(os.listdir(above)) if os.path.isdir(above) else []
        raise NoRunError(f"there is no run at {folder}; {nearest(os.path.basename(folder), known, 'beside it is')}")
    found = tuple(_result(run, each, name) for each, name in folders.items())
    return Results.of_cells(found, _axes(told, _shape(told, len(folders))))


def _axes(told: Mapping[str, Any], shape: tuple[int, ...]) -> Sequence[Axis]:
    try:
        version = int(told.get("format", FORMAT))
        axes = [Axis(str(axis["name"]), tuple(restored(at, version) for at in axis["coords"])) for axis in told["axes"]]
    except (KeyError, TypeError, ValueError):
        return default_axes(shape)
    return axes if tuple(axis.size for axis in axes) == shape else default_axes(shape)


def _result(run: Run, folder: str, name: str = "") -> Result:
    """The result of one cell; without a record that can be read, one that says so."""
    path = os.path.join(run.path, folder)
    record = _record(path)
    has_result = os.path.exists(os.path.join(path, store.RESULT))
    if record is None or (not record.failed and not has_result):
        words = (
            "its record cannot be read; --continue makes it again" if has_result else
            "its result is gone" if record is not None else
            "started, not finished" if os.path.isdir(path) else
            "never started"
        )  # fmt: skip
        config = FrozenConfig(name=name) if record is None else record.config
        record = missing(name, config, folder.rpartition("-")[2], words)
    return store.result(run, Cell(record.config, record.name, record.hash, folder), record)


def listing(kept: Sequence[Kept]) -> str:
    """The runs as text, one a line."""
    now = time.time()
    width = max(len(one.name) for one in kept)
    return "\n".join(one.line(now, width) for one in kept)
