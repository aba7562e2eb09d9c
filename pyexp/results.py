"""The record of one run of one cell as plain data and back, and `Result`, the view of it that a report gets.

Knows what is said about a run, in JSON's terms; not where it is stored, nor how a value is loaded: a Result is given a
function for that, and calls it when the value is first looked at.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from operator import attrgetter
from pathlib import PureWindowsPath
from typing import Any, NamedTuple

from pyrsistent import pmap

from pyexp.configs import FrozenConfig, equal, thaw
from pyexp.dotted import Config
from pyexp.errors import ResultError, nearest
from pyexp.outcome import Outcome
from pyexp.plain import FORMAT, config_data, plain, restored


class Attempt(NamedTuple):
    """One try at a cell that did not succeed: its error, when it began (seconds since 1970) and how long it took."""

    type: str
    message: str
    started: float
    seconds: float


class Record(NamedTuple):
    """What was asked of one cell and what happened.

    `outputs` holds the scalar outputs, `kinds` the class of every output by name; `spread` says whether the returned
    value was a mapping of outputs, or one value. `needs` are the classes and functions that loading the value needs.
    """

    name: str
    config: FrozenConfig
    hash: str
    status: str
    outputs: Mapping[str, Any] = pmap()
    kinds: Mapping[str, str] = pmap()
    spread: bool = True
    needs: tuple[str, ...] = ()
    type: str = ""
    message: str = ""
    traceback: str = ""
    started: float = 0.0
    seconds: float = 0.0
    attempts: tuple[Attempt, ...] = ()
    host: str = ""
    executor: str = ""
    stamp: tuple[int, ...] = ()

    @property
    def failed(self) -> bool:
        return self.status != "done"

    def stamped(self, stamp: tuple[int, ...]) -> "Record":
        """The record with what identifies the very file that the result was saved to."""
        return self._replace(stamp=stamp)


def record_of(
    name: str, config: FrozenConfig, digest: str, outcome: Outcome, *, started: float = 0.0, seconds: float = 0.0,
    attempts: tuple[Attempt, ...] = (), host: str = "", executor: str = "",
) -> Record:  # fmt: skip
    """The record of a cell that ended with this outcome."""
    told = {key: outcome[key] for key in ("type", "message", "traceback", "spread") if key in outcome}
    return Record(
        name=name,
        config=config,
        hash=digest,
        status=outcome["status"],
        outputs=dict(outcome.get("outputs", {})),  # in the experiment's own order, which a PMap would lose
        kinds=_kinds(tuple(outcome.get("kinds", {}).items())),
        needs=tuple(outcome.get("needs", ())),
        started=started,
        seconds=seconds,
        attempts=attempts,
        host=host,
        executor=executor,
        **told,
    )


@lru_cache(maxsize=1024)
def _kinds(items: tuple[tuple[str, str], ...]) -> dict[str, str]:
    """The kinds of outputs, one map for all records that have the same: who walks over many finds it in the cache."""
    return dict(items)


def cells_in_words(number: int) -> str:
    """So many cells, in words.

    >>> cells_in_words(1), cells_in_words(2)
    ('1 cell', '2 cells')
    """
    return f"{number} cell" if number == 1 else f"{number} cells"


def clipped(text: str, most: int = 200) -> str:
    """The text's first line, cut off where it is longer than `most` characters.

    >>> clipped("abcdef", 4), clipped("abcd\\nef", 4)
    ('abc…', 'abcd')
    """
    line = text.partition("\n")[0]
    return line if len(line) <= most else f"{line[: most - 1]}…"


def spelled(value: Any, spell: Callable[[Any], str] = str) -> str:
    """The value as text; Python refuses to spell very long ints in decimal."""
    return hex(value) if type(value) is int and value.bit_length() > 10_000 else spell(value)


#: What the text begins with that stands in the place of a traceback where a cell died and left only its log.
LOG_ENDS = "The log ends with:"
# Of an exception group only its own lines match: those of its members are indented further.
_HEADER = re.compile(r"^(?:  \+ Exception Group )?Traceback \(most recent call last\):$", re.M)
_FRAME = re.compile(r'^(?:  \| )?  File "(.+)", line (\d+), in (.+)$', re.M)
_LIBRARY = re.compile(r"[/\\](?:site|dist)-packages[/\\]|/lib/python3\.|\\Lib\\|^<frozen ")
_PYEXP = __file__.removesuffix("results.py")


def place(traceback: str) -> str:
    """Where the user's code raised: file, line and function of the last frame that is not a library's; `""` if unknown.

    Where all frames are a library's, the last one, if it is not pyexp's. Of chained exceptions it is the last, of a
    group the group itself.

    >>> place('''Traceback (most recent call last):
    ...   File "/home/me/main.py", line 19, in experiment
    ...     fit(config)
    ...   File "/venv/lib/python3.11/site-packages/fitting.py", line 7, in fit
    ...     raise ValueError("diverged")
    ... ValueError: diverged''')
    'main.py:19 in experiment'
    """
    blocks = [] if traceback.startswith(LOG_ENDS) else list(_HEADER.finditer(traceback))
    found = _FRAME.findall(traceback, blocks[-1].end()) if blocks else []
    frames = [frame for frame in found if not frame[0].startswith(_PYEXP)]
    if not frames:
        return ""
    own = [frame for frame in frames if not is_library(frame[0])]
    file, line, function = (own or frames)[-1]
    return f"{PureWindowsPath(file).name}:{line} in {function}"


def is_library(file: str) -> bool:
    """Whether a frame of this file is Python's own, an installed package's, or pyexp's.

    >>> is_library("/usr/lib/python3.11/json/decoder.py"), is_library("/home/me/main.py")
    (True, False)
    """
    return bool(_LIBRARY.search(file)) or file.startswith(_PYEXP)


def missing(name: str, config: FrozenConfig, digest: str, words: str) -> Record:
    """The record of a cell that has no result, and was not run: an error of type `NotRun`."""
    return Record(name, config, digest, "missing", type="NotRun", message=words)


def to_json(record: Record) -> dict[str, Any]:
    """The record as JSON data, for people and tools."""
    shown: dict[str, Any] = {
        "format": FORMAT,
        "name": record.name,
        "hash": record.hash,
        "status": record.status,
        "config": config_data(record.config),
        "started": record.started,
        "seconds": record.seconds,
        "host": record.host,
        "executor": record.executor,
        "attempts": [
            {"type": a.type, "message": a.message, "started": a.started, "seconds": a.seconds} for a in record.attempts
        ],
    }
    if record.failed:
        return {**shown, "error": {"type": record.type, "message": record.message, "traceback": record.traceback}}
    return {
        **shown,
        "outputs": {key: plain(value) for key, value in record.outputs.items()},
        "kinds": dict(record.kinds),
        "spread": record.spread,
        "needs": list(record.needs),
        "stamp": list(record.stamp),
    }


def from_json(data: Mapping[str, Any], config: FrozenConfig | None = None) -> Record:
    """The record in JSON data; `config`, where it is known, is exact, and the JSON form of it need not be read.

    Raises `ResultError` if the data is no record, or one of a newer format.
    """
    try:
        version = data["format"]
        if version > FORMAT:
            raise ResultError(f"the record is of format {version}, and this pyexp reads up to {FORMAT}")
        error = data.get("error", {})
        record = Record(
            name=data["name"],
            config=restored(data["config"], version) if config is None else config,
            hash=data["hash"],
            status=data["status"],
            outputs={key: restored(value, version) for key, value in data.get("outputs", {}).items()},
            kinds=_kinds(tuple(data.get("kinds", {}).items())),
            spread=data.get("spread", True),
            needs=tuple(data.get("needs", ())),
            started=data["started"],
            seconds=data["seconds"],
            attempts=tuple(Attempt(**entry) for entry in data["attempts"]),
            host=data["host"],
            executor=data["executor"],
            stamp=tuple(data.get("stamp", ())),
            **{key: error[key] for key in ("type", "message", "traceback") if key in error},
        )
        _refuse_wrong_types(record)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise ResultError(f"this is no record of pyexp: {type(error).__name__}: {error}") from None
    return record


_texts = attrgetter("name", "hash", "status", "type", "message", "traceback", "host", "executor")


def _refuse_wrong_types(record: Record) -> None:
    texts = {*map(type, _texts(record)), *map(type, record.needs), *map(type, record.kinds.values())}
    numbers = {type(record.started), type(record.seconds)}
    if not texts <= {str} or not numbers <= {int, float}:
        raise TypeError("there is no text where one has to be, or no number")


#: Kinds of scalars that a record holds as they are.
EXACT = frozenset({"bool", "int", "float", "str", "NoneType"})


class Result(Mapping[str, Any]):
    """One cell's result, read-only: `name`, `config`, `out` and the experiment's outputs side by side.

    `r["accuracy"]` is an output of that name, `r.value` is what the experiment returned, whole. A result that is no
    mapping of outputs is under `value`. A failure has `__error__` (True), `type`, `message` and `traceback`
    instead. Attributes serve as keys. The value is loaded when an output that is no scalar is first looked at.
    """

    __slots__ = ("_config", "_load", "_out", "_record", "_value")

    def __init__(self, record: Record, out: Any, load: Callable[[], Any]) -> None:
        self._record = record
        self._out = out
        self._load = load
        self._config: Config | None = None
        self._value: Any = _UNLOADED

    #: What was asked and what happened: status, times, attempts, host.
    record: Record = property(attrgetter("_record"))  # type: ignore[assignment]  # read for each of many results

    @property
    def name(self) -> str:
        """The config's name."""
        return self._record.name

    @property
    def config(self) -> Config:
        """A private copy of the config."""
        if self._config is None:
            self._config = thaw(self._record.config)
        return self._config

    @property
    def out(self) -> Any:
        """The folder with the log and the artifacts, a Path."""
        return self._out() if callable(self._out) else self._out

    @property
    def value(self) -> Any:
        """What the experiment returned. Raises `ResultError` if it failed, or was not run."""
        return self._loaded()

    def _loaded(self) -> Any:
        if self._record.failed:
            raise ResultError(f"{self._told()}: it has no value")
        if self._value is _UNLOADED:
            self._value = self._load()
        return self._value

    @property
    def frozen(self) -> "_Frozen":
        """The result as a mapping whose config is frozen: what a selection looks at."""
        return _Frozen(self)

    def __getitem__(self, key: str) -> Any:
        if key in OWN:
            return getattr(self, key)
        record = self._record
        if record.failed:
            if key in _ERROR:
                return True if key == "__error__" else getattr(record, key)
            raise ResultError(f"{self._told()}: it has no {key!r}")
        if key not in record.kinds:
            raise ResultError(f"result {self.name!r} has no {key!r}; {nearest(key, self)}")
        if record.kinds[key] in EXACT and key in record.outputs:
            return record.outputs[key]
        return self._loaded()[key] if record.spread else self._loaded()

    def __getattr__(self, key: str) -> Any:
        if key in Result.__slots__ or (key.startswith("_") and key not in self):  # protocols probe for these
            raise AttributeError(key)
        try:
            # Python has taken the property's own error for a missing attribute.
            return self._loaded() if key == "value" else self[key]
        except ResultError as error:
            error.obj = self  # with the object and no name, Python adds no hint of its own to the error's
            raise

    def __reduce__(self) -> tuple[Any, ...]:
        return Result, (self._record, self._out, self._load)  # the value is loaded anew where it is looked at

    def __iter__(self) -> Iterator[str]:
        yield from OWN
        shown = _ERROR if self._record.failed else self._record.kinds
        yield from (key for key in shown if key not in OWN)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Result):
            return self is other or equal(dict(self), dict(other))
        return equal(dict(self), other) if isinstance(other, Mapping) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # a mapping of changeable values

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *(key for key in self if key.isidentifier())]

    def __repr__(self) -> str:
        if self._record.failed:
            return f"<Result {self._told()}>"
        outputs = ", ".join(f"{key}={self._brief(key)}" for key in self._record.kinds)
        return f"<Result {self.name!r}: {outputs}>"

    def _brief(self, key: str) -> str:
        outputs = self._record.outputs
        return spelled(outputs[key], repr) if key in outputs else f"<{self._record.kinds[key]}>"

    def _told(self) -> str:
        return f"{self.name!r} failed with {self._record.type}: {self._record.message}".rstrip(": ")


def records_of(results: Iterable[Result]) -> list[Record]:
    """The record of each result: of many, this takes half the time of asking each."""
    return [result._record for result in results]


_UNLOADED = object()
#: The keys of a result that no output takes.
OWN = ("name", "config", "out")
_ERROR = ("__error__", "type", "message", "traceback")


class _Frozen(Mapping[str, Any]):
    """A result seen through its frozen config."""

    __slots__ = ("result",)

    def __init__(self, result: Result) -> None:
        self.result = result

    def __getitem__(self, key: str) -> Any:
        return self.result.record.config if key == "config" else self.result[key]

    def __contains__(self, key: object) -> bool:
        record = self.result.record
        return key in OWN or key in (_ERROR if record.failed else record.kinds)

    def __iter__(self) -> Iterator[str]:
        return iter(self.result)

    def __len__(self) -> int:
        return len(self.result)
