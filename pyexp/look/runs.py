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
from math import prod
from operator import itemgetter
from typing import Any

from pyexp.axes import default_axes
from pyexp.configs import FrozenConfig, leaves, thaw
from pyexp.errors import NoRunError, SelectionError, StoreError, UsageError, listing, nearest
from pyexp.look.folding import failure_lines, reason
from pyexp.look.progress import end_line, span
from pyexp.look.screen import Screen, size
from pyexp.plan import ENDED, classify
from pyexp.results import Record, cells_in_words, clipped, known_output, labels, outputs_of, records_of, spelled
from pyexp.store import claims, files, history, layout, records
from pyexp.store.history import Kept, age
from pyexp.store.layout import LOG, RUN, Run
from pyexp.tables import Results, brief, clashing, instead, table
from pyexp.text import Column, aligned, cut, display_width, in_words, padded, printable

#: Results of any user may be listed: none is loaded.
ANYBODY = "all"
#: Lines of a log that are shown.
TAIL = 20
#: Seconds between two looks at a run that is followed, and the number of looks without a claim after which it is over.
LOOK, OVER = 0.2, 5


def ls(said: Namespace, screen: Screen) -> int:
    """List the runs below a folder, those of an experiment together."""
    folder = layout.absolute(said.folder)
    paths = runs_below(folder)
    homes: dict[str, list[str]] = {}
    for path in paths:
        homes.setdefault(os.path.dirname(path), []).append(path)
    now = time.time()
    for number, (home, inside) in enumerate(homes.items()):
        screen.line(f"{chr(10) if number else ''}{printable(near(home))}", "bold")
        found = sorted((_kept(path) for path in inside), key=lambda kept: kept.started)
        details = _details(found)
        columns = (
            Column("  run", [f"  {printable(kept.name)}" for kept in found]),
            Column("age", [age(now - kept.started) for kept in found], rank=3, right=True),
            Column("shape", [kept.extent for kept in found], rank=1, right=True),
            Column("cells", [in_words(kept.statuses) for kept in found], rank=5),
            Column("took", details["took"], rank=2, right=True),
            Column("commit", details["commit"], rank=0),
            Column("size", details["size"], rank=4, right=True),
        )
        for line in aligned(columns, screen.width)[0]:
            screen.line(line)
    return 0


def runs_below(folder: str) -> list[str]:
    """The runs at a folder and below. Raises `NoRunError`, saying what there is, if there are none."""
    found = layout.runs_below(folder) if os.path.isdir(folder) else []
    if found:
        return found
    if not os.path.isdir(folder):
        history.find(folder)  # raises: its message says what is there
    inside = []
    for name in sorted(os.listdir(folder))[:MOST_INSIDE]:
        with suppress(OSError):
            if layout.runs_below(os.path.join(folder, name)):
                inside.append(name)
    hint = f"; {' and '.join(map(repr, inside))} in it has runs" if inside else ""
    raise NoRunError(f"there is no run in {near(folder)}: it is no output folder of pyexp{hint}")


#: For a hint, at most so many folders are searched.
MOST_INSIDE = 100


def _kept(path: str) -> Kept:
    home, name = os.path.split(path)
    begun = layout.run_at(home, name)
    return history.kept_run(Run(path, trust=ANYBODY), name, 0.0 if begun is None else begun.started, loads=False)


def _details(found: Sequence[Kept]) -> dict[str, list[str]]:
    """What is known of each run beside its cells: how long its commands took, its size, its last commit and command.

    A command that was killed has not said how long it took, and one of a newer pyexp cannot be read.
    """
    made: dict[str, list[str]] = {"took": [], "size": [], "commit": [], "command": []}
    for kept in found:
        commands: Sequence[Mapping[str, Any]] = ()
        with suppress(StoreError):
            commands = history.history(Run(kept.path)).commands
        told = [seconds for each in commands if (seconds := _seconds(each)) is not None]
        last = commands[-1] if commands else {}
        made["took"].append(span(sum(told)) if told else "")
        made["size"].append(size(files.size_of(kept.path)))
        made["commit"].append(_commit(last))
        made["command"].append(printable(str(last.get("command", ""))))
    return made


#: What a cut command keeps at least.
LEAST_COMMAND = 20


def overview(found: Sequence[Kept], width: int | None) -> list[str]:
    """The runs of an experiment, a line each: with their counts and, as far as the width reaches, what made them."""
    now, widest_name = time.time(), max(len(kept.name) for kept in found)
    lines = [
        f"{kept.name:<{widest_name}}  {f'{age(now - kept.started)} ago':>10}  {kept.extent:>9} = "
        f"{cells_in_words(prod(kept.shape))}: {in_words(kept.statuses)}"
        for kept in found
    ]
    for what, cells in _details(found).items():
        longest, widest = max(map(display_width, lines)), max(map(display_width, cells))
        room = widest if width is None else width - longest - 2
        if widest and room >= (min(widest, LEAST_COMMAND) if what == "command" else widest):
            lines = [f"{padded(line, longest)}  {cut(cell, room)}" for line, cell in zip(lines, cells, strict=True)]
    return [line.rstrip() for line in lines]


def _seconds(command: Mapping[str, Any]) -> float | None:
    """How long a command took; None if it has not said."""
    started, ended = command.get("started"), command.get("ended")
    return ended - started if isinstance(started, (int, float)) and isinstance(ended, (int, float)) else None


def _commit(command: Mapping[str, Any]) -> str:
    """The commit of a command's code, with `+` where files had been changed since."""
    git = command.get("git")
    if not isinstance(git, dict) or not isinstance(commit := git.get("commit"), str):
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
    if not config:  # without a record; a coordinate may differ from the value in the config, as with seeds
        _section(screen, "coordinates", _coordinates(run, folder))
    if record.status == "done":
        _section(screen, "outputs", outputs_of(record))
    elif record.traceback:
        screen.line("\ntraceback", "bold")
        screen.write(_spelled_out(record.traceback.rstrip()))
    if not follow and (lines := _tail(os.path.join(path, LOG))):
        screen.line(f"\nend of {LOG}", "bold")
        screen.write(_spelled_out("\n".join(lines)))


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
    """The coordinates of a cell in the run's grid, in words, without those that only count positions."""
    cells = history.history(run).cells
    counting = {axis.name for axis in default_axes(cells.shape)}
    here = cells.filter(lambda cell: cell.folder == folder).coords
    return {name: spelled(thaw(values[0]), repr) for name, values in here.items() if values and name not in counting}


def _section(screen: Screen, title: str, told: Mapping[str, str]) -> None:
    if told:
        screen.line(f"\n{title}", "bold")
        width = max(map(len, told))
        for key, value in told.items():
            screen.write(f"  {printable(f'{key:<{width}}  {value}')}\n")


def dotted(config: FrozenConfig) -> dict[str, str]:
    """The leaves of a config by their dotted paths, in words."""
    return {path: spelled(thaw(value), repr) for path, value in leaves(config) if path != "name"}


def _spelled_out(text: str) -> str:
    """The text line by line, with control characters escaped."""
    return "".join(f"  {printable(line.expandtabs())}\n" for line in text.split("\n"))


def _read(path: str, start: int) -> tuple[bytes, int]:
    """The content of a log from a position on (negative: from its end), and its length. All of it if it got shorter."""
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(max(size + start, 0) if start < 0 else start if start <= size else 0)
            return file.read(), file.tell()
    except OSError:
        return b"", 0


def _tail(path: str) -> list[str]:
    """The last lines of a log. Of a progress bar, only its last state."""
    content, _ = _read(path, -(1 << 16))
    lines = content.decode("utf-8", "replace").rstrip().split("\n")
    return [line.rstrip("\r").rpartition("\r")[2] for line in lines[-TAIL:]] if content.strip() else []


def _follow_log(run: Run, folder: str, screen: Screen) -> None:
    """Write the cell's log as it grows, until no process has claimed the cell."""
    position, last = 0, b""
    for _ in _looks(run, lambda held: folder in held):
        content, position = _read(os.path.join(run.path, folder, LOG), position)
        *lines, last = (last + content).split(b"\n")
        screen.write("".join(_spelled_out(line.decode("utf-8", "replace").rstrip("\r")) for line in lines))
        screen.flush()
        if screen.is_closed:
            return
    if last:
        screen.write(_spelled_out(last.decode("utf-8", "replace")))
    screen.line()


def _looks(run: Run, goes_on: Callable[[Mapping[str, str]], bool]) -> Iterable[Mapping[str, str]]:
    """The claims in a run, again and again, until `goes_on` is False for several looks in a row."""
    over = 0
    while over < OVER:
        held = claims.holders(run.claims)
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
        coords = list(dict.fromkeys(clipped(spelled(thaw(at)), 20) for at in along if at is not None))
        more = f", … ({len(coords)} in all)" if len(coords) > 10 else ""
        screen.line(printable(f"  {name}: {', '.join(coords[:10])}{more}"))
    kept = _kept(run.path)
    screen.line(f"{cells_in_words(results.size)}: {in_words(kept.statuses)}")
    screen.line()
    screen.write(f"{table(results, screen.width, screen.height)}\n")
    commands = history.history(run).commands
    if commands:
        screen.line("\ncommands", "bold")
    # A claim names the process of its cell, not the command. So any command that has not ended may be running.
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
    """How a command ended, and its code, in a line. `running` is the word for a command that may still run, or `""`."""
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
        pending |= held.keys() & cells.keys()  # a cell that has ended may run again
        seen = records.look(run, [cells[folder] for folder in pending], records.Program(loads=False), exact=False)
        ended = [
            (facts.record.started + facts.record.seconds, folder, facts.record, facts.version)
            for folder, facts in seen.items()
            if facts.record is not None and classify(facts).status in ENDED
        ]
        for _, folder, record, version in sorted(ended, key=itemgetter(0)):
            pending.discard(folder)
            if not is_first and told.get(folder) != version:
                line = end_line(f"[{len(cells) - len(pending)}/{len(cells)}]", names[folder], record, screen.width)
                screen.line(line, "red" if record.failed else "")
            told[folder] = version
        if is_first:
            running = ", ".join(sorted(names[folder] for folder in held.keys() & cells.keys()))
            words = f"{len(told)} of {cells_in_words(len(cells))} have ended"
            screen.line(printable(f"{words}{'; running: ' if running else ''}{running}"))
        is_first = False
        screen.flush()
        if screen.is_closed:
            return


def best(said: Namespace, screen: Screen) -> int:
    """The cells with the largest or least values of an output, or of its mean, and the config keys that vary."""
    if said.number < 1:
        raise UsageError(f"-n is {said.number}, and should be at least 1")
    results = _results(said.run, "best")
    found = records_of(results)
    ranked, left_out = _ranked(found, said.metric, largest=said.largest)
    values = f"values of {said.metric}"
    numbers: dict[int, str] = {}
    for name in said.mean or ():
        if name not in (*results.coords, *results.dims):  # those left are flat, and have an axis more
            raise SelectionError(f"no axis is named {name!r}; {nearest(name, results.coords, 'the axes are')}")
    if said.mean and ranked:
        kept = set(map(id, ranked))
        some = results[[i for i, record in enumerate(found) if id(record) in kept]]
        numbers, found = _means(some, said.metric, said.mean)
        ranked, _ = _ranked(found, said.metric, largest=said.largest)
        values = f"means of {said.metric} over {', '.join(said.mean)}"
    top = ranked[: said.number]
    what = "largest" if said.largest else "least"
    screen.line(printable(f"the {len(top)} {what} of {len(ranked)} {values}"), "bold")
    varying = [(path, told) for path, told in _varying(found, top) if path not in (said.mean or ())]
    columns = [
        Column("name", [printable(name) for name in labels(top)]),
        Column(said.metric, [brief(known_output(record, said.metric)) for record in top], rank=2, right=True),
        *([Column("values", [numbers[id(record)] for record in top], rank=2, right=True)] if numbers else []),
        *(Column(printable(path), told, rank=1, right=True) for path, told in varying),
    ]
    lines, hidden = aligned(columns, screen.width)
    for line in lines:
        screen.line(line)
    if hidden:
        screen.line(f"too wide: {', '.join(hidden)}", "dim")
    if left_out:
        screen.line(f"left out: {in_words(Counter(left_out))}", "dim")
    return 0


def _means(results: Results, metric: str, over: Sequence[str]) -> tuple[dict[int, str], list[Record]]:
    """For each mean over some axes, by the id of its record, the number of its values; and these records.

    Cells with the same coordinates and different configs are kept apart.
    """
    keys = dict.fromkeys(key for _, _, keys in clashing(results) for key in keys)
    parts: dict[Any, list[int]] = {}
    for position, record in enumerate(records_of(results)):
        config = dotted(record.config)
        parts.setdefault(tuple(config.get(key) for key in keys), []).append(position)
    apart = [results[positions] for positions in parts.values()] if keys else [results]
    means = [record for part in apart for record in records_of(part.mean(*over, skipna=True))]
    counts = [record for part in apart for record in records_of(part.count(*over))]
    return {id(m): str(n.outputs[metric]) for m, n in zip(means, counts, strict=True)}, means


def _ranked(found: Sequence[Record], metric: str, *, largest: bool) -> tuple[list[Record], list[str]]:
    """The records in the order of an output, and for each record without a place in it the reason.

    Raises `SelectionError` if no record has the output, or if it is not a number.
    """
    having = [record for record in found if metric in record.outputs]
    if not having:
        known = dict.fromkeys(key for record in found for key in record.kinds)
        if metric in known:
            raise SelectionError(f"{metric!r} is not a scalar, so its cells have no order")
        raise SelectionError(f"no cell has the output {metric!r}; {nearest(metric, known, 'the outputs are')}")
    wrong = next((r for r in having if not isinstance(r.outputs[metric], (bool, int, float, type(None)))), None)
    if wrong is not None:
        value = clipped(repr(wrong.outputs[metric]), 40)
        raise SelectionError(f"{metric!r} is {value} in {wrong.name!r}: it has to be a number")
    values = [(record, record.outputs[metric]) for record in having]
    ranked = [record for record, value in values if value is not None and value == value]
    left_out = ["None" if value is None else "nan" for _, value in values if value is None or value != value]
    left_out += [record.status for record in found if metric not in record.outputs]
    return sorted(ranked, key=lambda record: record.outputs[metric], reverse=largest), left_out


def _varying(found: Sequence[Record], top: Sequence[Record]) -> Iterable[tuple[str, list[str]]]:
    """The keys in which the configs differ, with their values in the top records."""
    known = [dotted(record.config) for record in found if record.has_run]
    shown = [dotted(record.config) for record in top]
    for path in sorted({path for each in known for path in each}):
        if len({each.get(path, "") for each in known}) > 1:
            yield path, [printable(clipped(each.get(path, ""), 30)) for each in shown]


def _results(path: str, what: str) -> Results:
    """The results of the run at a path. Raises `UsageError` if a cell is there; `what` says what needs a run."""
    run, folder = history.find(path, trust=ANYBODY)
    if folder is not None:
        raise UsageError(f"{path} is the folder of a cell; {what} needs the folder of a run")
    return history.load_run(run, unpickles=False)


def csv(said: Namespace, screen: Screen) -> int:
    """The records of a run as CSV, with the columns of `Results.to_records`."""
    rows = _results(said.run, "CSV").to_records()
    writer = csv_module.writer(screen, lineterminator="\n")
    writer.writerow(rows[0])
    # Text as it is, nothing for None, and a number with all its digits.
    writer.writerows(["" if value is None else spelled(value) for value in row.values()] for row in rows)
    return 0


def html(said: Namespace, screen: Screen) -> int:
    """Write the page of a run into its folder, and print the path."""
    from pyexp.look.page import write  # it needs the extra

    screen.write(f"{write(_results(said.run, 'page'))}\n")
    return 0


#: What completes the arguments of the commands, by their names. The runs are those below the usual output folder.
COMPLETIONS: Mapping[str, Callable[[Namespace], Iterable[str]]] = {
    **dict.fromkeys(
        ("run", "runs", "folder", "a", "b"), lambda said: map(near, layout.runs_below(os.path.abspath("out")))
    ),
    "cell": lambda said: (
        cell.name or cell.folder for cell in history.history(history.find(said.run, trust=ANYBODY)[0]).cells
    ),
    "metric": lambda said: dict.fromkeys(
        key
        for record in records_of(history.load_run(history.find(said.run, trust=ANYBODY)[0], unpickles=False))
        for key in record.outputs
    ),
}
