"""`Axis`: one direction of a grid, a coordinate for each position along it, and where its cells were on other axes.

Knows names, coordinates and positions; not the cells that lie along an axis.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from math import prod
from operator import index as as_int
from typing import Any, TypeAlias, TypeVar

from pyexp.configs import agreeing, equal
from pyexp.errors import HashError, SelectionError, closest, listing
from pyexp.hashing import encode
from pyexp.leaves import has_encoders

T = TypeVar("T")

Shape: TypeAlias = tuple[int, ...]
#: The positions kept along one axis, in order.
Positions: TypeAlias = Sequence[int]

#: The code of a cell that has no coordinate at a level.
MISSING = -1


@dataclass(frozen=True, slots=True)
class Picked(Sequence[T]):
    """The items of a sequence at some positions, None at a missing one; looked up when they are looked at."""

    source: Sequence[T]
    positions: Positions

    def __getitem__(self, at: Any) -> Any:
        if isinstance(at, slice):
            return taken(self, range(count(self.positions))[at])
        position = self.positions[at]
        return None if position == MISSING else self.source[position]

    def __len__(self) -> int:
        return len(self.positions)

    def __iter__(self) -> Iterator[Any]:
        return (None if position == MISSING else self.source[position] for position in self.positions)


@dataclass(frozen=True, slots=True)
class Steps(Sequence[int]):
    """Where the cells at flat positions of a grid are along one of its axes."""

    positions: Positions
    stride: int
    size: int

    def __getitem__(self, at: Any) -> Any:
        if isinstance(at, slice):
            return taken(self, range(count(self.positions))[at])
        return self.positions[at] // self.stride % self.size

    def __len__(self) -> int:
        return len(self.positions)

    def __iter__(self) -> Iterator[int]:
        stride, size = self.stride, self.size
        return (position // stride % size for position in self.positions)


def taken(items: Sequence[T], positions: Positions) -> Sequence[T]:
    """The items at these positions; not listed where the positions are not."""
    if isinstance(items, Steps):
        return Steps(taken(items.positions, positions), items.stride, items.size)  # type: ignore[return-value]  # ints
    if isinstance(items, Picked):
        return Picked(items.source, taken(items.positions, positions))
    if isinstance(items, (tuple, range)) and isinstance(positions, range):
        # A slice of a range is one too, of any length.
        stop = positions.stop if positions.stop >= 0 else None
        return items[slice(positions.start, stop, positions.step) if positions else slice(0)]
    if isinstance(positions, (tuple, list)):
        return tuple(items[i] for i in positions)
    return Picked(items, positions)


@dataclass(frozen=True, slots=True)
class Level:
    """The coordinates of cells on an axis along which they no longer lie: `codes` are their positions on it.

    `under` names a level that tells the cells apart at least as well: for one key of a zip, the axis of the zip.
    """

    axis: "Axis"
    codes: Sequence[int]
    under: str | None = None

    @property
    def name(self) -> str:
        return self.axis.name

    @property
    def coords(self) -> Sequence[Any]:
        """The coordinate of each cell; None where it has none."""
        return Picked(self.axis.coords, self.codes)

    def take(self, positions: Positions) -> "Level":
        return replace(self, codes=taken(self.codes, positions))

    def known(self) -> "Level":
        """The level with only those coordinates that a cell has."""
        used = sorted(set(self.codes) - {MISSING})
        place = {code: i for i, code in enumerate(used)} | {MISSING: MISSING}
        return replace(self, axis=self.axis.take(used), codes=tuple(place[code] for code in self.codes))


@dataclass(frozen=True, slots=True)
class Axis:
    """One direction of a grid: its name, and a coordinate for each position along it.

    `key` is the dotted path at which every config of the grid has its coordinate; None where that is not known to hold.
    `levels` are further coordinates of the positions: each key of a zip, or, for a selection that does not fill a box
    (`is_flat`), the axes of the grid. `marks` say what each position stands for: positions with equal marks, on axes
    of one name, are the same.
    """

    name: str
    coords: Sequence[Any] = field(repr=False)
    key: str | None = field(default=None, repr=False, compare=False)
    levels: tuple[Level, ...] = field(default=(), repr=False, compare=False)
    is_flat: bool = field(default=False, repr=False, compare=False)
    marks: Sequence[Any] | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.coords, (tuple, range, Picked)):  # a list could still change
            object.__setattr__(self, "coords", tuple(self.coords))

    @property
    def size(self) -> int:
        """The number of positions, also where `len` cannot say it."""
        return count(self.coords)

    def __len__(self) -> int:
        return self.size

    @property
    def known(self) -> dict[str, Sequence[Any]]:
        """The coordinates by name: its own, unless they only count cells, and those of its levels."""
        own = {} if self.is_flat and self.levels else {self.name: self.coords}
        return own | {level.name: level.coords for level in self.levels}

    def take(self, positions: Positions) -> "Axis":
        """The axis with only these positions."""
        return replace(
            self,
            coords=taken(self.coords, positions),
            levels=tuple(level.take(positions) for level in self.levels),
            marks=None if self.marks is None else taken(self.marks, positions),
        )

    def bears(self, name: str) -> bool:
        """Whether it is the axis of this name; not where only a level is."""
        return name == self.name and not (self.is_flat and self.level(name) is not None)

    def level(self, name: str) -> Level | None:
        return next((level for level in self.levels if level.name == name), None)

    def loose(self, fn: Any = None) -> "Axis":
        """The axis for configs that were replaced: by unknown ones, or by what a function makes of each."""
        levels = tuple(replace(level, axis=level.axis.loose(fn)) for level in self.levels)
        marks = None if fn is None or self.marks is None else tuple((mark, id(fn)) for mark in self.marks)
        return replace(self, key=None, levels=levels, marks=marks)

    def at_key(self, key: str) -> Sequence[Any] | None:
        """The coordinates that are the values at a key of all configs, if there are such."""
        if self.key == key:
            return self.coords
        return next((level.coords for level in self.levels if level.axis.key == key), None)

    def squeezed(self, names: Sequence[str]) -> "Axis | None":
        """The axis, or None if it has one position; without the levels at which all cells are at one coordinate.

        If there are `names`, only what is of such a name is left out.
        """
        if not (self.is_flat and self.levels):
            return None if self.size == 1 and (not names or self.name in names) else self
        meant = [level for level in self.levels if not names or level.name in names]
        gone = {level.name for level in meant if len(set(level.codes)) == 1}
        left = tuple(level for level in self.levels if not gone & {level.name, level.under})
        return replace(self, levels=left) if left or self.size != 1 else None

    def found(self, name: str, wanted: Any) -> tuple[list[int], bool]:
        """The positions at a coordinate, or at several; and whether it was one coordinate that was asked for.

        Raises `SelectionError` if there is none.
        """
        level = None if self.bears(name) else self.level(name)
        if level is None:
            return located(self.coords, wanted, name)
        if not self.is_flat:
            there = [position for position, code in enumerate(level.codes) if code != MISSING]
            found, is_one = located([level.coords[position] for position in there], wanted, name)
            return [there[i] for i in found], is_one
        level = level.known()
        codes, is_one = located(level.axis.coords, wanted, name)
        kept = set(codes)
        return [position for position, code in enumerate(level.codes) if code in kept], is_one

    def select(self, wanted: Mapping[str, Any]) -> "tuple[int | Positions, Axis]":
        """The positions at all of some coordinates, and the axis left; the one position if the axis is not left.

        Raises `SelectionError` if there is none.
        """
        found = {name: self.found(name, value) for name, value in wanted.items()}
        (kept, _), *others = found.values()
        for positions, _ in others:
            among = set(positions)
            kept = [i for i in kept if i in among]
        if not kept and all(positions for positions, _ in found.values()):
            asked = " and ".join(f"{name}={value!r}" for name, value in wanted.items())
            raise SelectionError(f"no cell is at {asked} at once")
        single = [name for name, (_, is_one) in found.items() if is_one]
        axis = self.take(kept)
        if self.is_flat and self.levels:
            for name in single:
                axis = axis._without_fixed(name)
            is_over = not axis.levels or any(map(self.bears, single))
        else:
            is_over = bool(single)
        is_left = len(kept) != 1 or not is_over
        return (kept if is_left else kept[0]), axis

    def _without_fixed(self, name: str) -> "Axis":
        """The axis without a level, and those above and under it, if all cells are at one position of that."""
        level = self.level(name)
        if level is None:  # it went with another
            return self
        head = self.level(level.under or name) or level
        if len(set(head.codes)) > 1:
            return self
        return replace(self, levels=tuple(each for each in self.levels if head.name not in (each.name, each.under)))

    def grouped(self, gone: set[str]) -> "tuple[list[list[int]], Axis | None]":
        """The positions that agree in all coordinates but those that are `gone`, and the axis of these groups.

        What a level is under, and what is under it, says where a cell is on the level too, so it goes with it; but
        where cells have nothing under it, it stays, as nothing else tells them apart.
        """
        above = {level.under for level in self.levels if level.name in gone}
        left = [
            replace(
                self._without_children(level) if level.name in above else level,
                under=None if level.under in above else level.under,
            )
            for level in self.levels
            if not gone & {level.name, level.under}
        ]
        left = [level for level in left if level.name not in above or set(level.codes) != {MISSING}]
        groups: dict[tuple[int, ...], list[int]] = {}
        codes = zip(*(level.codes for level in left), strict=True) if left else ((),) * self.size
        for position, key in enumerate(codes):
            groups.setdefault(key, []).append(position)
        first = [positions[0] for positions in groups.values()]
        kept = tuple(level.take(first) for level in left)
        if len(kept) == 1 and not self.is_flat:  # what is left of a zip is an axis
            return list(groups.values()), replace(kept[0].axis.take(kept[0].codes), levels=())
        flat = Axis(self.name, range(len(first)), levels=kept, is_flat=True)
        return list(groups.values()), flat if kept else None

    def _without_children(self, head: Level) -> Level:
        """The level at those cells only that no level under it tells apart."""
        under = [level.codes for level in self.levels if level.under == head.name]
        codes = zip(head.codes, zip(*under, strict=True), strict=True)
        return replace(head, codes=tuple(code if set(each) == {MISSING} else MISSING for code, each in codes))


def flat_axis(axes: Sequence[Axis], positions: Positions) -> Axis:
    """The axis along which the cells at flat positions of a grid lie one after the other, each with its coordinates."""
    levels: list[Level] = []
    for axis, stride in zip(axes, strides_of(tuple(axis.size for axis in axes)), strict=True):
        codes = Steps(positions, stride, axis.size)
        if axis.is_flat:
            levels += [level.take(codes) for level in axis.levels]
        else:
            under = [replace(level.take(codes), under=axis.name) for level in axis.levels]
            levels += [Level(replace(axis, levels=()), codes), *under]
    return Axis("axis_0", range(count(positions)), levels=tuple(levels), is_flat=True)


def default_axes(shape: Shape) -> tuple[Axis, ...]:
    """Axes without names of their own: `axis_0`, `axis_1`, …, with the positions as coordinates."""
    return tuple(Axis(f"axis_{i}", range(size)) for i, size in enumerate(shape))


def count(items: Sequence[Any]) -> int:
    """How many there are: `len`, which stops at 2^63, where a range of positions in a grid may go on.

    >>> count(range(0, 10**30, 2)) == 10**30 // 2
    True
    """
    return (items[-1] - items[0]) // items.step + 1 if isinstance(items, range) and items else len(items)


def strides_of(shape: Shape) -> tuple[int, ...]:
    """How far apart in C order the neighbours along each axis are.

    >>> strides_of((2, 3, 4))
    (12, 4, 1)
    """
    return tuple(prod(shape[axis + 1 :]) for axis in range(len(shape)))


def located(coords: Sequence[Any], wanted: Any, name: str) -> tuple[list[int], bool]:
    """The positions at which the coordinates are what is wanted, and whether that is one value.

    Otherwise it is a list, tuple, range or array of values, or a slice, from one value to another with both.

    Raises `SelectionError` for a value that is not there.
    """
    found = same(coords, wanted)
    if found:
        return found, True
    if isinstance(wanted, slice):
        return between(coords, wanted, name), False
    many = wanted.tolist() if hasattr(wanted, "dtype") and hasattr(wanted, "tolist") else wanted
    if isinstance(many, (list, tuple, range)):
        return [i for each in many for i in located(coords, each, name)[0]], False
    raise SelectionError(f"axis {name!r} has no coordinate {many!r}{closest(many, coords)}; there is {listing(coords)}")


def same(values: Sequence[Any], wanted: Any) -> list[int]:
    """The positions of the values that equal the one that is wanted."""
    return [i for i, value in enumerate(values) if equal(value, wanted)] or _encoded_alike(values, wanted)


def fitting(values: Sequence[Any], wanted: Any) -> list[int]:
    """The positions of the values that agree with a query's value: equal it, or have it as a sub-map."""
    return agreeing(values, wanted) or _encoded_alike(values, wanted)


def _encoded_alike(values: Sequence[Any], wanted: Any) -> list[int]:
    """The positions of the values with the encoding of the one that is wanted, if it may be of a registered type."""
    if isinstance(wanted, (bool, int, float, str, slice)) or wanted is None or not has_encoders():
        return []
    code = content_key(wanted)
    return [i for i, value in enumerate(values) if content_key(value) == code]


def content_key(value: Any) -> bytes | int:
    """What tells a value of a config from all others, of other types too; of one that has no hash its identity."""
    try:
        return encode(value)
    except HashError:
        return id(value)


def between(coords: Sequence[Any], wanted: slice, name: str) -> list[int]:
    """The positions from one value to another, both with it, as in pandas: in order, or where these two stand."""
    start, stop, step = wanted.start, wanted.stop, 1 if wanted.step is None else as_int(wanted.step)
    if step < 1:
        raise SelectionError(f"the step of {wanted!r} along axis {name!r} is {step}; it is at least 1")
    try:
        if _is_rising(coords):
            kept = [(start is None or start <= at) and (stop is None or at <= stop) for at in coords]
        elif _is_rising(coords[::-1]):
            kept = [(start is None or start >= at) and (stop is None or at >= stop) for at in coords]
        else:
            first = 0 if start is None else located(coords, start, name)[0][0]
            last = len(coords) if stop is None else located(coords, stop, name)[0][-1]
            kept = [first <= i <= last for i in range(len(coords))]
    except TypeError:
        raise SelectionError(f"axis {name!r} has no order in which {wanted!r} is; there is {listing(coords)}") from None
    return [i for i, is_kept in enumerate(kept) if is_kept][::step]


def _is_rising(coords: Sequence[Any]) -> bool:
    try:
        return all(bool(left <= right) for left, right in pairwise(coords))
    except (TypeError, ValueError):  # None, or maps and arrays
        return False
