"""The options of a run: one table that the decorator, `run()`, the command line, its help and the docs share.

Knows argv lists and option values; a parser, nothing else. `parse` turns an argv list into what was said on it,
`spelled` turns that back, and `settle` lays command line over `run()` over decorator over defaults.
"""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from pyexp.errors import UsageError, nearest
from pyexp.overrides import Override, overrides_of
from pyexp.plan import Mode, component

if TYPE_CHECKING:
    import argparse


class Options(NamedTuple):
    """Every option of a run, settled."""

    name: str | None = None
    executor: Any = "subprocess"
    output_dir: Any = "out"
    timestamp: Any = True
    resume: bool = False
    report: bool = False
    rerun: bool = False
    last_failed: bool = False
    select: str | None = None
    dry_run: bool = False
    list_runs: bool = False
    jobs: Any = 1
    timeout: float | None = None
    grace: float = 10
    retries: int = 0
    fail_fast: bool = False
    pdb: bool = False
    capture: bool = True
    durable: bool = True
    check: bool = False
    quiet: bool = False
    overrides: tuple[Override, ...] = ()

    @property
    def mode(self) -> Mode:
        """What the run is for."""
        if self.report:
            return Mode.REPORT
        return Mode.RERUN if self.rerun else Mode.FAILED if self.last_failed else Mode.RUN

    @property
    def latest(self) -> bool:
        """Whether the run is the latest one there is, and not a new one."""
        return self.timestamp is True and (self.resume or self.report or self.last_failed)


def _seconds(text: Any) -> float:
    number = float(_no_flag(text))
    if not 0 <= number < float("inf"):
        raise ValueError(text)
    return number


def _positive(text: Any) -> float:
    number = _seconds(text)
    if number == 0:
        raise ValueError(text)
    return number


def _count(text: Any) -> int:
    number = int(_no_flag(text))
    if number < 0 or (isinstance(text, float) and text != number):
        raise ValueError(text)
    return number


def _jobs(text: Any) -> int | str:
    if text == "auto":
        return "auto"
    number = _count(text)
    if number == 0:
        raise ValueError(text)
    return number


def _timestamp(text: Any) -> str | bool:
    return text if isinstance(text, bool) else component(str(text), "timestamp")


def _name(text: Any) -> str:
    return component(str(text), "name")


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(value)
    return value


def _no_flag(value: Any) -> Any:
    if isinstance(value, bool):  # which Python takes for a number
        raise TypeError(value)
    return value


def _folder(value: Any) -> Any:
    path = os.fspath(value)
    if not isinstance(path, str) or not path or "\0" in path:
        raise ValueError(value)
    return value


def _glob(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value


def _as_it_is(value: Any) -> Any:
    return value


class Option(NamedTuple):
    """One row of the table: the field of `Options`, its flags, and how its value is read.

    A row without a `metavar` is a switch, which `sets` its value; `undo` is the flag that takes it back, where it is
    not the long flag with `--no-`. `wanted` says in words what a value has to be.
    """

    field: str
    flags: tuple[str, ...]
    help: str
    read: Callable[[Any], Any] = _flag
    wanted: str = "True or False"
    metavar: str | None = None
    sets: bool = True
    undo: str | None = None

    @property
    def off(self) -> str | None:
        """The flag that takes a switch back."""
        return self.undo or (f"--no-{self.flags[-1].removeprefix('--')}" if self.sets and not self.metavar else None)


#: The table, in the groups in which `--help` and the docs show it.
GROUPS: Mapping[str, tuple[Option, ...]] = {
    "which run": (
        Option("timestamp", ("--timestamp",), "the run to continue, rerun or report, or the name of a new one",
               _timestamp, "the name of a run's folder, or True (a new one) or False (no such level)", "TIMESTAMP"),
        Option("timestamp", ("--no-timestamp",), "no folder for each run: use what is in the experiment's own",
               _timestamp, sets=False),
        Option("resume", ("--continue",), "continue the latest run: load what is finished, run the rest"),
        Option("name", ("--name",), "the experiment's folder below the output folder", _name,
               "the name of one folder", "NAME"),
        Option("output_dir", ("--output-dir",), "the folder for all results", _folder, "a folder", "DIR"),
    ),
    "which cells": (
        Option("select", ("-k", "--select"), "only the cells whose name matches", _glob, "a glob such as 'exp_*'",
               "GLOB"),
        Option("last_failed", ("--lf", "--last-failed"), "of the latest run (or of --timestamp), run only what failed "
               "or did not finish"),
        Option("rerun", ("--rerun",), "run every cell again, also finished ones"),
    ),
    "instead of running": (
        Option("dry_run", ("-n", "--dry-run"), "print what would be done with every cell and why"),
        Option("list_runs", ("--list",), "list the runs there are, with their cells by status"),
        Option("report", ("--report",), "report what there is of the latest run (or of --timestamp)"),
    ),
    "how": (
        Option("executor", ("--executor",), "where cells run: subprocess, fork, inline, ray, or an address ray://…",
               _as_it_is, "an executor's name", "NAME"),
        Option("jobs", ("-j", "--jobs"), "cells at a time", _jobs, "a number from 1, or 'auto' (one for each core)",
               "N"),
        Option("timeout", ("--timeout",), "kill a cell that runs for longer (not with inline)", _positive,
               "seconds, more than 0", "SECONDS"),
        Option("grace", ("--grace",), "what a cell has after Ctrl-C or SIGTERM, to save its state, before it is killed",
               _seconds, "seconds, from 0", "SECONDS"),
        Option("retries", ("--retries",), "try a failed cell again, up to so many times", _count, "a number from 0",
               "N"),
        Option("pdb", ("--pdb",), "run cells in this process, with the terminal, and open pdb where one raises"),
        Option("fail_fast", ("-x", "--fail-fast"), "start no new cell after the first failure"),
        Option("durable", ("--no-durable",), "do not wait for the disk: safe against kills, not against a power cut",
               sets=False, undo="--durable"),
        Option("check", ("--check",), "exit with status 1 if any cell failed, or with --report has no result"),
    ),
    "what is shown": (
        Option("capture", ("-s", "--capture=no"), "show what the cells write, as well as keeping it in their log.txt",
               sets=False, undo="--capture=yes"),
        Option("quiet", ("-q", "--quiet"), "say nothing on stderr but what goes wrong"),
    ),
}  # fmt: skip

OPTIONS: tuple[Option, ...] = tuple(option for group in GROUPS.values() for option in group)

#: The row by which the value of a field is read.
BY_FIELD: Mapping[str, Option] = {option.field: option for option in reversed(OPTIONS)}

_OVERRIDE = (
    "lay this over every config: a dotted key that is there, and a value of the kind that is there; key:=literal gives "
    "another kind, +key=value adds"
)


def parser(prog: str | None = None) -> "argparse.ArgumentParser":
    """The parser that the table describes; what it refuses is a `UsageError`."""
    import argparse  # only who has a command line pays for it

    class Parser(argparse.ArgumentParser):
        def error(self, message: str) -> NoReturn:
            raise UsageError(message)

        def print_help(self, file: Any = None) -> None:
            say(self.format_help().rstrip())

    made = Parser(
        prog=prog,
        usage="%(prog)s [options] [key=value ...]",
        description="Run the experiment for each of its configs, load what is finished, and report on the results.",
        epilog="Each switch is taken back by its --no- form (--no-check), where the script has set it. Results are "
        "kept below DIR/NAME/TIMESTAMP. Exit status: 0, 1 (--check, and a cell failed), 2 (wrong usage), 130 (Ctrl-C).",
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    made.add_argument("overrides", nargs="*", metavar="key=value", help=_OVERRIDE)
    for title, options in GROUPS.items():
        group = made.add_argument_group(title)
        for option in options:
            if option.metavar is not None:
                told = option.help + default_of(option)
                group.add_argument(*option.flags, dest=option.field, metavar=option.metavar, help=told)
                continue
            on, off = ("store_true", "store_false") if option.sets else ("store_false", "store_true")
            group.add_argument(*option.flags, dest=option.field, action=on, help=option.help)
            if option.off is not None:
                group.add_argument(option.off, dest=option.field, action=off, help=argparse.SUPPRESS)
    return made


def say(text: str) -> None:
    """Print the text. What stdout cannot spell is spelled out; a reader that has gone has seen enough."""
    try:
        try:
            print(text, flush=True)
        except UnicodeEncodeError:
            encoding = sys.stdout.encoding
            print(text.encode(encoding, "backslashreplace").decode(encoding), flush=True)
    except BrokenPipeError:
        with suppress(OSError, ValueError):  # else Python would complain once more at its end
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def default_of(option: Option) -> str:
    """What an option is if nobody says it, in words; nothing for a switch, or where there is no value."""
    default = getattr(Options(), option.field)
    return f" (default: {default})" if isinstance(default, (str, int)) and not isinstance(default, bool) else ""


def parse(argv: Sequence[str], prog: str | None = None) -> dict[str, Any]:
    """What an argv list says, by field of `Options`; fields that it does not name are absent.

    Raises `UsageError` with one line for an unknown flag, naming the nearest known, or a value that is wrong.
    `--help` prints the help and exits, as argparse does.
    """
    if not argv:
        return {}
    known = [flag for option in OPTIONS for flag in (*option.flags, option.off) if flag] + ["--help"]
    found, unknown = parser(prog).parse_known_intermixed_args(list(argv))
    for argument in unknown:
        flag = argument.partition("=")[0]
        raise UsageError(f"unknown option {flag!r}; {nearest(flag, known, 'the options are')}")
    said = {key: value for key, value in vars(found).items() if not (key == "overrides" and not value)}
    return checked(said, "the command line")


def spelled(said: Mapping[str, Any]) -> list[str]:
    """The argv list that says this: what `parse` takes back to it."""
    words = []
    for option in OPTIONS:
        value = said.get(option.field)
        if option.field not in said or (option.metavar is None) != isinstance(value, bool):
            continue
        if option.metavar is not None:
            text = str(value)  # one that begins with a dash would be taken for a flag by itself
            words += [f"{option.flags[-1]}={text}"] if text.startswith("-") else [option.flags[0], text]
        elif value == option.sets:
            words.append(option.flags[0])
        else:
            words += [option.off] if option.off else []
    return [*words, *(override.text for override in said.get("overrides", ()))]


def checked(said: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The options with their values read. Raises `UsageError` naming the option and what it takes."""
    return {field: _read(field, value, where) for field, value in said.items()}


def _read(field: str, value: Any, where: str) -> Any:
    if field == "overrides":
        return overrides_of(value)
    known = set(Options._fields)
    if field not in known:
        raise UsageError(f"{where} has no option {field!r}; {nearest(field, sorted(known))}")
    option = BY_FIELD[field]
    if value is None and getattr(Options(), field) is None:
        return None
    try:
        return option.read(value)
    except (ValueError, TypeError) as error:
        if isinstance(error, UsageError):
            raise
        label = option.flags[-1] if where == "the command line" else field
        raise UsageError(f"{label} is {value!r}; it takes {option.wanted}") from None


def settle(decorator: Mapping[str, Any], call: Mapping[str, Any], argv: Mapping[str, Any]) -> Options:
    """The options in force: the command line over `run()` over the decorator over the defaults.

    What one of them says switches off what contradicts it in those below; their overrides add up. Raises `UsageError`
    for options within one of them that contradict each other.
    """
    settled: dict[str, Any] = {}
    for said in (checked(decorator, "the decorator"), checked(call, "run()"), argv):
        refuse_contradictions(said)
        for field in _switched_off(settled, said):
            settled.pop(field, None)
        settled |= {**said, "overrides": (*settled.get("overrides", ()), *said.get("overrides", ()))}
    return Options(**settled)


def _switched_off(below: Mapping[str, Any], said: Mapping[str, Any]) -> list[str]:
    """The options from below that contradict what is said."""
    pairs = [pair for one, other, _ in _EXCLUSIVE for pair in ((one, other), (other, one))]
    return [loses for wins, loses in pairs if _is_on(said, wins) and _is_on(below, loses)]


_ONE = "give one of them"
#: Options of which a run can have one, and what to do about it.
_EXCLUSIVE = (
    ("report", "rerun", _ONE),
    ("report", "last_failed", _ONE),
    ("rerun", "last_failed", _ONE),
    ("report", "dry_run", _ONE),
    *(("list_runs", other, _ONE) for other in ("report", "rerun", "last_failed", "dry_run")),
    ("pdb", "executor", "--pdb runs cells inline, in this process: leave out --executor"),
    ("resume", "timestamp", "--continue is for the latest run, and --timestamp alone continues the one it names"),
)


def _is_on(said: Mapping[str, Any], field: str) -> bool:
    value = said.get(field)
    return isinstance(value, str) if field == "timestamp" else bool(value)


def refuse_contradictions(said: Mapping[str, Any]) -> None:
    """Raise `UsageError` if two of the options cannot both be meant."""
    for one, other, remedy in _EXCLUSIVE:
        if _is_on(said, one) and _is_on(said, other):
            first, second = BY_FIELD[one].flags[0], BY_FIELD[other].flags[0]
            raise UsageError(f"{first} and {second} contradict each other; {remedy}")


def reference() -> str:
    """The page of the docs that the table is: one row for each option."""
    lines = [_INTRODUCTION]
    for title, options in GROUPS.items():
        lines += [
            f"## {title.capitalize()}",
            "",
            "| command line | `run()`, decorator | what it does |",
            "|---|---|---|",
        ]
        lines += [
            f"| {_flags(option)} | {_keyword(option)} | {option.help}{default_of(option)} |" for option in options
        ]
        lines.append("")
    lines += ["## Overrides", "", "| command line | `run()`, decorator | what it does |", "|---|---|---|"]
    lines.append(f'| `key=value`, `key:=literal`, `+key=value` | `overrides={{"key": value}}` | {_OVERRIDE} |')
    lines += ["", _KINDS]
    return "\n".join([*lines, ""])


_INTRODUCTION = """# Options

Every option can be said on the command line, to `experiment.run()`, or to the decorator; the command line wins over
`run()`, and that over the decorator. `experiment.run()` reads the command line where it is called by the script that
was started, or by what that calls, and so behind an installed entry point (`train = "package.train:main"`). It does
not where a library calls it that has words of its own, such as a test runner or click. `run(argv=sys.argv[1:])` reads
it anywhere, and `run(argv=[])` nowhere.

Where a script runs several experiments, each reads the command line. If `-k` or the key of an override is only
another's, an experiment says so in a line and runs nothing. `--check` ends the script after the first experiment of
which a cell failed: nobody can know whether another one follows, and an exit status is set by ending.

This page is made from the table in `pyexp/cli.py`:
`python -c "from pyexp.cli import reference; print(reference(), end='')" > docs/reference/options.md`.

Exit status: 0; 1 if `--check` was given and a cell failed; 2 for wrong usage, which is one line on stderr; 130 after
Ctrl-C.
"""

_KINDS = """What is typed keeps the kind of what it replaces, or is refused with the right spelling:

| there is | what may be typed |
|---|---|
| a bool | `true`, `1`, `yes`, `on` or `false`, `0`, `no`, `off`, in any case |
| an int | a number; `1e3` becomes 1000, `0.5` a float |
| a float | a number (an int becomes a float), `inf`, `nan` |
| a string | any text, as it is: `id=1_1_1` and `tag=None` are strings |
| a list, tuple, set or dict | a Python literal of the same kind; a dict is not replaced by anything else |
| a path, a member of an enum | a path, the name of a member |
| None, or with `+` nothing | a Python literal, else text; digits with underscores are text |

`key:=literal` takes a Python literal of any kind, and quotes make a string of anything: `n='"3"'`. A value in a dict
(`overrides={"key": value}`) is taken as it is; in a list (`overrides=["key=value"]`) it is read as if it were typed.
Where the configs have different kinds, each keeps its own, and each has to accept what is typed. See the
[decision](../decisions/042-overrides-keep-kinds.md)."""


def _flags(option: Option) -> str:
    value = f" {option.metavar}" if option.metavar else ""
    shown = [*(f"`{flag}{value}`" for flag in option.flags)]
    return ", ".join(shown) + (f" (taken back by `{option.off}`)" if option.off else "")


def _keyword(option: Option) -> str:
    return f"`{option.field}={'…' if option.metavar else option.sets}`"
