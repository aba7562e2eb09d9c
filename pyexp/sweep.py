"""Grids of configs: products of variations with joined names, random samples of them, unions.

Everything is lazy: a grid stores its frozen factors and a cell is made when it is looked at, so a grid of 10^12 cells
is built, sliced and sampled at once. It knows nothing of running, hashing or folders.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from hashlib import sha256, shake_256
from itertools import accumulate, count
from operator import index as as_int
from typing import Any, TypeAlias

from pyexp.configs import (
    Change,
    FrozenConfig,
    Inside,
    changes,
    equal,
    freeze_config,
    inside,
    joined,
    parts_of,
    remembering,
    settled,
    updated,
)
from pyexp.errors import ConfigError, SelectionError
from pyexp.tensor import Axis, Box, Cells, Tensor, default_axes

#: What a sweep starts from: configs as dicts or frozen, in a list or a Tensor.
Configs: TypeAlias = "Tensor[FrozenConfig] | Iterable[Mapping[str, Any]]"


@dataclass(frozen=True, slots=True)
class Variation:
    """What one position along an axis does to a config: the changes it makes, and what it adds to the name."""

    name: str
    changes: tuple[Change, ...]

    def sets(self, config: FrozenConfig, name: str, inside: Inside = inside) -> dict[str, Any]:
        """The values at the own keys of a config of this name once the variation is made, the names joined by `_`."""
        values = settled(config, self.changes, inside)
        if self.name:
            values["name"] = f"{name}_{self.name}" if name else self.name
        return values


@dataclass(frozen=True, slots=True)
class Product:
    """The cells of a grid times variations; walked in order, each cell of the grid is made once.

    A map inside that a variation changes is made once for all the cells that share it.
    """

    cells: Cells[FrozenConfig]
    variations: tuple[Variation, ...]

    def __getitem__(self, position: int) -> FrozenConfig:
        base, here = divmod(position, len(self.variations))
        config = self.cells[base]
        return updated(config, self.variations[here].sets(config, name_of(config)))

    def __iter__(self) -> Iterator[FrozenConfig]:
        shared = remembering(inside)
        for config in self.cells:
            name = name_of(config)
            for variation in self.variations:
                yield updated(config, variation.sets(config, name, shared))


def name_of(config: FrozenConfig) -> str:
    """The config's name, which may be empty."""
    return config.get("name") or ""


@dataclass(frozen=True, slots=True)
class Chain:
    """The cells of several tensors one after the other; `ends` are the flat positions at which each ends."""

    parts: tuple[Cells[FrozenConfig], ...]
    ends: tuple[int, ...]

    def __getitem__(self, position: int) -> FrozenConfig:
        part = bisect_right(self.ends, position)
        return self.parts[part][position - (self.ends[part - 1] if part else 0)]

    def __iter__(self) -> Iterator[FrozenConfig]:
        return (config for part in self.parts for config in part)


def sweep(
    configs: Configs, variations: Iterable[Mapping[str, Any]], *, axis: str | None = None
) -> Tensor[FrozenConfig]:
    """The grid of every config with every variation: shape `(*configs.shape, len(variations))`.

    `sweep(c, v)[i, j]` is `merge(c[i], v[j])` with the two names joined by `_`; a missing name adds nothing. The new
    axis is called `axis`, or after the one key in which the variations differ, or else `axis_N`; its coordinates are
    the values of that one key, or else the variations' names.

    >>> grid = sweep([{"name": "exp"}], [{"name": "lr0.1", "lr": 0.1}, {"name": "lr1", "lr": 1.0}])
    >>> grid.shape, grid[0, 1]["name"], grid.axes[1].name, grid.axes[1].coords
    ((1, 2), 'exp_lr1', 'lr', (0.1, 1.0))

    Raises `ConfigError` for configs or variations that are an empty list, a single dict, or hold what is no mapping. A
    selection that holds nothing gives a grid that holds nothing.
    """
    base = grid_of(configs)
    listed = _listed(variations, "variations")
    made = tuple(_variation(variation, f"variations[{i}]") for i, variation in enumerate(listed))
    taken = [known.name for known in base.axes]
    if axis is not None and not (isinstance(axis, str) and axis):
        raise ConfigError(
            f"the name of an axis is {axis!r}, of type {type(axis).__name__}; it is a string that is not empty"
        )
    if axis in taken:
        raise ConfigError(f"an axis is called {axis!r} already; the axes are {taken}")
    before = (replace(known, key=None) if _touches(made, known.key) else known for known in base.axes)
    return Tensor.of_cells(Product(base.cells, made), (*before, _axis(made, taken, axis)))


def grid_of(configs: Configs, what: str = "configs") -> Tensor[FrozenConfig]:
    """The configs as a Tensor of frozen configs; a list of them becomes one axis.

    Raises `ConfigError` for what is no list of configs, saying what it is.
    """
    if isinstance(configs, Tensor):
        if isinstance(configs.cells, tuple):  # not made by a sweep: its items may be anything
            checked = tuple(_config(item, f"an item of {what}") for item in configs)
            return Tensor.of_cells(checked, [replace(axis, key=None) for axis in configs.axes])
        return configs
    listed = _listed(configs, what)
    frozen = tuple(_config(config, f"{what}[{i}]") for i, config in enumerate(listed))
    first = tuple(Variation(config.get("name", ""), _plain_changes(config)) for config in frozen)
    return Tensor.of_cells(frozen, (_axis(first, [], None),))


def replicate(configs: Configs, n: int, *, seed: int | str) -> Tensor[FrozenConfig]:
    """Every config `n` times, along a new axis `seed` with numbers below 2^32 for the key `seed`.

    The numbers are distinct, and the same for the same `seed` in every process: those of fewer replicates begin those
    of more. Each is the beginning of SHA-256 of seed and index.

    >>> grid = replicate([{"name": "exp"}], 2, seed=0)
    >>> grid.shape, grid[0, 1]["name"], grid.axes[1].coords == (grid[0, 0]["seed"], grid[0, 1]["seed"])
    ((1, 2), 'exp_seed1', True)

    Raises `ConfigError` if `n` is no number from 1, or an axis is called `seed` already.
    """
    drawing = _seed(seed)
    if (n := _whole(n, "n, the number of replicates,")) < 1:
        raise ConfigError(f"n, the number of replicates, is {n}; it is at least 1")
    drawn: dict[int, None] = {}
    tries = count()
    while len(drawn) < n:
        drawn[int(sha256(f"{drawing}:{next(tries)}".encode()).hexdigest()[:8], 16)] = None
    return sweep(configs, [{"name": f"seed{i}", "seed": number} for i, number in enumerate(drawn)], axis="seed")


def sample(configs: Configs, n: int, *, seed: int | str) -> Tensor[FrozenConfig]:
    """`n` distinct cells drawn at random, flat: the same for the same seed in every process.

    A larger sample with the same seed begins with the smaller one. The draw is Fisher and Yates's shuffle, of which
    only the places that were touched are kept, with SHAKE-256 of seed and step as its source of numbers.

    >>> sample([{"x": 1}, {"x": 2}, {"x": 3}], 2, seed=0).shape
    (2,)

    Raises `SelectionError` if there are fewer than `n` cells, `ConfigError` if `n` or `seed` is no number (or text).
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
    cells = Box(grid.cells, (tuple(drawn),), (1,))
    return Tensor.of_cells(cells, default_axes((n,)))


def _seed(seed: Any) -> str:
    """What is drawn from: an int in hexadecimal (Python refuses very long decimals), or a text."""
    return f"str:{seed}" if isinstance(seed, str) else f"int:{_whole(seed, 'seed'):x}"


def _whole(number: Any, what: str) -> int:
    try:
        return as_int(number)
    except TypeError:
        raise ConfigError(f"{what} is {number!r}, of type {type(number).__name__}; it is a whole number") from None


def concat(tensors: Iterable[Configs]) -> Tensor[FrozenConfig]:
    """The cells of all the tensors (or lists of configs), one after the other, flat.

    >>> concat([[{"x": 1}], [{"x": 2}, {"x": 3}]]).shape
    (3,)

    Raises `ConfigError` if there is nothing to join, or what is given is itself one grid.
    """
    if isinstance(tensors, Tensor):
        raise ConfigError("tensors is one Tensor; give a list of them: concat([a, b])")
    grids = [grid_of(part, f"tensors[{i}]") for i, part in enumerate(_listed(tensors, "tensors"))]
    ends = tuple(accumulate(grid.size for grid in grids))
    return Tensor.of_cells(Chain(tuple(grid.cells for grid in grids), ends), default_axes((ends[-1],)))


def _listed(given: Any, what: str) -> Sequence[Any]:
    """The given configs or variations as a list that is not empty."""
    if isinstance(given, Mapping):
        raise ConfigError(f"{what} is one {type(given).__name__}; give a list of them: [{{…}}]")
    if isinstance(given, (str, bytes, Set)) or not isinstance(given, Iterable):  # a set has no order
        raise ConfigError(f"{what} is {given!r}; give a list of dicts, or what sweep() returns")
    listed = list(given)
    if not listed:
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


def _plain_changes(config: FrozenConfig) -> tuple[Change, ...]:
    return tuple(((key,), config[key]) for key in sorted(config) if key != "name")


def _axis(variations: tuple[Variation, ...], taken: list[str], name: str | None) -> Axis:
    """The axis along which these variations lie, unlike the ones in `taken`."""
    default = next(free for i in count(len(taken)) if (free := f"axis_{i}") not in taken)
    key = _differing(variations)
    if key is not None and (name or key not in taken):
        values = (next(value for path, value in variation.changes if joined(path) == key) for variation in variations)
        return Axis(name or key, tuple(values), None if _touches(variations, key, besides=True) else key)
    names = tuple(variation.name for variation in variations)
    distinct = all(names) and len(set(names)) == len(names)
    return Axis(name or default, names if distinct else range(len(names)))


def _touches(variations: tuple[Variation, ...], key: str | None, besides: bool = False) -> bool:
    """Whether a variation changes what is at a key: by this key (unless `besides` it is meant) or through it."""
    parts = parts_of(key or "")
    paths = {path for variation in variations for path, _ in variation.changes} - ({parts} if besides else set())
    return any(all(one == other for one, other in zip(path, parts, strict=False)) for path in paths)


def _differing(variations: tuple[Variation, ...]) -> str | None:
    """The one key in which the variations differ, if each of them sets it; for a single variation its one key."""
    tables = [{joined(path): value for path, value in variation.changes} for variation in variations]
    keys = list(tables[0])
    if any(table.keys() != tables[0].keys() for table in tables):
        return None
    if len(tables) > 1:
        keys = [key for key in keys if not all(equal(table[key], tables[0][key]) for table in tables)]
    return keys[0] if len(keys) == 1 else None
