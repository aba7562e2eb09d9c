"""The plan: what a run would do with every cell and why, as a value.

Facts and a mode come in, a `Plan` goes out. The policy is a table. The names of cells and runs on disk are made here
too, as text. Does not know how facts are gathered or how an action is done.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from types import MappingProxyType
from typing import Any, NamedTuple

from pyrsistent import pmap

from pyexp.configs import NOTHING, FrozenConfig, filled, leaves, lookup, thaw
from pyexp.errors import ConfigError, UsageError
from pyexp.hashing import digest, encode, encoder_of_many, without_defaults
from pyexp.results import Record, cells_in_words, clipped, labels, plain, restored, safe_repr, spelled
from pyexp.sweep import name_of
from pyexp.tensor import Tensor
from pyexp.text import html_ends, html_table

#: A run of more cells than this is taken for a mistake: the person meant `sample`.
MOST_CELLS = 10_000_000


class Status(Enum):
    """The status of a cell before a run.

    `DONE`: it has a result of this code. `CHANGED`: it has a result of other code. `FAILED`: it raised an error or was
    killed. `UNFINISHED`: it was started and has no usable result. `NEW`: it was never started. `BUSY`: another process
    has claimed it. `FOREIGN`: its files belong to a user you do not trust.

    >>> Status("done") is Status.DONE
    True
    """

    DONE = "done"
    FAILED = "failed"
    UNFINISHED = "unfinished"
    NEW = "new"
    BUSY = "busy"
    CHANGED = "changed"
    FOREIGN = "foreign"


class Mode(Enum):
    """What a run is for.

    `RUN`: run the cells that have no result. `RERUN`: run every cell. `FAILED` (`--lf`): run what failed. `CHANGED`
    (`--rerun-changed`): run also the cells whose result other code made. `REPORT`: run nothing.

    >>> [mode.value for mode in Mode]
    ['run', 'rerun', 'failed', 'changed', 'report']
    """

    RUN = "run"
    RERUN = "rerun"
    FAILED = "failed"
    CHANGED = "changed"
    REPORT = "report"


class Action(Enum):
    """What a run does with a cell.

    `LOAD`: take the result on disk. `RUN`: run it. `WAIT`: take the result of the process that runs it. `SKIP`,
    `MISSING`: leave it out; the report gets an error of type `NotRun` in its place.

    >>> POLICY[Status.DONE, Mode.RERUN][0]
    <Action.RUN: 'run'>
    """

    LOAD = "load"
    RUN = "run"
    WAIT = "wait"
    SKIP = "skip"
    MISSING = "missing"


#: The words after a count of each action.
_COUNTED_AS = {
    Action.LOAD: "to load",
    Action.RUN: "to run",
    Action.WAIT: "to wait for",
    Action.SKIP: "to skip",
    Action.MISSING: "without a result",
}

_LOAD, _RUN, _WAIT, _SKIP, _MISSING = Action
#: What each mode does with a cell of each status.
_ACTIONS = {
    #                   run       rerun     failed    changed   report
    Status.DONE:       (_LOAD,    _RUN,     _LOAD,    _LOAD,    _LOAD),
    Status.CHANGED:    (_LOAD,    _RUN,     _LOAD,    _RUN,     _LOAD),
    Status.FAILED:     (_RUN,     _RUN,     _RUN,     _RUN,     _LOAD),
    Status.UNFINISHED: (_RUN,     _RUN,     _RUN,     _RUN,     _MISSING),
    Status.NEW:        (_RUN,     _RUN,     _SKIP,    _RUN,     _MISSING),
    Status.BUSY:       (_WAIT,    _WAIT,    _WAIT,    _WAIT,    _MISSING),
    Status.FOREIGN:    (_MISSING, _MISSING, _MISSING, _MISSING, _MISSING),
}  # fmt: skip
#: Why: the words for each status, or for a status in a mode. The details of what was found go into `{}`.
_REASONS: Mapping[Status | tuple[Status, Mode], str] = {
    **{status: f"{status.value}{{}}" for status in Status},
    Status.DONE: "finished{}",
    Status.CHANGED: "finished{}",
    Status.FOREIGN: "its files belong to another user, and loading a result runs code{}",
    (Status.DONE, Mode.RERUN): "forced by rerun, finished{}",
    (Status.CHANGED, Mode.RERUN): "forced by rerun, finished{}",
    (Status.NEW, Mode.FAILED): "new{}, and only what failed is to be run",
}
#: The policy: what each mode does with a cell of each status, and why.
POLICY: Mapping[tuple[Status, Mode], tuple[Action, str]] = MappingProxyType(
    {
        (status, mode): (action, _REASONS.get((status, mode), _REASONS[status]))
        for status, row in _ACTIONS.items()
        for mode, action in zip(Mode, row, strict=True)
    }
)

#: The statuses of a cell that has a result.
FINISHED = frozenset({Status.DONE, Status.CHANGED})
#: The statuses of a cell that has ended: its record can be shown.
ENDED = FINISHED | {Status.FAILED}


class Cell(NamedTuple):
    """A config with its place on disk: its name, its hash, and the name of its folder."""

    config: FrozenConfig
    name: str
    hash: str
    folder: str

    @property
    def frozen(self) -> FrozenConfig:
        """The cell as a mapping, for selecting."""
        return self.config


class Found(NamedTuple):
    """The status of a cell, and details in words, such as `at 12:03` or `with ValueError: …`."""

    status: Status
    detail: str = ""


UNSEEN = Found(Status.NEW)


class Facts(NamedTuple):
    """What the store sees of one cell on disk. `classify` says what it means.

    `there`: what is in the place of its folder (`""`: nothing). `record`: its record, if that can be read. `stamp`:
    the stamp of its result file (`()`: there is none). `fits`: whether the record belongs to this result. `fault`:
    what is wrong with the result. `ended`: when the cell ended, in words.
    `holder`: the process that has claimed the cell, in words. `owner`: the owner of the files, if that is a user
    you do not trust. `code`: what the seal has of the code that made the result, if no record tells. `difference`:
    how the code that made the result differs from the present code, in words. `default`: the default that has
    changed since, in words.
    """

    there: str = ""
    record: Record | None = None
    stamp: tuple[int, ...] = ()
    fits: bool = False
    fault: str = ""
    ended: str = ""
    holder: str = ""
    owner: str = ""
    code: str = ""
    difference: str = ""
    default: str = ""

    @property
    def version(self) -> tuple[object, ...]:
        """A value that changes when the cell is run again."""
        return (self.stamp, None if self.record is None else self.record.started)

    @property
    def needs_repair(self) -> bool:
        """Whether the record of a finished cell is missing on disk, or does not belong to its result."""
        return self.record is None or not self.fits or self.record.stamp != self.stamp


def classify(facts: Facts) -> Found:
    """The status of a cell with these facts, with details in words.

    >>> classify(Facts("folder", stamp=(40, 0, 0, 7), fault="its checksum is wrong"))
    Found(status=<Status.UNFINISHED: 'unfinished'>, detail='(its result is unreadable: its checksum is wrong)')
    """
    record = facts.record
    if facts.holder:
        return Found(Status.BUSY, facts.holder)
    if facts.owner:
        return Found(Status.FOREIGN, f"({facts.owner}); --trust-owner {facts.owner} loads it")
    if not facts.there:
        return UNSEEN
    if facts.there != "folder":
        return Found(Status.UNFINISHED, f"(in the place of its folder there is {facts.there})")
    if facts.default:
        return Found(Status.UNFINISHED, f"(finished with another default: {facts.default})")
    if record is not None and record.failed:  # also if a file has the result's name
        return Found(Status.FAILED, f"{facts.ended} with {clipped(f'{record.type}: {record.message}')}")
    if not facts.stamp:
        return Found(Status.UNFINISHED, "" if record is None else "(its result is gone)")
    if facts.fault:
        return Found(Status.UNFINISHED, f"(its result is unreadable: {facts.fault})")
    if facts.difference:
        return Found(Status.CHANGED, f"{facts.ended}, by other code: {facts.difference}")
    return Found(Status.DONE, facts.ended)


class Step(NamedTuple):
    """One cell of a plan: `status`, `action` and `reason`, with the `name` and the `cell` (config, hash, folder).

    A plan's steps are selected like results: `plan.steps[{"action": "run", "config.lr": 0.1}]`.
    """

    cell: Cell
    found: Found
    action: Action
    words: str

    @property
    def status(self) -> Status:
        """The status of the cell."""
        return self.found.status

    @property
    def reason(self) -> str:
        """The reason for the action, in words."""
        return self.words.format(f" {self.found.detail}" if self.found.detail else "")

    @property
    def name(self) -> str:
        """The config's name, so that a plan can be selected from like results."""
        return self.cell.name

    @property
    def frozen(self) -> Mapping[str, Any]:
        """The step as a mapping, for selecting."""
        words = {"status": self.status.value, "action": self.action.value, "reason": self.reason}
        return pmap({"name": self.name, "config": self.cell.config, **words})

    def __str__(self) -> str:
        return self.line()

    def line(self, label: str = "") -> str:
        """The action, the cell's folder, the label if there is one, and why."""
        return f"{self.action.value:7}  {self.cell.folder}  {f'{label}  ' if label else ''}({self.reason})"


class Plan(NamedTuple):
    """What a run would do: `steps`, a Tensor with a `Step` for each cell, and the `mode` of the run.

    `print(plan)` prints what `--dry-run` prints. `experiment.plan()` returns one.

    >>> from pyexp.sweep import grid_of
    >>> made = plan(cells_of(grid_of([{"lr": 0.1}, {"lr": 1.0}])), {}, Mode.RUN)
    >>> made.steps.shape, made.counts(), made.summary()
    ((2,), {<Action.RUN: 'run'>: 2}, '2 cells: 2 to run')
    """

    steps: Tensor[Step]
    mode: Mode

    def counts(self) -> dict[Action, int]:
        """The number of cells for each action that occurs."""
        found = Counter(step.action for step in self.steps)
        return {action: found[action] for action in Action if action in found}

    @property
    def works(self) -> bool:
        """Whether any cell has yet to run, in this process or another."""
        return any(step.action in (Action.RUN, Action.WAIT) for step in self.steps)

    def summary(self) -> str:
        """The counts in a line."""
        other = sum(step.status is Status.CHANGED and step.action is Action.LOAD for step in self.steps)
        made = {Action.LOAD: f" ({other} made by other code)"} if other else {}
        counts = (f"{number} {_COUNTED_AS[action]}{made.get(action, '')}" for action, number in self.counts().items())
        return f"{cells_in_words(self.steps.size)}: {', '.join(counts)}"

    def lines(self) -> list[str]:
        """A line for each step. If a cell's own name does not tell it apart, the line has the keys that vary, too."""
        names = labels([step.cell for step in self.steps])
        return [step.line("" if name == step.name else name) for step, name in zip(self.steps, names, strict=True)]

    def __str__(self) -> str:
        return "\n".join([*self.lines(), self.summary()])

    def _repr_html_(self) -> str:
        """The summary and the steps, as a notebook shows them."""
        shown = (self.steps[i] for i in html_ends(self.steps.size))
        steps = list(shown)
        names = labels([step.cell for step in steps])
        rows = [(name, s.status.value, s.action.value, s.reason) for name, s in zip(names, steps, strict=True)]
        return html_table(["cell", "status", "action", "reason"], rows, self.steps.size, self.summary())


def plan(cells: Tensor[Cell], found: Mapping[str, Found], mode: Mode) -> Plan:
    """The plan for these cells. `found` has the status of each by folder; a cell that it lacks is new."""
    return Plan(cells.map(lambda cell: step_of(cell, found.get(cell.folder, UNSEEN), mode)), mode)


def step_of(cell: Cell, found: Found, mode: Mode) -> Step:
    """The step for one cell: the policy for its status and this mode."""
    return Step(cell, found, *POLICY[found.status, mode])


#: Pairs of configs that `explained` compares at most: they take a second or two.
MOST_COMPARED = 200_000


def explained(
    cells: Iterable[Cell],
    found: Mapping[str, Found],
    finished: Iterable[FrozenConfig],
    defaults: FrozenConfig = FrozenConfig(),
) -> dict[str, Found]:
    """The status of new cells, with the nearest finished config and the keys in which the two differ.

    A key that a config lacks has its default, as in the hash. Stops after `MOST_COMPARED` comparisons.
    """
    known = [(config, _pairs(config)) for config in (filled(each, defaults) for each in finished)]
    new = [cell for cell in cells if found.get(cell.folder, UNSEEN).status is Status.NEW]
    explanations = {}
    for cell in new[: MOST_COMPARED // len(known)] if known else ():
        own = filled(cell.config, defaults)
        mine = _pairs(own)
        config, theirs = min(known, key=lambda pair: len(pair[1] ^ mine))
        words = f"(nearest: {name_of(config)}, differs in {_differences(config, own, mine ^ theirs)})"
        explanations[cell.folder] = Found(Status.NEW, words)
    return explanations


def _pairs(config: FrozenConfig) -> set[tuple[str, str]]:
    """The leaves of a config without its name, as they are after they were written and read: some are not loaded then.

    Two pairs are equal if path, value and type are.
    """
    return {(path, repr(plain(restored(plain(value))))) for path, value in leaves(config) if path != "name"}


def _differences(old: FrozenConfig, new: FrozenConfig, pairs: Iterable[tuple[str, str]]) -> str:
    paths, most = sorted({path for path, _ in pairs}), 3
    shown = [
        f"{path}: {' → '.join('absent' if at is NOTHING else clipped(spelled(thaw(at), safe_repr), 40) for at in both)}"
        for path in paths[:most]
        for both in [(lookup(old, path, NOTHING), lookup(new, path, NOTHING))]
    ]
    more = f" and {len(paths) - most} more" if len(paths) > most else ""
    return f"{', '.join(shown)}{more}" if shown else "its name, which is part of the hash"


def after_claim(before: Step, seen: Facts, now: Facts, mode: Mode) -> Step:
    """The step for a cell that has just been claimed. `seen` are the facts when it was planned, `now` the present ones.

    If another process has run the cell meanwhile, its result is loaded as if this process had run it.
    """
    found = classify(now)
    ended = now.version != seen.version and found.status in ENDED
    return step_of(before.cell, found, Mode.REPORT if ended else mode)


def cells_of(configs: Tensor[FrozenConfig], defaults: FrozenConfig = FrozenConfig()) -> Tensor[Cell]:
    """The configs with their hashes and folders. A key that equals its default is not part of the hash.

    Raises `ConfigError` for a config with the key `out`, for two cells with the same config, and for two cells that
    would share a folder; and `HashError` for a value that cannot be hashed.
    """
    validate_size(configs)
    encoded = encoder_of_many()
    made = []
    for config in configs:
        name = name_of(config)
        if "out" in config:
            raise ConfigError(
                f"config {name!r} holds the key 'out', which is pyexp's: the experiment gets its "
                "folder there; use another key"
            )
        hashed = digest(encoded(without_defaults(config, defaults) if defaults else config))
        made.append(Cell(config, name, hashed, f"{folder_name(name)}-{hashed}"))
    if len({cell.folder for cell in made}) < len(made):
        raise ConfigError(_clash(made, configs.shape))
    return Tensor.of_cells(tuple(made), configs.axes)


def validate_size(configs: Tensor[FrozenConfig]) -> None:
    """Raise `ConfigError` for a grid that is too large to run."""
    if configs.size > MOST_CELLS:
        raise ConfigError(
            f"a run of {configs.size} cells is more than can be planned ({MOST_CELLS}); "
            "draw some of them with pyexp.sample(configs, n, seed=0)"
        )


def _clash(cells: Sequence[Cell], shape: tuple[int, ...]) -> str:
    """The message about the first two cells that share a folder."""
    first: dict[str, int] = {}
    known = (first.setdefault(cell.folder, position) for position, cell in enumerate(cells))
    position, other = next((here, there) for here, there in enumerate(known) if here != there)
    cell, here, there = cells[position], place(position, shape), place(other, shape)
    if encode(cells[other].config) == encode(cell.config):
        return f"cells {there} and {here} are the same config, {cell.name!r}; give replicates a seed"
    return (
        f"cells {there} and {here} are different configs that would share the folder {cell.folder!r}; "
        "give them different names"
    )


def place(position: int, shape: tuple[int, ...]) -> tuple[int, ...] | int:
    """The position of a cell along each axis; along the only one, a bare number.

    >>> place(5, (2, 3))
    (1, 2)
    """
    found: list[int] = []
    for size in reversed(shape):
        position, here = divmod(position, size)
        found.append(here)
    return found[0] if len(found) == 1 else tuple(reversed(found))


#: Bytes of a folder's name before the hash.
LONGEST_NAME = 120
_NOT_PORTABLE = re.compile(r"[^A-Za-z0-9._+=,@()-]")
# Names that Windows keeps for devices, also with an extension.
_RESERVED = frozenset(
    ["CON", "PRN", "AUX", "NUL", *(f"{port}{number}" for port in ("COM", "LPT") for number in range(10))]
)


def folder_name(name: str) -> str:
    """A config's name as the beginning of a folder's name: one portable path component, whatever the name holds.

    A plain name is unchanged. Two other names may give the same text; the hash that follows covers the name and keeps
    their folders distinct.

    >>> folder_name("exp_lr0.1"), folder_name("../ü:x"), folder_name("")
    ('exp_lr0.1', '_.___x', 'unnamed')
    """
    safe = _NOT_PORTABLE.sub("_", name[:LONGEST_NAME])
    if safe[:1] in (".", "-"):  # hidden, or taken for an option
        safe = f"_{safe[1:]}"
    if safe.partition(".")[0].upper() in _RESERVED:
        safe = f"_{safe}"[:LONGEST_NAME]
    return safe or "unnamed"


def component(text: str, what: str) -> str:
    """The text, if it can be the name of one folder.

    Raises `UsageError` if it cannot; the message calls it `what`.
    """
    wrong = (
        "is empty" if not text else
        "names a folder above" if text in (".", "..") else
        "holds a path separator" if "/" in text or "\\" in text else
        "holds a control character" if any(char < " " for char in text) else
        "begins with a dot" if text.startswith(".") else
        "is longer than 200 bytes" if len(text.encode("utf-8", "surrogatepass")) > 200 else
        "holds half a surrogate pair" if any("\ud800" <= char <= "\udfff" for char in text) else
        ""
    )  # fmt: skip
    if wrong:
        raise UsageError(f"{what} {text!r} {wrong}; it has to be the name of one folder, like 'mnist'")
    return text


def latest(runs: Iterable[tuple[float, str]]) -> str | None:
    """The name of the run that began last, from pairs (start in seconds, name). Names decide between equal starts."""
    return max(((start, _counted(name), name) for start, name in runs), default=(0.0, (), None))[2]


def _counted(name: str) -> tuple[tuple[int, str], ...]:
    """A sort key for names that orders numbers by value: `…-2` comes before `…-10`."""
    return tuple((int(part), "") if part.isdecimal() else (-1, part) for part in name.split("-"))


def unused(name: str, taken: Iterable[str], form: str = "") -> str:
    """The name, or the first of `name-2`, `name-3`, … that is not taken. `form` is a format for the numbered names.

    >>> unused("a", ["a", "a-2"]), unused("a-1.txt", ["a-1.txt"], "a-{}.txt")
    ('a-3', 'a-2.txt')
    """
    known = set(taken)
    number = 1
    candidate = name
    while candidate in known:
        number += 1
        candidate = form.format(number) if form else f"{name}-{number}"
    return candidate
