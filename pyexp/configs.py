"""Frozen configs: persistent maps that nobody can change, and the laws of merging and matching them.

Inside the core a config is a `PMap` with string keys; nested maps are `PMap`, lists `PVector`, sets `PSet`,
tuples and frozensets stay what they are. `freeze` is the way in, `thaw` the way out, and nothing in between converts.
It does not know sweeps, hashes, names or folders.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from copy import deepcopy
from enum import Enum
from typing import Any, TypeAlias, TypeVar

from pyrsistent import PMap, PSet, PVector, pmap, pset, pvector

from pyexp.errors import ConfigError, nearest

Path = tuple[str, ...]


def split(key: object, where: str = "config") -> Path:
    """The parts of a dotted key.

    >>> split("mlp.width")
    ('mlp', 'width')

    Raises `ConfigError`, naming `where` the key stands, if it is no string, or it or a part of it is empty.
    """
    if not isinstance(key, str):
        raise ConfigError(
            f"a key of {where} is {key!r}, of type {type(key).__name__}; keys are strings: use {str(key)!r}"
        )
    parts = tuple(str.__str__(key).split("."))
    if not all(parts):
        raise ConfigError(f"a key of {where} is {key!r}, which has an empty part; write it like 'a' or 'a.b'")
    return parts


class Config(dict[str, Any]):
    """A dict whose keys are attributes too: `config.mlp.width` is `config["mlp"]["width"]`.

    Nested dicts become Configs, also those inside lists and tuples. A key that is spelled like a method
    of dict (`items`, `copy`) is reached with brackets. What an experiment receives is its own copy, with
    sorted keys, and may be changed.
    """

    __slots__ = ()
    __module__ = "pyexp"  # pickles name the public home, so that results outlive the layout of this package

    def __init__(self, *args: Mapping[str, Any] | Iterable[tuple[str, Any]], **kwargs: Any) -> None:
        super().__init__()
        self.update(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            pass
        if name.startswith("__") and name.endswith("__"):  # protocols probe for these; no key was meant
            raise AttributeError(name)
        # With the object and no name, Python adds no hint of its own to the error's.
        raise AttributeError(f"Config has no attribute {name!r}; {nearest(name, self)}", obj=self)

    def __setattr__(self, name: str, value: Any) -> None:
        if hasattr(type(self), name):
            raise AttributeError(f"{name!r} is a method of Config; set the key with config[{name!r}] = …")
        self[name] = value

    def __delattr__(self, name: str) -> None:
        if name not in self:
            raise AttributeError(f"Config has no attribute {name!r}; {nearest(name, self)}")
        del self[name]

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, _dotted(value))

    def update(self, *args: Any, **kwargs: Any) -> None:
        for key, value in dict(*args, **kwargs).items():
            self[key] = value

    def setdefault(self, key: str, default: Any = None) -> Any:
        if key not in self:
            self[key] = default
        return self[key]

    def __or__(self, other: Any) -> Any:
        return Config({**self, **other}) if hasattr(other, "keys") else NotImplemented

    def __ror__(self, other: Any) -> Any:
        return Config({**other, **self}) if hasattr(other, "keys") else NotImplemented

    def __ior__(self, other: Any) -> Config:  # type: ignore[override]  # dict's own overloads say Self
        self.update(other)
        return self

    def copy(self) -> Config:
        """A shallow copy, itself a Config."""
        return Config(self)

    @classmethod
    def fromkeys(cls, keys: Iterable[str], value: Any = None) -> Config:  # type: ignore[override]
        """A Config with the same value under every key."""
        return cls((key, value) for key in keys)

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *(key for key in self if isinstance(key, str) and key.isidentifier())]

    def __repr__(self) -> str:
        return f"Config({super().__repr__()})"

    def _repr_html_(self) -> str:
        """The leaves by their dotted keys, as a notebook shows them."""
        from pyexp import markup  # only a notebook pays for it

        found = list(leaves(self))
        rows = [(found[i][0], markup.brief(found[i][1])) for i in markup.ends(len(found), 100)]
        return markup.table(["key", "value"], rows, len(found))


def _dotted(value: Any) -> Any:
    """The value with every dict in it, through lists and tuples, made a Config."""
    kind = type(value)
    if kind is Config:
        return value
    if isinstance(value, dict):
        return Config(value)
    if kind is list and any(isinstance(item, (dict, list, tuple)) for item in value):
        return [_dotted(item) for item in value]
    if kind is tuple and any(isinstance(item, (dict, list, tuple)) for item in value):
        return tuple(_dotted(item) for item in value)
    return value


FrozenConfig: TypeAlias = PMap[str, Any]
T = TypeVar("T")

#: What a normalised update is made of: a path into a config and the frozen value to stand there.
Change: TypeAlias = tuple[Path, Any]

# Their values cannot change; anything else is asked for its hash, which Python takes from what can.
_ATOMS = frozenset({type(None), bool, int, float, complex, str, bytes})
_EMPTY: FrozenConfig = pmap()


def freeze(value: Any, where: str = "config") -> Any:
    """The value in its frozen form: maps as `PMap`, lists as `PVector`, sets as `PSet`, tuples as tuples.

    Dotted keys are expanded, shorter ones first, so no key of a frozen config holds a dot. A NumPy scalar becomes the
    Python number, text or bytes that it equals. Other leaves are left as they are, except that one which can still
    change (it has no hash: an array, a bytearray) is copied: nothing of the result is shared with what the caller may
    change. Only what is equal to nothing but itself stays itself.

    >>> freeze({"mlp.width": 64, "mlp": {"depth": 2}}) == pmap({"mlp": pmap({"depth": 2, "width": 64})})
    True

    Raises `ConfigError` naming the path of a key that is no string, is empty, or has an empty part.
    """
    try:
        return _freeze(value, where)
    except RecursionError:
        raise _too_deep(where) from None


def _too_deep(where: str) -> ConfigError:
    return ConfigError(f"{where} contains itself, or nests too deep to be a config")


def _freeze(value: Any, where: str) -> Any:
    if type(value) in _ATOMS or isinstance(value, Enum):  # a member of an enum may be a tuple too
        return value
    if isinstance(value, Mapping):
        return applied(_EMPTY, _changes(value, where))
    if isinstance(value, (list, PVector)):
        return pvector(_frozen_items(value, where))
    if isinstance(value, tuple):
        return _retupled(value, _frozen_items(value, where))
    if isinstance(value, frozenset):
        return frozenset(_freeze(item, f"an element of {where}") for item in value)
    if isinstance(value, Set):
        return pset([_freeze(item, f"an element of {where}") for item in value])
    return _own(as_python(value))


def as_python(leaf: Any) -> Any:
    """The Python number, text or bytes that a NumPy scalar equals; itself, if it is none or equals nothing of Python's.

    >>> as_python(1)
    1
    """
    kind = type(leaf)
    if not (hasattr(kind, "dtype") and any((at.__module__, at.__name__) == _SCALAR for at in kind.__mro__)):
        return leaf
    plain = leaf.item() if leaf.dtype.kind in "biufcSU" else leaf
    return plain if type(plain) in _ATOMS else leaf  # a wider float gives itself


# The class of NumPy's scalars, which need not be imported to be known.
_SCALAR = ("numpy", "generic")


def _frozen_items(items: Sequence[Any], where: str) -> list[Any]:
    # A list of many numbers should not pay for as many paths.
    return [item if type(item) in _ATOMS else _freeze(item, f"{where}[{i}]") for i, item in enumerate(items)]


def thaw(value: Any) -> Any:
    """A private, changeable copy of a frozen value: Configs with sorted keys, lists, sets, tuples.

    >>> thaw(pmap({"b": 1, "a": pvector([pmap({"c": 2})])}))
    Config({'a': [Config({'c': 2})], 'b': 1})
    """
    if type(value) in _ATOMS or isinstance(value, Enum):
        return value
    if isinstance(value, Mapping):
        config = Config()
        for key in sorted(value):
            dict.__setitem__(config, key, thaw(value[key]))
        return config
    if isinstance(value, PVector):
        return [thaw(item) for item in value]
    if isinstance(value, tuple):
        return _retupled(value, [thaw(item) for item in value])
    if isinstance(value, PSet):
        return {_thaw_element(item) for item in value}
    return _thaw_element(value) if isinstance(value, frozenset) else _copied(value)


def _thaw_element(value: Any) -> Any:
    """An element of a set, which has to stay hashable."""
    if isinstance(value, (PSet, frozenset)):
        return frozenset(_thaw_element(item) for item in value)
    if isinstance(value, tuple) and not isinstance(value, Enum):
        return _retupled(value, [_thaw_element(item) for item in value])
    return value if isinstance(value, (PMap, PVector)) else _copied(value)


def _retupled(like: tuple[Any, ...], items: list[Any]) -> tuple[Any, ...]:
    """A tuple of `items` of the same kind as `like`, so that a named tuple keeps its names."""
    make: Callable[[list[Any]], tuple[Any, ...]] = getattr(type(like), "_make", tuple)
    return make(items)


def _own(leaf: Any) -> Any:
    """The leaf itself if it is a value, a copy if it can change: Python's rule, what is mutable has no hash."""
    try:
        hash(leaf)
    except Exception:  # a foreign __hash__ may raise anything
        return _copied(leaf)
    return leaf


def _copied(leaf: Any) -> Any:
    """A copy of the leaf, which for a value that cannot change is itself."""
    try:
        return deepcopy(leaf)
    except Exception:  # what cannot be copied is left: hashing it will say what is wrong with it
        return leaf


def changes(update: Mapping[str, Any], where: str = "config") -> tuple[Change, ...]:
    """The update as paths and frozen values, shorter paths first, so that the order of its keys does not matter.

    >>> changes({"mlp.width": 64, "mlp": {}})
    ((('mlp',), pmap({})), (('mlp', 'width'), 64))
    """
    if not isinstance(update, Mapping):
        raise ConfigError(
            f"{where} is {update!r}, of type {type(update).__name__}; it has to be a mapping such as a dict"
        )
    try:
        return _changes(update, where)
    except RecursionError:
        raise _too_deep(where) from None


def _changes(update: Mapping[str, Any], where: str) -> tuple[Change, ...]:
    # Between paths of one length the order cannot matter: they differ, so neither reaches into the other.
    found = [(split(key, where), key) for key in update]
    found.sort(key=lambda item: len(item[0]))
    return tuple((path, _freeze(update[key], f"{where}.{key}")) for path, key in found)


def applied(base: FrozenConfig, made: Sequence[Change]) -> FrozenConfig:
    """The config with every change made, in their order; what a path leads over and is no map becomes one."""
    return updated(base, settled(base, made))


def updated(base: FrozenConfig, values: Mapping[str, Any]) -> FrozenConfig:
    """The config with these values at its own keys."""
    grown = base.evolver()
    for key, value in values.items():
        grown.set(key, value)
    return grown.persistent()


#: What gives the map that a value at the end of a path makes of the map at its first key.
Inside: TypeAlias = Callable[[Any, Path, Any], FrozenConfig]


def inside(holder: Any, path: Path, value: Any) -> FrozenConfig:
    """What the first key of `path` holds once `value` stands at its end, where it held `holder` before."""
    inner: FrozenConfig = holder if isinstance(holder, PMap) else _EMPTY
    here = path[1]
    return inner.set(here, value if len(path) == 2 else inside(inner.get(here), path[1:], value))


def settled(base: FrozenConfig, made: Sequence[Change], inside: Inside = inside) -> dict[str, Any]:
    """The values at the config's own keys once every change is made.

    >>> settled(pmap({"lr": 1, "mlp": pmap({"width": 32})}), [(("mlp", "width"), 64), (("seed",), 0)])
    {'mlp': pmap({'width': 64}), 'seed': 0}
    """
    values: dict[str, Any] = {}
    for path, value in made:
        key = path[0]
        if len(path) > 1:
            values[key] = inside(values[key] if key in values else base.get(key), path, value)
        else:
            values[key] = value
    return values


#: So much of what was made before is kept at a time: enough for what the cells of a grid share.
MOST_SHARED = 10_000


def remembering(make: Callable[..., T]) -> Callable[..., T]:
    """`make`, but for the very same arguments what it returned for them before.

    Arguments are told apart by their identity, as `1` equals `True`; theirs alone for as long as they are kept here.
    """
    known: dict[tuple[int, ...], tuple[T, Any]] = {}

    def made(*arguments: Any) -> T:
        key = tuple(map(id, arguments))
        if key not in known:
            if len(known) >= MOST_SHARED:
                known.clear()
            known[key] = (make(*arguments), arguments)
        return known[key][0]

    return made


def freeze_config(config: Mapping[str, Any], where: str = "config") -> FrozenConfig:
    """The frozen form of what has to be a mapping. Raises `ConfigError` if it is none."""
    return applied(_EMPTY, changes(config, where))


def merge(base: Mapping[str, Any], update: Mapping[str, Any]) -> FrozenConfig:
    """The frozen `base` with `update` laid over it.

    A plain key replaces its value whole; a dotted key reaches inside and creates what is missing, also over a
    value that is no map. The order of the keys does not matter: shorter paths come first. Neither argument is
    changed, and `merge(merge(c, u), u) == merge(c, u)`.

    >>> merge({"mlp": {"width": 32, "depth": 2}}, {"mlp.width": 64})["mlp"]["width"]
    64

    Raises `ConfigError` if either is no mapping, or has a key that is no dotted name.
    """
    return applied(freeze_config(base), changes(update, "update"))


#: In the place of a value where there is none.
NOTHING = object()


def shown(item: Any) -> Any:
    """What a selection looks at: the item, or the mapping that its class shows as `frozen`."""
    return item.frozen if hasattr(type(item), "frozen") else item  # of the class: a config may hold such a key


def lookup(item: Any, path: str, default: Any = None) -> Any:
    """The value at a dotted path of a mapping (or of what shows one as `frozen`), else `default`.

    A key that is written with dots, as an experiment's output may be, is found whole before it is taken apart.

    >>> lookup({"config": {"mlp": {"width": 64}}}, "config.mlp.width")
    64
    """
    item = shown(item)
    while isinstance(item, Mapping):
        if path in item:
            return item[path]
        if not isinstance(path, str):
            return default
        head, dot, path = path.partition(".")
        if not dot or head not in item:
            return default
        item = item[head]
    return default


def equal(left: Any, right: Any) -> bool:
    """Whether two values are equal with `==`, element by element: arrays by array equality, lists as tuples.

    NaN equals NaN, as in the hash: a cell of a grid is found by the value it was made of.

    >>> equal([1, (2, 3)], (1, [2, 3]))
    True
    """
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        return len(left) == len(right) and all(key in right and equal(left[key], right[key]) for key in left)
    if _is_sequence(left) and _is_sequence(right):
        return len(left) == len(right) and all(equal(a, b) for a, b in zip(left, right, strict=True))
    try:
        left, right = as_python(left), as_python(right)
        if isinstance(left, Set) and isinstance(right, Set):
            return bool(freeze(left) == freeze(right))  # sets within sets are equal only in one form
        if hasattr(left, "shape") or hasattr(right, "shape"):
            return _equal_arrays(left, right)
        return bool(left == right or (left != left and right != right))
    except Exception:  # a foreign __eq__ that cannot compare the two has not found them equal
        return False


def _is_sequence(value: Any) -> bool:
    return isinstance(value, (list, tuple, PVector))


def _equal_arrays(left: Any, right: Any) -> bool:
    if getattr(left, "shape", ()) != getattr(right, "shape", ()):
        return False
    same = (left == right) | ((left != left) & (right != right))
    return bool(same.all()) if hasattr(same, "all") else bool(same)


def matches(item: Any, query: Mapping[str, Any]) -> bool:
    """Whether the item has, at every dotted path of the query, an equal value; a nested query is a sub-map.

    >>> matches({"config": {"lr": 0.1, "mlp": {"width": 8, "depth": 2}}}, {"config": {"mlp": {"width": 8}}})
    True
    """
    return all(_agrees(lookup(item, path, NOTHING), wanted) for path, wanted in query.items())


def agreeing(values: Sequence[Any], wanted: Any) -> list[int]:
    """The positions of the values that agree with a query's value: equal to it, or with it as a sub-map.

    >>> agreeing([1, "1", 1.0, NOTHING], 1)
    [0, 2]
    """
    if type(wanted) in _ATOMS and wanted == wanted and set(map(type, values)) <= _ATOMS:  # then == says it all
        return [i for i, value in enumerate(values) if value == wanted]
    return [i for i, value in enumerate(values) if _agrees(value, wanted)]


def _agrees(value: Any, wanted: Any) -> bool:
    if value is NOTHING:
        return False
    if isinstance(wanted, Mapping):
        return isinstance(value, Mapping) and matches(value, wanted)
    return equal(value, wanted) or (_is_sequence(wanted) and equal(value, _expanded(wanted)))


def _expanded(wanted: Any) -> Any:
    """A list of the query in its frozen form, as the maps in it may have dotted keys; nothing if it has none."""
    try:
        return freeze(wanted)
    except ConfigError:
        return NOTHING


def leaves(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The dotted paths of a mapping and the values there that are no (filled) maps, sorted by key.

    >>> list(leaves({"b": 1, "a": {"c": 2, "d": {}}}))
    [('a.c', 2), ('a.d', {}), ('b', 1)]
    """
    for key in sorted(config, key=str):  # the outputs of an experiment may have keys of any kind
        value = config[key]
        if isinstance(value, Mapping) and value:
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
