"""Two output folders in one: the runs, cells, grids and commands of both.

A cell is the same in both if its folder has the same name. Of two states of a cell the further one stays: done, failed,
unfinished; of two failures the later. Two different results of one cell are reported and stay as they are. So it does
not matter which folder is added to which, and adding a folder again changes nothing. Nothing is unpickled.
"""

import json
import os
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from typing import Any, NamedTuple

from pyexp.errors import NoRunError, StoreError
from pyexp.plan import FINISHED, Facts, Status, classify
from pyexp.store import claims, files, history, layout, records
from pyexp.store.history import COMMAND, GRID, commands_of, identity
from pyexp.store.layout import BEFORE, CODE, HISTORY, IGNORE, RESULT, RUN, Run

#: Cells to copy before they are synced together. Each holds a claim, which is an open file.
BATCH = 100
#: Cells to sync at a time: a disk takes many syncs in one write, and a network disk answers late.
SYNCS = 8


class Event(NamedTuple):
    """A cell that was added, or that had to be left and why."""

    path: str
    words: str = ""

    @property
    def is_added(self) -> bool:
        return not self.words


def merged(one: str, other: str, *, durable: bool = True) -> Iterator[Event]:
    """Add what is in the folder `other` to `one`, and yield what was done, cell by cell.

    Where this is interrupted, it can be repeated. Raises `NoRunError` if there is no run in `other`, `StoreError` if
    the two are not of the same kind, and OSError.
    """
    one, other = os.path.abspath(one), os.path.abspath(other)
    theirs = _runs(other)
    if not theirs:
        raise NoRunError(f"there is no run in {other}: it is no output folder of pyexp")
    mine = _runs(one)
    _refuse_other_kind(one, mine, other, theirs)
    pairs = [(Run(os.path.normpath(os.path.join(one, at)), durable, "all"), theirs[at]) for at in sorted(theirs)]
    for to, run in pairs:  # before anything is written
        names = [history.described(each).get("experiment") for each in (to, run)]
        if None not in names and names[0] != names[1]:
            raise StoreError(f"{to.path} is a run of {names[0]!r}, and {run.path} of {names[1]!r}: they are not merged")
    for to, run in pairs:
        files.make_folders(to.path, durable=durable)
        if to.path != one and os.path.lexists(os.path.join(other, IGNORE)) and not mine:
            files.write(os.path.join(one, IGNORE), [files.read(os.path.join(other, IGNORE))], durable=False)
        _merge_descriptions(to, run)
        yield from _merge_cells(to, run)


def _runs(folder: str) -> dict[str, Run]:
    """The runs in a folder, by their path from there."""
    if not os.path.isdir(folder):
        return {}
    return {os.path.relpath(path, folder): Run(path, trust="all") for path in layout.runs_below(folder)}


def _refuse_other_kind(one: str, mine: Mapping[str, Run], other: str, theirs: Mapping[str, Run]) -> None:
    """Raise `StoreError` if one is an output folder and the other an experiment's or a run, or one is in the other."""
    real = [os.path.realpath(one), os.path.realpath(other)]
    if real[0] == real[1]:
        raise StoreError(f"{one} and {other} are one folder")
    if any((above + os.sep) in (below + os.sep) for above, below in (real, reversed(real))):
        raise StoreError(f"one of {one} and {other} is in the other")
    if not mine:
        # A merge that was killed may have written these.
        own = (name for _, _, names in os.walk(one) for name in names)
        others = (name for name in own if name != IGNORE and not files.is_temporary(name))
        if (name := next(others, None)) is not None:
            raise StoreError(f"there is no run in {one}, and other things ({name}): it is no output folder of pyexp")
        return
    levels = [set(map(_level, runs.items())) - {None} for runs in (mine, theirs)]
    if not all(levels):  # their folders were renamed
        levels = [set(map(_depth, runs)) for runs in (mine, theirs)]
    if levels[0].isdisjoint(levels[1]):
        raise StoreError(
            f"{one} and {other} are not of one kind; give two output folders, two folders of one experiment, or two "
            "runs"
        )


def _depth(at: str) -> int:
    return 0 if at == os.curdir else at.count(os.sep) + 1


def _level(item: tuple[str, Run]) -> int | None:
    """How many levels below the folder an experiment's folder is; None if there is none of its name."""
    at, run = item
    names = run.path.split(os.sep)
    experiment = history.described(run).get("experiment")
    return next((_depth(at) - up for up in (1, 0) if names[-1 - up : len(names) - up] == [experiment]), None)


def _merge_descriptions(to: Run, run: Run) -> None:
    """Write the grids and commands of both into the run. The history first: after a kill, a grid is there twice."""
    with history.alone(to):
        here, there = os.path.join(to.path, CODE), os.path.join(run.path, CODE)
        for name in sorted(os.listdir(there)) if os.path.isdir(there) else ():  # a source's name tells its content
            if not os.path.lexists(os.path.join(here, name)) and not files.is_temporary(name):
                files.make_folders(here, durable=to.durable)
                files.write(os.path.join(here, name), [files.read(os.path.join(there, name))], durable=to.durable)
        before = parts_of(to)
        wanted = joined_parts([*before, *_with_patches(to, run)])
        if not wanted or (wanted == joined_parts(before) and os.path.lexists(os.path.join(to.path, RUN))):
            return
        path = os.path.join(to.path, RUN)
        if os.path.lexists(path) and not history.described(to):  # it is damaged, and may still tell a person something
            records.set_aside(path)
        *earlier, latest = wanted
        if earlier:
            files.write(os.path.join(to.path, HISTORY), map(files.checked_line, earlier), durable=to.durable)
        files.write(path, [files.checked_json(latest)], durable=to.durable)


def parts_of(run: Run) -> list[dict[str, Any]]:
    """The parts of a run's history, one for each grid, without their checksums."""
    return [{key: value for key, value in part.items() if key != "checksum"} for part in history.parts(run)]


def joined_parts(parts: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The parts with each grid and each command once, the one that was last begun last. Their order does not matter."""
    grids: dict[str, list[Mapping[str, Any]]] = {}
    best: dict[str, Mapping[str, Any]] = {}
    where: dict[str, set[str]] = {}
    for part in parts:
        key = identity(part, GRID)
        if history.has_cells(part):
            grids.setdefault(key, []).append(part)
        for command in commands_of(part):
            name = identity(command, COMMAND)
            best[name] = max(command, best.get(name, command), key=_completeness)
            where.setdefault(key, set()).add(name)
    started = [seconds for found in grids.values() for part in found if (seconds := _seconds(part, "started"))]
    told = []
    for key, found in grids.items():
        latest = max(found, key=lambda part: (_begun_last(part), _text({**part, **dict.fromkeys(_COMBINED)})))
        whole = {**latest, "commands": _in_order(best[name] for name in where.get(key, ()))}
        whole |= {"started": min(started)} if started else {}
        order = {each: (_KEYS.index(each) if each in _KEYS else _KEYS.index("function"), each) for each in whole}
        told.append({each: whole[each] for each in sorted(whole, key=order.__getitem__)})
    told.sort(key=lambda part: (_begun_last(part), identity(part, GRID)))
    others = best.keys() - {name for key in grids for name in where.get(key, ())}
    return [*([{"commands": _in_order(best[name] for name in others)}] if others else []), *told]


#: The keys of a part in order; any other stands beside the function.
_KEYS = ("format", "started", "experiment", "script", "function", "commands", "shape", "axes", "cells")
#: The keys that are the same for all parts about one grid, or are joined.
_COMBINED = (*GRID, "commands", "started")


def _seconds(data: Mapping[str, Any], key: str) -> float:
    return data[key] if isinstance(data.get(key), (int, float)) else 0.0


def _text(data: Any) -> str:
    return json.dumps(data, sort_keys=True)


def _in_order(commands: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return sorted(commands, key=lambda command: (_seconds(command, "started"), _text(command)))


def _begun_last(part: Mapping[str, Any]) -> float:
    return max((_seconds(command, "started") for command in commands_of(part)), default=0.0)


def _completeness(command: Mapping[str, Any]) -> tuple[float, int, str]:
    """A sort key for the entries of one command: the entry that says how it ended wins, then the longer one."""
    return (_seconds(command, "ended"), len(command), _text(command))


def _with_patches(to: Run, run: Run) -> Iterator[dict[str, Any]]:
    """The parts of the added run. Copy the patches that their commands name."""
    for part in parts_of(run):
        commands = commands_of(part)
        for i, command in enumerate(commands):
            name = command.get("patch")
            if isinstance(name, str) and os.path.basename(name) == name:
                patch = files.head(os.path.join(run.path, name))
                if patch is not None:
                    commands[i] = {**command, "patch": history.keep(to, patch)}
        yield {**part, "commands": commands}


def _merge_cells(to: Run, run: Run) -> Iterator[Event]:
    """Add the cells of a run to another, each under a claim: a batch is copied, then synced, then gets its names."""
    busy = claims.holders(run.claims)
    folders = sorted(layout.cell_folders(run))
    program = records.Program(loads=False)
    for start in range(0, len(folders), BATCH):
        staged: dict[str, str] = {}
        with ExitStack() as undo:
            for folder in folders[start : start + BATCH]:
                path, target = os.path.join(run.path, folder), os.path.join(to.path, folder)
                cell = history.cell_at(folder)
                if folder in busy:
                    yield Event(path, f"it is running {busy[folder]}")
                    continue
                theirs = records.facts(run, cell, program, exact=False)
                held = records.claim(to, cell)
                if held is None:
                    yield Event(target, "a process has claimed it")
                    continue
                undo.callback(held.release)
                mine = records.facts(to, cell, program, exact=False)
                if words := difference(to, run, folder, mine, theirs):
                    yield Event(path, words)
                elif standing(mine) < standing(theirs):
                    staged[target] = os.path.join(to.path, files.temporary_name(folder))
                    undo.callback(shutil.rmtree, staged[target], ignore_errors=True)
                    _copy_folder(path, staged[target])
            if to.durable:
                with ThreadPoolExecutor(SYNCS) as pool:
                    list(pool.map(_sync_tree, staged.values()))
            for target, staging in staged.items():
                _reveal(staging, target)
            if staged and to.durable:
                files.sync_folder(to.path)
        yield from map(Event, staged)
    claims.tidy(to.claims)


def standing(facts: Facts) -> tuple[int, float]:
    """A sort key for the states of a cell: the one that is further along stays."""
    status = classify(facts).status
    if status in FINISHED:
        return 3, 0.0
    if status is Status.FAILED and facts.record is not None:
        return 2, facts.record.started
    return (1, 0.0) if facts.there == "folder" else (0, 0.0)


def difference(to: Run, run: Run, folder: str, mine: Facts, theirs: Facts) -> str:
    """Why a cell has to be left as it is, in words; `""` if the state that is further along stays."""
    if theirs.fault:
        return f"its result is unreadable: {theirs.fault}"
    if standing(mine)[0] < 3 or standing(theirs)[0] < 3:
        return ""
    paths = [os.path.join(each.path, folder, RESULT) for each in (to, run)]
    return "" if files.is_same_pickle(*paths) else f"it has another result in {to.path}, which stays"


def _reveal(staging: str, target: str) -> None:
    """Give a copy its name. Set apart what is there."""
    if os.path.lexists(target):
        above, folder = os.path.split(target)
        before = os.path.join(above, f"{BEFORE}{folder}")
        if os.path.lexists(before):
            records.set_aside(target)
        else:
            os.replace(target, before)
    os.replace(staging, target)


def _copy_folder(path: str, target: str) -> None:
    os.mkdir(target)
    for entry in os.scandir(path):
        copy = os.path.join(target, entry.name)
        if files.is_temporary(entry.name):
            continue
        if entry.is_symlink():
            os.symlink(os.readlink(entry.path), copy)
        elif entry.is_dir():
            _copy_folder(entry.path, copy)
        elif stat.S_ISREG(entry.stat().st_mode):  # pipes and sockets were a process' own
            files.write(copy, files.pieces(entry.path), durable=False)
            with suppress(OSError):  # not every file system takes all of them
                shutil.copystat(entry.path, copy)


def _sync_tree(folder: str) -> None:
    for above, _, names in os.walk(folder):
        for path in (os.path.join(above, name) for name in names):
            if not os.path.islink(path):
                files.sync(path)
        files.sync_folder(above)
