"""How two cells or two runs differ: configs, outputs, grids, code and libraries. Read from the records alone."""

import os
from argparse import Namespace
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from pyexp.errors import UsageError
from pyexp.look.runs import ANYBODY, dotted, near
from pyexp.look.screen import Screen
from pyexp.results import Record, Result, cells_in_words, clipped, outputs_of, records_of, spelled
from pyexp.store import files, history
from pyexp.store.code import Code, change
from pyexp.store.layout import RESULT, Run
from pyexp.tensor import Tensor
from pyexp.text import printable

#: Differences that are listed, however low the terminal is.
MOST = 20

Commands = Sequence[Mapping[str, Any]]


def diff(said: Namespace, screen: Screen) -> int:
    """Say what is only in A (`-`), only in B (`+`), and not the same in both (`~`); 1 if there is anything."""
    (a, one), (b, other) = (history.find(path, trust=ANYBODY) for path in (said.a, said.b))
    if (one is None) != (other is None):
        raise UsageError(
            f"{said.a} is a {'run' if one is None else 'cell'}, and {said.b} is not; give two runs or two cells"
        )
    if one is None or other is None:
        sections = _of_runs(a, b)
        names = near(a.path), near(b.path)
    else:
        sections = _of_cells(a, one, b, other)
        names = near(os.path.join(a.path, one)), near(os.path.join(b.path, other))
    screen.line(printable(f"- {names[0]}"), "bold")
    screen.line(printable(f"+ {names[1]}"), "bold")
    differs = False
    for title, lines in sections:
        if lines:
            differs = True
            screen.line(f"\n{title}", "bold")
            shown = lines if screen.height is None else lines[: max(screen.height - 4, MOST)]
            for line in shown:
                screen.line(f"  {printable(line)}", {"-": "red", "+": "green"}.get(line[0], ""))
            if len(shown) < len(lines):
                screen.line(f"  … {len(lines) - len(shown)} more; `| cat` shows all", "dim")
    if not differs:
        screen.line("no difference")
    return int(differs)


Sections = Iterator[tuple[str, list[str]]]


def _of_cells(a: Run, one: str, b: Run, other: str) -> Sections:
    results = history.load_cell(a, one, unpickles=False), history.load_cell(b, other, unpickles=False)
    records = results[0].record, results[1].record
    yield "name", changes({"name": records[0].name}, {"name": records[1].name})
    yield "status", changes(*({"status": _status(record)} for record in records))
    yield "config", changes(*(dotted(record.config) for record in records))
    yield "outputs", _of_outputs(*results)
    commands = [_made_by(history.history(run).commands, record) for run, record in zip((a, b), records, strict=True)]
    yield from _of_code([records], (a, commands[0]), (b, commands[1]))


def _status(record: Record) -> str:
    return f"failed: {record.type}: {record.message}" if record.status == "failed" else record.status


def _of_outputs(one: Result, other: Result) -> list[str]:
    """How the outputs differ. Of outputs that are not scalars, only that they differ."""
    mine, theirs = one.record, other.record
    lines = changes(outputs_of(mine), outputs_of(theirs))
    hidden = [key for key in mine.kinds if key not in mine.outputs and key in theirs.kinds]
    if not lines and hidden:
        with suppress(OSError):  # one is gone by now
            if not files.is_same_pickle(*(os.path.join(each.out, RESULT) for each in (one, other))):
                lines = [f"~ {' or '.join(hidden)}: other content, as no scalar differs and the results do"]
    return lines


def changes(one: Mapping[str, str], other: Mapping[str, str]) -> list[str]:
    """What is only in one mapping, only in the other, and what differs.

    >>> changes({"a": "1", "b": "2"}, {"b": "3", "c": "4"})
    ['- a  1', '~ b  2 → 3', '+ c  4']
    """
    lines = []
    for key in sorted({*one, *other}):
        if key not in other:
            lines.append(f"- {key}  {one[key]}")
        elif key not in one:
            lines.append(f"+ {key}  {other[key]}")
        elif one[key] != other[key]:
            lines.append(f"~ {key}  {one[key]} → {other[key]}")
    return lines


def _made_by(commands: Commands, record: Record) -> Commands:
    """The commands that may have run a cell: those that went on at its start, on its host if that is known."""
    return [
        command
        for command in commands
        if isinstance(command.get("started"), (int, float))
        and command["started"] <= record.started
        and (not isinstance(command.get("ended"), (int, float)) or record.started <= command["ended"])
        and record.host in ("", command.get("host"))
    ]


def _of_parts(pairs: Sequence[tuple[Record, Record]]) -> list[str]:
    """What changed in the code between the two of each pair, by their fingerprints."""
    coded = [(one, other) for one, other in pairs if one.code and other.code]
    codes = [[Code(record.code["hash"], record.code["parts"]) for record in pair] for pair in coded]
    found = Counter(filter(None, (change(*pair) for pair in codes)))
    return [
        f"~ {words}{'' if number == len(coded) else f' ({number} of {cells_in_words(len(coded))})'}"
        for words, number in found.most_common()
    ]


def _of_code(
    pairs: Sequence[tuple[Record, Record]], mine: tuple[Run, Commands], theirs: tuple[Run, Commands]
) -> Sections:
    """What changed in the code, and how the latest commands that ran it differ: in what is known of both."""
    lines = _of_parts(pairs)
    if not mine[1] or not theirs[1]:
        yield "code", lines
        return
    one, other = mine[1][-1], theirs[1][-1]
    yield "code", [*lines, *changes(_code(one), _code(other)), *_of_patches(mine[0], one, theirs[0], other)]
    yield "libraries", changes(_texts(one.get("libraries")), _texts(other.get("libraries")))


def _code(command: Mapping[str, Any]) -> dict[str, str]:
    told = {key: str(command[key]) for key in ("command", "host", "python", "pyexp") if key in command}
    return told | _texts(command.get("git"))


def _texts(told: Any) -> dict[str, str]:
    return {str(key): str(value) for key, value in told.items()} if isinstance(told, dict) else {}


def _of_patches(a: Run, one: Mapping[str, Any], b: Run, other: Mapping[str, Any]) -> list[str]:
    """Whether what was changed since the commit is the same."""
    found = [
        files.head(os.path.join(run.path, os.path.basename(str(command["patch"])))) if "patch" in command else None
        for run, command in ((a, one), (b, other))
    ]
    if found[0] == found[1]:
        return []
    names = [str(command.get("patch", "none")) for command in (one, other)]
    return [f"~ uncommitted changes  {names[0]} → {names[1]}"]


def _of_runs(a: Run, b: Run) -> Sections:
    mine, theirs = (history.load_run(run, unpickles=False) for run in (a, b))
    yield "grid", changes(*({"shape": str(each.shape), **_axes(each)} for each in (mine, theirs)))
    one, other = ({result.record.hash: result for result in each} for each in (mine, theirs))
    named = {result.name: result for result in theirs if result.name and result.record.hash not in one}
    # A cell that only one run has is the other's of this name: its config has changed.
    twins = {digest: other.get(digest) or named.pop(result.name, None) for digest, result in one.items()}
    found = {digest: _of_twins(one[digest], twin) for digest, twin in twins.items() if twin is not None}
    lines = []
    for digest, result in one.items():
        if digest not in found:
            lines.append(f"- {result.name or digest}")
        elif found[digest]:
            lines.append(f"~ {result.name or digest}: {'; '.join(found[digest])}")
    met = {twin.record.hash for twin in twins.values() if twin is not None}
    lines += [f"+ {result.name or digest}" for digest, result in other.items() if digest not in met]
    alike = sum(not changed for changed in found.values())
    yield f"cells ({cells_in_words(alike)} the same in both)", lines
    pairs = [(one[digest].record, twin.record) for digest, twin in twins.items() if twin is not None]
    if not pairs:  # no cell is in both, so take the latest of each
        latest = [max(records_of(each), key=lambda record: record.started) for each in (mine, theirs)]
        pairs = [(latest[0], latest[1])]
    yield from _of_code(pairs, *((run, history.history(run).commands) for run in (a, b)))


def _of_twins(one: Result, other: Result) -> list[str]:
    """How two cells of one config, or of one name, differ."""
    mine, theirs = one.record, other.record
    lines = changes(dotted(mine.config), dotted(theirs.config))
    if mine.hash == theirs.hash:  # a key that one lacks has its default, or is not known; the default may have changed
        lines = [line for line in lines if line.startswith("~")]
    elif not lines:
        lines = ["~ the config's hash"]
    return [*lines, *changes({"status": _status(mine)}, {"status": _status(theirs)}), *_of_outputs(one, other)]


def _axes(results: Tensor[Any]) -> dict[str, str]:
    return {axis.name: clipped(", ".join(spelled(at, repr) for at in axis.coords), 100) for axis in results.axes}
