"""What can be removed below an output folder, and its removal.

These can: temporary files of dead writers, and a cell's folder or file that was set aside, once the cell has a new
result or the experiment a newer complete run. A whole run can only be removed by name. What a living process has
claimed stays.
"""

import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from functools import cache
from typing import NamedTuple

from pyexp.errors import NoRunError, StoreError
from pyexp.plan import FINISHED, Cell
from pyexp.store import claims, files, history, layout
from pyexp.store.layout import BEFORE, CLAIMS, LOG, RECORD, RESULT, RUN, UNREADABLE, Run
from pyexp.tensor import Tensor


class Item(NamedTuple):
    """A file or folder that can be removed: its path, its run, the name to claim first, its size, and the reason."""

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
    """The newest run whose cells are all done, among the runs beside this path that are of the same experiment.

    Without a level of timestamps, the runs beside it are of other experiments.
    """
    home, name = os.path.split(path)
    experiment = _experiment(path)
    for begun in sorted(layout.runs(home), reverse=True):
        other = os.path.join(home, begun.name)
        if begun.name == name or (experiment is not None and _experiment(other) == experiment):
            run = Run(other, trust="all")
            try:
                cells = history.history(run).cells
            except StoreError:  # a newer pyexp's: it may well be complete
                return begun
            if cells and _are_done(run, cells):
                return begun
    return None


def _experiment(path: str) -> object:
    """The name of a run's experiment; None if that is lost, or a newer pyexp's."""
    try:
        return history.described(Run(path)).get("experiment")
    except StoreError:
        return None


def _are_done(run: Run, cells: Sequence[Cell] | Tensor[Cell]) -> bool:
    return all(status in FINISHED for status in history.statuses(run, cells))


#: The names that a cell's own files get when they are set aside; an experiment's may end in `.unreadable` too.
_ASIDE = tuple(f"{own}{UNREADABLE}" for own in (RESULT, RECORD, LOG))


def _in_run(run: Run, *, is_old: bool) -> Iterator[Item]:
    """What can be removed in a run; nothing while a process runs there. `is_old`: there is a newer complete run."""
    if claims.holders(run.claims):
        return
    is_done = cache(lambda cell: _are_done(run, [history.cell_at(cell)]))
    for claim in (RUN, *sorted(layout.cell_folders(run))):
        folder = run.path if claim == RUN else os.path.join(run.path, claim)
        for name in sorted(os.listdir(folder)):
            if claim == RUN:
                cell = name.removeprefix(BEFORE).partition(UNREADABLE)[0]
                is_aside = cell != name and layout.CELL.search(cell) is not None
            else:
                cell, is_aside = claim, name.startswith(_ASIDE)
            path = os.path.join(folder, name)
            if files.is_temporary(name):
                yield Item(path, run, claim, files.size_of(path), "a dead process left it half-written")
            elif is_aside and (is_old or is_done(cell)):
                what = "the cell before it ran again" if name.startswith(BEFORE) else "set aside as unreadable"
                since = "there is a newer complete run" if is_old else "the cell is done since"
                yield Item(path, run, cell, files.size_of(path), f"{what}, and {since}")


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
    """Remove an item. Return why it had to stay, or `""`. Remove nothing of a run in which a living process runs."""
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
        if item.path == item.run.path:  # its description last: after an interruption, the rest is still a run
            with suppress(FileNotFoundError):
                os.unlink(os.path.join(item.path, RUN))
            os.rmdir(item.path)
    except OSError as error:
        return files.why(error)
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
