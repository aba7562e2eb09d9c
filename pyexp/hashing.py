"""The hash of a config: a typed, injective, versioned encoding of its values, and SHA-256 over it.

The kinds of leaves are in `leaves`. The hash never guesses: a value without stable content is an error, and its
`repr`, `id` or pickle is never used. The encoding is a netstring with a type: one letter, the length of the content in
bytes, a colon, the content. Containers hold the encodings of their elements one after the other, maps and sets in the
order of the encoded bytes. `docs/reference/hashing.md` has the table and golden values.
"""

from collections.abc import Callable, Mapping, Set
from functools import lru_cache
from hashlib import sha256
from types import NoneType
from typing import Any

from pyrsistent import PVector

from pyexp.configs import (
    Config,
    FrozenConfig,
    FrozenList,
    as_python,
    cached_by_identity,
    freeze_config,
    freeze_value,
    frozen_map,
    is_map,
    joined,
    registered,
)
from pyexp.errors import ConfigError, HashError
from pyexp.leaves import NoContent, apart, field_names, has_fields

#: The first bytes that are hashed. Change the version with the encoding.
SCHEME = b"pyexp1"
#: Hexadecimal digits of a hash: 48 bits. The plan detects a collision within a run.
DIGITS = 12


def config_hash(config: Mapping[str, Any], defaults: Mapping[str, Any] | None = None) -> str:
    """The hash of a config, 12 hexadecimal digits: the same for the same value in every process, on every machine.

    The order of keys does not matter; types do: `1`, `True`, `1.0`, `"1"`, `(1,)` and `[1]` all differ. The name is
    part of the hash. `out`, which pyexp adds, is not, and neither is a key that equals its default in `defaults`. So a
    new parameter, with the value that the code used before as its default, changes no hash.

    >>> config_hash({"name": "fast", "lr": 0.1}) == config_hash({"lr": 0.1, "name": "fast"})
    True

    >>> config_hash({"lr": 0.1, "dropout": 0.0}, defaults={"dropout": 0.0}) == config_hash({"lr": 0.1})
    True

    Raises `ConfigError` if it is not a config, and `HashError` naming the path of a value without stable content.
    """
    if defaults:
        config = without_defaults(freeze_config(config), freeze_config(defaults, "defaults"))
    try:
        if type(config) not in _MAPS or "." in "".join(config):
            config = freeze_config(config)
        return digest(_encode_unfrozen({key: config[key] for key in config if key != "out"}))
    except (ConfigError, NoContent, RecursionError, TypeError):
        pass  # freezing finds what is wrong and where
    frozen = freeze_config(config)
    return digest(encode({key: frozen[key] for key in frozen if key != "out"}))


def without_defaults(config: FrozenConfig, defaults: FrozenConfig) -> FrozenConfig:
    """The config without the leaves that equal their defaults in value and type, and without maps that become empty.

    >>> without_defaults(freeze_config({"mlp": {"bias": 1}, "seed": 1}), freeze_config({"mlp.bias": 1, "seed": 0}))
    FrozenConfig({'seed': 1})
    """
    values, dropped = {}, set()
    for key, default in defaults.items():
        if key not in config:
            continue
        own = config[key]
        if type(own) is type(default) is FrozenConfig and default:
            values[key] = without_defaults(own, default)
            if not values[key]:
                dropped.add(key)
        elif alike(own, default):
            dropped.add(key)
    if not values and not dropped:
        return config
    return frozen_map({key: values.get(key, own) for key, own in config.items() if key not in dropped})


def alike(one: Any, other: Any) -> bool:
    """Whether two values have the same encoding. False if one has none; hashing the config will report it."""
    try:
        return _encode(one) == _encode(other)
    except (NoContent, RecursionError):
        return False


def _encode_unfrozen(value: Any) -> bytes:
    """The encoding of the value's frozen form. Plain values are encoded without freezing them first."""
    kind = type(value)
    if kind in _MAPS:
        pairs = []
        for key, item in value.items():
            if type(key) is not str or not key:
                raise ConfigError  # the words are those of `freeze`
            encode = _PLAIN.get(type(item), _encode_unfrozen)
            pairs.append(_encode_key(key) + encode(item))
        return _framed(b"m", b"".join(sorted(pairs)))
    if kind is list or kind is tuple:
        items = [_PLAIN.get(type(item), _encode_unfrozen)(item) for item in value]
        return _framed(b"l" if kind is list else b"t", b"".join(items))
    return _encode(freeze_value(value) if isinstance(value, (Mapping, list, tuple, Set, PVector)) else value)


def digest(encoded: bytes) -> str:
    """The hash of an encoded config, in hexadecimal digits."""
    return sha256(SCHEME + encoded).hexdigest()[:DIGITS]


def encode(value: Any) -> bytes:
    """The canonical encoding of a value. Two values share it only if they are equal and of one type.

    >>> encode({"lr": 0.5, "layers": [1, True]})
    b'm53:s2:lrf20:0x1.0000000000000p-1s6:layersl11:i1:1b4:True'

    Raises `HashError` naming the path of a value without stable content.
    """
    try:
        return _encode(value)
    except (NoContent, RecursionError) as refused:
        raise _error(value, refused) from refused.__cause__


def _error(value: Any, refused: Exception) -> HashError:
    """The error for a refused value. Searches for the path to the faulty part, which only an error needs."""
    try:
        if isinstance(refused, NoContent):
            where, leaf = _place(value, "config")
            return HashError(f"{where} {'is' if leaf is refused.leaf else 'holds'} {refused}")
    except RecursionError:
        pass
    return HashError("config contains itself, or nests too deep to be hashed")


def encoder_of_many() -> Callable[[FrozenConfig], bytes]:
    """`encode` for the configs of one grid. A value that they share, the same object under one key, is encoded once.

    >>> encoded = encoder_of_many()
    >>> encoded(freeze_config({"a": [1]})) == encode({"a": [1]})
    True
    """

    def pair(key: str, value: Any) -> bytes:
        return _encode_key(key) + _encode(value)

    shared = cached_by_identity(pair)

    def encoded(config: FrozenConfig) -> bytes:
        try:  # no two cells share the name
            pairs = [(pair if key == "name" else shared)(key, value) for key, value in config.items()]
        except (NoContent, RecursionError) as refused:
            raise _error(config, refused) from refused.__cause__
        return _framed(b"m", b"".join(sorted(pairs)))

    return encoded


def _place(value: Any, where: str) -> tuple[str, Any]:
    """The innermost part that is refused, with its path."""
    for path, part in _parts(value, where):
        try:
            _encode(part)
        except NoContent:
            return _place(part, path)
    return where, value


def _parts(value: Any, where: str) -> list[tuple[str, Any]]:
    """The parts of a value, each with its path."""
    if is_map(value):
        return [(f"{where}.{joined([str(key)])}", value[key]) for key in sorted(value, key=str)]
    if isinstance(value, (list, tuple, PVector)):
        return [(f"{where}[{i}]", item) for i, item in enumerate(value)]
    if isinstance(value, Set):
        return [(f"an element of {where}", item) for item in value]
    if has_fields(type(value)):
        return [(f"{where}.{name}", getattr(value, name)) for name in field_names(value) if hasattr(value, name)]
    return []


def _encode(value: Any) -> bytes:
    """The encoding: of a map, list, tuple or set by its elements, of a leaf by its kind and content."""
    kind = type(value)
    if kind in _PLAIN:
        return _PLAIN[kind](value)
    if kind is tuple or kind is list or kind is FrozenList:
        return _framed(b"t" if kind is tuple else b"l", b"".join([_encode(item) for item in value]))
    if kind in _MAPS or is_map(value):
        pairs = [_encode(key) + _encode(item) for key, item in value.items()]
        return _framed(b"m", b"".join(sorted(pairs)))
    if registered(kind) is None:
        if isinstance(value, PVector):
            return _framed(b"l", b"".join([_encode(item) for item in value]))
        if isinstance(value, Set):
            return _framed(b"S", b"".join(sorted([_encode(item) for item in value])))
        number = as_python(value)
        if number is not value:
            return _encode(number)
    parts = apart(value)
    return _framed(b"x", _encode(parts.tag) + _encode(parts.content))


def _framed(tag: bytes, content: bytes) -> bytes:
    return b"%b%d:%b" % (tag, len(content), content)


def _encode_text(value: str) -> bytes:
    text = value.encode("utf-8", "surrogatepass")
    return b"s%d:%b" % (len(text), text)


def _encode_int(value: int) -> bytes:
    text = b"%x" % value  # hexadecimal, as Python refuses very long decimals
    return b"i%d:%b" % (len(text), text)


def _encode_float(value: float) -> bytes:
    text = value.hex()
    return f"f{len(text)}:{text}".encode()


_PLAIN: dict[type, Callable[[Any], bytes]] = {
    str: _encode_text,
    int: _encode_int,
    float: _encode_float,
    bool: lambda value: b"b4:True" if value else b"b5:False",
    NoneType: lambda value: b"n4:None",
    bytes: lambda value: _framed(b"y", value),
}
_MAPS = frozenset({dict, Config, FrozenConfig})

_encode_key = lru_cache(10_000)(_encode)
