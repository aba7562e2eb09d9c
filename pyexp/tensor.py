"""`Tensor`: items of any type in the shape of a grid, with named axes, to be indexed and selected.

Knows shapes, positions and names; not how a grid is made (`sweep`) nor what an item means. A Tensor never changes, and
may be lazy: `cells` is whatever gives the item at a flat position, so a slice of a grid is another few numbers.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import translate
from itertools import chain, product
from math import prod
from operator import index as as_int
from typing import Any, Generic, Protocol, Self, SupportsIndex, TypeAlias, TypeVar, overload

from pyexp.configs import NOTHING, agreeing, equal, leaves, lookup, matches, plainly, shown
from pyexp.errors import SelectionError, listing, nearest

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
U = TypeVar("U")

Shape: TypeAlias = tuple[int, ...]
#: The positions kept along one axis, in order.
Positions: TypeAlias = Sequence[int]


class Cells(Protocol[T_co]):
    """What gives the item at a flat position, counted in C order."""

    def __getitem__(self, position: int, /) -> T_co: ...
    def __iter__(self) -> Iterator[T_co]: ...


@dataclass(frozen=True, slots=True)
class Axis:
    """One direction of a grid: its name, and a coordinate for each position along it.

    `key` is the dotted path at which every config of the grid has its coordinate; None where that is not known to hold.
    """

    name: str
    coords: Sequence[Any] = field(repr=False)
    key: str | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.coords, (tuple, range)):  # a list could still change
            object.__setattr__(self, "coords", tuple(self.coords))

    @property
    def size(self) -> int:
        """The number of positions, also where `len` cannot say it."""
        return count(self.coords)

    def __len__(self) -> int:
        return self.size

    def take(self, positions: Positions) -> "Axis":
        """The axis with only these positions."""
        if isinstance(positions, range):  # a slice of coordinates that are a range is one too, of any length
            stop = positions.stop if positions.stop >= 0 else None
            kept = slice(positions.start, stop, positions.step) if positions else slice(0)
            return replace(self, coords=self.coords[kept])
        return replace(self, coords=tuple(self.coords[i] for i in positions))


#: Along a longer axis, positions are worked out one by one and not listed.
_LONG = 1_000_000


@dataclass(frozen=True, slots=True)
class Box(Generic[T]):
    """A product of positions out of other cells, whose `strides` and `offset` say where each position is."""

    cells: Cells[T]
    kept: tuple[Positions, ...]
    strides: tuple[int, ...]
    offset: int = 0

    def __getitem__(self, position: int) -> T:
        source = self.offset
        for positions, stride in zip(reversed(self.kept), reversed(self.strides), strict=True):
            position, here = divmod(position, count(positions))
            source += positions[here] * stride
        return self.cells[source]

    def __iter__(self) -> Iterator[T]:
        if any(count(positions) > _LONG for positions in self.kept):
            return (self[i] for i in range(prod(map(count, self.kept))))
        steps = ([position * stride for position in kept] for kept, stride in zip(self.kept, self.strides, strict=True))
        return map(self.cells.__getitem__, map(sum, product([self.offset], *steps)))


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


def box_of(positions: Positions, shape: Shape) -> tuple[Positions, ...] | None:
    """The index sets, one for each axis, of which the flat positions are the product; None if they are no box.

    >>> box_of([0, 2], (2, 2)), box_of([0, 3], (2, 2))
    (((0, 1), (0,)), None)
    """
    sets: list[list[int]] = []
    for size, stride in zip(shape, strides_of(shape), strict=True):
        sets.append(sorted({position // stride % size for position in positions}))
        if len(positions) % len(sets[-1]):  # then there is no need to look at the others
            return None
    # The positions are distinct members of the product, so they are all of it where there are as many.
    return tuple(map(tuple, sets)) if prod(map(len, sets)) == len(positions) else None


def globbed(names: Sequence[str | None], pattern: str) -> list[int]:
    """The positions of the names that match a glob, as `fnmatch` has it; None matches nothing.

    >>> globbed(["exp_a1", None, "exp_a2_b", "a1"], "exp_a[0-9]")
    [0]
    """
    fits = re.compile(translate(pattern)).match
    # What stands between wildcards is in every name that matches, and sooner found there than all of it is matched.
    piece = max(re.split("[*?]", pattern.partition("[")[0]), key=len)
    return [i for i, name in enumerate(names) if name is not None and piece in name and fits(name)]


class Tensor(Generic[T]):
    """Items in a grid: immutable, of any element type.

    One rule for indexing: a single index speaks of the flat sequence (C order), a tuple of the axes, and a string, a
    mapping or a predicate selects. `len` and iteration are flat.

    >>> t = Tensor("abcdef", (2, 3))
    >>> t[4], t[1, 1], t[:, 0].tolist(), t[:, [0, 2]].shape
    ('e', 'e', ['a', 'd'], (2, 2))
    """

    __slots__ = ("_axes", "_cells", "_shape")

    def __init__(self, items: Iterable[T], shape: Iterable[int] | None = None, axes: Sequence[Axis] | None = None):
        """A tensor of the items, which come in C order; flat without a `shape`.

        Raises `SelectionError` (a ValueError) if the shape holds another number of items, or the axes do not fit it.
        """
        cells = tuple(items)
        shape = (len(cells),) if shape is None else tuple(as_int(size) for size in shape)
        if prod(shape) != len(cells) or any(size < 0 for size in shape):
            raise SelectionError(f"{len(cells)} items do not fill the shape {shape}, which holds {prod(shape)}")
        if axes is not None and tuple(map(len, axes)) != shape:
            raise SelectionError(f"axes of {tuple(map(len, axes))} coordinates do not fit the shape {shape}")
        if axes is not None and len({axis.name for axis in axes}) != len(axes):
            raise SelectionError(f"two axes have the same name: {[axis.name for axis in axes]}")
        self._cells: Cells[T] = cells
        self._shape: Shape = shape
        self._axes = tuple(axes) if axes is not None else default_axes(shape)

    @classmethod
    def of_cells(cls, cells: Cells[T], axes: Sequence[Axis]) -> Self:
        """The tensor whose items the cells make when they are looked at."""
        self = cls.__new__(cls)
        self._cells, self._axes, self._shape = cells, tuple(axes), tuple(axis.size for axis in axes)
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).of_cells, (self._cells, self._axes)

    @property
    def shape(self) -> Shape:
        """The number of positions along each axis."""
        return self._shape

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self._shape)

    @property
    def size(self) -> int:
        """The number of items."""
        return prod(self._shape)

    @property
    def axes(self) -> tuple[Axis, ...]:
        """The axes, each with its name and coordinates."""
        return self._axes

    @property
    def cells(self) -> Cells[T]:
        """What gives the item at a flat position: for those who build lazy tensors on this one."""
        return self._cells

    def __len__(self) -> int:
        return self.size

    def __bool__(self) -> bool:
        return self.size > 0  # len() fails where there are more than 2^63

    def __iter__(self) -> Iterator[T]:
        return iter(self._cells)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Tensor):
            return NotImplemented
        return self.shape == other.shape and all(equal(a, b) for a, b in zip(self, other, strict=True))

    def __hash__(self) -> int:
        return hash(self.shape)  # equal tensors share it, and items need have none: 1 equals 1.0, a list a tuple

    def __repr__(self) -> str:
        axes = ", ".join(f"{axis.name}: {axis.size}" for axis in self._axes)
        items = ", ".join(repr(self[i]) for i in range(min(self.size, 3)))
        return f"<Tensor ({axes}) [{items}{', …' if self.size > 3 else ''}]>"

    @overload
    def __getitem__(self, index: SupportsIndex) -> T: ...
    @overload
    def __getitem__(self, index: slice | Mapping[str, Any] | Callable[[T], Any] | list[int]) -> Self: ...
    @overload
    def __getitem__(self, index: Any) -> Any: ...
    def __getitem__(self, index: Any) -> Any:
        """The item or the selection that `index` names; the class says how.

        Raises `SelectionError`, an IndexError that says what there is.
        """
        if index is ...:
            return self
        if isinstance(index, tuple):
            return self._by_axes(index)
        if isinstance(index, str):
            return self._by_name(index)
        if isinstance(index, Mapping):
            return self._by_query(index)
        if isinstance(index, Tensor) or getattr(index, "ndim", 0) > 1:
            return self._by_mask(index)
        if callable(index):
            return self.filter(index)
        kept = _kept(index, self.size, "the flat sequence")
        return self._cells[kept] if isinstance(kept, int) else self._flat(kept)

    def _by_axes(self, index: tuple[Any, ...]) -> Any:
        kept: list[int | Positions] = []
        for axis, entry in zip(self._axes, _spread(index, self.ndim), strict=True):
            kept.append(_kept(entry, axis.size, f"axis {axis.name!r}"))
        offset = sum(
            entry * stride for entry, stride in zip(kept, self._strides, strict=True) if isinstance(entry, int)
        )
        stays = {i: entry for i, entry in enumerate(kept) if not isinstance(entry, int)}
        return self._box(stays, offset) if stays else self._cells[offset]

    def _box(self, kept: Mapping[int, Positions], offset: int = 0) -> Self:
        """The product of the positions kept along some axes, `offset` saying where along the others."""
        strides = tuple(self._strides[i] for i in kept)
        axes = [self._axes[i].take(positions) for i, positions in kept.items()]
        return self._view(Box(self._cells, tuple(kept.values()), strides, offset), axes)

    def _flat(self, positions: Positions) -> Self:
        return self._view(Box(self._cells, (positions,), (1,)), default_axes((count(positions),)))

    def _selected(self, positions: Positions) -> Self:
        """The items at ascending flat positions: with axes where they are a box, else flat."""
        box = box_of(positions, self._shape) if positions else None
        return self._flat(positions) if box is None else self._box(dict(enumerate(box)))

    def _view(self, box: Box[T], axes: Sequence[Axis]) -> Self:
        # Items that are there already are taken out, so that a small selection does not keep a large tensor alive.
        return self.of_cells(tuple(box) if isinstance(self._cells, tuple) else box, axes)  # of a subclass: the same

    @property
    def _strides(self) -> tuple[int, ...]:
        return strides_of(self._shape)

    def _by_mask(self, mask: Any) -> Self:
        if mask.shape != self.shape:
            raise SelectionError(f"a mask of shape {mask.shape} does not fit a tensor of shape {self.shape}")
        flags = list(map(_plain, mask if isinstance(mask, Tensor) else mask.ravel()))
        if not all(isinstance(flag, bool) for flag in flags):
            raise SelectionError(f"a tensor or array as index has to hold booleans, as a mask of shape {self.shape}")
        return self._selected([i for i, flag in enumerate(flags) if flag])

    def _by_name(self, name: str) -> Any:
        names = self._column("name")
        if set(map(type, names)) != {str}:
            names = [known if isinstance(known, str) else None for known in names]
        exact = names.count(name)
        if exact == 1:
            return self._cells[names.index(name)]
        found = agreeing(names, name) if exact else globbed(names, name)
        if not found:
            hint = nearest(name, [known for known in names if known is not None], "the names are")
            raise SelectionError(f"no item is named {name!r} or matches it as a glob; {hint}")
        return self._selected(found)

    @property
    def names(self) -> list[Any]:
        """The items' names, flat; None for an item that has none."""
        return [None if name is NOTHING else name for name in self._column("name")]

    def _column(self, path: str) -> list[Any]:
        """The items' values at a dotted path, flat; NOTHING for an item that has none there."""
        return [lookup(item, path, NOTHING) for item in self]

    def _axis_at(self, path: str) -> int | None:
        """The axis whose coordinates are the items' values at this path, if that is known.

        It is of the cells of a sweep, which are lazy. Items that are there already may be anything.
        """
        return None if isinstance(self._cells, tuple) else self._axis_with(path)

    def _axis_with(self, key: str) -> int | None:
        return next((i for i, axis in enumerate(self._axes) if axis.key == key), None)

    def _by_query(self, query: Mapping[str, Any]) -> Self:
        boxed: dict[int, Positions] = {}
        rest = dict(query)
        for path, wanted in query.items():
            number = self._axis_at(path)
            if number is not None and number not in boxed:
                axis = self._axes[number]
                boxed[number] = agreeing(axis.coords, rest.pop(path))
                if not boxed[number]:
                    raise SelectionError(f"{path!r} is {wanted!r} in no item; there is {listing(axis.coords)}")
        return self._in_box(boxed)._by_columns(rest)

    def _in_box(self, boxed: Mapping[int, Positions]) -> Self:
        if not boxed:
            return self
        return self._box({i: boxed.get(i, range(axis.size)) for i, axis in enumerate(self._axes)})

    def _by_columns(self, query: Mapping[str, Any]) -> Self:
        """The items that agree with the query at each of its paths, each path looked up in all items at once."""
        if not query and self.size:
            return self
        agreed = [agreeing(self._column(path), wanted) for path, wanted in query.items()]
        found = sorted(set.intersection(*map(set, agreed))) if len(agreed) > 1 else [*chain(*agreed)]
        if not found:
            raise SelectionError(self._why_none(query))
        return self._selected(found)

    def _why_none(self, query: Mapping[str, Any]) -> str:
        """Which key or value of a query no item has, and what there is."""
        for path, wanted in _asked(query):
            values = [value for item in self if (value := lookup(item, path, NOTHING)) is not NOTHING]
            if not values:
                known = {known for item in self for known in _paths(item)}
                return f"no item has {path!r}; {nearest(path, sorted(known))}"
            if not self._some({path: wanted}):
                return f"{path!r} is {wanted!r} in no item; there is {listing(_distinct(values))}"
        return f"no item has all of {dict(query)!r} at once"

    def _some(self, query: Mapping[str, Any]) -> bool:
        return any(matches(item, query) for item in self)

    def filter(self, predicate: Callable[[T], Any]) -> Self:
        """The items for which the predicate holds; with axes where they are a box, else flat. May be empty.

        >>> Tensor([1, 2, 3, 4], (2, 2)).filter(lambda n: n % 2 == 0).shape
        (2, 1)
        """
        return self._selected([i for i, item in enumerate(self) if predicate(item)])

    def item(self) -> T:
        """The sole item. Raises `SelectionError` if there is another number of them."""
        if self.size != 1:
            raise SelectionError(f"item() takes the sole item out of a tensor, and this one has {self.size}")
        return self._cells[0]

    def map(self, fn: Callable[[T], U]) -> "Tensor[U]":
        """The tensor of what `fn` returns for each item, of the same shape and axes."""
        return Tensor.of_cells(tuple(fn(item) for item in self), self._axes)

    def tolist(self) -> list[Any]:
        """The items in nested lists, one level for each axis, as in NumPy."""
        if not self.size:
            return _hollow(self._shape)
        nested: list[Any] = list(self)
        for size in self._shape[:0:-1]:
            nested = [nested[i : i + size] for i in range(0, len(nested), size)]
        return nested if self.ndim else nested[0]  # NumPy too gives a bare item for no axes

    def isel(self, indexers: Mapping[str, Any] | None = None, /, **kwargs: Any) -> Any:
        """The items at positions along named axes: an int drops its axis, a slice or list keeps it.

        >>> Tensor("abcdef", (2, 3)).isel(axis_1=-1).tolist()
        ['c', 'f']
        """
        wanted = {**(indexers or {}), **kwargs}
        by_number = {self._number(name): entry for name, entry in wanted.items()}
        return self._by_axes(tuple(by_number.get(i, slice(None)) for i in range(self.ndim)))

    def sel(self, indexers: Mapping[str, Any] | None = None, /, **kwargs: Any) -> Any:
        """The items at coordinates along named axes: one value drops its axis, a list of values keeps it.

        A name with dots goes in a dict: `t.sel({"mlp.width": 64})`. A value that several positions share
        keeps the axis.

        Raises `SelectionError` for an unknown axis or coordinate, saying what there is.
        """
        wanted = {**(indexers or {}), **kwargs}
        return self.isel({name: self._coordinate(self._number(name), value) for name, value in wanted.items()})

    def _number(self, name: str) -> int:
        names = [axis.name for axis in self._axes]
        if name not in names:
            raise SelectionError(f"no axis is named {name!r}; {nearest(name, names, 'the axes are')}")
        return names.index(name)

    def _coordinate(self, number: int, value: Any) -> int | list[int]:
        axis = self._axes[number]
        found = [i for i, coord in enumerate(axis.coords) if equal(coord, value)]
        if len(found) == 1:
            return found[0]
        if not found and isinstance(value, list):
            each = [self._coordinate(number, item) for item in value]
            return [i for found in each for i in (found if isinstance(found, list) else [found])]
        if not found:
            raise SelectionError(f"axis {axis.name!r} has no coordinate {value!r}; there is {listing(axis.coords)}")
        return found


def default_axes(shape: Shape) -> tuple[Axis, ...]:
    """Axes without names of their own: `axis_0`, `axis_1`, …, with the positions as coordinates."""
    return tuple(Axis(f"axis_{i}", range(size)) for i, size in enumerate(shape))


def _spread(index: tuple[Any, ...], ndim: int) -> tuple[Any, ...]:
    """One entry for each axis: an ellipsis, or what is missing at the end, stands for whole axes."""
    dots = [i for i, entry in enumerate(index) if entry is ...]
    if len(dots) > 1:
        raise SelectionError("an index can have one ellipsis ('...') only")
    if len(index) - len(dots) > ndim:
        raise SelectionError(f"too many indices: {len(index) - len(dots)} for a tensor of {ndim} axes")
    whole = (slice(None),) * (ndim - len(index) + len(dots))
    at = dots[0] if dots else len(index)
    return (*index[:at], *whole, *index[at + 1 :])


def _kept(entry: Any, size: int, what: str) -> int | Positions:
    """The position, or the positions, that one entry of an index keeps along an axis of `size`."""
    entry = _plain(entry)
    if isinstance(entry, (list, tuple, range)):
        return _positions([_plain(each) for each in entry], size, what)
    try:
        if isinstance(entry, slice):
            return range(size)[entry]
        if isinstance(entry, bool):  # which Python would take for 0 or 1
            raise TypeError
        position = as_int(entry)
    except (TypeError, ValueError):  # a slice of other things than ints, or with the step 0
        words = f"{what} cannot be indexed with {entry!r}, of type {type(entry).__name__}"
        raise SelectionError(f"{words}; use an int, a slice or a list of ints") from None
    if not -size <= position < size:
        raise SelectionError(f"index {position} is outside {what}, which has {size} positions")
    return position % size


def _plain(entry: Any) -> Any:
    """The Python number, bool or list that a NumPy scalar or array holds; anything else as it is."""
    return entry.tolist() if hasattr(entry, "dtype") else entry


def _positions(entries: Sequence[Any], size: int, what: str) -> Positions:
    """The positions that a list of ints, or of as many booleans as there are positions, keeps."""
    if entries and all(isinstance(entry, bool) for entry in entries):
        if len(entries) != size:
            raise SelectionError(f"a mask of {len(entries)} booleans does not fit {what}, which has {size} positions")
        return tuple(i for i, flag in enumerate(entries) if flag)
    kept = [_kept(entry, size, what) for entry in entries]
    if not all(isinstance(position, int) for position in kept):
        raise SelectionError(f"{what} cannot be indexed with a nested list; use a flat list of ints")
    return tuple(kept)  # type: ignore[arg-type]  # just seen to be ints


def _hollow(shape: Shape) -> list[Any]:
    """The nested lists of a shape that holds nothing."""
    return [_hollow(shape[1:]) for _ in range(shape[0])] if len(shape) > 1 else []


def _paths(item: Any) -> list[str]:
    """The dotted paths of an item that is a mapping, or shows one."""
    mapping = shown(item)
    return [plainly(mapping, path) for path, _ in leaves(mapping)] if isinstance(mapping, Mapping) else []


def _asked(query: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The dotted paths of a query, whose own keys are dotted, and the values it asks for there."""
    for key in sorted(query, key=str):
        value = query[key]
        yield from leaves(value, f"{key}.") if isinstance(value, Mapping) and value else [(f"{key}", value)]


def _distinct(values: Iterable[Any]) -> list[Any]:
    """The values without repetition, in their order; equality is enough, as they need not be hashable."""
    found: list[Any] = []
    for value in values:
        if not any(equal(value, other) for other in found):
            found.append(value)
    return found
