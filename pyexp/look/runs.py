"""What there is below an output folder: its runs in a list, a run, a cell, the best cells, all of them as CSV.

All of it is read from the records: no result is unpickled.
"""

import csv as csv_module
import os
import time
from argparse import Namespace
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from operator import itemgetter
from typing import Any

from pyexp.axes import default_axes
from pyexp.configs import FrozenConfig, leaves, thaw
from pyexp.errors import NoRunError, SelectionError, StoreError, UsageError, listing, nearest
from pyexp.look.folding import failure_lines, folded, reason
from pyexp.look.progress import span
from pyexp.look.screen import Column, Screen, columns_of, cut, padded, printable, size, table
from pyexp.plan import ENDED, classify
from pyexp.results import Record, cells_in_words, clipped, labels, records_of, spelled
from pyexp.store import claims, files, history, layout, records
from pyexp.store.history import Kept, age
from pyexp.store.layout import CLAIMS, LOG, RUN, Run
from pyexp.tables import Results, clashing, instead

#: Who the results are of does not matter: none is loaded.
ANYBODY = "all"
#: Lines of a log that are shown.
TAIL = 20
#: Seconds between two looks at a run that is followed, and how often in a row nothing is claimed where it is over.
LOOK, OVER = 0.2, 5


def ls(said: Namespace, screen: Screen) -> int:
    """List the runs below a folder, those of an experiment together."""
    folder = os.path.abspath(os.path.expanduser(said.folder))
    paths = runs_below(folder)
    homes: dict[str, list[str]] = {}
    for path in paths:
        homes.setdefault(os.path.dirname(path), []).append(path)
    now = time.time()
    for number, (home, inside) in enumerate(homes.items()):
        screen.line(f"{chr(10) if number else ''}{printable(near(home))}", "bold")
        for line in _listed(sorted((_kept(path) for path in inside), key=lambda kept: kept.started), now, screen.width):
            screen.line(line)
    return 0


def runs_below(folder: str) -> list[str]:
    """The runs at a folder and below. Raises `NoRunError`, saying what there is, if there are none."""
    found = layout.runs_below(folder) if os.path.isdir(folder) else []
    if found:
        return found
    if not os.path.isdir(folder):
        history.find(folder)  # which says what may have been meant
    inside = [name for name in sorted(os.listdir(folder))[:MOST_INSIDE] if _has_runs(os.path.join(folder, name))]
    hint = f"; {' and '.join(map(repr, inside))} in it has runs" if inside else ""
    raise NoRunError(f"there is no run in {near(folder)}: it is no output folder of pyexp{hint}")


#: Folders that are looked into for what may have been meant.
MOST_INSIDE = 100


def _has_runs(path: str) -> bool:
    try:
        return bool(layout.runs_below(path))
    except OSError:
        return False


def _kept(path: str) -> Kept:
    home, name = os.path.split(path)
    begun = layout.run_at(home, name)
    return history.kept_run(Run(path, trust=ANYBODY), name, 0.0 if begun is None else begun.started, is_script=False)


def _listed(found: Sequence[Kept], now: float, width: int | None) -> list[str]:
    """The runs of an experiment as a table."""
    commands = [_commands(Run(kept.path)) for kept in found]
    columns = (
        Column("  run", [f"  {printable(kept.name)}" for kept in found]),
        Column("age", [age(now - kept.started) for kept in found], rank=3, right=True),
        Column("shape", [shape_of(kept) for kept in found], rank=1, right=True),
        Column("cells", [", ".join(f"{n} {word}" for word, n in kept.statuses.items()) for kept in found], rank=5),
        Column("took", [_took(each) for each in commands], rank=2, right=True),
        Column("commit", [_commit(each[-1]) if each else "" for each in commands], rank=0),
        Column("size", [size(files.size_of(kept.path)) for kept in found], rank=4, right=True),
    )
    return table(columns, width)[0]


#: What a cut command keeps at least.
LEAST_COMMAND = 20


def overview(found: Sequence[Kept], width: int | None) -> list[str]:
    """The runs of an experiment, a line each: with their counts and, as far as the width reaches, what made them."""
    commands = [_commands(Run(kept.path)) for kept in found]
    details = (
        [_took(each) for each in commands],
        [size(files.size_of(kept.path)) for kept in found],
        [_commit(each[-1]) if each else "" for each in commands],
        [printable(str(each[-1].get("command", ""))) if each else "" for each in commands],
    )
    lines = history.listing(found).split("\n")
    for cells in filter(any, details):
        longest, widest = max(map(columns_of, lines)), max(map(columns_of, cells))
        room = widest if width is None else width - longest - 2
        if room >= (min(widest, LEAST_COMMAND) if cells is details[-1] else widest):
            lines = [f"{padded(line, longest)}  {cut(cell, room)}" for line, cell in zip(lines, cells, strict=True)]
    return [line.rstrip() for line in lines]


def shape_of(kept: Kept) -> str:
    """The shape of a run's grid, in a word."""
    return "×".join(map(str, kept.shape)) if kept.grids < 2 else f"{kept.grids} grids"


def _took(commands: Iterable[Mapping[str, Any]]) -> str:
    """How long the commands took that have ended; a killed one has not said."""
    told = [seconds for each in commands if (seconds := _seconds(each)) is not None]
    return span(sum(told)) if told else ""


def _seconds(command: Mapping[str, Any]) -> float | None:
    """How long a command took; None if it has not said."""
    started, ended = command.get("started"), command.get("ended")
    return ended - started if isinstance(started, (int, float)) and isinstance(ended, (int, float)) else None


def _commands(run: Run) -> Sequence[Mapping[str, Any]]:
    """The commands of a run; none if a newer pyexp wrote it."""
    try:
        return history.history(run).commands
    except StoreError:
        return ()


def _commit(command: Mapping[str, Any]) -> str:
    """The commit of a command's code, with `+` where files had been changed since."""
    git = command.get("git")
    commit = git.get("commit") if isinstance(git, dict) else None
    if not isinstance(git, dict) or not isinstance(commit, str):
        return ""
    return printable(commit[:9]) + ("+" if git.get("state") == "dirty" else "")


def near(path: str) -> str:
    """A path as short as can be from here."""
    try:
        here = os.path.relpath(path)
    except (OSError, ValueError):  # the working directory was removed, or is on another drive
        return path
    return path if here.startswith(os.pardir) else here


def show(said: Namespace, screen: Screen) -> int:
    """Show a run, or a cell of it."""
    run, folder = history.find(said.run, trust=ANYBODY)
    if said.cell is not None:
        if folder is not None:
            raise UsageError(f"{said.run} is the folder of a cell, and another CELL is named: {said.cell!r}")
        folder = chosen(run, said.cell)
    if folder is not None:
        _show_cell(run, folder, screen, follow=said.follow)
    else:
        _show_run(run, screen, follow=said.follow)
    return 0


def chosen(run: Run, word: str) -> str:
    """The folder of the cell that the word is the name, folder or hash of, or a glob for its name.

    Raises `SelectionError` if there is none, or more than one.
    """
    cells = history.history(run).cells
    for fits in (
        lambda cell: word in (cell.name, cell.folder, cell.hash),
        lambda cell: fnmatchcase(cell.name, word),
        lambda cell: len(word) > 3 and cell.hash.startswith(word),
    ):
        found = {cell.folder: cell.name for cell in cells if fits(cell)}
        if len(found) == 1:
            return next(iter(found))
        if found:
            raise SelectionError(f"{word!r} matches {cells_in_words(len(found))}: {listing(found)}; name one of them")
    raise SelectionError(
        f"no cell is named {word!r} or matches it; {nearest(word, (c.name or c.folder for c in cells))}"
    )


def _show_cell(run: Run, folder: str, screen: Screen, *, follow: bool) -> None:
    path = os.path.join(run.path, folder)
    if follow:
        _follow_log(run, folder, screen)
    result = history.load_cell(run, folder, unpickles=False)
    record = result.record
    screen.line(printable(record.name or folder), "bold")
    screen.line(printable(near(path)))
    began = _claimed(run, folder)
    screen.line(
        _told(record) + (f", for {span(max(time.time() - began, 0))}" if began is not None else ""),
        "" if record.status == "done" or began is not None else "red",
    )
    for attempt in record.attempts:
        screen.line(printable(f"  tried before, for {span(attempt.seconds)}: {attempt.type}: {attempt.message}"))
    config = dotted(record.config)
    _section(screen, "config", config)
    if not config:  # its record will have it; a coordinate need not be what is in the config, as with seeds
        _section(screen, "coordinates", _coordinates(run, folder))
    if record.status == "done":
        _section(screen, "outputs", outputs_of(record))
    elif record.traceback:
        screen.line("\ntraceback", "bold")
        screen.raw(_spelled_out(record.traceback.rstrip()))
    if not follow and (lines := _tail(os.path.join(path, LOG))):
        screen.line(f"\nend of {LOG}", "bold")
        screen.raw(_spelled_out("\n".join(lines)))


def _told(record: Record) -> str:
    """What became of a cell, when and where."""
    if not record.has_run:
        return printable(instead(record))
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.started))
    where = f" on {record.host}" if record.host else ""
    how = (f" by {record.executor}" if record.executor else "") + (f" on GPU {record.gpu}" if record.gpu else "")
    what = "done in" if record.status == "done" else f"failed with {reason(record)} after"
    return printable(f"{what} {span(record.seconds)}, begun {when}{where}{how}")


def _claimed(run: Run, folder: str) -> float | None:
    """When the process that has claimed a cell began it, in seconds since 1970; None if none has."""
    with suppress(OSError):  # it is released by now
        if folder in claims.holders(run.claims):
            return os.lstat(os.path.join(run.claims, folder)).st_mtime  # the claim is signed when the process starts
    return None


def _coordinates(run: Run, folder: str) -> dict[str, str]:
    """The coordinates of a cell in the run's grid, in words, but for those that only count."""
    cells = history.history(run).cells
    counting = {axis.name for axis in default_axes(cells.shape)}
    here = cells.filter(lambda cell: cell.folder == folder).coords
    return {name: spelled(thaw(values[0]), repr) for name, values in here.items() if values and name not in counting}


def _section(screen: Screen, title: str, told: Mapping[str, str]) -> None:
    if told:
        screen.line(f"\n{title}", "bold")
        width = max(map(len, told))
        for key, value in told.items():
            screen.raw(f"  {printable(f'{key:<{width}}  {value}')}\n")


def dotted(config: FrozenConfig) -> dict[str, str]:
    """The leaves of a config by their dotted paths, in words."""
    return {path: spelled(thaw(value), repr) for path, value in leaves(config) if path != "name"}


def outputs_of(record: Record) -> dict[str, str]:
    """The outputs of a finished cell, in words; the class of an output that is not a scalar."""
    kept = record.outputs
    return {key: spelled(kept[key], repr) if key in kept else f"<{kind}>" for key, kind in record.kinds.items()}


def _spelled_out(text: str) -> str:
    """The text line by line, with what would move the cursor spelled out."""
    return "".join(f"  {printable(line.expandtabs())}\n" for line in text.split("\n"))


def _tail(path: str, most: int = 1 << 16) -> list[str]:
    """The last lines of a log; of a bar that was drawn again and again, its last state."""
    try:
        with open(path, "rb") as file:
            file.seek(max(os.fstat(file.fileno()).st_size - most, 0))
            content = file.read(most)
    except OSError:
        return []
    lines = content.decode("utf-8", "replace").rstrip().split("\n")
    return [line.rstrip("\r").rpartition("\r")[2] for line in lines[-TAIL:]] if content.strip() else []


def _follow_log(run: Run, folder: str, screen: Screen) -> None:
    """Write what comes to the cell's log, until no process has claimed the cell."""
    path = os.path.join(run.path, folder, LOG)
    position, last = 0, b""
    for _ in _looks(run, lambda held: folder in held):
        content = files.head(path) or b""
        position = position if position <= len(content) else 0  # another try begins another log
        last += content[position:]
        position = len(content)
        *lines, last = last.split(b"\n")
        screen.raw("".join(_spelled_out(line.decode("utf-8", "replace").rstrip("\r")) for line in lines))
        screen.flush()
        if screen.is_closed:
            return
    if last:
        screen.raw(_spelled_out(last.decode("utf-8", "replace")))
    screen.line()


def _looks(run: Run, goes_on: Callable[[Mapping[str, str]], bool]) -> Iterable[Mapping[str, str]]:
    """The claims in a run, time and again, until it has not gone on for several looks."""
    over = 0
    while over < OVER:
        held = claims.holders(os.path.join(run.path, CLAIMS))
        over = 0 if goes_on(held) else over + 1
        yield held
        time.sleep(LOOK)


def _show_run(run: Run, screen: Screen, *, follow: bool) -> None:
    begun = layout.run_at(*os.path.split(run.path))
    started = 0.0 if begun is None else begun.started
    told = history.described(run)
    screen.line(printable(near(run.path)), "bold")
    what = f"{told.get('experiment', os.path.basename(os.path.dirname(run.path)))} of {told.get('script') or '?'}"
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(started))
    screen.line(printable(f"{what}, begun {when}, {age(time.time() - started)} ago"))
    if follow:
        _follow_run(run, screen)
        if screen.is_closed:
            return
    results = history.load_run(run, unpickles=False)
    for name, along in results.coords.items():
        coords = list(dict.fromkeys(clipped(str(thaw(at)), 20) for at in along if at is not None))
        more = f", … ({len(coords)} in all)" if len(coords) > 10 else ""
        screen.line(printable(f"  {name}: {', '.join(coords[:10])}{more}"))
    kept = _kept(run.path)
    screen.line(f"{cells_in_words(results.size)}: {', '.join(f'{n} {word}' for word, n in kept.statuses.items())}")
    screen.line()
    screen.raw("".join(f"{printable(line)}\n" for line in folded(results, screen.width, screen.height).split("\n")))
    commands = history.history(run).commands
    if commands:
        screen.line("\ncommands", "bold")
    # A claim is signed by the process of its cell, so of several commands that have not ended any may be running.
    unended = sum(not command.get("status") for command in commands)
    running = "" if not claims.holders(run.claims) else "running" if unended == 1 else "running or killed"
    for command in commands:
        screen.line(f"  {printable(str(command.get('command', '?')))}")
        screen.line(f"    {printable(_how(command, running))}", "dim")
    found = records_of(results)
    names = dict(zip((record.hash for record in found), labels(found), strict=True))
    if failures := failure_lines(found, {}, names):
        screen.line("\nfailed", "bold")
        for line in failures:
            screen.line(f"  {line}", "" if line.startswith(" ") else "red")


def _how(command: Mapping[str, Any], running: str) -> str:
    """How a command ended, and by which code, in a line. `running` says what one is that has not ended, if it may."""
    parts = [str(command.get("status") or running or "has not said how it ended")]
    if (seconds := _seconds(command)) is not None:
        parts[0] += f" after {span(seconds)}"
    if commit := _commit(command):
        parts.append(f"commit {commit}")
    parts += [f"{key} {command[key]}" for key in ("python", "pyexp") if key in command]
    return ", ".join([*parts, f"on {command.get('host', '?')}"])


def _follow_run(run: Run, screen: Screen) -> None:
    """Write a line for each cell that ends, until no process has claimed any."""
    stamp: tuple[int, ...] | None = None
    told: dict[str, tuple[object, ...]] = {}
    is_first = True
    for held in _looks(run, bool):
        if (now := files.stamp(os.path.join(run.path, RUN))) != stamp:
            stamp, cells = now, {cell.folder: cell for cell in history.history(run).cells}
            pending = {folder for folder in cells if folder not in told}
            names = dict(zip(cells, map(printable, labels(list(cells.values()))), strict=True))
        pending |= held.keys() & cells.keys()  # also one that had ended, and runs again
        seen = records.look(run, [cells[folder] for folder in pending], records.Program(loads=False), exact=False)
        ended = [
            (facts.record.started + facts.record.seconds, folder, facts.record, facts.version)
            for folder, facts in seen.items()
            if facts.record is not None and classify(facts).status in ENDED
        ]
        for _, folder, record, version in sorted(ended, key=itemgetter(0)):
            pending.discard(folder)
            if not is_first and told.get(folder) != version:
                _tell_end(record, names[folder], f"[{len(cells) - len(pending)}/{len(cells)}]", screen)
            told[folder] = version
        if is_first:
            running = ", ".join(sorted(names[folder] for folder in held.keys() & cells.keys()))
            words = f"{len(told)} of {cells_in_words(len(cells))} have ended"
            screen.line(printable(f"{words}{'; running: ' if running else ''}{running}"))
        is_first = False
        screen.flush()
        if screen.is_closed:
            return


def _tell_end(record: Record, name: str, count: str, screen: Screen) -> None:
    if record.failed:
        screen.line(f"{count} {name} failed after {span(record.seconds)}: {reason(record)}", "red")
    else:
        screen.line(f"{count} {name} done in {span(record.seconds)}")


def best(said: Namespace, screen: Screen) -> int:
    """The cells with the largest or least values of an output, or of its mean, and the config keys that vary."""
    run, folder = history.find(said.run, trust=ANYBODY)
    if folder is not None:
        raise UsageError(f"{said.run} is the folder of a cell, and the best is of a run's")
    if said.number < 1:
        raise UsageError(f"-n is {said.number}, and should be at least 1")
    results = history.load_run(run, unpickles=False)
    found = records_of(results)
    having = [record for record in found if said.metric in record.outputs]
    if not having:
        known = dict.fromkeys(key for record in found for key in record.kinds)
        if said.metric in known:
            raise SelectionError(f"{said.metric!r} is not a scalar, so its cells have no order")
        raise SelectionError(
            f"no cell has the output {said.metric!r}; {nearest(said.metric, known, 'the outputs are')}"
        )
    ranked, left_out = _ranked(having, said.metric, largest=said.largest)
    left_out += [record.status for record in found if said.metric not in record.outputs]
    values = f"values of {said.metric}"
    numbers: dict[int, Any] = {}
    if said.mean and ranked:
        kept = {id(record) for record in ranked}
        parts = _told_apart(results[[i for i, record in enumerate(found) if id(record) in kept]])
        found = [record for part in parts for record in records_of(part.mean(*said.mean, skipna=True))]
        counted = [record for part in parts for record in records_of(part.count(*said.mean))]
        numbers = {id(mean): each.outputs[said.metric] for mean, each in zip(found, counted, strict=True)}
        ranked, _ = _ranked(found, said.metric, largest=said.largest)
        values = f"means of {said.metric} over {', '.join(said.mean)}"
    top = ranked[: said.number]
    what = "largest" if said.largest else "least"
    screen.line(printable(f"the {len(top)} {what} of {len(ranked)} {values}"), "bold")
    varying = [(path, told) for path, told in _varying(found, top) if path not in (said.mean or ())]
    columns = [
        Column("name", [printable(name) for name in labels(top)]),
        Column(said.metric, [_number(record.outputs[said.metric]) for record in top], rank=2, right=True),
        *([Column("values", [str(numbers[id(record)]) for record in top], rank=2, right=True)] if numbers else []),
        *(Column(printable(path), told, rank=1, right=True) for path, told in varying),
    ]
    lines, hidden = table(columns, screen.width)
    for line in lines:
        screen.line(line)
    if hidden:
        screen.line(f"too wide: {', '.join(hidden)}", "dim")
    if left_out:
        words = ", ".join(f"{number} {word}" for word, number in Counter(left_out).items())
        screen.line(f"left out: {words}", "dim")
    return 0


def _told_apart(results: Results) -> list[Results]:
    """The results in parts, in each of which the coordinates tell all cells apart."""
    keys = dict.fromkeys(key for _, _, keys in clashing(results) for key in keys)
    parts: dict[Any, list[int]] = {}
    for position, record in enumerate(records_of(results)):
        told = dotted(record.config)
        parts.setdefault(tuple(told.get(key) for key in keys), []).append(position)
    return [results[positions] for positions in parts.values()] if keys else [results]


def _ranked(having: Sequence[Record], metric: str, *, largest: bool) -> tuple[list[Record], list[str]]:
    """The records in the order of an output, and for each that has no place in it why."""
    wrong = next((r for r in having if not isinstance(r.outputs[metric], (bool, int, float, type(None)))), None)
    if wrong is not None:
        value = clipped(repr(wrong.outputs[metric]), 40)
        raise SelectionError(f"{metric!r} is {value} in {wrong.name!r}: it has to be a number")
    values = [(record, record.outputs[metric]) for record in having]
    ranked = [record for record, value in values if value is not None and value == value]
    left_out = ["None" if value is None else "nan" for _, value in values if value is None or value != value]
    return sorted(ranked, key=lambda record: record.outputs[metric], reverse=largest), left_out


def _varying(found: Sequence[Record], top: Sequence[Record]) -> Iterable[tuple[str, list[str]]]:
    """The keys in which the configs differ, with what they are in the top records."""
    everywhere: dict[str, set[str]] = {}
    known = [dotted(record.config) for record in found if record.has_run]
    for path in sorted({path for each in known for path in each}):
        everywhere[path] = {each.get(path, "") for each in known}
    shown = [dotted(record.config) for record in top]
    for path, values in everywhere.items():
        if len(values) > 1:
            yield path, [printable(clipped(each.get(path, ""), 30)) for each in shown]


def _number(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else spelled(value)


def csv(said: Namespace, screen: Screen) -> int:
    """The records of a run as CSV, with the columns of `Results.to_records`."""
    run, folder = history.find(said.run, trust=ANYBODY)
    if folder is not None:
        raise UsageError(f"{said.run} is the folder of a cell, and the CSV is of a run's")
    write_csv(history.load_run(run, unpickles=False), screen)
    return 0


def html(said: Namespace, screen: Screen) -> int:
    """Write the page of a run into its folder, and print the path."""
    from pyexp.look.page import write  # it needs the extra

    run, folder = history.find(said.run, trust=ANYBODY)
    if folder is not None:
        raise UsageError(f"{said.run} is the folder of a cell, and the page is of a run's")
    screen.raw(f"{write(history.load_run(run, unpickles=False))}\n")
    return 0


class _Lines:
    """A file as far as the csv module needs one."""

    def __init__(self, screen: Screen) -> None:
        self.write = screen.raw


def write_csv(results: Results, screen: Screen) -> None:
    """Write the records as CSV: a line with the names of the columns, then one for each cell."""
    rows = results.to_records()
    writer = csv_module.writer(_Lines(screen), lineterminator="\n")
    writer.writerow(rows[0])
    writer.writerows([_cell(value) for value in row.values()] for row in rows)


def _cell(value: Any) -> str:
    """The value as CSV has it: a text as it is, nothing for None, a number so that it is read back as the same."""
    return "" if value is None else spelled(value)


def _known_runs(_: Namespace) -> list[str]:
    """The folders of runs below the usual output folder."""
    return [near(path) for path in layout.runs_below(os.path.abspath("out"))]


def _known_cells(said: Namespace) -> list[str]:
    run, _ = history.find(said.run, trust=ANYBODY)
    return [cell.name or cell.folder for cell in history.history(run).cells]


#: What completes the arguments of the commands, by their names.
COMPLETIONS: Mapping[str, Callable[[Namespace], Iterable[str]]] = {
    **dict.fromkeys(("run", "runs", "folder", "a", "b"), _known_runs),
    "cell": _known_cells,
    "metric": lambda said: dict.fromkeys(
        key
        for record in records_of(history.load_run(history.find(said.run, trust=ANYBODY)[0], unpickles=False))
        for key in record.outputs
    ),
}
