"""The options of a run: one table that the decorator, `run()`, the command line, its help and the docs share.

`commandline.parse` reads an argv list, `spelled` turns options back into one, and `settle` combines command line,
`run()`, decorator and defaults.
"""

import math
import re
import reprlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from enum import Enum
from functools import partial
from itertools import product
from pathlib import PurePath
from typing import Any, NamedTuple

from pyexp.axes import MISSING, Axis, codes_along, taken
from pyexp.configs import (
    NOTHING,
    Config,
    FrozenConfig,
    Path,
    applied,
    cached_by_identity,
    equal,
    freeze_value,
    is_map,
    joined,
    leaves,
    lookup,
    parts_of,
    route,
    split,
    thaw,
    unescaped,
)
from pyexp.devices import AUTO, NO_GPUS, WANTED, tokens_of
from pyexp.errors import ConfigError, UsageError, listing, nearest
from pyexp.plan import Mode, component, validate_size
from pyexp.sweep import derived_from
from pyexp.tensor import Tensor

#: A context without warnings. `pyexp/__init__.py` sets it when it loads this module.
unwarned: Callable[[], AbstractContextManager[Any]] = nullcontext


class UnknownKeyError(UsageError):
    """No config has the key of an override. It may be meant for another experiment of the script."""


@dataclass(frozen=True, slots=True)
class Override:
    """A value for one key in every config. `adds` allows a new key.

    `word` is the value as it was typed, to be read as the kind of the value that it replaces; None to use `value`
    unchanged. `value` is also the meaning of the word if the kind is unknown. `text` is the override as it was written.
    """

    path: Path
    value: Any
    adds: bool
    text: str
    word: str | None = None

    @property
    def key(self) -> str:
        """The dotted key."""
        return joined(self.path)


def override_of(text: str) -> Override:
    """The override written as `key=value` or `key:=literal`, either with a `+` before it.

    `:=` and quotes fix the kind of the value. Otherwise it gets the kind of the value that it replaces. If that is
    missing or None, it is read as a Python literal, or as text if it is not one.

    >>> override_of("mlp.width=64").value, override_of("model=cnn").value, override_of("+debug:=True").adds
    (64, 'cnn', True)

    Raises `UsageError` for any other text.
    """
    key, equals, word = text.partition("=")
    if not equals:
        remedy = f"; to name a run, write --timestamp {text}" if text[:1].isdigit() else ""
        raise UsageError(f"unexpected argument {text!r}; an override is written key=value, without spaces{remedy}")
    if key.endswith(":"):
        value = float(word) if _WORDS_FOR_FLOATS.fullmatch(word.strip()) else _literal(word)
        if value is NOTHING:
            raise UsageError(f"{key}={word} is not a Python literal; for text write {_typed(f'{key}={word!r}')}")
        return override(key.removesuffix(":"), value, text)
    if _QUOTED.fullmatch(word.strip()) and (value := _literal(word)) is not NOTHING:
        return override(key, value, text)
    return override(key, _guessed(word), text, word)


def overrides_of(given: Any) -> tuple[Override, ...]:
    """The overrides in a dict by key (`{"mlp.width": 64, "+debug": True}`) or in a list of `key=value`.

    The values of a dict are used unchanged. Raises `UsageError` for anything else.
    """
    if isinstance(given, Mapping):
        return tuple(override(key, value, f"{key}:={value!r}") for key, value in given.items())
    is_list = isinstance(given, Sequence) and all(isinstance(item, (str, Override)) for item in given)
    if isinstance(given, str) or not is_list:
        raise UsageError(f"overrides is {given!r}; it takes a dict by key, or a list of 'key=value'")
    return tuple(item if isinstance(item, Override) else override_of(item) for item in given)


def override(key: Any, value: Any, text: str, word: str | None = None) -> Override:
    """The override of a key. A key that begins with `+` is added. Raises `UsageError` for a malformed key."""
    where = f"the override {text!r}"
    try:
        path = split(key.removeprefix("+") if isinstance(key, str) else key, where)
        frozen = freeze_value(value, where)
    except ConfigError as error:
        raise UsageError(str(error)) from None
    if path[0] in ("name", "out"):
        why = "identifies the cells" if path[0] == "name" else "is the folder that pyexp gives each cell"
        raise UsageError(f"{where} is not allowed: {path[0]!r} {why}")
    return Override(path, frozen, key.startswith("+"), text, word)


_QUOTED = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\"""")
_INT = re.compile(r"[+-]?(?:0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_WORDS_FOR_FLOATS = re.compile(r"[+-]?(?:inf|infinity|nan)", re.I)
#: Below this, a whole float is exactly the number that was typed.
_EXACT = 2.0**53


def _literal(word: str) -> Any:
    """The word as a Python literal; `NOTHING` if it is not one, or holds a number too large for a float."""
    from ast import Constant, literal_eval, parse, walk  # imported only for an override

    try:
        with unwarned():  # Python warns of literals such as "\d"
            tree = parse(word.strip(), mode="eval")
            constants = [node.value for node in walk(tree) if isinstance(node, Constant)]
            # A literal cannot spell infinity: the number was too large.
            if any(isinstance(each, (float, complex)) and math.isinf(abs(each)) for each in constants):
                return NOTHING
            return literal_eval(tree)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return NOTHING


def _guessed(word: str) -> Any:
    """The word as a literal, or as text if it is not one. `1_1_1` stays text: it is likely a name."""
    value = _literal(word)
    is_number = isinstance(value, (int, float, complex))
    return word if value is NOTHING or (is_number and "_" in word) else value


def _typed(text: str) -> str:
    """The text, quoted for a shell."""
    import shlex

    quoted = shlex.quote(text)
    return quoted if quoted == text or re.search(r'["$`\\!]', text) else f'"{text}"'


_BOOLS = {
    **dict.fromkeys(("true", "1", "yes", "on"), True),
    **dict.fromkeys(("false", "0", "no", "off"), False),
}


def _int(word: str) -> Any:
    word = word.strip()
    if _INT.fullmatch(word):
        try:
            return int(word)
        except ValueError:  # of more digits than Python reads
            return NOTHING
    number = _float(word)
    return int(number) if number is not NOTHING and number.is_integer() and abs(number) < _EXACT else number


def _float(word: str) -> Any:
    word = word.strip()
    if _WORDS_FOR_FLOATS.fullmatch(word):
        return float(word)
    if not _FLOAT.fullmatch(word):
        return NOTHING
    number = float(word)
    is_lost = math.isinf(number) or (number == 0 and re.search("[1-9]", re.split("[eE]", word)[0]))
    return NOTHING if is_lost else number


def _of_kind(kind: type, make: Callable[[Any], Any] | None = None) -> Callable[[str], Any]:
    def read(word: str) -> Any:
        value = _literal(word)
        return (make or kind)(value) if type(value) is kind else NOTHING

    return read


class Kind(NamedTuple):
    """One kind of values: how to read a word as such a value (`NOTHING`: it is not one), and what a user may type."""

    read: Callable[[str], Any]
    wanted: str


#: How to read a word, by the class of the value that it replaces.
KINDS: Mapping[type, Kind] = {
    bool: Kind(lambda word: _BOOLS.get(word.strip().lower(), NOTHING), "{key}=true or {key}=false"),
    int: Kind(_int, "a number like {key}=10"),
    float: Kind(_float, "a number like {key}=0.1 or {key}=1e-3"),
    str: Kind(lambda word: word, "any text"),
    list: Kind(_of_kind(list), "a list like {key}='[1, 2]'"),
    tuple: Kind(_of_kind(tuple), "a tuple like {key}='(1, 2)'"),
    set: Kind(_of_kind(set), "a set like {key}='{{1, 2}}'"),
    frozenset: Kind(_of_kind(set, frozenset), "a set like {key}='{{1, 2}}'"),
    Config: Kind(_of_kind(dict), "one of its keys like {key}.{inner}=…, or a whole dict"),
}


#: A kind of values that cannot be typed.
_FOREIGN = Kind(lambda word: NOTHING, "such a value in the script")


def kind_of(there: Any) -> Kind:
    """The kind of a value, which is given as the experiment would get it."""
    if isinstance(there, Enum):
        members = type(there).__members__
        names = listing(members).replace("'", "")
        return Kind(lambda word: members.get(word.strip(), NOTHING), f"the name of a member: {names}")
    if isinstance(there, PurePath):
        return Kind(type(there), "a path")
    return KINDS.get(type(there), _FOREIGN)


def _fitted(one: Override, there: Any) -> Any:
    """The frozen value with which the override replaces this one; `NOTHING` if the word is of another kind."""
    if one.word is None or there is NOTHING or there is None:
        return one.value
    value = kind_of(thaw(there)).read(one.word)
    return value if value is NOTHING else freeze_value(value)


def overridden(configs: Tensor[FrozenConfig], overrides: Sequence[Override]) -> Tensor[FrozenConfig]:
    """The grid with the overrides merged over every config, in order. Coordinates follow, and what `derive` returns.

    A typed word is read as the kind of the value that it replaces, in each config separately.

    Raises `UsageError` for a key that a config lacks (unless it is added), naming the nearest known key; for a key in
    which the configs differ, since the grid varies it; and for a word of the wrong kind. Raises `ConfigError` for a
    grid that is too large to run.
    """
    if not overrides or not configs:
        return configs
    validate_size(configs)
    cells = tuple(configs)
    for one in overrides:
        _validate_override(one, cells)
    readers = [(one, cached_by_identity(partial(_fitted, one))) for one in overrides]

    def change(config: FrozenConfig, like: FrozenConfig = cells[0]) -> FrozenConfig:
        """The config with the overrides, read as the kinds of the values in another one."""
        values = [(one, read(lookup(like, one.key, NOTHING))) for one, read in readers]
        # A dot in the override's path may be part of a key of this config.
        return applied(config, [(route(config, one.path) or one.path, value) for one, value in values])

    # What `derive` makes of a key follows its override, and may have an override of its own.
    changed = tuple(map(change, derived_from(configs.cells, change), cells))
    axes = []
    for axis, codes in zip(configs.axes, codes_along(configs.axes, range(len(cells))), strict=True):
        levels = [
            replace(level, axis=_axis_after(level.axis, taken(level.codes, codes), cells, changed, overrides))
            for level in axis.levels
        ]
        axes.append(replace(_axis_after(axis, codes, cells, changed, overrides), levels=tuple(levels)))
    return Tensor.of_cells(changed, axes)


def _axis_after(
    axis: Axis,
    codes: Sequence[int],
    before: Sequence[FrozenConfig],
    after: Sequence[FrozenConfig],
    overrides: Iterable[Override],
) -> Axis:
    """The axis after the overrides. `codes` are the positions of the configs along it.

    An override can change a coordinate if all configs agree in the key: on an axis of one position, or inside maps.
    """
    path = axis.key or axis.name
    parts = parts_of(path)
    if not any(one.path[: len(parts)] == parts[: len(one.path)] for one in overrides):
        return axis
    held = (lookup(config, path, NOTHING) for config in before)
    are_held = (code == MISSING or equal(value, axis.coords[code]) for value, code in zip(held, codes, strict=True))
    if axis.key is None and not all(are_held):  # the axis only has the name of a key
        return axis
    first = {code: cell for cell, code in reversed(tuple(enumerate(codes)))}
    now = [
        lookup(after[first[code]], path, NOTHING) if code in first else axis.coords[code] for code in range(axis.size)
    ]
    coords = [None if value is NOTHING else value for value in now]
    is_gone = any(value is NOTHING for value in now)
    return replace(axis, coords=tuple(coords), key=None if is_gone else axis.key, marks=None)


def _validate_override(one: Override, cells: Sequence[FrozenConfig]) -> None:
    values = [lookup(config, one.key, NOTHING) for config in cells]
    known = [value for value in values if value is not NOTHING]
    for value in known:
        if value is not known[0] and not equal(value, known[0]):
            raise UsageError(
                f"{one.key!r} cannot be overridden: the configs differ in it ({known[0]!r}, {value!r}, …); "
                "select some of them with -k instead, or change them in the script"
            )
    if one.adds:
        for above, config in product([joined(one.path[:depth]) for depth in range(1, len(one.path))], cells):
            value = lookup(config, above, NOTHING)
            if value is not NOTHING and not is_map(value):
                raise UsageError(f"+{one.key} cannot be added: {above!r} is {value!r} and not a map of keys")
    elif len(known) < len(cells):
        lacking = next(config for config, value in zip(cells, values, strict=True) if value is NOTHING)
        remedy = f"to add it, write +{one.key}=…"
        if not known:
            hint = nearest(one.key, keys_of(lacking), "the keys are")
            raise UnknownKeyError(f"no config has the key {one.key!r}; {hint} ({remedy})")
        some = f"{len(cells) - len(known)} of {len(cells)} configs, such as {lacking.get('name', '')!r},"
        raise UsageError(f"{some} have no key {one.key!r}; {remedy}")
    kinds = {type(value): (config, value) for config, value in zip(cells, values, strict=True)}
    for config, value in kinds.values():
        if _fitted(one, value) is NOTHING:
            of = f" of config {config.get('name', '')!r}" if len(kinds) > 1 else ""
            raise UsageError(_misfit(one, thaw(value), of))


def _misfit(one: Override, there: Any, of: str) -> str:
    word = one.word or ""
    guess = _guessed(word)
    inner = next(iter(there), "KEY") if isinstance(there, Mapping) else ""
    wanted = kind_of(there).wanted.format(key=one.key, inner=inner)
    forced = _typed(f"{'+' * one.adds}{one.key}:={guess!r}")
    return (
        f"{one.key!r}{of} is {reprlib.repr(there)}, of type {_kind_name(there)}, which {word!r} is not; "
        f"write {wanted}, or {forced} to make it of type {_kind_name(guess)}"
    )


def _kind_name(value: Any) -> str:
    return "dict" if isinstance(value, Config) else type(value).__name__


def keys_of(config: FrozenConfig) -> list[str]:
    """The dotted keys of a config that can be overridden, including those of maps."""
    paths = [path for path, _ in leaves(config) if path != "name"]
    maps = [joined(parts[:depth]) for parts in map(parts_of, paths) for depth in range(1, len(parts))]
    return [unescaped(config, path) for path in dict.fromkeys([*paths, *maps])]


class Options(NamedTuple):
    """The options of a run, settled."""

    name: str | None = None
    executor: Any = "subprocess"
    output_dir: Any = "out"
    timestamp: Any = True
    resume: bool = False
    report: bool = False
    rerun: bool = False
    last_failed: bool = False
    select: str | tuple[str, ...] | None = None
    dry_run: bool = False
    list_runs: bool = False
    jobs: Any = None
    gpus: Any = None
    timeout: float | None = None
    grace: float = 10
    stop_after: float | None = None
    retries: int = 0
    fail_fast: bool = False
    pdb: bool = False
    capture: bool = True
    durable: bool = True
    check: bool = False
    quiet: bool = False
    verbose: bool = False
    overrides: tuple[Override, ...] = ()
    extend: bool = False
    as_run: bool = False
    rerun_changed: bool = False
    accept_code: bool = False
    trust: str | None = None
    html: bool = False
    plot: str | None = None

    @property
    def mode(self) -> Mode:
        """What the run is for."""
        if self.report or self.as_run:
            return Mode.REPORT
        if self.rerun:
            return Mode.RERUN
        return Mode.CHANGED if self.rerun_changed else Mode.FAILED if self.last_failed else Mode.RUN

    @property
    def goes_on(self) -> bool:
        """Whether the options mean a run that is there."""
        return self.resume or self.accept_code or self.mode in (Mode.REPORT, Mode.FAILED, Mode.CHANGED)

    @property
    def latest(self) -> bool:
        """Whether the options mean the latest run."""
        return self.timestamp is True and self.goes_on


def _number(kind: Callable[[Any], Any], least: float, given: Any) -> Any:
    number = kind(given)
    is_whole = not isinstance(given, float) or number == given
    if isinstance(given, bool) or not is_whole or not least <= number < math.inf:  # Python takes a bool for a number
        raise ValueError(given)
    return number


_seconds = partial(_number, float, 0)
_positive = partial(_number, float, math.ulp(0.0))
_count = partial(_number, int, 0)


def _jobs(given: Any) -> Any:
    return given if given == "auto" else _number(int, 1, given)


def _gpus(given: Any) -> str:
    return str(given) if given in (AUTO, NO_GPUS) else ",".join(tokens_of(given))


def _timestamp(text: Any) -> str | bool:
    return text if isinstance(text, bool) else component(str(text), "timestamp")


def _name(text: Any) -> str:
    return component(str(text), "name")


def _only(kind: type, value: Any) -> Any:
    if not isinstance(value, kind):
        raise TypeError(value)
    return value


_flag, _text = partial(_only, bool), partial(_only, str)


def _folder(value: Any) -> Any:
    if value == "" or "\0" in str(PurePath(value)):
        raise ValueError(value)
    return value


def _globs(value: Any) -> Any:
    """One glob, or several: a cell that matches any of them is meant."""
    globs = value if isinstance(value, tuple) else (value,)
    if not globs or not all(isinstance(glob, str) for glob in globs):
        raise ValueError(value)
    return globs if len(globs) > 1 else globs[0]


class Option(NamedTuple):
    """One row of the table: the field of `Options`, its flags, and how to read its value.

    A row without a `metavar` is a switch, which `sets` its value. `undo` is the flag that undoes it, if that is not the
    long flag with `--no-`. `wanted` says what a value has to be. One that `repeats` may be given several times.
    One that `removes` finished results is never what a mistyped flag was meant to be.
    """

    field: str
    flags: tuple[str, ...]
    help: str
    read: Callable[[Any], Any] = _flag
    wanted: str = "True or False"
    metavar: str | None = None
    sets: bool = True
    undo: str | None = None
    repeats: bool = False
    removes: bool = False

    @property
    def off(self) -> str | None:
        """The flag that undoes a switch."""
        return self.undo or (f"--no-{self.flags[-1].removeprefix('--')}" if self.sets and not self.metavar else None)

    @property
    def all_flags(self) -> tuple[str, ...]:
        """Its flags, and the one that undoes it."""
        return (*self.flags, self.off) if self.off else self.flags


#: The table, in the groups in which `--help` and the docs show it.
GROUPS: Mapping[str, tuple[Option, ...]] = {
    "which run": (
        Option("timestamp", ("--timestamp",), "the run to continue, rerun or report, or the name of a new one",
               _timestamp, "the name of a run's folder, or True (a new one) or False (no such level)", "TIMESTAMP"),
        Option("timestamp", ("--no-timestamp",), "no folder for each run: use the experiment's folder itself",
               _timestamp, sets=False),
        Option("resume", ("--continue", "--resume"), "continue the latest run: load what is finished, run the rest",
               undo="--no-continue"),
        Option("extend", ("--extend",), "allow a run that another script began"),
        Option("trust", ("--trust-owner",), "load results of this user too, or of 'all'; loading runs code", _text,
               "the name of a user, or 'all'", "USER"),
        Option("name", ("--name",), "the experiment's folder below the output folder", _name,
               "the name of one folder", "NAME"),
        Option("output_dir", ("--output-dir",), "the folder for all results", _folder, "a folder", "DIR"),
    ),
    "which cells": (
        Option("select", ("-k", "--select"), "only the cells whose name matches; given several times, any of the globs",
               _globs, "a glob such as 'exp_*', or a tuple of globs", "GLOB", repeats=True),
        Option("last_failed", ("--lf", "--last-failed"), "of the latest run (or of --timestamp), run only what failed "
               "or did not finish"),
        Option("rerun", ("--rerun",), "run every cell again, also finished ones", removes=True),
        Option("rerun_changed", ("--rerun-changed",), "of the latest run (or of --timestamp), also rerun the cells "
               "whose result other code made", removes=True),
        Option("accept_code", ("--accept-code",), "of the latest run (or of --timestamp), mark "
               "results of other code as made by this code, from now on"),
    ),
    "instead of running": (
        Option("dry_run", ("-n", "--dry-run"), "print what would be done with every cell and why"),
        Option("list_runs", ("--list",), "list the runs: cells by status, duration, size, commit and command"),
        Option("as_run", ("--as-run",), "report on all cells of the run, also of earlier grids and overrides"),
        Option("report", ("--report",), "run nothing; report on the latest run (or on --timestamp)"),
    ),
    "how": (
        Option("executor", ("--executor",), "where cells run: subprocess, fork, inline, ray, or an address ray://…",
               lambda value: value, "an executor's name", "NAME"),
        Option("jobs", ("-j", "--jobs"), "cells at a time (default: 1, or with --gpus one for each in its list)",
               _jobs, "a number from 1, or 'auto' (one for each core)", "N"),
        Option("gpus", ("--gpus",), "a GPU for each cell while it runs: auto (all there are), 0,1 or 0,0,1,1 (two "
               "cells on each) or 0+1,2+3 (two for each cell); none gives cells what this process sees", _gpus,
               WANTED, "GPUS"),
        Option("timeout", ("--timeout",), "kill a cell that runs for longer (not with inline)", _positive,
               "seconds, more than 0", "SECONDS"),
        Option("grace", ("--grace",), "time for a cell to save its state after Ctrl-C or SIGTERM, before it is killed",
               _seconds, "seconds, from 0", "SECONDS"),
        Option("stop_after", ("--stop-after",), "start no cell after this time, let running ones finish, and exit with "
               "status 75 if any is left", _positive, "seconds, more than 0", "SECONDS"),
        Option("retries", ("--retries",), "run a failed cell again, up to N times", _count, "a number from 0", "N"),
        Option("pdb", ("--pdb",), "run cells in this process, with the terminal, and open pdb where one raises"),
        Option("fail_fast", ("-x", "--fail-fast"), "start no new cell after the first failure"),
        Option("durable", ("--no-durable",), "do not wait for the disk: safe against kills, not against a power cut",
               sets=False, undo="--durable"),
        Option("check", ("--check",), "exit with status 1 if a cell failed or, with --report, has no result"),
    ),
    "what is shown": (
        Option("capture", ("-s", "--capture=no"), "also show what the cells write, beside keeping it in log.txt",
               sets=False, undo="--capture=yes"),
        Option("quiet", ("-q", "--quiet"), "write only failures and warnings to stderr"),
        Option("verbose", ("-v", "--verbose"), "show the whole table and plan on a terminal too, and a line for each "
               "cell and each failure"),
        Option("html", ("--html",), "write the run's page, report.html in its folder, and print its path (needs the "
               "extra [html])"),
        Option("plot", ("--plot",), "write a chart of an output as a picture into the run's folder, over one axis or "
               "two (accuracy:lr,width) or the first two (needs the extra [html])", _text,
               "the name of an output, and of axes as in 'accuracy:lr'", "OUTPUT[:AXIS]"),
    ),
}  # fmt: skip

OPTIONS: tuple[Option, ...] = tuple(option for group in GROUPS.values() for option in group)

#: The row that reads the value of a field.
BY_FIELD: Mapping[str, Option] = {option.field: option for option in reversed(OPTIONS)}

#: All flags of the command line.
FLAGS = (*(flag for option in OPTIONS for flag in option.all_flags), "--help")


OVERRIDE_HELP = (
    "change this key in every config: a dotted key that exists, and a value of the same kind; key:=literal changes the "
    "kind, +key=value adds a key"
)


def default_of(option: Option) -> str:
    """The default of an option, in words; `""` for a switch or a default of None."""
    default = getattr(Options(), option.field)
    return f" (default: {default})" if isinstance(default, (str, int)) and not isinstance(default, bool) else ""


def spelled(said: Mapping[str, Any]) -> list[str]:
    """The argv list for these options: `parse` turns it back into them."""
    words = []
    for option in OPTIONS:
        value = said.get(option.field)
        if option.field not in said or (option.metavar is None) != isinstance(value, bool):
            continue
        if option.metavar is not None:
            for text in map(str, value if option.repeats and isinstance(value, tuple) else (value,)):
                # A separate word that begins with a dash would be taken for a flag.
                words += [f"{option.flags[-1]}={text}"] if text.startswith("-") else [option.flags[0], text]
        elif flag := option.flags[0] if value == option.sets else option.off:
            words.append(flag)
    return [*words, *(override.text for override in said.get("overrides", ()))]


def without_flags(words: Sequence[str], fields: Collection[str]) -> list[str]:
    """The words of a command line without the flags that set these fields. What undoes a switch stays.

    >>> without_flags(["--data", "x", "--timestamp", "t", "--lf", "-j", "2"], {"timestamp", "last_failed"})
    ['--data', 'x', '-j', '2']
    """
    rows = [option for option in OPTIONS if option.field in fields]
    switches = {flag for option in rows if option.metavar is None and option.sets for flag in option.flags}
    valued = {flag for option in rows if option.metavar is not None for flag in option.flags}
    kept = []
    rest = iter(words)
    for word in rest:
        if word == "--":
            kept.append(word)
            break
        if word in valued:
            next(rest, None)
        elif word not in switches and word.partition("=")[0] not in valued:
            kept.append(word)
    return [*kept, *rest]


def checked(said: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The options that are not None, with their values read.

    Raises `UsageError` for an unknown option or a wrong value.
    """
    found: dict[str, Any] = {}
    for field, value in said.items():
        if value is None:
            continue
        if field not in Options._fields:
            known = sorted({*Options._fields, *_PARAMETERS.get(where, ())})
            raise UsageError(f"{where} has no option {field!r}; {nearest(field, known)}")
        if field == "overrides":
            found[field] = overrides_of(value)
            continue
        option = BY_FIELD[field]
        try:
            found[field] = option.read(value)
        except UsageError:
            raise
        except (ValueError, TypeError, OverflowError):
            label = option.flags[-1] if where == "the command line" else field
            raise UsageError(f"{label} is {value!r}; it takes {option.wanted}") from None
    return found


#: Parameters that are not options.
_PARAMETERS = {"run()": ("configs", "report", "argv"), "the decorator": ("defaults",)}


def unknown_flag(flag: str) -> str:
    """The message for an unknown flag, with the nearest known one.

    >>> unknown_flag("--list-runs"), unknown_flag("-jobs")
    ("unknown option '--list-runs'; did you mean '--list'?", "unknown option '-jobs'; did you mean '--jobs'?")
    """
    from difflib import get_close_matches  # only a mistake pays for it

    word = flag.lstrip("-")
    harmless = [option for option in OPTIONS if not option.removes]
    flags = ["--help", *(flag for option in harmless for flag in option.all_flags)]
    names = {each.lstrip("-"): each for each in flags} | {option.field: option.flags[-1] for option in harmless}
    found = get_close_matches(word, names, n=3)
    close = list(dict.fromkeys(names[each] for each in found))
    if word.replace("-", "_") in names:
        close = close[:1]
    hint = f"did you mean {' or '.join(map(repr, close))}?" if close else f"the options are {listing(flags)}"
    if word and not get_close_matches(word, names, n=1, cutoff=0.8):
        hint = f"{hint}; to change a key of the configs, write {word}=VALUE"
    return f"unknown option {flag!r}; {hint}"


def settle(decorator: Mapping[str, Any], call: Mapping[str, Any], argv: Mapping[str, Any]) -> Options:
    """The options in force: the command line over `run()` over the decorator over the defaults.

    An option switches off options below that contradict it. Overrides add up. Raises `UsageError` for options of the
    same place that contradict each other.
    """
    settled: dict[str, Any] = {}
    for said in (checked(decorator, "the decorator"), checked(call, "run()"), argv):
        for one, other, remedy in _EXCLUSIVE:
            if _is_on(said, one) and _is_on(said, other):
                first, second = BY_FIELD[one].flags[0], BY_FIELD[other].flags[0]
                raise UsageError(f"{first} and {second} contradict each other; {remedy}")
            for wins, loses in ((one, other), (other, one)):
                if _is_on(said, wins) and _is_on(settled, loses):
                    del settled[loses]
        if said.get("overrides") and {**settled, **said}.get("as_run"):
            text = said["overrides"][0].text
            raise UsageError(
                f"--as-run reports on cells as they were run, and takes no {text!r}; select some of them with -k"
            )
        settled |= {**said, "overrides": (*settled.get("overrides", ()), *said.get("overrides", ()))}
    return Options(**settled)


_ONE = "give one of them"
#: Pairs of options that exclude each other, and what to do about it.
_EXCLUSIVE = (
    *((look, run, _ONE) for look in ("report", "as_run") for run in ("rerun", "last_failed", "rerun_changed")),
    *(("rerun", other, _ONE) for other in ("last_failed", "rerun_changed", "accept_code")),
    ("report", "dry_run", _ONE),
    *(("list_runs", other, _ONE) for other in ("report", "rerun", "last_failed", "dry_run", "html", "plot")),
    *((other, "dry_run", "it shows what has run") for other in ("html", "plot")),
    ("quiet", "verbose", _ONE),
    ("pdb", "executor", "--pdb runs cells inline, in this process: leave out --executor"),
    ("resume", "timestamp", "--continue is for the latest run, and --timestamp alone continues the one it names"),
)


def _is_on(said: Mapping[str, Any], field: str) -> bool:
    value = said.get(field)
    return isinstance(value, str) if field == "timestamp" else bool(value)
