"""Frozen values as strict JSON data, and back.

What JSON lacks is a map with its kind under `"!"`; the kinds are those of `leaves`, so that a value is written down as
what its hash is made of. What is too long to be repeated in the record of every cell is cut to its length and digest.
"""

from collections.abc import Callable, Mapping, Set
from contextlib import suppress
from functools import partial
from hashlib import sha256
from math import inf
from types import NoneType
from typing import Any
from weakref import ref

from pyrsistent import PVector, pmap, pset, pvector

from pyexp.configs import FrozenConfig, as_python, thaw
from pyexp.errors import HashError
from pyexp.hashing import encode
from pyexp.leaves import NoContent, NotLoaded, apart, qualified, together

#: The version of this form, which `record.json` and `run.json` name as their own. A reader refuses a newer one.
FORMAT = 2

#: A list, map, set or array of more items is cut; and text, bytes and ints of more than ten times as many digits.
MOST_ITEMS = 1000
#: Where a config takes more characters, shorter parts of it are cut too.
MOST_CHARACTERS = 32_000


def config_data(config: FrozenConfig) -> dict[str, Any]:
    """The config as JSON data, with as much of it as leaves a record small. Its own keys and its name are whole."""
    for most in (MOST_ITEMS, MOST_ITEMS // 10, MOST_ITEMS // 100):
        data = _map({key: plain(config[key], inf if key == "name" else most) for key in sorted(config)})
        if len(_json(data)) <= MOST_CHARACTERS:
            break
    return data


def plain(value: Any, most: float = MOST_ITEMS) -> Any:
    """A frozen value as strict JSON data; what JSON lacks is a map with its kind under `"!"`.

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
    if isinstance(value, Mapping):
        return _map({key: inner(value[key]) for key in sorted(value)})
    if kind is list or isinstance(value, PVector):
        return [inner(item) for item in value]
    if kind is tuple:
        return _marked("tuple", [inner(item) for item in value])
    if isinstance(value, Set):
        return _marked("frozenset" if kind is frozenset else "set", sorted(map(inner, value), key=repr))
    return _leaf_data(value, inner)


def _leaf_data(value: Any, inner: Callable[[Any], Any]) -> Any:
    """A leaf as JSON data, what it is made of by `inner`."""
    number = as_python(value)
    if number is not value:  # in a dataclass or an array of objects
        return inner(number)
    if isinstance(value, NotLoaded):
        return _marked("not loaded", [value.kind, value.name, inner(value.text)])
    try:
        parts = apart(value)
    except NoContent:  # in a coordinate, of which no config may have been made
        return _marked("not loaded", ["unknown", qualified(type(value)), inner(_shown(value))])
    return _marked(f"{parts.kind}:{parts.name}" if parts.name else parts.kind, inner(parts.content))


def _json(data: Any) -> str:
    from json import dumps  # a warm run, which neither writes nor reads JSON, need not pay for it

    return dumps(data, ensure_ascii=False)


def _marked(kind: str, value: Any) -> dict[str, Any]:
    return {"!": kind, "value": value}


def _map(items: dict[str, Any]) -> dict[str, Any]:
    return _marked("map", items) if "!" in items else items


def _text(value: str) -> Any:
    has_surrogates = any("\ud800" <= char <= "\udfff" for char in value)
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
    """How long the value is, in items."""
    if isinstance(value, int):
        return value.bit_length() / 40
    if isinstance(value, (str, bytes, bytearray)):
        return len(value) / 10
    if isinstance(value, (Mapping, Set, list, tuple, PVector)):
        return len(value)
    if _is_array(value):  # a dtype of another library is no name that NumPy knows
        is_foreign = value.dtype.kind == "V" and value.dtype.names is None
        return inf if is_foreign else max(value.size, value.nbytes / 16)
    return 0


def _is_array(value: Any) -> bool:
    return any((at.__module__, at.__name__) == ("numpy", "ndarray") for at in type(value).__mro__)


def _cut(value: Any) -> dict[str, Any]:
    """What stands for a value that is too long: what it is, its length, and a digest of all of it."""
    if _is_array(value):
        size: dict[str, Any] = {"dtype": str(value.dtype), "shape": list(value.shape)}
    else:
        size = {"length": value.bit_length() if isinstance(value, int) else len(value)}
    kind = qualified(type(value)).removeprefix("builtins.")
    return _marked("cut", {"of": _THAWED.get(kind, kind), **size, "digest": _digest(value)})


def _digest(value: Any) -> str:
    """A digest of all of a value. The cells of a grid share their long values, which are read once while they live."""
    known = _digests.get(id(value))
    if known is not None and known[0]() is value:
        return known[1]
    try:
        digest = sha256(encode(value)).hexdigest()[:16]
    except HashError:  # in a coordinate, of which no config may have been made
        digest = ""
    with suppress(TypeError):  # a tuple or a string, which are soon read again
        _digests[id(value)] = ref(value, lambda _, key=id(value): _digests.pop(key, None)), digest  # type: ignore[misc]
    return digest


_digests: dict[int, tuple[ref[Any], str]] = {}

# What the persistent containers were before they were frozen.
_THAWED = {qualified(type(frozen)): name for frozen, name in ((pmap(), "dict"), (pvector(), "list"), (pset(), "set"))}


def _shown(value: Any) -> str:
    try:
        return repr(value).encode("utf-8", "backslashreplace").decode()
    except Exception:  # a foreign __repr__
        return "<no repr>"


def restored(value: Any, version: int = FORMAT) -> Any:
    """The frozen value that `plain` was given, in a version of its form; `NotLoaded` for what cannot be had back.

    >>> restored(plain((1, float("inf"), 2j)))
    (1, inf, 2j)
    """
    if isinstance(value, list):
        return pvector([restored(item, version) for item in value])
    if not isinstance(value, dict):
        return value
    if "!" not in value:
        return pmap({key: restored(item, version) for key, item in value.items()})
    kind, content = value["!"], value["value"]
    make = (_MAKERS if version > 1 else _MAKERS_1).get(kind)
    if make is not None:
        return make(content, version)
    return _leaf(kind, content) if version > 1 else _leaf_1(kind, content)


def _leaf(tag: str, content: Any) -> Any:
    """The leaf that was written down under this tag."""
    kind, _, name = tag.partition(":")
    try:
        return together(kind, name, thaw(restored(content)))
    except Exception:  # its class is the user's, or this system lacks what it takes, as a time zone or NumPy
        pass
    if kind == "named":
        return NotLoaded(kind, str(content), "")
    is_word = kind == "enum" and isinstance(content, str)
    return NotLoaded(kind, name, content if is_word else _json(content))


def _leaf_1(kind: str, text: str) -> Any:
    """The leaf of which version 1 has kept the repr, NumPy's at that time."""
    number = text.removeprefix(f"{kind.replace('numpy.', 'np.', 1)}(").removesuffix(")")
    try:
        return _NUMPY_1[kind](number)
    except (KeyError, ValueError):
        return NotLoaded("unknown", kind, text)


Maker = Callable[[Any, int], Any]

_MAKERS: dict[str, Maker] = {
    "map": lambda items, version: pmap({key: restored(item, version) for key, item in items.items()}),
    "tuple": lambda items, version: tuple(restored(item, version) for item in items),
    "set": lambda items, version: pset([restored(item, version) for item in items]),
    "frozenset": lambda items, version: frozenset(restored(item, version) for item in items),
    "float": lambda text, version: float(text),
    "int": lambda text, version: int(text, 16),
    "str": lambda text, version: bytes.fromhex(text).decode("utf-8", "surrogatepass"),
    "bytes": lambda text, version: bytes.fromhex(text),
    "not loaded": lambda parts, version: NotLoaded(*map(restored, parts)),
    "cut": lambda told, version: NotLoaded(
        "cut", told["of"], ", ".join(f"{key} {told[key]}" for key in told if key != "of")
    ),
}
# In version 1, `bytes` was text with lone surrogates, and a path of whatever class a `path`.
_MAKERS_1: dict[str, Maker] = {
    **{key: _MAKERS[key] for key in ("map", "tuple", "set", "float", "int")},
    "bytes": _MAKERS["str"],
    "path": lambda text, version: together("pathlib.PurePath", "", restored(text, version)),
}
# The scalars whose repr is all of them.
_NUMPY_1: Mapping[str, Callable[[str], Any]] = {
    "numpy.float64": float,
    "numpy.bool": {"True": True, "False": False}.__getitem__,
    "numpy.bool_": {"True": True, "False": False}.__getitem__,
    **{f"numpy.{sign}int{bits}": int for sign in ("", "u") for bits in (8, 16, 32, 64)},
}
