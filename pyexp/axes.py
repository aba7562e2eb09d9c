"""`Axis`: one direction of a grid, with a coordinate for each position, and the levels of a selection.

Knows names, coordinates and positions. Does not know the cells along an axis.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from math import prod
from operator import index as as_int
from typing import Any, TypeAlias, TypeVar

from pyexp.configs import agreeing, as_python, equal
from pyexp.errors import HashError, SelectionError, closest, listing
from pyexp.hashing import encode

T = TypeVar("T")

Shape: TypeAlias = tuple[int, ...]
#: The positions kept along one axis, in order.
Positions: TypeAlias = Sequence[int]

#: The code of a cell that has no coordinate at a level.
MISSING = -1


@dataclass(frozen=True, slots=True)
class Picked(Sequence[T]):
    """The items of a sequence at some positions, looked up lazily. A position `MISSING` gives `missing`."""

    source: "Sequence[T] | Along"
    positions: Positions
    missing: Any = None

    def __getitem__(self, at: Any) -> Any:
        if isinstance(at, slice):
            return taken(self, range(count(self.positions))[at])
        position = self.positions[at]
        return self.missing if position == MISSING else self.source[position]

    def __len__(self) -> int:
        return len(self.positions)

    def __iter__(self) -> Iterator[Any]:
        return (self.missing if position == MISSING else self.source[position] for position in self.positions)


@dataclass(frozen=True, slots=True)
class Along:
    """The position along one axis of a grid, by flat position."""

    stride: int
    size: int

    def __getitem__(self, position: int) -> int:
        return position // self.stride % self.size


def taken(items: Sequence[T], positions: Positions) -> Sequence[T]:
    """The items at these positions. Lazy if the positions are lazy."""
    if isinstance(items, Picked):
        return replace(items, positions=taken(items.positions, positions))
    if isinstance(items, (tuple, range)) and isinstance(positions, range):
        # A slice of a range is one too, of any length.
        stop = positions.stop if positions.stop >= 0 else None
        return items[slice(positions.start, stop, positions.step) if positions else slice(0)]
    if isinstance(positions, (tuple, list)):
        return tuple(items[i] for i in positions)
    return Picked(items, positions)


@dataclass(frozen=True, slots=True)
class Level:
    """The coordinates of cells on a former axis, as pandas' levels: `codes` are their positions on it.

    `under` names a level that distinguishes the cells at least as well: for one key of a zip, the axis of the zip.
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
        """The level without the coordinates that no cell has."""
        used = sorted(set(self.codes) - {MISSING})
        place = {code: i for i, code in enumerate(used)} | {MISSING: MISSING}
        return replace(self, axis=self.axis.take(used), codes=tuple(place[code] for code in self.codes))


@dataclass(frozen=True, slots=True)
class Axis:
    """One direction of a grid: its `name`, and in `coords` a coordinate for each of its `size` positions.

    `key` is the dotted path where every config of the grid has its coordinate; None if that is not certain.
    `levels` are further coordinates of the positions: each key of a zip, or the axes of the grid for a selection that
    does not fill a box (`is_flat`). `marks` identify positions: those with equal marks, on axes of one name, are the
    same.

    >>> axis = Axis("lr", [0.1, 1.0])
    >>> axis.name, axis.coords, axis.size
    ('lr', (0.1, 1.0), 2)
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
        if not self.levels:  # then only its positions distinguish cells
            object.__setattr__(self, "is_flat", False)

    @property
    def size(self) -> int:
        """The number of positions, also where `len` cannot say it."""
        return count(self.coords)

    def __len__(self) -> int:
        return self.size

    @property
    def known(self) -> dict[str, Sequence[Any]]:
        """The coordinates by name: of its levels, and its own unless these only count cells."""
        own = {} if self.is_flat else {self.name: self.coords}
        return own | {level.name: level.coords for level in self.levels}

    @property
    def as_levels(self) -> tuple[Level, ...]:
        """The levels of a flat axis; for any other, the axis as a level, and its levels under that."""
        if self.is_flat:
            return self.levels
        own = Level(replace(self, levels=()), range(self.size))
        return (own, *(replace(level, under=self.name) for level in self.levels))

    def take(self, positions: Positions) -> "Axis":
        """The axis with only these positions."""
        return replace(
            self,
            coords=taken(self.coords, positions),
            levels=tuple(level.take(positions) for level in self.levels),
            marks=None if self.marks is None else taken(self.marks, positions),
        )

    def is_named(self, name: str) -> bool:
        """Whether the axis itself has this name, and not only one of its levels."""
        return name == self.name and not (self.is_flat and self.level(name) is not None)

    def level(self, name: str) -> Level | None:
        return next((level for level in self.levels if level.name == name), None)

    def loose(self, fn: Any = None) -> "Axis":
        """The axis after its configs were replaced: by unknown ones, or by what `fn` makes of each."""
        levels = tuple(replace(level, axis=level.axis.loose(fn)) for level in self.levels)
        marks = None if fn is None or self.marks is None else tuple((mark, id(fn)) for mark in self.marks)
        return replace(self, key=None, levels=levels, marks=marks)

    def at_key(self, key: str) -> Sequence[Any] | None:
        """The coordinates that are the configs' values at a key; None if no axis or level has this key."""
        if self.key == key:
            return self.coords
        return next((level.coords for level in self.levels if level.axis.key == key), None)

    def squeezed(self, names: Sequence[str]) -> "Axis | None":
        """The axis without the levels that have one coordinate for all cells; None if the axis has one position.

        If `names` are given, drop only axes and levels of these names.
        """
        if not self.is_flat:
            return None if self.size == 1 and (not names or self.name in names) else self
        left = self._varying(names or [level.name for level in self.levels])
        return left if left.levels or left.size != 1 else None

    def _varying(self, names: Collection[str]) -> "Axis":
        """The axis without the levels of these names that have one coordinate for all cells, and what is under them."""
        gone = {level.name for level in self.levels if level.name in names and len(set(level.codes)) == 1}
        return replace(self, levels=tuple(each for each in self.levels if not gone & {each.name, each.under}))

    def found(self, name: str, wanted: Any) -> tuple[list[int], bool]:
        """The positions at one or several coordinates, and whether it was one.

        Raises `SelectionError` if a coordinate is unknown.
        """
        level = None if self.is_named(name) else self.level(name)
        if level is None:
            return positions_at(self.coords, wanted, name)
        if not self.is_flat:
            there = [position for position, code in enumerate(level.codes) if code != MISSING]
            found, is_one = positions_at([level.coords[position] for position in there], wanted, name)
            return [there[i] for i in found], is_one
        level = level.known()
        codes, is_one = positions_at(level.axis.coords, wanted, name)
        kept = set(codes)
        return [position for position, code in enumerate(level.codes) if code in kept], is_one

    def select(self, wanted: Mapping[str, Any]) -> "tuple[int | Positions, Axis]":
        """The positions at all the wanted coordinates, and the remaining axis. One int if the axis is dropped.

        Raises `SelectionError` if there are none.
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
        if self.is_flat:
            # With a level, what it is under goes too: it distinguishes the cells at least as well.
            axis = axis._varying([level.under or level.name for level in self.levels if level.name in single])
            is_over = not axis.levels or any(map(self.is_named, single))
        else:
            is_over = bool(single)
        is_left = len(kept) != 1 or not is_over
        return (kept if is_left else kept[0]), axis

    def grouped(self, gone: set[str]) -> "tuple[list[list[int]], Axis | None]":
        """Groups of positions that agree in all coordinates except the `gone` ones, and the axis of these groups.

        The levels above and under a gone level fix the cell's coordinate on it too, so they are dropped as well. A
        level above stays for the cells that have no level under it: nothing else distinguishes them.
        """
        above = {level.under for level in self.levels if level.name in gone}
        left: list[Level] = []
        for level in self.levels:
            codes = level.codes
            if level.name in above:  # it keeps the coordinates of cells that have none below it
                below = zip(*(other.codes for other in self.levels if other.under == level.name), strict=True)
                pairs = zip(codes, below, strict=True)
                codes = tuple(code if set(each) == {MISSING} else MISSING for code, each in pairs)
            if not gone & {level.name, level.under} and (level.name not in above or set(codes) != {MISSING}):
                left.append(replace(level, codes=codes, under=None if level.under in above else level.under))
        groups: dict[tuple[int, ...], list[int]] = {}
        keys = zip(*(level.codes for level in left), strict=True) if left else ((),) * self.size
        for position, key in enumerate(keys):
            groups.setdefault(key, []).append(position)
        first = [positions[0] for positions in groups.values()]
        kept = tuple(level.take(first) for level in left)
        if len(kept) == 1 and not self.is_flat:  # what is left of a zip is an axis
            return list(groups.values()), replace(kept[0].axis.take(kept[0].codes), levels=())
        flat = Axis(self.name, range(len(first)), levels=kept, is_flat=True)
        return list(groups.values()), flat if kept else None


def codes_along(axes: Sequence[Axis], positions: Positions) -> list[Sequence[int]]:
    """The positions along each axis of the cells at flat positions of a grid."""
    strides = strides_of(tuple(axis.size for axis in axes))
    return [Picked(Along(stride, axis.size), positions) for axis, stride in zip(axes, strides, strict=True)]


def flat_axis(axes: Sequence[Axis], positions: Positions) -> Axis:
    """One axis for the cells at flat positions of a grid. The grid's axes become its levels."""
    levels: list[Level] = []
    for axis, codes in zip(axes, codes_along(axes, positions), strict=True):
        levels += [level.take(codes) for level in axis.as_levels]
    return Axis("axis_0", range(count(positions)), levels=tuple(levels), is_flat=True)


def default_axes(shape: Shape) -> tuple[Axis, ...]:
    """Axes without names of their own: `axis_0`, `axis_1`, …, with the positions as coordinates."""
    return tuple(Axis(f"axis_{i}", range(size)) for i, size in enumerate(shape))


def count(items: Sequence[Any]) -> int:
    """The number of items, also of a range that is too long for `len`.

    >>> count(range(0, 10**30, 2)) == 10**30 // 2
    True
    """
    return (items[-1] - items[0]) // items.step + 1 if isinstance(items, range) and items else len(items)


def strides_of(shape: Shape) -> tuple[int, ...]:
    """The distance in C order between neighbours along each axis.

    >>> strides_of((2, 3, 4))
    (12, 4, 1)
    """
    return tuple(prod(shape[axis + 1 :]) for axis in range(len(shape)))


def positions_at(coords: Sequence[Any], wanted: Any, name: str) -> tuple[list[int], bool]:
    """The positions of the wanted coordinates, and whether `wanted` is one coordinate.

    Otherwise it is a list, tuple, range or array of coordinates, or a slice from one to another, inclusive.

    Raises `SelectionError` for an unknown coordinate.
    """
    found = [i for i, value in enumerate(coords) if equal(value, wanted)] or _encoded_alike(coords, wanted)
    if found:
        return found, True
    if isinstance(wanted, slice):
        return between(coords, wanted, name), False
    many = list(wanted) if getattr(wanted, "shape", ()) else as_python(wanted)  # `tolist` makes ints of some times
    if isinstance(many, (list, tuple, range)):
        return [i for each in many for i in positions_at(coords, each, name)[0]], False
    raise SelectionError(f"axis {name!r} has no coordinate {many!r}{closest(many, coords)}; there is {listing(coords)}")


def positions_agreeing_with(values: Sequence[Any], wanted: Any) -> list[int]:
    """The positions of the values that match a query's value."""
    return agreeing(values, wanted) or _encoded_alike(values, wanted)


def _encoded_alike(values: Sequence[Any], wanted: Any) -> list[int]:
    """The positions of the values with the same encoding as the wanted one.

    `==` does not find a value of a registered type, a set that holds NaN, or a dataclass that holds an array.
    """
    if isinstance(wanted, (bool, int, float, str, slice)) or wanted is None:
        return []
    code = content_key(wanted)
    return [i for i, value in enumerate(values) if content_key(value) == code]


def content_key(value: Any) -> bytes | int:
    """A key that only equal values of one type share: the encoding, or the identity if it cannot be hashed."""
    try:
        return encode(value)
    except HashError:
        return id(value)


def between(coords: Sequence[Any], wanted: slice, name: str) -> list[int]:
    """The positions from one value to another, inclusive, as in pandas. Unordered coordinates are cut by position."""
    start, stop, step = wanted.start, wanted.stop, 1 if wanted.step is None else as_int(wanted.step)
    if step < 1:
        raise SelectionError(f"the step of {wanted!r} along axis {name!r} is {step}; it is at least 1")
    try:
        if _is_rising(coords):
            kept = [(start is None or start <= at) and (stop is None or at <= stop) for at in coords]
        elif _is_rising(coords[::-1]):
            kept = [(start is None or start >= at) and (stop is None or at >= stop) for at in coords]
        else:
            first = 0 if start is None else positions_at(coords, start, name)[0][0]
            last = len(coords) if stop is None else positions_at(coords, stop, name)[0][-1]
            kept = [first <= i <= last for i in range(len(coords))]
    except TypeError:
        raise SelectionError(f"axis {name!r} has no order in which {wanted!r} is; there is {listing(coords)}") from None
    return [i for i, is_kept in enumerate(kept) if is_kept][::step]


def _is_rising(coords: Sequence[Any]) -> bool:
    try:
        return all(bool(left <= right) for left, right in pairwise(coords))
    except (TypeError, ValueError):  # None, or maps and arrays
        return False
