"""The options of a run: one table that the decorator, `run()`, the command line, its help and the docs share.

Knows argv lists and option values; a parser, nothing else. `parse` turns an argv list into what was said on it, and
`settle` lays command line over `run()` over decorator over defaults.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, NoReturn

from pyexp.errors import UsageError, nearest
from pyexp.plan import Mode, component


@dataclass(frozen=True, slots=True)
class Options:
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
    retries: int = 0
    fail_fast: bool = False
    capture: bool = True
    durable: bool = True
    check: bool = False
    quiet: bool = False
    overrides: tuple[str, ...] = ()

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


def _positive(text: Any) -> float:
    number = float(text)
    if not 0 < number < float("inf"):
        raise ValueError(text)
    return number


def _count(text: Any) -> int:
    number = int(text)
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


def _as_it_is(value: Any) -> Any:
    return value


@dataclass(frozen=True, slots=True)
class Option:
    """One row of the table: the field of `Options`, its flags, and how its value is read.

    A row without a `metavar` is a switch, which `sets` its value; `wanted` says in words what a value has to be.
    """

    field: str
    flags: tuple[str, ...]
    help: str
    read: Callable[[Any], Any] = _flag
    wanted: str = "True or False"
    metavar: str | None = None
    sets: bool = True


OPTIONS: tuple[Option, ...] = (
    Option("report", ("--report",), "run nothing; report what there is of the latest run (or of --timestamp)"),
    Option("rerun", ("--rerun",), "run every cell again, also finished ones"),
    Option("timestamp", ("--timestamp",), "the run to continue, rerun or report, or the name of a new one",
           _timestamp, "the name of a run's folder, or True (a new one) or False (no such level)", "TIMESTAMP"),
    Option("resume", ("--continue",), "continue the latest run: load what is finished, run the rest"),
    Option("last_failed", ("--lf", "--last-failed"), "of the latest run, run only what failed or did not finish"),
    Option("select", ("-k", "--select"), "only the cells whose name matches", str, "a glob such as 'exp_*'", "GLOB"),
    Option("dry_run", ("-n", "--dry-run"), "print what would be done with every cell and why, and do nothing"),
    Option("list_runs", ("--list",), "list the runs there are, with their cells by status"),
    Option("jobs", ("-j", "--jobs"), "cells at a time", _jobs, "a number from 1, or 'auto' (one for each core)", "N"),
    Option("fail_fast", ("-x", "--fail-fast"), "start no new cell after the first failure"),
    Option("capture", ("-s", "--capture=no"), "show what the cells write, as well as keeping it in their log.txt",
           sets=False),
    Option("timeout", ("--timeout",), "kill a cell that runs for longer", _positive, "seconds, more than 0", "SECONDS"),
    Option("retries", ("--retries",), "try a failed cell again, up to so many times", _count, "a number from 0", "N"),
    Option("executor", ("--executor",), "where cells run: subprocess, fork, inline, ray, or an address ray://…",
           _as_it_is, "an executor's name", "NAME"),
    Option("durable", ("--no-durable",), "do not wait for the disk: safe against kills, not against a power cut",
           sets=False),
    Option("output_dir", ("--output-dir",), "the folder for all results", _as_it_is, "a folder", "DIR"),
    Option("name", ("--name",), "the experiment's folder below it", _name, "the name of one folder", "NAME"),
    Option("check", ("--check",), "exit with status 1 if any cell failed"),
    Option("quiet", ("-q", "--quiet"), "say nothing on stderr but errors"),
)  # fmt: skip

BY_FIELD: Mapping[str, Option] = {option.field: option for option in OPTIONS}


class _Parser(argparse.ArgumentParser):
    """A parser whose refusal is one line that names the nearest flag."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message)


def parser(prog: str | None = None) -> argparse.ArgumentParser:
    """The parser that the table describes."""
    made = _Parser(
        prog=prog,
        description="Run the experiment over its configs; load what is finished, run the rest, report.",
        epilog="Results are kept below out/NAME/TIMESTAMP/. Exit status: 0, 1 (--check and a cell failed), "
        "2 (wrong usage), 130 (interrupted).",
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    for option in OPTIONS:
        if option.metavar is None:
            # "--capture=no" is pytest's spelling of -s; argparse takes what stands after = for a value.
            flags = [flag for flag in option.flags if "=" not in flag]
            action = "store_true" if option.sets else "store_false"
            made.add_argument(*flags, dest=option.field, action=action, help=option.help)
        else:
            made.add_argument(*option.flags, dest=option.field, metavar=option.metavar, help=option.help)
    made.add_argument("overrides", nargs="*", metavar="key=value", help="set a key in every config; +key=value adds it")
    return made


def parse(argv: Sequence[str], prog: str | None = None) -> dict[str, Any]:
    """What an argv list says, by field of `Options`; fields that it does not name are absent.

    Raises `UsageError` with one line for an unknown flag, naming the nearest known, or a value that is wrong.
    `--help` prints the help and exits, as argparse does.
    """
    known = [flag for option in OPTIONS for flag in option.flags] + ["--help"]
    spelled = ["-s" if argument == "--capture=no" else argument for argument in argv]
    found, unknown = parser(prog).parse_known_intermixed_args(spelled)
    for argument in unknown:
        flag = argument.partition("=")[0]
        raise UsageError(f"unknown option {flag!r}; {nearest(flag, known, 'the options are')}")
    said = {key: value for key, value in vars(found).items() if not (key == "overrides" and not value)}
    for text in said.get("overrides", ()):
        if "=" not in text:
            raise UsageError(f"unexpected argument {text!r}; an override is written key=value")
    return checked(said, "the command line")


def checked(said: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The options with their values read. Raises `UsageError` naming the option and what it takes."""
    return {field: _read(field, value, where) for field, value in said.items()}


def _read(field: str, value: Any, where: str) -> Any:
    if field == "overrides":
        return tuple(value)
    known = {known.name for known in fields(Options)}
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

    Raises `UsageError` for options that contradict each other.
    """
    said = {**checked(decorator, "the decorator"), **checked(call, "run()"), **argv}
    options = Options(**said)
    refuse_contradictions(options)
    return options


#: Options of which a run can have one.
_EXCLUSIVE = (("report", "rerun"), ("report", "last_failed"), ("rerun", "last_failed"), ("report", "dry_run"))


def refuse_contradictions(options: Options) -> None:
    """Raise `UsageError` if two of the options cannot both be meant."""
    for one, other in _EXCLUSIVE:
        if getattr(options, one) and getattr(options, other):
            first, second = BY_FIELD[one].flags[0], BY_FIELD[other].flags[0]
            raise UsageError(f"{first} and {second} contradict each other; give one of them")
    if options.resume and isinstance(options.timestamp, str):
        raise UsageError(
            "--continue is for the latest run and --timestamp for a named one; give one of them "
            "(--timestamp alone continues that run)"
        )
