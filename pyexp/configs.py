"""Configs and frozen configs: the dicts with dots that people hold, and the laws of merging and matching them.

Inside the core a config is a `FrozenConfig`: nested maps are `FrozenConfig`, lists `FrozenList`, sets `FrozenSet`,
tuples and frozensets stay what they are. `freeze` is the way in, `thaw` the way out, and nothing in between converts.
It does not know sweeps, hashes, names or folders.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from copy import deepcopy
from enum import Enum
from functools import lru_cache, reduce
from operator import getitem
from typing import Any, NoReturn, TypeAlias, TypeVar

from pyrsistent import PMap, PSet, PVector, pvector

from pyexp.errors import ConfigError, nearest

Path = tuple[str, ...]
T = TypeVar("T")


def split(key: object, where: str = "config") -> Path:
    r"""The keys that a dotted key leads through. A dot that belongs to a key is written `\.`.

    >>> split("mlp.width"), split(r"files.train\.csv")
    (('mlp', 'width'), ('files', 'train.csv'))

    Raises `ConfigError` if the key is not a string, if it or a part of it is empty, or if its first part holds a dot.
    The message says `where` the key is.
    """
    if not isinstance(key, str):
        raise _not_a_string(key, where)
    parts = parts_of(str.__str__(key))
    if not all(parts):
        raise ConfigError(f"a key of {where} is {key!r}, which has an empty part; write it like 'a' or 'a.b'")
    if "." in parts[0]:
        inside = f"{{'files': {{{parts[0]!r}: …}}}}"
        raise ConfigError(f"a key of {where} is {key!r}; a key with a dot goes into a map, as in {inside}")
    return parts


def _not_a_string(key: object, where: str) -> ConfigError:
    return ConfigError(f"a key of {where} is {key!r}, of type {type(key).__name__}; keys are strings: use {str(key)!r}")


@lru_cache(maxsize=1024)
def parts_of(path: str) -> Path:
    r"""The keys of a dotted path. `\.` is a dot of a key; before a dot, `\\` is a backslash.

    >>> parts_of(r"a.b\.c.d"), parts_of("a..b")
    (('a', 'b.c', 'd'), ('a', '', 'b'))
    """
    if "\\." not in path:
        return tuple(path.split("."))
    *pieces, last = path.split(".")
    parts, part = [], ""
    for piece in pieces:
        kept = piece.rstrip("\\")
        backslashes = len(piece) - len(kept)
        part += kept + "\\" * (backslashes // 2)
        if backslashes % 2:
            part += "."
        else:
            parts.append(part)
            part = ""
    return (*parts, part + last)


def joined(parts: Iterable[str]) -> str:
    r"""The dotted path through these keys: `parts_of` leads back.

    >>> joined(["a", "b.c", "d"])
    'a.b\\.c.d'
    """
    *outer, last = parts
    return "".join(_into(_as_part(key)) for key in outer) + _as_part(last)


def _as_part(key: str) -> str:
    """The key as the last part of a dotted path."""
    return re.sub(r"(\\*)\.", r"\1\1\\.", key) if "." in key else key


def _into(path: str) -> str:
    """The path with the dot that leads inside: what a longer path begins with."""
    backslashes = len(path) - len(path.rstrip("\\"))
    return path + "\\" * backslashes + "."


class Config(dict[str, Any]):
    """A dict whose keys are attributes too: `config.mlp.width` is `config["mlp"]["width"]`.

    Nested dicts become Configs, also those inside lists and tuples, when they are set (a dict that is appended to a
    list later stays a dict). Use brackets for a key with the name of a dict's method (`items`, `copy`). An experiment
    receives its own copy, with sorted keys, and may change it.

    >>> config = Config({"lr": 0.1, "mlp": {"width": 32}})
    >>> config.mlp.width, config["mlp"]["width"], config | {"lr": 1.0}
    (32, 32, Config({'lr': 1.0, 'mlp': Config({'width': 32})}))

    Raises `AttributeError` for a missing key that is read as an attribute. The message names the nearest key.
    """

    __slots__ = ()
    __module__ = "pyexp"  # pickles name the public home, so that results outlive the layout of this package

    def __init__(self, /, *args: Mapping[str, Any] | Iterable[tuple[str, Any]], **kwargs: Any) -> None:
        super().__init__()
        self.update(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name in self:
            return self[name]
        if name.startswith("__") and name.endswith("__"):  # protocols probe for these; no key was meant
            raise AttributeError(name)
        # With the object and no name, Python adds no hint of its own to the error's.
        raise AttributeError(f"Config has no attribute {name!r}; {nearest(name, self)}", obj=self)

    def __missing__(self, key: str) -> Any:
        error = KeyError(key)
        error.add_note(nearest(key, self))
        raise error

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

    def update(self, /, *args: Any, **kwargs: Any) -> None:
        own = [thaw(each) if type(each) is FrozenConfig else each for each in args]  # what is frozen is not shared
        for key, value in dict(*own, **kwargs).items():
            self[key] = value

    def setdefault(self, key: str, default: Any = None) -> Any:
        if key not in self:
            self[key] = default
        return self[key]

    def __or__(self, other: Any) -> Any:
        return _united(self, other) if hasattr(other, "keys") else NotImplemented

    def __ror__(self, other: Any) -> Any:
        return _united(other, self) if hasattr(other, "keys") else NotImplemented

    def __ior__(self, other: Any) -> Config:  # type: ignore[override]  # dict's own overloads say Self
        self.update(other)
        return self

    def copy(self) -> Config:
        """A shallow copy, itself a Config; of a FrozenConfig, a changeable copy of all of it: `thaw`."""
        return Config(self)

    def to_dict(self) -> dict[str, Any]:
        """The config as plain dicts, lists and sets, for functions that refuse subclasses of them (`yaml.safe_dump`).

        >>> Config(mlp={"width": 8}).to_dict()
        {'mlp': {'width': 8}}
        """
        return {key: _undotted(value) for key, value in self.copy().items()}

    @classmethod
    def fromkeys(cls, keys: Iterable[str], value: Any = None) -> Config:  # type: ignore[override]
        """A Config with the same value under every key."""
        return cls((key, value) for key in keys)

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *(key for key in self if isinstance(key, str) and key.isidentifier())]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({super().__repr__()})"

    def _repr_html_(self) -> str:
        """The leaves by their dotted keys, as a notebook shows them."""
        from pyexp import text  # only a notebook pays for it

        found = list(leaves(self))
        rows = [(found[i][0], text.short_repr(found[i][1])) for i in text.html_ends(len(found), 100)]
        return text.html_table(["key", "value"], rows, len(found))


def _united(left: Any, right: Any) -> Config:
    made = Config(left)
    made.update(right)
    return made


def _refuse(self: Any, *args: Any, **kwargs: Any) -> NoReturn:
    raise TypeError(
        "a config of a grid is frozen, with all that it holds: merge(config, {'key': value}) makes a changed one, "
        "thaw(config) a copy of your own"
    )


class FrozenConfig(Config):
    """A Config that cannot be changed: a cell of a grid, or what `freeze` and `merge` return. Its keys are sorted.

    The maps, lists and sets in it are frozen too. It is hashable if its values are. `copy()` and `|` return a Config,
    which you may change.

    >>> config = FrozenConfig({"lr": 0.1, "layers": [1, 2]})
    >>> config.lr, config == {"layers": [1, 2], "lr": 0.1}
    (0.1, True)

    Raises `TypeError` if you try to change it. The message names `merge` and `thaw`.
    """

    __slots__ = ()
    __module__ = "pyexp"

    def __init__(self, /, *args: Mapping[str, Any] | Iterable[tuple[str, Any]], **kwargs: Any) -> None:
        dict.update(self, freeze_config(dict(*args, **kwargs)))

    __setattr__ = __delattr__ = __setitem__ = __delitem__ = __ior__ = _refuse
    update = setdefault = pop = popitem = clear = _refuse

    def __hash__(self) -> int:  # type: ignore[override]  # a dict has none
        return hash(frozenset(self.items()))  # as PMap's, which it equals

    def __reduce__(self) -> tuple[Any, ...]:
        return frozen_map, (dict(self),)

    def __copy__(self) -> FrozenConfig:
        return self


class FrozenList(list[Any]):
    """A list in a frozen config."""

    __slots__ = ()

    __setitem__ = __delitem__ = __iadd__ = __imul__ = _refuse
    append = extend = insert = remove = pop = clear = sort = reverse = _refuse

    def __hash__(self) -> int:  # type: ignore[override]  # a list has none
        return hash(pvector(self))  # which it equals

    def __reduce__(self) -> tuple[Any, ...]:
        return FrozenList, (list(self),)


class FrozenSet(frozenset[Any]):
    """A set in a frozen config. A frozenset stays a frozenset."""

    __slots__ = ()

    add = remove = discard = pop = clear = update = difference_update = _refuse
    intersection_update = symmetric_difference_update = _refuse


def frozen_map(items: Mapping[str, Any]) -> FrozenConfig:
    """The frozen map of these items, which have to be frozen already."""
    made = _new(FrozenConfig)
    ordered = sorted(items)
    dict.update(made, zip(ordered, map(items.__getitem__, ordered), strict=True))
    return made


_new: Callable[[type[FrozenConfig]], FrozenConfig] = FrozenConfig.__new__

_LISTS = (FrozenList, PVector)
_SEQUENCES = (list, tuple, PVector)
_SETS = (FrozenSet, PSet)
# Types that may hold a dict, or that have another form in a Config.
_HOLDING = (dict, list, tuple, PMap, *_LISTS, *_SETS)


def _dotted(value: Any) -> Any:
    """The value with every dict made a Config, also inside lists and tuples, and every frozen part thawed."""
    kind = type(value)
    if kind is Config or kind in _ATOMS or isinstance(value, Enum) or _is_leaf(kind):
        return value
    if isinstance(value, (dict, PMap)):
        return Config(value)
    if isinstance(value, (*_LISTS, *_SETS)):
        return thaw(value)
    if (kind is list or isinstance(value, tuple)) and any(isinstance(item, _HOLDING) for item in value):
        items = [_dotted(item) for item in value]
        return items if kind is list else _retupled(value, items)
    return value


def _undotted(value: Any) -> Any:
    """The value with every Config made a dict, also inside lists and tuples."""
    if isinstance(value, Config):
        return value.to_dict()
    if type(value) is list:
        return [_undotted(item) for item in value]
    if isinstance(value, tuple) and not isinstance(value, Enum):
        return _retupled(value, [_undotted(item) for item in value])
    return value


#: One change of an update: a path into a config, and the frozen value to put there.
Change: TypeAlias = tuple[Path, Any]

# Types whose values cannot change. Any other value counts as unchangeable if it has a hash.
_ATOMS = frozenset({type(None), bool, int, float, complex, str, bytes})
_EMPTY = frozen_map({})

#: The registered encoder of each foreign type. A value of such a type is a leaf, also where it is a mapping or a list.
encoders: dict[type, Callable[[Any], Any]] = {}


def registered(kind: type) -> type | None:
    """The nearest class with a registered encoder that this class is or descends from."""
    return next((parent for parent in kind.__mro__ if parent in encoders), None) if encoders else None


def is_map(value: Any) -> bool:
    """Whether the value is a map of keys; a mapping of a registered type is a leaf.

    >>> is_map({}), is_map([])
    (True, False)
    """
    kind = type(value)
    return kind is FrozenConfig or (isinstance(value, Mapping) and not _is_leaf(kind))


def freeze(value: Any, where: str = "config") -> Any:
    """The value in its frozen form: maps as `FrozenConfig`, lists and sets unchangeable, tuples as tuples.

    The dotted keys of a map are expanded, shorter ones first; in the maps inside it, a dot is part of the key. A NumPy
    scalar becomes the Python number, text or bytes that it equals. A leaf that can change (it has no hash, such as an
    array or a bytearray) is copied, so that the result shares nothing with the caller. Other leaves, and objects with
    identity equality, are kept by reference.

    >>> freeze({"mlp.width": 64, "mlp": {"depth": 2}, "files": {"a.csv": 1}})
    FrozenConfig({'files': FrozenConfig({'a.csv': 1}), 'mlp': FrozenConfig({'depth': 2, 'width': 64})})

    Raises `ConfigError` naming the path of a key that is not a string, is empty, or has an empty part.
    """
    return freeze_config(value, where) if is_map(value) else freeze_value(value, where)


def freeze_value(value: Any, where: str = "config") -> Any:
    """The frozen form of a value inside a config: in its maps, a dot is part of the key. Raises as `freeze` does."""
    try:
        return _freeze(value, where)
    except RecursionError:
        raise _too_deep(where) from None


def _too_deep(where: str) -> ConfigError:
    return ConfigError(f"{where} contains itself, or nests too deep to be a config")


def _freeze(value: Any, where: str) -> Any:
    kind = type(value)
    if kind in _FROZEN or isinstance(value, Enum):  # a member of an enum may be a tuple too
        return value
    if _is_leaf(kind):
        return _own(value)
    if isinstance(value, Mapping):
        return _freeze_map(value, where)
    if isinstance(value, _SEQUENCES):
        # A list of many numbers should not pay for as many paths.
        items = [item if type(item) in _ATOMS else _freeze(item, f"{where}[{i}]") for i, item in enumerate(value)]
        return _retupled(value, items) if isinstance(value, tuple) else FrozenList(items)
    if isinstance(value, Set):
        elements = [_freeze(item, f"an element of {where}") for item in value]
        return frozenset(elements) if isinstance(value, frozenset) else FrozenSet(elements)
    _validate_resolved(value, where)
    return _own(as_python(value))


_FROZEN = _ATOMS | {FrozenConfig, FrozenList, FrozenSet}
#: Types whose values are what they are, whatever encoders are registered.
PLAIN = _FROZEN | {dict, list, tuple, set, frozenset, Config}


def _freeze_map(value: Mapping[Any, Any], where: str) -> FrozenConfig:
    """The frozen form of a map inside a config, whose keys are data."""
    _validate_resolved(value, where)
    items: dict[str, Any] = {}
    for key in value:
        if not isinstance(key, str):
            raise _not_a_string(key, where)
        if not key:
            raise ConfigError(f"a key of {where} is {key!r}, which has an empty part; a key has at least one character")
        item, text = value[key], str.__str__(key)
        if text in items:
            raise ConfigError(f"two keys of {where} are {text!r}; keep one of them")
        items[text] = item if type(item) in _ATOMS else _freeze(item, f"{where}.{_as_part(text)}")
    return frozen_map(items)


def _validate_resolved(value: Any, where: str) -> None:
    """Raise `ConfigError` for a config or list of OmegaConf, which resolves its items lazily."""
    if any(parent.__module__.partition(".")[0] == "omegaconf" for parent in type(value).__mro__):
        raise ConfigError(
            f"{where} is a {type(value).__name__} of OmegaConf; give OmegaConf.to_container(config, resolve=True)"
        )


def as_python(leaf: Any) -> Any:
    """The Python number, text or bytes that a NumPy scalar equals. Any other value is returned as it is.

    >>> as_python(1)
    1
    """
    if not (hasattr(type(leaf), "dtype") and is_numpy(type(leaf), "generic")):
        return leaf
    plain = leaf.item() if leaf.dtype.kind in "biufcSU" else leaf
    return plain if type(plain) in _ATOMS else leaf  # a wider float gives itself


def is_numpy(kind: type, name: str) -> bool:
    """Whether a class is NumPy's of this name, or descends from it. NumPy need not be imported.

    >>> is_numpy(int, "generic")
    False
    """
    return any((at.__module__, at.__name__) == ("numpy", name) for at in kind.__mro__)


def _is_leaf(kind: type) -> bool:
    """Whether values of this class are leaves in whatever form, as it has a registered encoder."""
    return kind not in PLAIN and registered(kind) is not None


def thaw(value: Any) -> Any:
    """A private, changeable copy of a frozen value: Configs with sorted keys, lists, sets, tuples.

    >>> thaw(freeze({"b": 1, "a": [{"c": 2}]}))
    Config({'a': [Config({'c': 2})], 'b': 1})
    """
    if type(value) in _ATOMS or isinstance(value, Enum):
        return value
    if _is_leaf(type(value)):
        return _copied(value)
    if isinstance(value, Mapping):
        config = Config()
        for key in sorted(value):
            dict.__setitem__(config, key, thaw(value[key]))
        return config
    if isinstance(value, _LISTS):
        return [thaw(item) for item in value]
    if isinstance(value, tuple):
        return _retupled(value, [thaw(item) for item in value])
    return {_thaw_element(item) for item in value} if isinstance(value, _SETS) else _thaw_element(value)


def _thaw_element(value: Any) -> Any:
    """An element of a set, which has to stay hashable."""
    if _is_leaf(type(value)):
        return _copied(value)
    if isinstance(value, (PSet, frozenset)):
        return frozenset(_thaw_element(item) for item in value)
    if isinstance(value, tuple) and not isinstance(value, Enum):
        return _retupled(value, [_thaw_element(item) for item in value])
    return value if isinstance(value, (FrozenConfig, FrozenList)) else _copied(value)


def _retupled(like: tuple[Any, ...], items: list[Any]) -> tuple[Any, ...]:
    """A tuple of `items` of the same kind as `like`, so that a named tuple keeps its names."""
    make: Callable[[list[Any]], tuple[Any, ...]] = getattr(type(like), "_make", tuple)
    return make(items)


def _own(leaf: Any) -> Any:
    """The leaf itself if it is a value, a copy if it can change: Python's rule, what is mutable has no hash."""
    try:
        hash(leaf)
    except Exception:  # a foreign __hash__ may raise anything
        own = _copied(leaf)
        if own is not leaf and hasattr(own, "setflags"):  # a NumPy array, which all cells of a grid share
            own.setflags(write=False)
        return own
    return leaf


def _copied(leaf: Any) -> Any:
    """A deep copy of the leaf; the leaf itself if it cannot be copied."""
    try:
        return deepcopy(leaf)
    except Exception:  # what cannot be copied is left: hashing it will say what is wrong with it
        return leaf


def changes(update: Mapping[str, Any], where: str = "config") -> tuple[Change, ...]:
    """The update as pairs of path and frozen value. Shorter paths come first, so the order of keys does not matter.

    >>> changes({"mlp.width": 64, "mlp": {}})
    ((('mlp',), FrozenConfig({})), (('mlp', 'width'), 64))

    Raises `ConfigError` if it is not a mapping, if a key is not a dotted name, or if two keys are the same path.
    """
    if not is_map(update):
        raise ConfigError(
            f"{where} is {update!r}, of type {type(update).__name__}; it has to be a mapping such as a dict"
        )
    _validate_resolved(update, where)
    # Between paths of one length the order cannot matter: they differ, so neither reaches into the other.
    found = sorted(((split(key, where), key) for key in update), key=lambda item: len(item[0]))
    paths = dict(found)
    if len(paths) < len(found):
        twice = next((key, paths[path]) for path, key in found if paths[path] is not key)
        raise ConfigError(f"the keys {twice[0]!r} and {twice[1]!r} of {where} lead to the same place; keep one of them")
    try:
        return tuple((path, _freeze(update[key], f"{where}.{key}")) for path, key in found)
    except RecursionError:
        raise _too_deep(where) from None


def applied(base: FrozenConfig, made: Sequence[Change]) -> FrozenConfig:
    """The config with the changes made in order. A path that leads into a value other than a map replaces it by one."""
    return updated(base, changed_values(base, made))


def updated(base: FrozenConfig, values: Mapping[str, Any]) -> FrozenConfig:
    """The config with these values at its own keys."""
    if not values.keys() <= base.keys():
        return frozen_map({**base, **values})
    made = _new(FrozenConfig)
    dict.update(made, base)
    dict.update(made, values)
    return made


#: A function like `inside`.
Inside: TypeAlias = Callable[[Any, Path, Any], FrozenConfig]


def inside(holder: Any, path: Path, value: Any) -> FrozenConfig:
    """The new map at the first key of `path`, which held `holder`, once `value` is put at the end of the path."""
    inner = holder if type(holder) is FrozenConfig else _EMPTY
    here = path[1]
    return updated(inner, {here: value if len(path) == 2 else inside(inner.get(here), path[1:], value)})


def changed_values(base: FrozenConfig, made: Sequence[Change], inside: Inside = inside) -> dict[str, Any]:
    """The new values at the config's top-level keys, once every change is made.

    >>> changed_values(freeze({"lr": 1, "mlp": {"width": 32}}), [(("mlp", "width"), 64), (("seed",), 0)])
    {'mlp': FrozenConfig({'width': 64}), 'seed': 0}
    """
    values: dict[str, Any] = {}
    for path, value in made:
        key = path[0]
        if len(path) > 1:
            values[key] = inside(values[key] if key in values else base.get(key), path, value)
        else:
            values[key] = value
    return values


#: Results kept by `cached_by_identity`: enough for what the cells of a grid share.
MOST_SHARED = 10_000


def cached_by_identity(make: Callable[..., T]) -> Callable[..., T]:
    """`make` with a cache: for identical arguments it returns what it returned before.

    Arguments are compared by identity, since `1` equals `True`. They are kept here, so that no other object can get
    the same identity.
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
    """The frozen form of a mapping. Raises `ConfigError` for anything else."""
    if type(config) is FrozenConfig and not any("." in key for key in config):  # it may have been inside another
        return config
    return applied(_EMPTY, changes(config, where))


def merge(base: Mapping[str, Any], update: Mapping[str, Any]) -> FrozenConfig:
    """The frozen `base`, changed by `update`.

    A plain key replaces the whole value. A dotted key reaches inside and creates missing maps, and replaces a value
    that is in the way. The order of the keys does not matter: shorter paths are applied first. Neither argument is
    changed, and `merge(merge(c, u), u) == merge(c, u)`.

    >>> merge({"mlp": {"width": 32, "depth": 2}}, {"mlp.width": 64})["mlp"]["width"]
    64

    Raises `ConfigError` if either is not a mapping, or has a key that is not a dotted name.
    """
    return applied(freeze_config(base), changes(update, "update"))


def filled(config: FrozenConfig, defaults: FrozenConfig) -> FrozenConfig:
    """The config with each leaf of the defaults that it lacks. A value of the config is never replaced.

    >>> filled(freeze({"mlp": {"width": 64}}), freeze({"mlp": {"width": 32, "bias": True}, "seed": 0}))
    FrozenConfig({'mlp': FrozenConfig({'bias': True, 'width': 64}), 'seed': 0})
    """
    values = {}
    for key, default in defaults.items():
        own = config.get(key, NOTHING)
        if own is NOTHING:
            values[key] = default
        elif type(own) is type(default) is FrozenConfig:
            values[key] = filled(own, default)
    return updated(config, values) if values else config


#: Stands for a missing value.
NOTHING = object()


def shown(item: Any) -> Any:
    """The mapping that selections search: the item's `frozen` if its class has one, or the item itself."""
    return item.frozen if hasattr(type(item), "frozen") else item  # asks the class: a config may have such a key


def lookup(item: Any, path: str, default: Any = None) -> Any:
    r"""The value at a dotted path of a mapping, or of an item with a mapping as `frozen`; `default` if it has none.

    Each dot leads inside. If that key is missing, the dot may be part of a key: `files.train.csv` finds what
    `files.train\.csv` names exactly. An output whose name has dots is looked up under its whole name first.

    >>> lookup({"config": {"mlp": {"width": 64}, "files": {"train.csv": 1}}}, "config.files.train.csv")
    1
    """
    item = shown(item)
    if not is_map(item):
        return default
    if path in item:
        return item[path]
    if not isinstance(path, str):
        return default
    found = route(item, parts_of(path))
    return default if found is None else reduce(getitem, found, item)


def route(item: Any, parts: Path) -> Path | None:
    """The keys that lead through the maps: one for each part of the path, or for several parts joined by dots.

    >>> route({"files": {"train.csv": 1}}, ("files", "train", "csv")), route({"a": 1}, ("b",))
    (('files', 'train.csv'), None)
    """
    if not parts:
        return ()
    if not is_map(item):
        return None
    for end in range(1, len(parts) + 1):
        key = ".".join(parts[:end])
        if key in item and (rest := route(item[key], parts[end:])) is not None:
            return (key, *rest)
    return None


def unescaped(item: Any, path: str) -> str:
    r"""The path as a person would write it: with plain dots, if they lead to the same place.

    >>> unescaped({"files": {"train.csv": 1}}, r"files.train\.csv")
    'files.train.csv'
    """
    parts = parts_of(path)
    plain = ".".join(parts)
    return plain if route(shown(item), parts_of(plain)) == parts else path


def equal(left: Any, right: Any) -> bool:
    """Whether two values are equal by `==`, element by element. Arrays use array equality; a list may equal a tuple.

    NaN equals NaN, as in the hash, so that a cell can be found by the value it was made from.

    >>> equal([1, (2, 3)], (1, [2, 3]))
    True
    """
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        return len(left) == len(right) and all(key in right and equal(left[key], right[key]) for key in left)
    if isinstance(left, _SEQUENCES) and isinstance(right, _SEQUENCES):
        return len(left) == len(right) and all(equal(a, b) for a, b in zip(left, right, strict=True))
    try:
        left, right = as_python(left), as_python(right)
        if isinstance(left, Set) and isinstance(right, Set):
            return bool(freeze_value(left) == freeze_value(right))  # sets within sets are equal only in one form
        if hasattr(left, "shape") or hasattr(right, "shape"):
            if getattr(left, "shape", ()) != getattr(right, "shape", ()):
                return False
            same = (left == right) | ((left != left) & (right != right))
            if not hasattr(same, "all"):
                return bool(same)
            # NumPy spreads one number over the items of a range.
            return bool(same.shape == getattr(left, "shape", ()) and same.all())
        return bool(left == right or (left != left and right != right))
    except Exception:  # a foreign __eq__ that cannot compare the two has not found them equal
        return False


def same(one: Any, other: Any) -> bool:
    """Whether two frozen values are equal, with all parts of one type: `1` and `True` make two configs.

    >>> same([1, (2,)], [1, (2,)]), same([1], [True])
    (True, False)
    """
    return one is other or (equal(one, other) and _has_same_types(one, other))


def _has_same_types(one: Any, other: Any) -> bool:
    """Whether two equal values have the same types, those in them too."""
    if type(one) is not type(other) or type(one) in _ATOMS:
        return type(one) is type(other)
    if type(one) is FrozenConfig:
        return all(_has_same_types(value, other[key]) for key, value in one.items())
    if isinstance(one, _SEQUENCES):
        return all(map(_has_same_types, one, other))
    return bool(getattr(one, "dtype", None) == getattr(other, "dtype", None))


def common_config(configs: Sequence[FrozenConfig]) -> FrozenConfig:
    """The leaves that are the same in all the configs."""
    first, *others = configs
    kept = {}
    for key, value in first.items():
        theirs = [other[key] for other in others if key in other]
        if len(theirs) < len(others):
            continue
        if value and all(isinstance(each, FrozenConfig) for each in (value, *theirs)):
            if common := common_config([value, *theirs]):
                kept[key] = common
        elif all(same(value, each) for each in theirs):
            kept[key] = value
    return frozen_map(kept)


def differing(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """The keys, apart from the name, that not all configs have with the same value and type, or that some lack.

    Each config is given as its leaves by dotted key.

    >>> differing([{"lr": 1, "seed": 0}, {"lr": True, "seed": 0, "name": "a"}])
    ['lr']
    """
    keys = dict.fromkeys(key for each in configs for key in each if key != "name")
    first = configs[0] if configs else {}
    return [key for key in keys if not all(same(each.get(key, NOTHING), first.get(key, NOTHING)) for each in configs)]


def agreeing(values: Sequence[Any], wanted: Any) -> list[int]:
    """The positions of the values that match a query's value: they equal it, or contain it as a sub-map.

    In the maps of a query's value, a dot is part of the key.

    >>> agreeing([1, "1", 1.0, NOTHING], 1)
    [0, 2]
    """
    if type(wanted) in _ATOMS and wanted == wanted and set(map(type, values)) <= _ATOMS:  # then == says it all
        return [i for i, value in enumerate(values) if value == wanted]
    return [i for i, value in enumerate(values) if _agrees(value, wanted)]


def _agrees(value: Any, wanted: Any) -> bool:
    if value is NOTHING:
        return False
    if is_map(wanted):
        return is_map(value) and all(key in value and _agrees(value[key], inner) for key, inner in wanted.items())
    return equal(value, wanted)


def leaves(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    r"""The dotted paths of a mapping, with their values, sorted by key. An empty map counts as a value.

    >>> list(leaves({"b": 1, "a": {"c.csv": 2, "d": {}}}))
    [('a.c\\.csv', 2), ('a.d', {}), ('b', 1)]
    """
    for key in sorted(config, key=str):  # the outputs of an experiment may have keys of any kind
        value, path = config[key], prefix + _as_part(str(key))
        if is_map(value) and value:
            yield from leaves(value, _into(path))
        else:
            yield path, value
