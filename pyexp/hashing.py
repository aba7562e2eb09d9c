"""The hash of a config: a typed, injective, versioned encoding of its values, and SHA-256 over it.

Knows how each kind of leaf is written down. It refuses to guess: a value without stable content is an error, never
its `repr`, its `id` or its pickle. The encoding is a netstring with a type: one letter, the length of the content
in bytes, a colon, the content. Containers hold the encodings of their elements one after the other, maps and
sets in the order of the encoded bytes. `docs/reference/hashing.md` has the table and golden values.
"""

from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import fields
from enum import Enum, Flag
from functools import lru_cache, reduce
from hashlib import sha256
from importlib import import_module
from itertools import takewhile
from pathlib import PurePath
from types import BuiltinFunctionType, FunctionType, ModuleType, NoneType
from typing import Any, TypeAlias, TypeVar

from pyrsistent import PMap, PVector, pmap

from pyexp.configs import FrozenConfig, freeze_config
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

    Raises `ConfigError` for what is no config, `HashError` naming the path of a value that has no stable content.
    """
    return digest(encode(freeze_config(config).discard("out")))


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
    except (_NoContent, RecursionError) as refused:
        raise _error(value, refused) from refused.__cause__


def _error(value: Any, refused: Exception) -> HashError:
    """What is to be said of a value that was refused; only now is the path to what is wrong with it looked for."""
    try:
        if isinstance(refused, _NoContent):
            where, leaf = _place(value, "config")
            return HashError(f"{where} {'is' if leaf is refused.leaf else 'holds'} {refused}")
    except RecursionError:
        pass
    return HashError("config contains itself, or nests too deep to be hashed")


#: So many encoded parts are kept at a time: enough for what the cells of a grid share.
MOST_PARTS = 10_000

#: The encodings of a config's keys each with its value, by key.
Pairs: TypeAlias = dict[str, bytes]


class Sharing:
    """Encodes the configs of one grid: what they share, the very same object under the same key, is encoded once.

    >>> sharing = Sharing()
    >>> whole(sharing.pairs(pmap({"a": 1}))) == encode({"a": 1})
    True
    """

    def __init__(self) -> None:
        # A part is known by its identity, which is its own for as long as it is kept here beside its encoding.
        self._known: dict[tuple[str, int], tuple[bytes, Any]] = {}

    def pairs(self, config: FrozenConfig, changed: Iterable[tuple[str, Any]] | None = None) -> Pairs:
        """The pairs of a config, or only those of the items that were `changed` to make it.

        Raises `HashError` naming the path of a value that has no stable content.
        """
        known = self._known
        try:
            return {
                key: found[0] if (found := known.get((key, id(value)))) else self._pair(key, value)
                for key, value in (config.items() if changed is None else changed)
            }
        except (_NoContent, RecursionError) as refused:
            raise _error(config, refused) from refused.__cause__

    def _pair(self, key: str, value: Any) -> bytes:
        made = _encode_key(key) + _encode(value)
        if key != "name":  # which no two cells share
            if len(self._known) >= MOST_PARTS:
                self._known.clear()
            self._known[key, id(value)] = (made, value)
        return made


def whole(pairs: Pairs) -> bytes:
    """The encoding of the config that has these pairs."""
    return _framed(b"m", b"".join(sorted(pairs.values())))


def sharing_encoder() -> Callable[[FrozenConfig], bytes]:
    """`encode` for the configs of one grid: what they share is encoded once.

    >>> encoded = sharing_encoder()
    >>> encoded(pmap({"a": 1})) == encode({"a": 1})
    True
    """
    sharing = Sharing()
    return lambda config: whole(sharing.pairs(config))


class _NoContent(Exception):
    """Raised where a leaf has no stable content."""

    def __init__(self, leaf: Any, words: str) -> None:
        super().__init__(words)
        self.leaf = leaf


def _place(value: Any, where: str) -> tuple[str, Any]:
    """The path of the innermost part of a refused value that is itself refused, and that part."""
    for path, part in _parts(value, where):
        try:
            _encode(part)
        except _NoContent:
            return _place(part, path)
    return where, value


def _parts(value: Any, where: str) -> list[tuple[str, Any]]:
    """What a value is made of, each with its path."""
    if isinstance(value, Mapping):
        return [(f"{where}.{key}", value[key]) for key in sorted(value, key=str)]
    if isinstance(value, (list, tuple, PVector)):
        return [(f"{where}[{i}]", item) for i, item in enumerate(value)]
    if isinstance(value, Set):
        return [(f"an element of {where}", item) for item in value]
    if _has_fields(type(value)):
        return [(f"{where}.{name}", getattr(value, name)) for name in _field_names(value) if hasattr(value, name)]
    return []


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


_encode_key = lru_cache(MOST_PARTS)(_encode)


def _encode_other(value: Any) -> bytes:
    """The encoding of what is no plain value: a map or set by its elements, else by its kind and what it is made of."""
    if isinstance(value, Mapping):
        return _encode_map(value)
    if isinstance(value, Set):
        return _framed(b"S", b"".join(sorted(_encode(item) for item in value)))
    kind = type(value)
    registered = next((parent for parent in kind.__mro__ if parent in _registered), None)
    if registered is not None:
        return _tagged(f"registered:{qualified(registered)}:{qualified(kind)}", _as_registered(value, registered))
    if isinstance(value, Enum):
        # How a flag of several members is called depends on the version of Python.
        return _tagged(f"enum:{qualified(kind)}", value.value if isinstance(value, Flag) else value.name)
    if _has_fields(kind):
        return _tagged(f"fields:{qualified(kind)}", _fields(value))
    known = _known_name(kind)
    if known == "numpy.generic" and value.dtype.kind in "biufcSU" and type(value.item()).__module__ == "builtins":
        return _encode(value.item())
    if known is not None:
        return _encode_known(value, known)
    if isinstance(value, type) or _is_function(value):
        return _tagged("named", _name(value))
    raise _refusal(value)


def _as_registered(value: Any, kind: type) -> Any:
    """What the encoder that is registered for the kind makes of the value."""
    try:
        return _registered[kind](value)
    except Exception as error:  # user code
        words = f"a {qualified(type(value))}, whose registered encoder raised {type(error).__name__}: {error}"
        raise _NoContent(value, words) from error


def _tagged(name: str, plain: Any) -> bytes:
    return _framed(b"x", _encode(name) + _encode(plain))


def _encode_known(value: Any, known: str) -> bytes:
    """The encoding of a value of a known type, or of a subclass of one that adds no state to it."""
    kind = type(value)
    if _type_name(kind) == known:
        return _tagged(known, _KNOWN[known](value))
    added = takewhile(lambda parent: _type_name(parent) != known, kind.__mro__)
    if getattr(value, "__dict__", None) or any(vars(parent).get("__slots__") for parent in added):
        raise _refusal(value)
    return _tagged(f"{known}:{qualified(kind)}", _KNOWN[known](value))


def _known_name(kind: type) -> str | None:
    """The name of the nearest known type that a type is or descends from."""
    names = [name for name in map(_type_name, kind.__mro__) if name in _KNOWN]
    if "numpy.generic" in names:  # numpy.str_ is a str first
        return "numpy.generic"
    return names[0] if names else None


def _type_name(kind: type) -> str:
    """What a type is called here: of a path, whose class is another one on another system, the name of them all."""
    if issubclass(kind, PurePath) and kind.__module__.partition(".")[0] == "pathlib":  # or pathlib._local
        return "path"
    return f"{kind.__module__}.{kind.__qualname__}"


def _name(value: Any) -> str:
    """The qualified name of a class or function, if it has one that others can find it by."""
    if "<" not in value.__qualname__:
        if not isinstance(value, (type, *_PLAIN_FUNCTIONS)) or hasattr(value, "__wrapped__"):
            _found(value)
        return qualified(value)
    what = "a lambda" if "<lambda>" in value.__qualname__ else f"{value.__name__!r}, defined inside a function"
    raise _NoContent(
        value,
        f"{what}, which has no stable hash; use a named function or class from the top level of a module, "
        "a string, or register an encoder with pyexp.register_encoder",
    )


def _found(value: Any) -> None:
    """Refuse a function that is not the one its name leads to: a wrapper made by a decorator bears another's name."""
    try:
        found = reduce(getattr, value.__qualname__.split("."), import_module(value.__module__))
    except Exception:  # a module that cannot be imported may raise anything
        found = None
    if found is not value:
        raise _NoContent(
            value,
            f"a {qualified(type(value))} that calls itself {qualified(value)!r} and is not what stands there; use the "
            "function of that name, a string, or register an encoder with pyexp.register_encoder",
        )


_PLAIN_FUNCTIONS = (FunctionType, BuiltinFunctionType)


def _is_function(value: Any) -> bool:
    """Whether the value is a function of Python, C or a decorator; a bound method is none, it hides an object."""
    named = all(isinstance(getattr(value, name, None), str) for name in ("__module__", "__qualname__"))
    return callable(value) and named and isinstance(getattr(value, "__self__", None), (ModuleType, NoneType))


def _has_fields(kind: type) -> bool:
    return hasattr(kind, "__dataclass_fields__") or hasattr(kind, "__attrs_attrs__")


def _field_names(value: Any) -> list[str]:
    attrs = getattr(type(value), "__attrs_attrs__", None)
    return [field.name for field in (fields(value) if attrs is None else attrs)]


def _fields(value: Any) -> dict[str, Any]:
    """The fields of a dataclass or attrs instance by name."""
    try:
        return {name: getattr(value, name) for name in _field_names(value)}
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
    main = thing.__module__ in ("__main__", "__mp_main__")
    return f"{script_name(import_module('__main__')) if main else thing.__module__}.{thing.__qualname__}"


def script_name(main: Any) -> str:
    """What another process would import the module of a script as, from its `__spec__` or its `__file__`."""
    spec = getattr(main, "__spec__", None)
    if spec is not None:  # python -m package.module
        return str(spec.name).removesuffix(".__main__")
    file = getattr(main, "__file__", None) or "<"
    return "__main__" if file.startswith("<") else PurePath(file).stem  # no file: a notebook, a prompt, a pipe


def _numpy_scalar(value: Any) -> Any:
    """A NumPy scalar that no Python number equals (a date, a void, a wider float), as the array of no axes it fills."""
    return _numpy_array(value.reshape(()))


def _numpy_array(value: Any) -> Any:
    """A NumPy array as its type, shape and content in C order, little-endian, every NaN the same."""
    kind = _numpy_type(value.dtype)
    if value.dtype.hasobject or value.dtype.names is not None:
        return (kind, value.shape, value.ravel().tolist())
    if value.dtype.char in "gG":  # whose bytes hold padding
        return (kind, value.shape, [str(item) for item in value.ravel()])
    own = value.astype(value.dtype.newbyteorder("<"), order="C")
    if own.dtype.kind in "fc":
        parts = own.reshape(-1).view(own.real.dtype)
        parts[parts != parts] = float("nan")
    return (kind, own.shape, own.tobytes())


def _numpy_type(dtype: Any) -> Any:
    """What tells a dtype from others; where its fields lie in memory does not."""
    if dtype.names is not None:
        return [(name, _numpy_type(dtype[name])) for name in dtype.names]
    if dtype.subdtype is not None:
        return (_numpy_type(dtype.base), dtype.shape)
    return str(dtype.char if dtype.hasobject else dtype.newbyteorder("<").str)


def _range(value: range) -> Any:
    """What tells a range from others: equal ranges hold the same numbers, however they were written."""
    if len(value[:2]) < 2:
        return tuple(value[:2])
    return (value[0], value[-1], value.step)


def _moment(value: Any) -> Any:
    return (value.replace(tzinfo=None, fold=0).isoformat(), value.fold, value.tzinfo)


def _zone(value: Any) -> str:
    if value.key is None:  # read from a file without a name
        raise _refusal(value)
    return str(value.key)


# By name, so that no type has to be imported to be known.
_ENCODERS: dict[str, Encoder] = {
    "path": PurePath.as_posix,
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
    "datetime.timezone": lambda value: (value.utcoffset(None), value.tzname(None)),
    "zoneinfo.ZoneInfo": _zone,
    "decimal.Decimal": str,
    "fractions.Fraction": lambda value: (value.numerator, value.denominator),
    "uuid.UUID": lambda value: value.hex,
    "functools.partial": lambda value: (value.func, value.args, value.keywords),
}
_KNOWN = pmap(_ENCODERS)

_registered: "PMap[type, Encoder]" = pmap()


def has_encoders() -> bool:
    """Whether any foreign type was registered: all values that are known without it can be pickled."""
    return bool(_registered)


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
