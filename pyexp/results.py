"""The record of one run of one cell, its JSON form, and `Result`, the view of it that a report gets.

Does not know where a record is stored or how a value is loaded: a Result gets a function that loads it, and calls that
when the value is first used.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import suppress
from functools import partial
from hashlib import sha256
from math import inf
from operator import attrgetter
from pathlib import PureWindowsPath
from types import NoneType
from typing import Any, NamedTuple, Protocol
from weakref import ref

from pyrsistent import PVector

from pyexp.configs import (
    Config,
    FrozenConfig,
    FrozenList,
    FrozenSet,
    as_python,
    differing,
    equal,
    frozen_map,
    is_map,
    is_numpy,
    leaves,
    registered,
    thaw,
)
from pyexp.errors import OWN_FILES, HashError, ResultError, UsageError, nearest
from pyexp.hashing import encode
from pyexp.leaves import NoContent, NotLoaded, apart, detail, lacking, numpy_scalar, qualified, together

#: The version of the JSON form, written into `record.json` and `run.json`. A reader refuses a newer one.
FORMAT = 2

#: A list, map, set or array of more items is cut; so are text, bytes and ints of more than ten times as many digits.
MOST_ITEMS = 1000
#: If the JSON of a config is longer, shorter parts of it are cut too.
MOST_CHARACTERS = 32_000


def config_data(config: FrozenConfig) -> dict[str, Any]:
    """The config as JSON data. Long values are cut to keep the record small; keys and the name never are."""
    items: dict[str, Any] = {}
    for most in (MOST_ITEMS, MOST_ITEMS // 10, MOST_ITEMS // 100, 1):
        for key in sorted(config):
            if key == "name":
                items[key] = plain(config[key], inf)
            elif most > 1 or len(_json(items[key])) > MOST_ITEMS:  # at last, only short parts that nest deep
                items[key] = plain(config[key], most)
        if len(_json(items)) <= MOST_CHARACTERS:
            break
    return _map(items)


def plain(value: Any, most: float = MOST_ITEMS) -> Any:
    """A frozen value as strict JSON data. A value that JSON lacks becomes a map with its kind under `"!"`.

    >>> plain((1, float("inf"), 2j))
    {'!': 'tuple', 'value': [1, {'!': 'float', 'value': 'inf'}, {'!': 'builtins.complex', 'value': \
{'!': 'tuple', 'value': [0.0, 2.0]}}]}
    """
    kind = type(value)
    if kind is not float and _size(value) > most:
        return _cut(value)
    if kind in _SCALARS:
        return _SCALARS[kind](value)
    inner = partial(plain, most=most)
    if registered(kind):
        return _leaf_data(value, inner)
    if is_map(value):
        if not all(type(key) is str for key in value):  # inside an object: JSON would make texts of the keys
            return _marked("items", sorted([[inner(key), inner(item)] for key, item in value.items()], key=repr))
        return _map({key: inner(value[key]) for key in sorted(value)})
    if kind is list or isinstance(value, (FrozenList, PVector)):
        return [inner(item) for item in value]
    if kind is tuple:
        return _marked("tuple", [inner(item) for item in value])
    if isinstance(value, Set):
        return _marked("frozenset" if kind is frozenset else "set", sorted(map(inner, value), key=repr))
    return _leaf_data(value, inner)


def _leaf_data(value: Any, inner: Callable[[Any], Any]) -> Any:
    """A leaf as JSON data; `inner` converts its parts."""
    number = as_python(value)
    if number is not value:  # in a dataclass or an array of objects
        return inner(number)
    if isinstance(value, NotLoaded):
        return _marked("not loaded", [value.kind, value.name, inner(value.text)])
    try:
        parts = apart(value)
    except NoContent:  # in a coordinate that belongs to no config
        return _marked("not loaded", ["unknown", qualified(type(value)), inner(safe_repr(value))])
    return _marked(f"{parts.kind}:{parts.name}" if parts.name else parts.kind, inner(parts.content))


def _json(data: Any) -> str:
    from json import dumps  # not imported by a finished run, which writes no JSON

    return dumps(data, ensure_ascii=False)


def _marked(kind: str, value: Any) -> dict[str, Any]:
    return {"!": kind, "value": value}


def _map(items: dict[str, Any]) -> dict[str, Any]:
    return _marked("map", items) if "!" in items else items


def _text(value: str) -> Any:
    has_surrogates = re.search(r"[\ud800-\udfff]", value)
    return _marked("str", value.encode("utf-8", "surrogatepass").hex()) if has_surrogates else value


_SCALARS: dict[type, Callable[[Any], Any]] = {
    NoneType: lambda value: value,
    bool: lambda value: value,
    int: lambda value: value if abs(value) < 1 << 64 else _marked("int", hex(value)),
    float: lambda value: value if value - value == 0.0 else _marked("float", str(value)),
    str: _text,
    bytes: lambda value: _marked("bytes", value.hex()),
}


def _size(value: Any) -> float:
    """The length of the value, in items."""
    if isinstance(value, int):
        return value.bit_length() / 40
    if isinstance(value, (str, bytes, bytearray)):
        return len(value) / 10
    if isinstance(value, (Mapping, Set, list, tuple, PVector)):
        return len(value)
    if is_numpy(type(value), "ndarray"):  # NumPy cannot restore the dtype of another library by its name
        is_foreign = value.dtype.kind == "V" and value.dtype.names is None
        return inf if is_foreign else max(value.size, value.nbytes / 16)
    return 0


def _cut(value: Any) -> dict[str, Any]:
    """The placeholder for a value that is too long: its type, its length, and a digest of all of it."""
    if is_numpy(type(value), "ndarray"):
        size: dict[str, Any] = {"dtype": str(value.dtype), "shape": list(value.shape)}
    else:
        size = {"length": value.bit_length() if isinstance(value, int) else len(value)}
    kind = qualified(type(value)).removeprefix("builtins.")
    return _marked("cut", {"of": _THAWED.get(kind, kind), **size, "digest": _digest(value)})


def _digest(value: Any) -> str:
    """A digest of a whole value, cached while the value lives: the cells of a grid share their long values."""
    known = _digests.get(id(value))
    if known is not None and known[0]() is value:
        return known[1]
    try:
        digest = sha256(encode(value)).hexdigest()[:16]
    except HashError:  # in a coordinate that belongs to no config
        digest = ""
    with suppress(TypeError):  # a tuple or a string has no weak reference; reading it again is fast
        _digests[id(value)] = ref(value, lambda _, key=id(value): _digests.pop(key, None)), digest  # type: ignore[misc]
    return digest


_digests: dict[int, tuple[ref[Any], str]] = {}

# The names of frozen containers before they were frozen.
_THAWED = {qualified(kind): name for kind, name in ((FrozenConfig, "dict"), (FrozenList, "list"), (FrozenSet, "set"))}


def safe_repr(value: Any) -> str:
    """The value's repr, in characters that UTF-8 has; `<no repr>` if that raises."""
    try:
        return repr(value).encode("utf-8", "backslashreplace").decode()
    except Exception:  # a foreign __repr__
        return "<no repr>"


def restored(value: Any, version: int = FORMAT) -> Any:
    """The frozen value from the JSON data of `plain`, in a version of its form. `NotLoaded` if it cannot be restored.

    >>> restored(plain((1, float("inf"), 2j)))
    (1, inf, 2j)
    """
    if isinstance(value, list):
        return FrozenList([restored(item, version) for item in value])
    if not isinstance(value, dict):
        return value
    tagged = value if "!" in value else _marked("map", value)
    kind, content = tagged["!"], tagged["value"]
    make = (_MAKERS if version > 1 else _MAKERS_1).get(kind)
    if make is not None:
        return make(content, version)
    return _leaf(kind, content) if version > 1 else _leaf_1(kind, content)


def _leaf(tag: str, content: Any) -> Any:
    """The leaf that was written under this tag."""
    kind, _, name = tag.partition(":")
    try:
        return together(kind, name, thaw(restored(content)))
    except Exception:  # it needs a class of the user's, or what this system lacks: a time zone, NumPy
        pass
    if kind == "named":
        return NotLoaded(kind, str(content), "")
    is_word = kind == "enum" and isinstance(content, str)
    return NotLoaded(kind, name, content if is_word else _json(content))


def _leaf_1(kind: str, text: str) -> Any:
    """The leaf from its repr, which is what version 1 wrote."""
    number = text.removeprefix(f"{kind.replace('numpy.', 'np.', 1)}(").removesuffix(")")
    try:
        return _NUMPY_1[kind](number)
    except (KeyError, ValueError):
        return NotLoaded("unknown", kind, text)


Maker = Callable[[Any, int], Any]

_MAKERS: dict[str, Maker] = {
    "map": lambda items, version: frozen_map({key: restored(item, version) for key, item in items.items()}),
    "tuple": lambda items, version: tuple(restored(item, version) for item in items),
    "set": lambda items, version: FrozenSet([restored(item, version) for item in items]),
    "frozenset": lambda items, version: frozenset(restored(item, version) for item in items),
    "float": lambda text, version: float(text),
    "int": lambda text, version: int(text, 16),
    "str": lambda text, version: bytes.fromhex(text).decode("utf-8", "surrogatepass"),
    "bytes": lambda text, version: bytes.fromhex(text),
    "not loaded": lambda parts, version: NotLoaded(*map(restored, parts)),
    "cut": lambda data, version: NotLoaded(
        "cut", data["of"], ", ".join(f"{key} {data[key]}" for key in data if key != "of")
    ),
}
# In version 1, `bytes` was text with lone surrogates, and a path of any class was `path`.
_MAKERS_1: dict[str, Maker] = {
    **{key: _MAKERS[key] for key in ("map", "tuple", "set", "float", "int")},
    "bytes": _MAKERS["str"],
    "path": lambda text, version: together("pathlib.PurePath", "", restored(text, version)),
}
# NumPy scalars that can be restored from their repr.
_NUMPY_1: Mapping[str, Callable[[str], Any]] = {
    "numpy.float64": float,
    "numpy.bool": {"True": True, "False": False}.__getitem__,
    "numpy.bool_": {"True": True, "False": False}.__getitem__,
    **{f"numpy.{sign}int{bits}": int for sign in ("", "u") for bits in (8, 16, 32, 64)},
}


#: `{"status": "done", "outputs": …, "kinds": …, "needs": …}`, or `{"status": "failed", "type": …, "message": …,
#: "traceback": …}`: dicts, lists, strings and numbers only.
Outcome = dict[str, Any]


class Attempt(NamedTuple):
    """One attempt at a cell that failed: its error, its start (seconds since 1970) and its duration in seconds."""

    type: str
    message: str
    started: float
    seconds: float


class Record(NamedTuple):
    """What was asked of one cell and what happened. `result.record` is one.

    - `name`, `config`, `hash`: what was asked.
    - `status`: `done`, `failed`, or the word for a cell without a result.
    - `started` (seconds since 1970), `seconds`, `host`, `executor`.
    - `gpu`: the token of the GPUs that the cell held, as `--gpus` names them; empty without them.
    - `type`, `message`, `traceback`: of a failure. In reduced results, `message` says which values were left out.
    - `attempts`: the attempts that failed before this one, each with `type`, `message`, `started`, `seconds`.
    - `outputs`: the scalar outputs. `kinds`: the class of every output by name, and the unit of a NumPy time.
    - `spread`: whether the returned value was a mapping of outputs.
    - `needs`: the classes and functions that loading the value needs.
    - `stamp` identifies the result file, `seal` its content.
    - `code`: the fingerprint of the code that made it, with its `hash`, its `parts` by name, and `accepted`, the hashes
      of other code that the user declared equivalent. Without parts if other code has made the record again.

    >>> record = Record("fast", frozen_map({"lr": 0.1}), "d1", "done", outputs={"loss": 0.5}, seconds=1.5)
    >>> record.failed, record.outputs["loss"], record.seconds
    (False, 0.5, 1.5)
    """

    name: str
    config: FrozenConfig
    hash: str
    status: str
    outputs: Mapping[str, Any] = FrozenConfig()
    kinds: Mapping[str, str] = FrozenConfig()
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
    gpu: str = ""
    stamp: tuple[int, ...] = ()
    seal: str = ""
    code: Mapping[str, Any] = FrozenConfig()

    @property
    def failed(self) -> bool:
        return self.status != "done"

    @property
    def has_run(self) -> bool:
        """Whether the cell has ended. Otherwise its status is new, unfinished, busy or foreign."""
        return self.status in ("done", "failed")


def record_of(name: str, config: FrozenConfig, digest: str, outcome: Outcome, **told: Any) -> Record:
    """The record of a cell that ended with this outcome; `told` are the fields of `Record` about how it was run."""
    given = {key: outcome[key] for key in ("type", "message", "traceback", "spread") if key in outcome}
    return Record(
        name,
        config,
        digest,
        outcome["status"],
        outputs=dict(outcome.get("outputs", {})),  # in the experiment's own order, which a frozen map would lose
        kinds=dict(outcome.get("kinds", {})),
        needs=tuple(outcome.get("needs", ())),
        **given,
        **told,
    )


def cells_in_words(number: int) -> str:
    """A number of cells, in words.

    >>> cells_in_words(1), cells_in_words(2)
    ('1 cell', '2 cells')
    """
    return f"{number} cell" if number == 1 else f"{number} cells"


def clipped(text: str, most: int = 200) -> str:
    """The first line of a text, cut to at most `most` characters.

    >>> clipped("abcdef", 4), clipped("abcd\\nef", 4)
    ('abc…', 'abcd')
    """
    line = text.partition("\n")[0]
    return line if len(line) <= most else f"{line[: most - 1]}…"


def brief_error(failed: "Record | Attempt") -> str:
    """The error of a failure in one line: its type and, if it has one, its message."""
    return clipped(f"{failed.type}: {failed.message}").rstrip(": ")


class Named(Protocol):
    """What has a config: a cell or a record."""

    @property
    def name(self) -> str: ...
    @property
    def config(self) -> FrozenConfig: ...
    @property
    def hash(self) -> str: ...


def labels(cells: Sequence[Named]) -> list[str]:
    """What to call each cell: its name. Cells of one name, or without one, are told apart by the keys that differ."""
    made = [cell.name for cell in cells]
    if len({*made} - {""}) == len(made):  # each has a name of its own
        return made
    alike: dict[str, list[int]] = {}
    for position, cell in enumerate(cells):
        if not cell.name or len(cell.config) > 1:  # of a cell that has not run, no more than the name may be known
            alike.setdefault(cell.name, []).append(position)
    for name, positions in alike.items():
        if name and len(positions) == 1:
            continue
        found = [dict(leaves(cells[position].config)) for position in positions]
        keys = differing(found)
        if not keys and not name:
            keys = [key for key in found[0] if key != "name"]
        for position, each in zip(positions, found, strict=True):
            words = clipped(", ".join(f"{key}={_in_words(each[key])}" for key in keys if key in each))
            made[position] = f"{name} ({words})" if name and words else name or words or cells[position].hash
    return made


def _in_words(value: Any) -> str:
    return clipped(value if isinstance(value, str) else spelled(thaw(value), safe_repr), 30)


def spelled(value: Any, spell: Callable[[Any], str] = str) -> str:
    """The value as text; Python refuses to spell very long ints in decimal."""
    return hex(value) if type(value) is int and value.bit_length() > 10_000 else spell(value)


#: The beginning of a traceback's replacement for a cell that died and left only its log.
LOG_ENDS = "The log ends with:"
# Matches only an exception group's own lines: those of its members are indented further.
_HEADER = re.compile(r"^(?:  \+ Exception Group )?Traceback \(most recent call last\):$", re.M)
_FRAME = re.compile(r'^(?:  \| )?  File "(.+)", line (\d+), in (.+)$', re.M)
_LIBRARY = re.compile(r"[/\\](?:site|dist)-packages[/\\]|/lib/python3\.|\\Lib\\|^<frozen |\.(?:pyx|pxd|pxi)$")


def place(traceback: str) -> str:
    """Where the user's code raised: file, line and function of the last frame outside libraries; `""` if unknown.

    If all frames are in libraries, it is the last one outside pyexp. It is about the last of chained exceptions, and
    about a group itself.

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
    frames = [frame for frame in found if not frame[0].startswith(OWN_FILES)]
    if not frames:
        return ""
    own = [frame for frame in frames if not is_library(frame[0])]
    file, line, function = (own or frames)[-1]
    return f"{PureWindowsPath(file).name}:{line} in {function}"


def is_library(file: str) -> bool:
    """Whether a frame of this file is Python's own, an installed package's, or pyexp's.

    A package that Cython has compiled names its files as they were when it was built: `pandas/_libs/index.pyx`.

    >>> is_library("/usr/lib/python3.11/json/decoder.py"), is_library("index.pyx"), is_library("/home/me/main.py")
    (True, True, False)
    """
    return bool(_LIBRARY.search(file)) or file.startswith(OWN_FILES)


def known_output(record: Record, key: str, default: Any = None) -> Any:
    """A scalar output, or the default. A NumPy time has its unit, which the number in a record lacks."""
    value = record.outputs.get(key, default)
    is_time = type(value) is int and record.kinds.get(key, "").startswith(("numpy.datetime64[", "numpy.timedelta64["))
    return numpy_scalar(record.kinds[key], value) if is_time else value


def outputs_of(record: Record) -> dict[str, str]:
    """The outputs of a finished cell, in words; the class of an output that is not a scalar."""
    return {
        key: spelled(known_output(record, key), repr) if key in record.outputs else f"<{kind}>"
        for key, kind in record.kinds.items()
    }


def missing(name: str, config: FrozenConfig, digest: str, words: str, status: str = "new") -> Record:
    """The record of a cell that has not ended, with its status: an error of type `NotRun`, with the reason."""
    return Record(name, config, digest, status, type="NotRun", message=words)


#: The fields of a record that are JSON data as they are: those that every record has had, and others.
_ALWAYS = ("name", "hash", "status", "started", "seconds", "host", "executor")
_PLAIN_FIELDS = (*_ALWAYS, "gpu", "spread", "seal")
_ERROR_FIELDS = ("type", "message", "traceback")


def to_json(record: Record) -> dict[str, Any]:
    """The record as JSON data."""
    fields = record._asdict() | {
        "format": FORMAT,
        "config": config_data(record.config),
        "attempts": [attempt._asdict() for attempt in record.attempts],
        "outputs": {key: plain(value) for key, value in record.outputs.items()},
    }
    shown = ["format", "name", "hash", "status", "config", "started", "seconds", "host", "executor", "gpu", "attempts"]
    shown += ["code"] if record.code else []
    if record.failed:
        return {key: fields[key] for key in shown} | {"error": {key: fields[key] for key in _ERROR_FIELDS}}
    return {key: fields[key] for key in (*shown, "outputs", "kinds", "spread", "needs", "stamp", "seal")}


def from_json(data: Mapping[str, Any], config: FrozenConfig | None = None) -> Record:
    """The record from JSON data. If `config` is known, it replaces the JSON form of the config.

    Raises `ResultError` if the data is not a record, or has a newer format.
    """
    try:
        version = data["format"]
        if version > FORMAT:
            raise ResultError(f"the record is of format {version}, and this pyexp reads up to {FORMAT}")
        error = data.get("error", {})
        record = Record(
            config=restored(data["config"], version) if config is None else config,
            outputs={key: restored(value, version) for key, value in data.get("outputs", {}).items()},
            kinds=dict(data.get("kinds", {})),
            needs=tuple(data.get("needs", ())),
            attempts=tuple(Attempt(**entry) for entry in data["attempts"]),
            stamp=tuple(data.get("stamp", ())),
            code=_code(data.get("code", {})),
            **{key: data[key] for key in _PLAIN_FIELDS if key in data or key in _ALWAYS},
            **{key: error[key] for key in _ERROR_FIELDS if key in error},
        )
        texts = {*map(type, _texts(record)), *map(type, record.needs), *map(type, record.kinds.values())}
        if not texts <= {str} or not {type(record.started), type(record.seconds)} <= {int, float}:
            raise TypeError("a field has the wrong type")
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise ResultError(f"this is not a record of pyexp: {type(error).__name__}: {error}") from None
    return record


def _code(data: Any) -> Mapping[str, Any]:
    """The fingerprint of the code in a record; empty if it has none."""
    if not data:
        return FrozenConfig()
    texts = [data["hash"], *data["parts"], *data["parts"].values(), *data.get("accepted", ())]
    if not all(type(text) is str for text in texts):
        raise TypeError("the fingerprint of the code holds something other than text")
    return dict(data)


_texts = attrgetter("name", "hash", "status", "type", "message", "traceback", "host", "executor", "gpu", "seal")


_PLAIN = (bool, int, float, str, NoneType)
#: Kinds of scalars that a record holds exactly.
EXACT = frozenset(kind.__name__ for kind in _PLAIN)


class Result(Mapping[str, Any]):
    """The result of one cell: a read-only mapping of `name`, `config`, `out` and the experiment's outputs.

    `r["accuracy"]` and `r.accuracy` are the output of that name. `r.value` is what the experiment returned. If that is
    not a mapping of outputs, the only output is called `value`.

    A failure has `__error__` (True), `type`, `message` and `traceback` in place of outputs. Test with
    `r.get("__error__")`. A cell without a result has the type `NotRun`.

    An output other than a scalar loads the result file when it is first used. Scalars, name and config do not. A NumPy
    scalar keeps its type; without NumPy it is the Python number.

    >>> record = Record("fast", frozen_map({"lr": 0.1}), "d1", "failed", type="ValueError", message="diverged")
    >>> r = Result(record, None, lambda: None)
    >>> r.name, r.config.lr, r.get("__error__"), r["type"], r["message"]
    ('fast', 0.1, True, 'ValueError', 'diverged')

    Raises `ResultError` (a KeyError and an AttributeError) for an output that is missing, or cannot be loaded.
    """

    __slots__ = ("_config", "_load", "_out", "_record", "_value")

    def __init__(self, record: Record, out: Any, load: Callable[[], Any]) -> None:
        self._record = record
        self._out = out
        self._load = load
        self._config: Config | None = None
        self._value: Any = _UNLOADED

    #: The record: status, times, attempts, host.
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
        """The cell's folder, a Path: its log and the files that the experiment saved there."""
        return self._out() if callable(self._out) else self._out

    @property
    def value(self) -> Any:
        """What the experiment returned. Raises `ResultError` if it failed, or was not run."""
        return self._loaded()

    def _loaded(self) -> Any:
        if self._record.failed:
            raise ResultError(f"{self._failure()}: it has no value")
        if self._value is _UNLOADED:
            self._value = self._load()
        return self._value

    @property
    def frozen(self) -> "_Frozen":
        """The result as a mapping with a frozen config, for selections."""
        return _Frozen(self._record, self._out, self._loaded)

    def __getitem__(self, key: str) -> Any:
        if key in OWN:
            return getattr(self, key)
        record = self._record
        if record.failed:
            if key in _ERROR:
                return True if key == "__error__" else getattr(record, key)
            raise ResultError(f"{self._failure()}: it has no {key!r}")
        if key not in record.kinds:
            raise ResultError(f"result {self.name!r} has no {key!r}; {nearest(key, self)}")
        if key in record.outputs:
            kind, known = record.kinds[key], record.outputs[key]
            if kind in EXACT:
                return known
            if (made := numpy_scalar(kind, known)) is not NotImplemented:
                return made
        value = self._loaded()[key] if record.spread else self._loaded()
        # A class that was edited does not make its old instances again: they have the fields of their time.
        if record.needs and (lack := lacking(value)):
            raise ResultError(
                f"the result of {self.name!r} cannot be loaded again: {key!r} holds {lack}; run the cell again, or "
                "give the field a plain default (result.value has what is there)"
            )
        return value

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
        return Result, (self._record, self._out, self._load)  # a copy loads the value again when it is used

    def __iter__(self) -> Iterator[str]:
        yield from OWN
        shown = _ERROR if self._record.failed else self._record.kinds
        yield from (key for key in shown if key not in OWN)

    def __contains__(self, key: object) -> bool:
        return key in OWN or key in (_ERROR if self._record.failed else self._record.kinds)  # loads nothing

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Result):
            return self is other or equal(dict(self), dict(other))
        return equal(dict(self), other) if isinstance(other, Mapping) else NotImplemented

    def __lt__(self, other: object) -> bool:
        raise UsageError("results have no order; give a key: max(results, key=lambda r: r['accuracy'])")

    __hash__ = None  # type: ignore[assignment]  # a mapping of changeable values

    def _ipython_key_completions_(self) -> list[str]:
        return list(self)

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *(key for key in self if key.isidentifier())]

    def __repr__(self) -> str:
        if self._record.failed:
            return f"<Result {self._failure()}>"
        outputs = ", ".join(f"{key}={text}" for key, text in outputs_of(self._record).items())
        return f"<Result {self.name!r}: {outputs}>"

    def _failure(self) -> str:
        if self._record.status != "failed":
            return f"{self.name!r} has no result: {self._record.message}".rstrip(": ")
        return f"{self.name!r} failed with {self._record.type}: {self._record.message}".rstrip(": ")


def records_of(results: Iterable[Result]) -> list[Record]:
    """The record of each result, in half the time of asking each for its `record`."""
    return [result._record for result in results]


_UNLOADED = object()
#: The keys of a result that no output takes.
OWN = ("name", "config", "out")
_ERROR = ("__error__", "type", "message", "traceback")


class _Frozen(Result):
    """A result seen through its frozen config."""

    __slots__ = ()
    config = property(lambda self: self._record.config)


#: A longer string does not count as a scalar: it is in the result, not in the record.
LONGEST_TEXT = 1000


def done(value: Any, needs: list[str]) -> Outcome:
    """The outcome of a call that returned `value`: its scalar outputs, and the kind of each output.

    >>> done({"loss": 0.5, "w": [1]}, [])["outputs"], done(3, [])["outputs"]
    ({'loss': 0.5}, {'value': 3})
    """
    # A mapping with names as keys: its items are the outputs.
    is_named = isinstance(value, Mapping) and all(isinstance(key, str) for key in value)
    # `__error__` marks a failure, so no output can have this name.
    spread = {str(key): item for key, item in value.items() if key != "__error__"} if is_named else {"value": value}
    scalars = {key: scalar(item) for key, item in spread.items()}
    return {
        "status": "done",
        "spread": is_named,
        "outputs": {key: item for key, item in scalars.items() if item is not NotImplemented},
        "kinds": {key: kind_of(item) for key, item in spread.items()},
        "needs": needs,
    }


def kind_of(value: Any) -> str:
    """The name of the value's class. It is a bare name for the scalars that a record holds exactly.

    The name of a NumPy scalar is followed by what its plain number leaves out: `numpy.datetime64[ns]`.

    >>> kind_of(1.0), kind_of(len)
    ('float', 'builtins.builtin_function_or_method')
    """
    kind = type(value)
    if kind in _PLAIN:
        return kind.__name__
    name = f"{kind.__module__}.{kind.__qualname__}"
    return name + detail(name, value)


def scalar(value: Any) -> Any:
    """The value as a plain number, short string, bool or None; NotImplemented for any other value."""
    if type(value).__module__ == "numpy" and getattr(value, "shape", None) == () and hasattr(value, "item"):
        made = value.item()
        if made is None and type((value.view("i8") * 0).view(value.dtype).item()) is not int:
            return NotImplemented  # NaT: a record holds it if it holds the other times of its unit
        value = made
    if type(value) not in _PLAIN or (type(value) is str and len(value) > LONGEST_TEXT):
        return NotImplemented
    return value
