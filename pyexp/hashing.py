"""The hash of a config: a typed, injective, versioned encoding of its values, and SHA-256 over it.

What a leaf is made of is in `leaves`. The hash refuses to guess: a value without stable content is an error, never
its `repr`, its `id` or its pickle. The encoding is a netstring with a type: one letter, the length of the content
in bytes, a colon, the content. Containers hold the encodings of their elements one after the other, maps and
sets in the order of the encoded bytes. `docs/reference/hashing.md` has the table and golden values.
"""

from collections.abc import Callable, Iterable, Mapping, Set
from functools import lru_cache
from hashlib import sha256
from typing import Any, TypeAlias

from pyrsistent import PMap, PVector

from pyexp.configs import FrozenConfig, as_python, freeze_config
from pyexp.errors import HashError
from pyexp.leaves import NoContent, apart, field_names, has_fields

#: The first bytes of everything that is hashed. Another encoding needs another version.
SCHEME = b"pyexp1"
#: Hexadecimal digits of a hash: 48 bits. A collision within a run is found by the plan.
DIGITS = 12


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
    except (NoContent, RecursionError) as refused:
        raise _error(value, refused) from refused.__cause__


def _error(value: Any, refused: Exception) -> HashError:
    """What is to be said of a value that was refused; only now is the path to what is wrong with it looked for."""
    try:
        if isinstance(refused, NoContent):
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
    >>> whole(sharing.pairs(freeze_config({"a": 1}))) == encode({"a": 1})
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
        except (NoContent, RecursionError) as refused:
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
    >>> encoded(freeze_config({"a": 1})) == encode({"a": 1})
    True
    """
    sharing = Sharing()
    return lambda config: whole(sharing.pairs(config))


def _place(value: Any, where: str) -> tuple[str, Any]:
    """The path of the innermost part of a refused value that is itself refused, and that part."""
    for path, part in _parts(value, where):
        try:
            _encode(part)
        except NoContent:
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
    if has_fields(type(value)):
        return [(f"{where}.{name}", getattr(value, name)) for name in field_names(value) if hasattr(value, name)]
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
    number = as_python(value)
    if number is not value:
        return _encode(number)
    parts = apart(value)
    return _framed(b"x", _encode(parts.tag) + _encode(parts.content))
