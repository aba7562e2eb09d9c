"""The hash of a config: a typed, injective, versioned encoding of its values, and SHA-256 over it.

Knows how each kind of leaf is written down. It refuses to guess: a value without stable content is an error, never
its `repr`, its `id` or its pickle. The encoding is a netstring with a type: one letter, the length of the content
in bytes, a colon, the content. Containers hold the encodings of their elements one after the other, maps and
sets in the order of the encoded bytes. `docs/reference/hashing.md` has the table and golden values.
"""

from collections.abc import Callable, Mapping, Set
from dataclasses import fields
from enum import Enum
from hashlib import sha256
from importlib import import_module
from pathlib import PurePath
from typing import Any, TypeVar

from pyrsistent import PMap, PVector, pmap

from pyexp.configs import freeze
from pyexp.errors import HashError

#: The first bytes of everything that is hashed. Another encoding needs another version.
SCHEME = b"pyexp1"
#: Hexadecimal digits of a hash: 48 bits. A collision within a run is found by the plan.
DIGITS = 12

Encoder = Callable[[Any], Any]
T = TypeVar("T")


def config_hash(config: Mapping[str, Any]) -> str:
    """The hash of a config, 12 hexadecimal digits: the same for the same value in every process, on every machine.

    The order of keys does not matter, types do: `1`, `True`, `1.0`, `"1"`, `(1,)` and `[1]` all differ. The name
    is part of it; `out`, which pyexp adds for the experiment, is not.

    >>> config_hash({"name": "fast", "lr": 0.1}) == config_hash({"lr": 0.1, "name": "fast"})
    True

    Raises `HashError` naming the path of a value that has no stable content.
    """
    return digest(encode(freeze(config).discard("out")))


def digest(encoded: bytes) -> str:
    """The hexadecimal digits that stand for an encoded config."""
    return sha256(SCHEME + encoded).hexdigest()[:DIGITS]


def encode(value: Any) -> bytes:
    """The canonical encoding of a value: two values share it only if they are of one type and equal.

    >>> encode({"lr": 0.5, "layers": [1, True]})
    b'm53:s2:lrf20:0x1.0000000000000p-1s6:layersl11:i1:1b4:True'

    Raises `HashError` naming the path of a value that has no stable content.
    """
    try:
        return _encode(value)
    except _NoContent as refused:
        raise HashError(f"{_path_to(refused.leaf, value) or 'a part of config'} is {refused}") from None
    except RecursionError:
        raise HashError("config contains itself, or nests too deep to be hashed") from None


class _NoContent(Exception):
    """Raised where a leaf has no stable content; the path to it is looked for only then."""

    def __init__(self, leaf: Any, words: str) -> None:
        super().__init__(words)
        self.leaf = leaf


def _path_to(leaf: Any, value: Any, where: str = "config") -> str | None:
    """Where in a value this very leaf stands."""
    if value is leaf:
        return where
    if isinstance(value, Mapping):
        inside = [(f"{where}.{key}", item) for key, item in value.items()]
    elif isinstance(value, (list, tuple, PVector)):
        inside = [(f"{where}[{i}]", item) for i, item in enumerate(value)]
    elif isinstance(value, Set):
        inside = [(f"an element of {where}", item) for item in value]
    else:
        inside = [(f"{where}.{key}", item) for key, item in getattr(value, "__dict__", {}).items()]
    return next((path for name, item in inside if (path := _path_to(leaf, item, name))), None)


def _encode(value: Any) -> bytes:
    kind = type(value)
    if kind is str:
        return _framed(b"s", value.encode("utf-8", "surrogatepass"))
    if kind is float:
        return _framed(b"f", value.hex().encode())
    if kind is int:  # hexadecimal, as Python refuses very long decimals
        return _framed(b"i", format(value, "x").encode())
    if kind is bool or value is None:
        return _framed(b"b" if value is not None else b"n", repr(value).encode())
    if kind is bytes:
        return _framed(b"y", value)
    if kind is PMap or kind is dict:
        return _encode_map(value)
    if kind is tuple or kind is list or isinstance(value, PVector):
        items = [_encode(item) for item in value]
        return _framed(b"t" if kind is tuple else b"l", b"".join(items))
    return _encode_other(value)


def _encode_map(value: Mapping[Any, Any]) -> bytes:
    """The encoding of a map: its keys and values in the order of the encoded keys."""
    pairs = [_encode(key) + _encode(item) for key, item in value.items()]
    return _framed(b"m", b"".join(sorted(pairs)))


def _framed(tag: bytes, content: bytes) -> bytes:
    return b"%b%d:%b" % (tag, len(content), content)


def _encode_other(value: Any) -> bytes:
    """The encoding of what is no plain value: a map or set by its elements, else by its kind and what it is made of."""
    if isinstance(value, Mapping):
        return _encode_map(value)
    if isinstance(value, Set):
        return _framed(b"S", b"".join(sorted(_encode(item) for item in value)))
    kind = type(value)
    known = next((name for name in map(_dotted_name, kind.__mro__) if name in _KNOWN), None)
    registered = next((parent for parent in kind.__mro__ if parent in _registered), None)
    if registered is not None:
        return _tagged(f"registered:{qualified(registered)}:{qualified(kind)}", _registered[registered](value))
    if isinstance(value, Enum):
        member = value.name if value.name is not None else value.value  # a flag made of several has no name
        return _tagged(f"enum:{qualified(kind)}", member)
    if hasattr(kind, "__dataclass_fields__") or hasattr(kind, "__attrs_attrs__"):
        return _tagged(f"fields:{qualified(kind)}", _fields(value))
    if isinstance(value, PurePath):  # whose class is another one on another system
        return _tagged("path", value.as_posix())
    if known == "numpy.generic" and type(value.item()).__module__ == "builtins" and value.dtype.kind in "biufcSU":
        return _encode(value.item())
    if known is not None:
        return _encode_known(value, known)
    if isinstance(value, type) or _is_function(value):
        return _tagged("named", _name(value))
    raise _refusal(value)


def _tagged(name: str, plain: Any) -> bytes:
    return _framed(b"x", _encode(name) + _encode(plain))


def _encode_known(value: Any, known: str) -> bytes:
    """The encoding of a value of a known type, or of a subclass of one that adds no state to it."""
    kind = type(value)
    if _dotted_name(kind) == known:
        return _tagged(known, _KNOWN[known](value))
    if getattr(value, "__dict__", None):
        raise _refusal(value)
    return _tagged(f"{known}:{qualified(kind)}", _KNOWN[known](value))


def _dotted_name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _name(value: Any) -> str:
    """The qualified name of a class or function, if it has one that others can find it by."""
    if "<" not in value.__qualname__:
        return qualified(value)
    what = "a lambda" if "<lambda>" in value.__qualname__ else f"{value.__name__!r}, defined inside a function"
    raise _NoContent(
        value,
        f"{what}, which has no stable hash; use a named function or class from the top level of a module, "
        "a string, or register an encoder with pyexp.register_encoder",
    )


def _is_function(value: Any) -> bool:
    """Whether the value is a function of Python or C; a bound method is none, it hides an object."""
    owner = getattr(value, "__self__", None)
    named = type(value).__name__ in ("function", "builtin_function_or_method")
    return named and (owner is None or type(owner).__name__ == "module")


def _fields(value: Any) -> dict[str, Any]:
    """The fields of a dataclass or attrs instance by name."""
    attrs = getattr(type(value), "__attrs_attrs__", None)
    try:
        return {field.name: getattr(value, field.name) for field in (fields(value) if attrs is None else attrs)}
    except AttributeError:
        raise _refusal(value) from None


def _refusal(value: Any) -> _NoContent:
    kind = type(value)
    return _NoContent(
        value,
        f"a {qualified(kind)}, which has no stable hash; use plain values, or say what it is made of: "
        f"pyexp.register_encoder({kind.__name__}, lambda value: …)",
    )


def qualified(thing: Any) -> str:
    """The module and qualified name of a class or function; for one of the script's own, the script's name.

    A script calls its module `__main__`, and another process that imports it does not: both are called after the file.
    """
    module = thing.__module__ or "builtins"
    return f"{_main_name() if module in ('__main__', '__mp_main__') else module}.{thing.__qualname__}"


def _main_name() -> str:
    main = import_module("__main__")
    spec = getattr(main, "__spec__", None)
    if spec is not None:  # python -m package.module
        return str(spec.name).removesuffix(".__main__")
    file = getattr(main, "__file__", None) or "<"
    return "__main__" if file.startswith("<") else PurePath(file).stem  # no file: a notebook, a prompt, a pipe


def _numpy_scalar(value: Any) -> Any:
    """A NumPy scalar that no Python number equals: a date, a void, a wider float (whose bytes hold padding)."""
    return (value.dtype.str, repr(value) if value.dtype.kind in "fc" else value.tobytes())


def _numpy_array(value: Any) -> Any:
    """A NumPy array as its type, shape and content in C order, little-endian, every NaN the same."""
    if value.dtype.hasobject or value.dtype.names:
        return (repr(value.dtype.descr), value.shape, value.ravel().tolist())
    if value.dtype.char in "gG":
        return (value.dtype.str, value.shape, [repr(item) for item in value.ravel()])
    own = value.astype(value.dtype.newbyteorder("<"), order="C")
    if own.dtype.kind in "fc":
        parts = own.reshape(-1).view(own.real.dtype)
        parts[parts != parts] = float("nan")
    return (own.dtype.str, own.shape, own.tobytes())


def _range(value: range) -> Any:
    """What tells a range from others: equal ranges hold the same numbers, however they were written."""
    if len(value[:2]) < 2:
        return tuple(value[:2])
    return (value[0], value[-1], value.step)


def _moment(value: Any) -> Any:
    return (value.isoformat(), value.fold, None if value.tzinfo is None else str(value.tzinfo))


# By name, so that no type has to be imported to be known.
_ENCODERS: dict[str, Encoder] = {
    "numpy.generic": _numpy_scalar,
    "numpy.ndarray": _numpy_array,
    "builtins.int": int,
    "builtins.float": float,
    "builtins.complex": lambda value: (value.real, value.imag),
    "builtins.str": str.__str__,
    "builtins.bytes": bytes,
    "builtins.bytearray": bytes,
    "builtins.list": list,
    "builtins.tuple": tuple,
    "builtins.range": _range,
    "builtins.slice": lambda value: (value.start, value.stop, value.step),
    "builtins.ellipsis": lambda value: None,
    "datetime.datetime": _moment,
    "datetime.date": lambda value: value.isoformat(),
    "datetime.time": _moment,
    "datetime.timedelta": lambda value: (value.days, value.seconds, value.microseconds),
    "datetime.timezone": str,
    "zoneinfo.ZoneInfo": str,
    "decimal.Decimal": str,
    "fractions.Fraction": lambda value: (value.numerator, value.denominator),
    "uuid.UUID": lambda value: value.hex,
    "functools.partial": lambda value: (value.func, value.args, value.keywords),
}
_KNOWN = pmap(_ENCODERS)

_registered: "PMap[type, Encoder]" = pmap()


def register_encoder(kind: type[T], encoder: Callable[[T], Any]) -> None:
    """Teach the hash a foreign type: `encoder` takes a value apart into plainer values that tell it from others.

    The encoder serves subclasses too, each under its own name. It has to give the same for equal values in every
    process. Registering a type again replaces its encoder.

    >>> class Angle:
    ...     def __init__(self, degrees): self.degrees = degrees
    >>> register_encoder(Angle, lambda angle: angle.degrees)
    >>> config_hash({"turn": Angle(90)}) == config_hash({"turn": Angle(90)})
    True
    """
    global _registered
    if not isinstance(kind, type):
        raise HashError(f"{kind!r} is no class; register_encoder takes the class whose values the encoder takes apart")
    _registered = _registered.set(kind, encoder)
