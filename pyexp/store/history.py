"""The history of a run: the grids that were run in its folder, by which commands, and how each command ended.

`run.json` has the latest grid and the commands that ran it. When another grid is run, the earlier one is appended to
`history.jsonl`, so that adding a few cells to a large run stays cheap. Nothing is unpickled here: a result is loaded
when its value is used.
"""

import json
import os
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from hashlib import sha256
from typing import TYPE_CHECKING, Any, NamedTuple

from pyexp.axes import MISSING, Axis, Level
from pyexp.configs import FrozenConfig
from pyexp.errors import NoRunError, StoreError, UsageError, listing, nearest
from pyexp.plan import Cell, Facts, Mode, Status, classify, folder_name, plan, unused
from pyexp.results import FORMAT, Result, cells_in_words, plain, restored
from pyexp.store import claims, files, layout, records
from pyexp.store.layout import HISTORY, RUN, Run
from pyexp.sweep import chained
from pyexp.tables import Results
from pyexp.tensor import Tensor

if TYPE_CHECKING:
    from pyexp.store.provenance import Git

#: Seconds to wait for other processes to write `run.json`. Each takes milliseconds.
PATIENCE = 600.0
#: Seconds that git may delay the first cell, and the end.
PATIENCE_AT_START, PATIENCE_AT_END = 0.1, 2.0
#: Commands that `run.json` keeps for a grid; earlier ones are in the history.
MOST_COMMANDS = 100


def grid_json(cells: Tensor[Cell]) -> dict[str, Any]:
    """The grid as JSON data: its shape, its axes with coordinates, and every cell's name, hash and folder."""
    return {
        "shape": list(cells.shape),
        "axes": [_axis_json(axis) for axis in cells.axes],
        "cells": [{"name": cell.name, "hash": cell.hash, "folder": cell.folder} for cell in cells],
    }


def _axis_json(axis: Axis) -> dict[str, Any]:
    data: dict[str, Any] = {"name": axis.name, "coords": [plain(at) for at in axis.coords]}
    levels = [level.known() for level in axis.levels]
    if levels:
        data["flat"] = axis.is_flat
        data["levels"] = [
            {**_axis_json(level.axis), "codes": list(level.codes), "under": level.under} for level in levels
        ]
    return data


def _axis_of(data: Mapping[str, Any], version: int) -> Axis:
    """The axis from JSON data. Raises an Exception if the data is not an axis."""
    coords = tuple(restored(at, version) for at in data["coords"])
    levels = []
    for level in data.get("levels", ()):
        axis, codes = _axis_of(level, version), tuple(level["codes"])
        if len(codes) != len(coords) or not all(MISSING <= code < axis.size for code in codes):
            raise ValueError("a code is outside its level")
        levels.append(Level(axis, codes, level["under"]))
    marks = tuple(json.dumps(at) for at in data["coords"])  # positions of several grids with equal marks are one
    return Axis(str(data["name"]), coords, levels=tuple(levels), is_flat=data.get("flat", False), marks=marks)


def described(run: Run) -> dict[str, Any]:
    """The data in `run.json`; empty if it cannot be read. Raises `StoreError` if its format is newer."""
    data = files.parsed(files.head(os.path.join(run.path, RUN)) or b"")
    version = data.get("format", FORMAT) if isinstance(data, dict) else None
    if not isinstance(version, int):  # damaged
        return {}
    if version > FORMAT:
        raise StoreError(
            f"the run at {run.path} was written by a newer pyexp (its format is {version}, and this one reads up to "
            f"{FORMAT}): upgrade pyexp, or begin a new run"
        )
    return dict(data)


def describes(run: Run, cells: Tensor[Cell]) -> bool:
    """Whether `run.json` has this grid. Raises `StoreError` if its format is newer."""
    return grid_json(cells).items() <= described(run).items()


class History(NamedTuple):
    """All grids that were run in a folder, as JSON data, and all commands, both in order of time."""

    grids: tuple[Mapping[str, Any], ...]
    commands: tuple[Mapping[str, Any], ...]

    @property
    def folders(self) -> set[str]:
        """The folders of all cells."""
        return {str(cell["folder"]) for grid in self.grids for cell in grid["cells"]}

    @property
    def cells(self) -> Tensor[Cell]:
        """All cells: in the shape of the latest grid if that has them all, flat otherwise.

        In a flat tensor each cell has the coordinates that it had in its grid. Configs are not filled in.
        """
        if not self.grids:
            return Tensor([])
        folders = self.folders
        latest = _grid_of(self.grids[-1])
        if latest.size == len(folders):
            return latest
        cells = chained([*map(_grid_of, self.grids[:-1]), latest])
        first: dict[str, int] = {}
        for position, cell in enumerate(cells):
            first.setdefault(cell.folder, position)
        return cells[list(first.values())]


def _grid_of(data: Mapping[str, Any]) -> Tensor[Cell]:
    """The grid from JSON data; flat if its shape or axes are damaged."""
    cells = tuple(cell_at(str(cell["folder"]), str(cell["name"])) for cell in data["cells"])
    try:
        version = int(data.get("format", FORMAT))
        return Tensor(cells, data["shape"], [_axis_of(axis, version) for axis in data["axes"]])
    except (KeyError, TypeError, ValueError):
        return Tensor(cells)


def history(run: Run) -> History:
    """The history of a run; if that is lost, the cells on disk. Raises `StoreError` if its format is newer."""
    grids: dict[str, Mapping[str, Any]] = {}
    commands: dict[str, Mapping[str, Any]] = {}
    for part in parts(run):
        if has_cells(part):
            key = identity(part, GRID)
            grids.pop(key, None)  # a grid that is run again becomes the latest
            grids[key] = part
        commands |= {identity(command, COMMAND): command for command in commands_of(part)}
    if not grids:
        here = [name for name in layout.cell_folders(run) if layout.is_cell(os.path.join(run.path, name))]
        # Of the folders with one hash, the shortest is the cell's: `keep_apart` has given the others a longer name.
        known = {name.rpartition("-")[2]: name for name in sorted(here, key=len, reverse=True)}
        cells = sorted((folder, digest) for digest, folder in known.items())
        grids[""] = {"cells": [{"name": "", "hash": digest, "folder": folder} for folder, digest in cells]}
    return History(tuple(grids.values()), tuple(commands.values()))


#: The fields that identify a grid, and those that identify a command.
GRID, COMMAND = ("shape", "axes", "cells"), ("host", "process", "started")


def identity(data: Mapping[str, Any], fields: Sequence[str]) -> str:
    """The values of these fields as text, equal for two parts about one grid, or two entries about one command."""
    return json.dumps([data.get(field) for field in fields], sort_keys=True)


def commands_of(part: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The entries of commands in a part, as far as they can be read."""
    found = part.get("commands")
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def parts(run: Run) -> list[dict[str, Any]]:
    """The parts of the history, one for each grid, the latest last. Raises `StoreError` if a newer pyexp wrote them."""
    lines = (files.head(os.path.join(run.path, HISTORY)) or b"").splitlines()  # a crash may have cut the last one off
    return [part for part in (*map(files.parsed, lines), described(run)) if isinstance(part, dict) and part]


def has_cells(part: Mapping[str, Any]) -> bool:
    """Whether a part has a grid that can be read."""
    cells = part.get("cells")
    return isinstance(cells, list) and all(
        isinstance(cell, dict) and {"folder", "name"} <= cell.keys() for cell in cells
    )


@contextmanager
def journal(
    run: Run, head: Mapping[str, Any], cells: Tensor[Cell], git: "Git", sources: Mapping[str, bytes]
) -> Iterator[None]:
    """Enter the grid and this command into `run.json`, and afterwards how the command ended.

    `head` names the experiment and its script. Keep the `sources` of its code by module, once for each content. Keep
    the entries of earlier commands and the start of the run. Raises `StoreError` if the folder cannot be written to.
    """
    from pyexp.store.provenance import libraries, this_command  # not imported by a report

    entry = {**this_command(), "git": git.answer(PATIENCE_AT_START)}
    grid = grid_json(cells)
    _enter(run, head, grid, entry, sources)
    status = "failed"
    try:
        yield
        status = "finished"
    except KeyboardInterrupt:
        status = "interrupted"
        raise
    finally:
        entry |= {"git": git.answer(PATIENCE_AT_END), "ended": time.time(), "status": status, "libraries": libraries()}
        with suppress(StoreError, OSError):  # the disk may be full; the results are more important
            if entry["git"].get("state") == "dirty" and (patch := git.patch(PATIENCE_AT_END)):
                entry |= {"patch": keep(run, patch)}
            _enter(run, head, grid, entry)


def _enter(
    run: Run, head: Mapping[str, Any], grid: Mapping[str, Any], entry: dict[str, Any],
    sources: Mapping[str, bytes] | None = None,
) -> None:  # fmt: skip
    """Enter this command into `run.json`, or replace its entry. One process at a time.

    Keep the `sources` first, if they are given, and put their files into the entry.

    Raises `StoreError` if the folder cannot be written to, or if a newer pyexp wrote its `run.json`.
    """
    path = os.path.join(run.path, RUN)
    try:
        with alone(run):
            files.remove_temporary(run.path)
            if sources is not None:
                entry["sources"] = _kept_sources(run, sources)
            before = described(run)
            known = commands_of(before)
            others = [one for one in known if identity(one, COMMAND) != identity(entry, COMMAND)]
            is_known, is_here = len(others) < len(known), grid.items() <= before.items()
            if before and entry["ended"] and not is_known:  # another process runs another grid there by now
                _append(run, {"commands": [entry]})
                return
            if before and (not is_here or len(others) >= MOST_COMMANDS):
                _append(run, before)
                others = []
            if run.durable and not os.path.lexists(path):
                above = run.path  # its maker may have been killed before it synced the names of all these folders
                while above != (above := os.path.dirname(above)):
                    files.sync_folder(above)
            about = {"format": FORMAT, "started": layout.beginning(run), **head, **_beginner(before, head)}
            told = {**about, "commands": [*others, entry], **grid}
            files.write(path, [files.checked_json(told)], durable=run.durable)
    except OSError as error:
        raise layout.unusable(run.path, error) from None


def _beginner(before: Mapping[str, Any], head: Mapping[str, Any]) -> dict[str, str]:
    """The script and function that began the run, and each `script.function` that has joined it, joined by slashes."""
    began, own = ({key: str(data.get(key) or "") for key in ("script", "function")} for data in (before, head))
    if not began["script"]:
        return own
    joined = dict.fromkeys(filter(None, str(before.get("joined") or "").split("/")))
    if own["script"] and own != began:
        joined[".".join(own.values())] = None
    return {**began, "joined": "/".join(joined)} if joined else began


@contextmanager
def alone(run: Run) -> Iterator[None]:
    """While this lasts, no other process describes the run. Raises `StoreError` if another does so for ever."""
    folder, last = run.claims, time.monotonic() + PATIENCE
    while (held := claims.claim(folder, RUN)) is None:  # others have it for a moment
        if time.monotonic() > last:
            holder = claims.holders(folder).get(RUN, "(another process)")
            raise StoreError(f"{folder}/{RUN} has been claimed for {PATIENCE:.0f} s {holder}; is it suspended?")
        time.sleep(0.02)
    try:
        yield
    finally:
        held.release()
        with suppress(OSError):  # others have claims there
            os.rmdir(folder)


def keep(run: Run, patch: bytes) -> str:
    """Keep the changes since the commit beside `run.json`, once for each content; return the file's name."""
    known = sorted(name for name in os.listdir(run.path) if name.startswith("changes") and name.endswith(".patch"))
    for name in known:
        if files.head(os.path.join(run.path, name)) == patch:
            return name
    name = unused("changes.patch", known, "changes-{}.patch")
    files.write(os.path.join(run.path, name), [patch], durable=False)
    return name


#: A longer source, in bytes, is not kept.
LONGEST_SOURCE = 1 << 18


def _kept_sources(run: Run, sources: Mapping[str, bytes]) -> dict[str, str]:
    """Keep the sources of a run's code, once for each content; return their files by module. Raises OSError."""
    kept, folder = {}, os.path.join(run.path, layout.CODE)
    if sources:
        files.make_folders(folder, durable=False)
        files.remove_temporary(folder)
    for module, source in sorted(sources.items()):
        if len(source) <= LONGEST_SOURCE:
            name = f"{folder_name(module)}-{sha256(source).hexdigest()[:12]}.py"
            if not os.path.lexists(os.path.join(folder, name)):
                files.write(os.path.join(folder, name), [source], durable=False)
            kept[module] = f"{layout.CODE}/{name}"
    return kept


def _append(run: Run, part: Mapping[str, Any]) -> None:
    """Append an earlier grid to the history."""
    with open(os.path.join(run.path, HISTORY), "ab") as file:
        file.write(files.checked_line(part))
        file.flush()
        if run.durable:
            os.fsync(file.fileno())


class Kept(NamedTuple):
    """A run on disk: its name, its start, the shape of its grid, and the number of cells by status."""

    name: str
    path: str
    started: float
    shape: tuple[int, ...]
    statuses: Mapping[str, int]
    grids: int = 1

    @property
    def extent(self) -> str:
        """The shape in words; the number of grids if there are several."""
        return "×".join(map(str, self.shape)) if self.grids < 2 else f"{self.grids} grids"


def age(seconds: float) -> str:
    """A time span in its largest unit.

    >>> age(59.9), age(60), age(200_000)
    ('59 s', '1 min', '2 d')
    """
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return f"{int(max(seconds, 0))} s"


def kept(base: str) -> list[Kept]:
    """The runs of an experiment, in order of their start."""
    own = layout.run_at(*os.path.split(base))  # without a timestamp
    found = [*layout.runs(base), *(() if own is None else [own._replace(name=".")])]
    return [
        kept_run(Run(os.path.normpath(os.path.join(base, one.name))), one.name, one.started) for one in sorted(found)
    ]


def kept_run(run: Run, name: str, started: float, *, loads: bool = True) -> Kept:
    """What there is to list of a run. With `loads`, a result whose classes are missing here does not count."""
    try:
        here = history(run)
    except StoreError:  # written by a newer pyexp
        here = History((), ())
    cells = here.cells
    found = statuses(run, cells, loads=loads)
    counts: dict[str, int] = {status.value: found.count(status) for status in Status if status in found}
    return Kept(name, run.path, started, cells.shape, counts, len(here.grids))


def statuses(run: Run, cells: Sequence[Cell] | Tensor[Cell], *, loads: bool = False) -> list[Status]:
    """The status of each cell. With `loads`, a result whose classes are missing here does not count."""
    seen = records.look(run, cells, records.Program(loads=loads), exact=False)
    return [classify(seen.get(cell.folder, Facts())).status for cell in cells]


def cell_at(folder: str, name: str = "") -> Cell:
    """The cell in this folder, when nothing else is known about it."""
    return Cell(FrozenConfig(name=name), name, folder.rpartition("-")[2], folder)


def load(path: str | os.PathLike[str], *, trust: str = "") -> Any:
    """Load a run or a cell from its folder, without the script: the Results of a run, or the Result of a cell.

    `load("out/line")`, the folder of an experiment, loads its latest run. If several grids were run there, the Results
    have all their cells: in the shape of the latest grid if that has them all, flat otherwise. A cell without a result
    is a Result with `__error__` and the type `NotRun`.

    The configs come from the records. A `NotLoaded` stands in them for a value that needs a class of the script, such
    as a member of an Enum, or that was too long for a record.

    An output other than a scalar is unpickled when it is first used, and that runs code: load only your own results.
    `trust` names another user whose results to load, or is `all`. A UserWarning says which results are not loaded
    because they belong to another user.

    >>> cell = results[0].out
    >>> load(cell.parent).shape, load(cell).loss
    ((1, 2, 3), 0.5)

    Raises `NoRunError` if the folder is neither a run nor a cell, and `StoreError` if a newer pyexp wrote it.
    """
    run, folder = find(path, trust=trust)
    loaded = load_run(run) if folder is None else load_cell(run, folder)
    _warn_of_foreign([loaded] if isinstance(loaded, Result) else list(loaded))
    return loaded


def _warn_of_foreign(results: Sequence[Result]) -> None:
    """Warn, in the name of the caller's caller, of the results that belong to users who are not trusted."""
    found = [result for result in results if result.record.status == Status.FOREIGN.value]
    owners = set()
    for result in found:
        with suppress(OSError):  # removed meanwhile
            owners.add(files.owner_of(os.lstat(os.path.join(result.out, layout.RESULT))))
    if found:
        named = [f"trust={owner!r} or " for owner in owners if len(owners) == 1]
        warnings.warn(
            f"another user's results are not loaded: {cells_in_words(len(found))} of {listing(sorted(owners))}. "
            f"Loading a result runs code; if you trust its owner, pass {''.join(named)}trust='all'",
            stacklevel=3,
        )


def find(path: str | os.PathLike[str], *, trust: str = "") -> tuple[Run, str | None]:
    """The run at a path and, if it is a cell's folder, the name of that.

    The folder of an experiment stands for its latest run. Raises `NoRunError` saying what there is, and `StoreError`.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise UsageError(f"path is {path!r}, of type {type(path).__name__}; it takes the folder of a run or a cell")
    folder = layout.absolute(os.fspath(path))
    if os.path.isfile(folder):
        raise NoRunError(f"{folder} is a file; give the folder of a run or a cell, such as {os.path.dirname(folder)}")
    run, above = Run(folder, trust=trust), Run(os.path.dirname(folder), trust=trust)
    name = os.path.basename(folder)
    # A cell without a folder is known by the run's grid.
    if not described(run) and (
        layout.is_cell(folder) or (name in layout.cell_folders(above) and name in history(above).folders)
    ):
        return above, name
    here = history(run)
    if not here.folders and (latest := layout.latest_run(folder)) is not None:
        run = Run(os.path.join(folder, latest), trust=trust)
        here = history(run)
    if not here.folders:
        raise NoRunError(f"there is no run at {folder}; {_what_there_is(folder)}")
    return run, None


def _what_there_is(folder: str) -> str:
    """A hint for a path without a run: the experiments in it or further below, or what is beside it."""
    with suppress(OSError):
        inside = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and layout.runs(entry.path))
        if inside:
            return f"the experiments in it are {', '.join(map(repr, inside))}"
        below = {os.path.dirname(os.path.relpath(path, folder)) for path in layout.runs_below(folder, 3)}
        if below:
            return f"below it is {listing(sorted(below))}"
    above = os.path.dirname(folder)
    if not os.path.isdir(above):
        return f"there is no folder {above}"
    known = sorted(name for name in os.listdir(above) if name != os.path.basename(folder) and name[0] != ".")
    return nearest(os.path.basename(folder), known, "beside it is")


def load_run(run: Run, *, unpickles: bool = True) -> Results:
    """The Results of all cells of a run; see `as_run`. Raises `NoRunError` if it has none, and `StoreError`."""
    cells = history(run).cells
    if not cells:
        raise NoRunError(f"there is no cell in {run.path}")
    return as_run(run, cells, unpickles=unpickles)


def load_cell(run: Run, folder: str, *, unpickles: bool = True) -> Result:
    """The Result of the cell in this folder of the run; see `as_run`."""
    return as_run(run, Tensor([cell_at(folder)]), unpickles=unpickles)[0]


def as_run(run: Run, cells: Tensor[Cell], *, unpickles: bool = True) -> Results:
    """The Results of these cells, with the configs from their records.

    If a record is lost, load the result to make it again; without `unpickles`, report the cell as unfinished.
    """
    seen = records.look(run, cells, records.Program(loads=False), exact=False)

    def known(cell: Cell) -> Cell:
        record = seen[cell.folder].record if cell.folder in seen else None
        return cell if record is None else cell._replace(config=record.config, name=record.name)

    steps = plan(cells.map(known), {folder: classify(facts) for folder, facts in seen.items()}, Mode.REPORT).steps
    return records.reported(run, steps, seen, unpickles=unpickles)
