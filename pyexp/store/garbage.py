"""What can be removed below an output folder, and its removal.

What is older than an experiment's newest complete run is not needed by it. So these go: temporary files of dead
writers; a cell's folder or file that was set aside, once the cell has a new result or the experiment a newer complete
run. Whole runs go only by name. What a living process has claimed stays, whatever it is.
"""

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import NamedTuple

from pyexp.errors import NoRunError, StoreError
from pyexp.plan import FINISHED, Cell, classify
from pyexp.store import claims, files, history, layout, records
from pyexp.store.layout import BEFORE, CLAIMS, LOG, RECORD, RESULT, RUN, UNREADABLE, Run


class Item(NamedTuple):
    """A file or folder that can go: where it is, the run it is in, what has to be claimed for that, and why it can."""

    path: str
    run: Run
    claim: str
    size: int
    why: str


def found(paths: Iterable[str]) -> list[Item]:
    """What no run needs, in the runs at these paths."""
    items: list[Item] = []
    newest: dict[tuple[str, object], float] = {}
    for path in paths:
        home, name = os.path.split(path)
        key = home, _experiment(path)
        if key not in newest:
            complete = newest_complete(path)
            newest[key] = -1.0 if complete is None else complete.started
        begun = layout.run_at(home, name)
        items += _in_run(Run(path, trust="all"), is_old=begun is not None and begun.started < newest[key])
    return items


def newest_complete(path: str) -> layout.Begun | None:
    """The newest run whose cells are all done, of the experiment of the run at this path.

    It is looked for beside that: where there is no level of timestamps, the runs there are of other experiments.
    """
    home, name = os.path.split(path)
    experiment = _experiment(path)
    for begun in sorted(layout.runs(home), reverse=True):
        other = os.path.join(home, begun.name)
        is_mine = begun.name == name or (experiment is not None and _experiment(other) == experiment)
        if is_mine and _is_complete(Run(other, trust="all")):
            return begun
    return None


def _experiment(path: str) -> object:
    """The name of a run's experiment; None if that is lost, or a newer pyexp's."""
    try:
        return history.described(Run(path)).get("experiment")
    except StoreError:
        return None


def _is_complete(run: Run) -> bool:
    try:
        cells = history.history(run).cells
    except StoreError:  # a newer pyexp's: it may well be
        return True
    return bool(cells) and _are_done(run, cells)


def _are_done(run: Run, cells: Iterable[Cell]) -> bool:
    seen = records.look(run, cells, records.Program(loads=False), exact=False)
    return all(cell.folder in seen and classify(seen[cell.folder]).status in FINISHED for cell in cells)


def _in_run(run: Run, *, is_old: bool) -> Iterator[Item]:
    """What can go in a run, if no process is at it. `is_old` says that its experiment has a newer complete run."""
    if claims.holders(run.claims):
        return
    yield from _temporary(run.path, run, RUN)
    for name in sorted(os.listdir(run.path)):
        cell = name.removeprefix(BEFORE) if name.startswith(BEFORE) else name.partition(UNREADABLE)[0]
        if cell != name and layout.CELL.search(cell) and (is_old or _are_done(run, [history.cell_at(cell)])):
            yield _item(os.path.join(run.path, name), run, cell, _why(name, is_old=is_old))
    for cell in sorted(layout.cell_folders(run)):
        folder = os.path.join(run.path, cell)
        yield from _temporary(folder, run, cell)
        aside = [name for name in sorted(os.listdir(folder)) if _is_aside(name)]
        if aside and (is_old or _are_done(run, [history.cell_at(cell)])):
            yield from (_item(os.path.join(folder, name), run, cell, _why(name, is_old=is_old)) for name in aside)


def _why(name: str, *, is_old: bool) -> str:
    what = "the cell before it ran again" if name.startswith(BEFORE) else "set aside as unreadable"
    return f"{what}, and {'there is a newer complete run' if is_old else 'the cell is done since'}"


def _is_aside(name: str) -> bool:
    """Whether pyexp has given the file this name; an experiment's own may end in `.unreadable` too."""
    return any(name.startswith(f"{own}{UNREADABLE}") for own in (RESULT, RECORD, LOG))


def _temporary(folder: str, run: Run, claim: str) -> Iterator[Item]:
    for name in sorted(os.listdir(folder)):
        if files.is_temporary(name):
            yield _item(os.path.join(folder, name), run, claim, "a dead process left it half-written")


def _item(path: str, run: Run, claim: str, why: str) -> Item:
    return Item(path, run, claim, files.size_of(path), why)


def of_runs(paths: Iterable[str]) -> list[Item]:
    """The runs at these paths. Raises `NoRunError` or `StoreError` if one of them is not a run, or has to stay."""
    items = []
    for path in dict.fromkeys(paths):
        if not os.path.isdir(path) or os.path.islink(path):
            history.find(path)
            raise NoRunError(f"{path} is not the folder of a run, but a link or a file")
        inside = layout.runs_below(path)
        if path not in inside:
            run, folder = history.find(path)  # or it says what there is
            what = "a cell's folder" if folder is not None else f"an experiment's folder; {run.path} is its latest run"
            raise NoRunError(f"{path} is {what}: rm takes runs")
        if len(inside) > 1:
            raise StoreError(f"{path} has other runs in it: {', '.join(inside[1:])}")
        if held := claims.holders(Run(path).claims):
            raise StoreError(f"{path} is running: {len(held)} claimed {next(iter(held.values()))}")
        newest = newest_complete(path)
        if newest is not None and newest.name == os.path.basename(path):
            raise StoreError(f"{path} is the newest complete run of its experiment, which rm keeps; remove it by hand")
        items.append(Item(path, Run(path), RUN, files.size_of(path), "a run"))
    return items


def remove(item: Item) -> str:
    """Remove what can go; returns why it had to stay, or `""`. Nothing goes of a run that a living process is at."""
    folder = item.run.claims
    try:
        held = claims.claim(folder, item.claim)
        if held is None:
            return "a process has claimed it"
        try:
            if claims.holders(folder).keys() - {item.claim}:
                return "a process is running there"
            _removed(item.path, item.run)
        finally:
            held.release()
        with suppress(OSError):  # others have claims there
            os.rmdir(folder)
        if item.path == item.run.path:  # its description last: where this is interrupted, what is left is still a run
            with suppress(FileNotFoundError):
                os.unlink(os.path.join(item.path, RUN))
            os.rmdir(item.path)
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _removed(path: str, run: Run) -> None:
    """Remove a file, a folder, or all of a run but its description and its claims."""
    if path == run.path:
        for name in sorted(set(os.listdir(path)) - {RUN, CLAIMS}):
            _removed(os.path.join(path, name), run)
    elif os.path.islink(path) or not os.path.isdir(path):
        with suppress(FileNotFoundError):
            os.unlink(path)
    else:
        shutil.rmtree(path)
