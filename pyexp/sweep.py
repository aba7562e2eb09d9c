"""Grids of configs: products of variations with joined names, random samples of them, unions.

Everything is lazy: a grid stores its frozen factors, and a cell is made when it is used. So a grid of 10^12 cells is
built, sliced and sampled at once. Does not know running, hashing or folders.
"""

from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256, shake_256
from itertools import accumulate, count
from operator import index as as_int
from typing import Any, TypeAlias, TypeVar

from pyexp.axes import MISSING, Along, Axis, Level, Picked, content_key, flat_axis
from pyexp.configs import (
    Change,
    FrozenConfig,
    Inside,
    cached_by_identity,
    changed_values,
    changes,
    differing,
    filled,
    freeze_config,
    inside,
    is_map,
    joined,
    parts_of,
    updated,
)
from pyexp.errors import ConfigError, SelectionError, called, slip_of
from pyexp.tensor import Box, Cells, Tensor

T = TypeVar("T")

#: What a sweep starts from: configs as dicts or frozen, in a list or a Tensor.
Configs: TypeAlias = "Tensor[FrozenConfig] | Iterable[Mapping[str, Any]]"


@dataclass(frozen=True, slots=True)
class Variation:
    """The changes that one position along an axis makes to a config, and what it adds to the name."""

    name: str
    changes: tuple[Change, ...]

    @property
    def values(self) -> dict[str, Any]:
        """The new values by dotted path."""
        return {joined(path): value for path, value in self.changes}

    def sets(self, config: FrozenConfig, name: str, inside: Inside = inside) -> dict[str, Any]:
        """The new values at the config's top-level keys, among them the two names joined by `_`."""
        values = changed_values(config, self.changes, inside)
        if self.name:
            values["name"] = f"{name}_{self.name}" if name else self.name
        return values


@dataclass(frozen=True, slots=True)
class Product:
    """The cells of a grid times variations.

    Iteration makes each cell of the grid once, and each changed inner map once for all cells that share it.
    """

    cells: Cells[FrozenConfig]
    variations: tuple[Variation, ...]

    def __getitem__(self, position: int) -> FrozenConfig:
        base, here = divmod(position, len(self.variations))
        config = self.cells[base]
        return updated(config, self.variations[here].sets(config, name_of(config)))

    def __iter__(self) -> Iterator[FrozenConfig]:
        shared = cached_by_identity(inside)
        for config in self.cells:
            name = name_of(config)
            for variation in self.variations:
                yield updated(config, variation.sets(config, name, shared))


def name_of(config: FrozenConfig) -> str:
    """The config's name, which may be empty."""
    return config.get("name") or ""


@dataclass(frozen=True, slots=True)
class Chain(Sequence[T]):
    """The items of several sequences one after the other; `ends` are the flat positions at which each ends."""

    parts: tuple[Cells[T], ...]
    ends: tuple[int, ...]

    def __getitem__(self, position: Any) -> Any:
        part = bisect_right(self.ends, position)
        return self.parts[part][position - (self.ends[part - 1] if part else 0)]

    def __len__(self) -> int:
        return self.ends[-1]

    def __iter__(self) -> Iterator[T]:
        return (item for part in self.parts for item in part)


@called("give each value a dict: sweep(configs, [{'lr': 0.1}, {'lr': 1.0}])")
def sweep(
    configs: Configs, variations: Iterable[Mapping[str, Any]], *, axis: str | None = None
) -> Tensor[FrozenConfig]:
    """The grid of every config with every variation: shape `(*configs.shape, len(variations))`.

    `sweep(c, v)[i, j]` is `merge(c[i], v[j])` with the two names joined by `_`; a missing name adds nothing. The new
    axis is called `axis`, or after the one key in which the variations differ, or `axis_N`. Its coordinates are the
    values of that key, or the variations' names if there are several keys.

    >>> grid = sweep([{"name": "exp"}], [{"name": "lr0.1", "lr": 0.1}, {"name": "lr1", "lr": 1.0}])
    >>> grid.shape, grid[0, 1]["name"], grid.axes[1].name, grid.axes[1].coords
    ((1, 2), 'exp_lr1', 'lr', (0.1, 1.0))

    Of variations that were `zipped`, the value of each key is a coordinate too: `grid.sel(batch=32)`.

    Raises `ConfigError` for an empty list of configs, and for configs or variations that are a single dict or hold
    anything but mappings. An empty list of variations, or an empty selection of configs, gives an empty grid.
    """
    base = grid_of(configs)
    listed = _listed(variations, "variations", may_be_empty=True)
    made = tuple(_variation(variation, f"variations[{i}]") for i, variation in enumerate(listed))
    if axis is not None and not (isinstance(axis, str) and axis):
        raise ConfigError(
            f"the name of an axis is {axis!r}, of type {type(axis).__name__}; it is a string that is not empty"
        )
    if axis in (taken := _names_of(base.axes)):
        raise ConfigError(f"an axis is called {axis!r} already; the axes are {taken}")
    before = _axes_after(base.axes, made)
    new = _axis(made, _names_of(before), axis, base.ndim, variations)
    return Tensor.of_cells(Product(base.cells, made), (*before, new))


def slips(configs: Tensor[FrozenConfig], defaults: FrozenConfig = FrozenConfig()) -> dict[str, str]:
    """Keys of variations that look like slips of other keys, by their dotted paths, with the keys that they resemble.

    Looks at the configs that the sweeps began with and at the variations, never at a cell.

    >>> slips(sweep([{"opt": {"lr": 0.1}}], [{"opt.Lr": 1.0, "epochs": 3}]))
    {'opt.Lr': 'opt.lr'}
    """
    found: dict[str, str] = {}
    if not isinstance(configs.cells, tuple):  # with variations
        _keys_of_cells(configs.cells, defaults, found)
    return found


#: The keys of several configs, each with the keys below it.
Keys: TypeAlias = dict[str, "Keys"]


def _keys_of_cells(cells: Any, defaults: FrozenConfig, found: dict[str, str]) -> Keys:
    """The keys of the cells. Adds to `found` those of variations that look like slips of the keys before them."""
    keys: Keys = {}
    for config in (defaults, *cells) if isinstance(cells, tuple) else ():
        _add_keys(keys, config)
    if isinstance(cells, Chain):
        for part in cells.parts:
            _add_keys(keys, _keys_of_cells(part, defaults, found))
    elif isinstance(cells, (Box, Derived, Product)):
        keys = _keys_of_cells(cells.cells, defaults, found)
    # The last value that the variations set at each path.
    changed = dict(change for each in cells.variations for change in each.changes) if isinstance(cells, Product) else {}
    for path, value in changed.items():
        beside = keys
        for depth, key in enumerate(path):
            if key not in beside and (other := slip_of(key, beside)) is not None:
                found[joined(path[: depth + 1])] = joined((*path[:depth], other))
            beside = beside.setdefault(key, {})
        if is_map(value):
            _add_keys(beside, value)
    return keys


def _add_keys(keys: Keys, config: Mapping[str, Any]) -> None:
    for key, value in config.items():
        below = keys.setdefault(key, {})
        if is_map(value):
            _add_keys(below, value)


def _names_of(axes: Iterable[Axis]) -> list[str]:
    """The names of axes, and of the coordinates on them."""
    return [*dict.fromkeys(name for axis in axes for name in (axis.name, *axis.known))]


def _axes_after(axes: Sequence[Axis], made: tuple[Variation, ...]) -> list[Axis]:
    """The axes of a grid after a sweep.

    An axis that is called after a key which the variations replace loses this name, as its coordinates are not the
    values of the configs any more. So the new axis can have it.
    """
    taken = {*_names_of(axes)}

    def after(axis: Axis, number: int) -> Axis:
        is_own = axis.key is None and axis.name.startswith("axis_")
        if axis.key in (axis.name, None) and not is_own and _replaces(made, axis.name):
            name = _free_name(number, taken)
            taken.add(name)
            names = tuple(mark.name for mark in axis.marks or () if isinstance(mark, Variation))
            axis = replace(axis, name=name, coords=_coords_of(names, axis.size))
        levels = tuple(
            replace(level, axis=after(level.axis, 0))
            for level in axis.levels
            if (axis.is_flat and level.under is None) or not _replaces(made, level.name)
        )
        return replace(axis, key=_untouched(axis.key, made), levels=levels)

    return [after(axis, number) for number, axis in enumerate(axes)]


def _free_name(number: int, taken: Collection[str]) -> str:
    """The first name from `axis_<number>` on that is not taken."""
    return next(free for i in count(number) if (free := f"axis_{i}") not in taken)


def _coords_of(names: Sequence[str], size: int) -> Sequence[Any]:
    """The names of the variations along an axis as its coordinates, if they distinguish them; or else the positions."""
    distinct = len(names) == size > 0 and all(names) and len(set(names)) == size
    return names if distinct else range(size)


@called("give lists by key: zipped(lr=[0.1, 1.0], batch=[32, 64])")
def zipped(variations: Mapping[str, Iterable[Any]] | None = None, /, **keys: Iterable[Any]) -> list[dict[str, Any]]:
    """Variations for one axis that take the first value of each key, then the second of each, and so on.

    Each key is a coordinate on that axis. Put keys with dots in a dict: `zipped({"opt.lr": [0.1, 1.0]})`.

    >>> zipped(lr=[0.1, 1.0], batch=[32, 64])
    [{'lr': 0.1, 'batch': 32}, {'lr': 1.0, 'batch': 64}]

    Raises `ConfigError` without any key, for a key that is given twice or without a list of values, and for lists of
    different lengths.
    """
    if variations is not None and not isinstance(variations, Mapping):
        raise ConfigError(f"zipped takes a dict of lists or keyword arguments, not {variations!r}")
    twice = [key for key in variations or () if key in keys]
    if twice:
        raise ConfigError(f"zipped has the key {twice[0]!r} twice, in the dict and as a keyword")
    lists: dict[str, list[Any]] = {}
    for key, values in {**(variations or {}), **keys}.items():
        if isinstance(values, (str, bytes, Mapping, Set)) or not isinstance(values, Iterable):
            raise ConfigError(f"zipped takes a list of values for each key, and {key!r} is {values!r}")
        lists[key] = list(values)
    if not lists:
        raise ConfigError("zipped has no keys; give each key its values: zipped(lr=[0.1, 1.0], batch=[32, 64])")
    (first, *_), size = lists, len(next(iter(lists.values())))
    for key, each in lists.items():
        if len(each) != size:
            raise ConfigError(
                f"zipped has {size} values for {first!r} and {len(each)} for {key!r}; give as many for each"
            )
    return Zipped(lists, [dict(zip(lists, at, strict=True)) for at in zip(*lists.values(), strict=True)])


class Zipped(list[dict[str, Any]]):
    """Variations, and the keys that each of them sets."""

    def __init__(self, keys: Iterable[str], variations: Iterable[dict[str, Any]]):
        super().__init__(variations)
        self.varied = tuple(key for key in keys if key != "name")


@dataclass(frozen=True, slots=True)
class Derived:
    """The cells of a grid, each with what a function returns for it merged over it."""

    cells: Cells[FrozenConfig]
    fn: Callable[[FrozenConfig], Mapping[str, Any]]

    def __getitem__(self, position: int) -> FrozenConfig:
        return self._made(self.cells[position])

    def __iter__(self) -> Iterator[FrozenConfig]:
        return map(self._made, self.cells)

    def _made(self, config: FrozenConfig) -> FrozenConfig:
        where = f"what derive's function returns for {name_of(config)!r}"
        made = updated(config, changed_values(config, changes(self.fn(config), where)))
        _name(made.get("name"), where)
        return made


@called("give configs and a function: derive(configs, lambda config: {'decay': config['lr'] / 10})")
def derive(configs: Configs, fn: Callable[[FrozenConfig], Mapping[str, Any]]) -> Tensor[FrozenConfig]:
    """The configs, each with what `fn` returns for it merged over it, in the same shape.

    Lazy: `fn` is called each time a cell is used, so it has to return the same each time.

    >>> derive([{"lr": 1.0}, {"lr": 2.0}], lambda config: {"decay": config["lr"] / 10})[1]["decay"]
    0.2

    Raises `ConfigError` if configs is not a list of them; and when a cell is used, if `fn` did not return a mapping
    that can be merged.
    """
    grid = grid_of(configs)
    if not callable(fn):
        raise ConfigError(f"derive takes a function of a config, not {fn!r}")
    return Tensor.of_cells(Derived(grid.cells, fn), [axis.loose(fn) for axis in grid.axes])


def derived_from(cells: Cells[FrozenConfig], change: Callable[[FrozenConfig], FrozenConfig]) -> Cells[FrozenConfig]:
    """The cells of a grid, where each function of `derive` gets a changed config.

    >>> grid = derive([{"lr": 1.0}], lambda config: {"decay": config["lr"] / 10})
    >>> derived_from(grid.cells, lambda config: freeze_config({"lr": 5.0}))[0]
    FrozenConfig({'decay': 0.5, 'lr': 1.0})
    """
    if isinstance(cells, Chain):
        return replace(cells, parts=tuple(derived_from(part, change) for part in cells.parts))
    if isinstance(cells, Derived):
        fn = cells.fn
        return Derived(derived_from(cells.cells, change), lambda config: fn(change(config)))
    return replace(cells, cells=derived_from(cells.cells, change)) if isinstance(cells, (Box, Product)) else cells


def with_defaults(configs: Tensor[FrozenConfig], defaults: FrozenConfig) -> Tensor[FrozenConfig]:
    """The configs, each filled up with the defaults; lazy, in the same shape.

    >>> with_defaults(grid_of([{"lr": 1.0}]), freeze_config({"dropout": 0.0}))[0]["dropout"]
    0.0
    """
    return Tensor.of_cells(Derived(configs.cells, partial(filled, defaults=defaults)), configs.axes)


def grid_of(configs: Configs, what: str = "configs") -> Tensor[FrozenConfig]:
    """The configs as a Tensor of frozen configs. A list becomes one axis.

    Raises `ConfigError` if it is not a list of configs.
    """
    if isinstance(configs, Tensor):
        if isinstance(configs.cells, tuple):  # not made by a sweep: its items may be anything
            checked = tuple(_config(item, f"an item of {what}") for item in configs)
            return Tensor.of_cells(checked, [axis.loose() for axis in configs.axes])
        return configs
    listed = _listed(configs, what)
    frozen = tuple(_config(config, f"{what}[{i}]") for i, config in enumerate(listed))
    first = tuple(
        Variation(config.get("name", ""), tuple(((key,), value) for key, value in config.items() if key != "name"))
        for config in frozen
    )
    return Tensor.of_cells(frozen, (_axis(first, [], None, 0, configs),))


@called("write replicate(configs, 3, seed=0)")
def replicate(configs: Configs, n: int, *, seed: int | str) -> Tensor[FrozenConfig]:
    """Every config `n` times, along a new axis `seed`, each with its own number below 2^32 under the key `seed`.

    The coordinates are 0 to n-1, as in `grid.sel(seed=0)`. The numbers depend on `seed` alone, and a larger `n` keeps
    the numbers of a smaller one. Each is the beginning of the SHA-256 of seed and index.

    >>> grid = replicate([{"name": "exp"}], 2, seed=0)
    >>> grid.shape, grid[0, 1]["name"], grid.sel(seed=0)[0]["seed"]
    ((1, 2), 'exp_seed1', 3602217196)

    Raises `ConfigError` if `n` is not a whole number from 1, or if an axis is called `seed` already.
    """
    drawing = _seed(seed)
    if (n := _whole(n, "n, the number of replicates,")) < 1:
        raise ConfigError(f"n, the number of replicates, is {n}; it is at least 1")
    drawn: dict[int, None] = {}
    tries = count()
    while len(drawn) < n:
        drawn[int(sha256(f"{drawing}:{next(tries)}".encode()).hexdigest()[:8], 16)] = None
    grid = sweep(configs, [{"name": f"seed{i}", "seed": number} for i, number in enumerate(drawn)], axis="seed")
    *before, seeds = grid.axes
    return Tensor.of_cells(grid.cells, (*before, replace(seeds, coords=range(n), key=None)))


@called("write sample(configs, 10, seed=0)")
def sample(configs: Configs, n: int, *, seed: int | str) -> Tensor[FrozenConfig]:
    """`n` distinct cells drawn at random, flat, with their coordinates: the same for a seed in every process.

    A larger sample with the same seed begins with the smaller one. The draw is a Fisher-Yates shuffle that stores only
    the moved positions; its random numbers are the SHAKE-256 of seed and step.

    >>> sample([{"x": 1}, {"x": 2}, {"x": 3}], 2, seed=0).shape
    (2,)

    Raises `SelectionError` if the grid has fewer than `n` cells, and `ConfigError` if `n` is not a whole number or
    `seed` neither a whole number nor text.
    """
    grid = grid_of(configs)
    drawing = _seed(seed)
    if not 0 <= (n := _whole(n, "n, the number of cells to draw,")) <= grid.size:
        raise SelectionError(f"a sample of {n} cells cannot be drawn from {grid.size}")
    width = 16 + grid.size.bit_length() // 8  # so many bytes that the remainder of a division is as good as even
    moved: dict[int, int] = {}
    drawn = []
    for step in range(n):
        number = int.from_bytes(shake_256(f"{drawing}:{step}".encode()).digest(width))
        pick = step + number % (grid.size - step)
        drawn.append(moved.get(pick, pick))
        moved[pick] = moved.get(step, step)
    return grid[drawn]


def _seed(seed: Any) -> str:
    """The seed as text to hash: an int in hexadecimal (Python refuses very long decimals), or the text itself."""
    return f"str:{seed}" if isinstance(seed, str) else f"int:{_whole(seed, 'seed'):x}"


def _whole(number: Any, what: str) -> int:
    try:
        return as_int(number)
    except TypeError:
        raise ConfigError(f"{what} is {number!r}, of type {type(number).__name__}; it is a whole number") from None


@called("give one list of grids: concat([a, b])")
def concat(tensors: Iterable[Configs]) -> Tensor[FrozenConfig]:
    """The cells of several tensors (or lists of configs), one after the other, flat, with their coordinates.

    Positions with the same variation, on axes of the same name, get the same coordinate.

    >>> concat([[{"x": 1}], [{"x": 2}, {"x": 3}]]).shape
    (3,)

    Raises `ConfigError` for an empty list, and for a single grid in place of a list.
    """
    if isinstance(tensors, Tensor):
        raise ConfigError("tensors is one Tensor; give a list of them: concat([a, b])")
    return chained([grid_of(part, f"tensors[{i}]") for i, part in enumerate(_listed(tensors, "tensors"))])


def chained(grids: Sequence[Tensor[T]]) -> Tensor[T]:
    """The items of all grids, one after the other, flat, with their coordinates."""
    ends = tuple(accumulate(grid.size for grid in grids))
    parts = [flat_axis(grid.axes, range(grid.size)).levels for grid in grids]
    names = dict.fromkeys(level.name for levels in parts for level in levels)
    each = [[next((level for level in levels if level.name == name), None) for levels in parts] for name in names]
    levels = tuple(_joined(found, ends) for found in each)
    axis = Axis("axis_0", range(ends[-1]), levels=levels, is_flat=True)
    return Tensor.of_cells(Chain(tuple(grid.cells for grid in grids), ends), (axis,))


def _joined(levels: Sequence[Level | None], ends: tuple[int, ...]) -> Level:
    """The levels of one name, one after the other. None stands for cells that have no such level."""
    known = [level for level in levels if level is not None]
    axis, tables = _union([level.axis for level in known])
    found = iter(tables)
    parts: list[Sequence[int]] = []
    for level, start, end in zip(levels, (0, *ends), ends, strict=False):
        if level is None:  # all codes are `MISSING`: they are the item at position 0 of a sequence of one
            parts.append(Picked((MISSING,), Picked(Along(1, 1), range(end - start))))
        else:
            parts.append(Picked(next(found), level.codes, MISSING))
    under = known[0].under if len({level.under for level in known}) == 1 else None
    return Level(axis if len(known) == len(levels) else replace(axis, key=None), Chain(tuple(parts), ends), under)


def _union(axes: Sequence[Axis]) -> tuple[Axis, list[Sequence[int]]]:
    """One axis with the positions of all, and for each a table from its positions to the new ones.

    Positions with equal marks become one.
    """
    if all(axis is axes[0] for axis in axes):
        return axes[0], [range(axes[0].size)] * len(axes)
    marks = [
        [object() for _ in axis.coords]
        if axis.marks is None
        else [_mark_key(mark, axis.key is not None) for mark in axis.marks]
        for axis in axes
    ]
    coords: dict[Any, Any] = {}
    for axis, each in zip(axes, marks, strict=True):
        for mark, at in zip(each, axis.coords, strict=True):
            coords.setdefault(mark, at)
    place = {mark: position for position, mark in enumerate(coords)}
    key = axes[0].key if len({axis.key for axis in axes}) == 1 else None
    union = Axis(axes[0].name, tuple(coords.values()), key, marks=tuple(coords))
    return union, [tuple(place[mark] for mark in each) for each in marks]


def _mark_key(mark: Any, is_key: bool = False) -> Any:
    """A key that only equal marks share: the changes of the variation, and its name if that is the coordinate."""
    if isinstance(mark, Variation):
        return (None if is_key else mark.name, tuple((path, content_key(value)) for path, value in mark.changes))
    return tuple(map(_mark_key, mark)) if isinstance(mark, tuple) else mark


def _listed(given: Any, what: str, *, may_be_empty: bool = False) -> Sequence[Any]:
    """The given configs or variations as a list."""
    if isinstance(given, Mapping):
        several = [key for key in given if what == "variations" and isinstance(given[key], (list, tuple, range))]
        remedy = f", one for each value: [{{{several[0]!r}: value}} for value in …]" if several else ": [{…}]"
        raise ConfigError(f"{what} is one {type(given).__name__}; give a list of them{remedy}")
    if isinstance(given, (str, bytes, Set)) or not isinstance(given, Iterable):  # a set has no order
        raise ConfigError(f"{what} is {given!r}; give a list of dicts, or what sweep() returns")
    listed = list(given)
    if not listed and not may_be_empty:
        raise ConfigError(f"{what} is empty; a grid needs at least one of them")
    return listed


def _config(config: Any, where: str) -> FrozenConfig:
    if not isinstance(config, Mapping):
        raise ConfigError(
            f"{where} is {config!r}, of type {type(config).__name__}; a config is a mapping such as a dict"
        )
    frozen = freeze_config(config, where)
    _name(frozen.get("name"), where)
    return frozen


def _name(name: Any, where: str) -> str:
    if name is not None and not isinstance(name, str):
        raise ConfigError(f"{where}.name is {name!r}, of type {type(name).__name__}; a name is a string: {str(name)!r}")
    return name or ""


def _variation(variation: Any, where: str) -> Variation:
    made = changes(variation, where)
    if any(path[0] == "name" and len(path) > 1 for path, _ in made):
        raise ConfigError(f"{where} reaches inside 'name', which is a string that names are joined to")
    name = next((value for path, value in made if path == ("name",)), None)
    return Variation(_name(name, where), tuple(change for change in made if change[0] != ("name",)))


def _axis(variations: tuple[Variation, ...], taken: Sequence[str], name: str | None, number: int, given: Any) -> Axis:
    """The axis of these variations. It is the one of this number, and its name is none of the `taken` ones.

    If they were `given` as a zip of several keys, each key is a coordinate.
    """
    zipped = given.varied if isinstance(given, Zipped) else ()
    default = _free_name(number, taken)
    key = _varied_key(variations) if len(zipped) < 2 else None
    if key is not None and (name or key not in taken):
        values = tuple(variation.values[key] for variation in variations)
        return Axis(name or key, values, _untouched(key, variations, besides=True), marks=variations)
    names = tuple(variation.name for variation in variations)
    # If one of the keys cannot be a name, the others alone would not distinguish the positions.
    levels = () if {name or default, *taken} & {*zipped} else tuple(_level(variations, key) for key in zipped)
    return Axis(name or default, _coords_of(names, len(names)), levels=levels, marks=variations)


def _level(variations: tuple[Variation, ...], key: str) -> Level:
    """The level of a key that every variation sets."""
    values = [variation.values[key] for variation in variations]
    contents = [content_key(value) for value in values]
    coords: dict[Any, Any] = {}
    for content, value in zip(contents, values, strict=True):
        coords.setdefault(content, value)
    place = {content: code for code, content in enumerate(coords)}
    marks = tuple((None, ((parts_of(key), content),)) for content in coords)  # as if nothing else were varied
    axis = Axis(key, tuple(coords.values()), _untouched(key, variations, besides=True), marks=marks)
    return Level(axis, tuple(place[content] for content in contents))


def _untouched(key: str | None, variations: tuple[Variation, ...], besides: bool = False) -> str | None:
    """The key; None if a variation changes the value there, by a path above or below it, or (not `besides`) its own."""
    parts = parts_of(key or "")
    paths = {path for variation in variations for path, _ in variation.changes} - ({parts} if besides else set())
    is_touched = any(all(one == other for one, other in zip(path, parts, strict=False)) for path in paths)
    return None if is_touched else key


def _replaces(variations: tuple[Variation, ...], key: str) -> bool:
    """Whether a variation replaces the value at a key."""
    parts = parts_of(key)
    return any(parts[: len(path)] == path for variation in variations for path, _ in variation.changes)


def _varied_key(variations: tuple[Variation, ...]) -> str | None:
    """The only key in which the variations differ, if each sets it; the only key of a single variation; or None."""
    tables = [variation.values for variation in variations]
    keys = differing(tables) if len(tables) != 1 else list(tables[0])
    return keys[0] if len(keys) == 1 and all(keys[0] in table for table in tables) else None
