"""`Tensor`: items of any type in the shape of a grid, with named axes, to be indexed and selected.

Knows shapes, positions and names; not how a grid is made (`sweep`) nor what an item means. A Tensor never changes, and
may be lazy: `cells` is whatever gives the item at a flat position, so a slice of a grid is another few numbers.
"""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import translate
from itertools import chain, compress, product
from math import prod
from operator import index as as_int
from operator import lt
from types import EllipsisType
from typing import TYPE_CHECKING, Any, Generic, Protocol, Self, SupportsIndex, TypeVar, overload

from pyexp.axes import (
    Axis,
    Picked,
    Positions,
    Shape,
    count,
    default_axes,
    flat_axis,
    positions_agreeing_with,
    strides_of,
)
from pyexp.configs import NOTHING, agreeing, equal, leaves, lookup, matches, shown, unescaped
from pyexp.errors import SelectionError, closest, listing, nearest

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
U = TypeVar("U")


class Cells(Protocol[T_co]):
    """What gives the item at a flat position, counted in C order."""

    def __getitem__(self, position: int, /) -> T_co: ...
    def __iter__(self) -> Iterator[T_co]: ...


def may_be_walked(cells: Cells[Any]) -> bool:
    """Whether cells may be made that nobody looks at: not if a user's function makes them, which may fail."""
    return isinstance(cells, tuple) or bool(getattr(cells, "may_be_walked", False))


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

    @property
    def may_be_walked(self) -> bool:
        return may_be_walked(self.cells)

    def __iter__(self) -> Iterator[T]:
        if any(count(positions) > _LONG for positions in self.kept):
            return (self[i] for i in range(prod(map(count, self.kept))))
        is_worth_it = self.strides == (1,) and not isinstance(self.cells, tuple) and may_be_walked(self.cells)
        if is_worth_it and (kept := _flags(self.kept[0], self.offset)):
            return compress(self.cells, kept)
        steps = ([position * stride for position in kept] for kept, stride in zip(self.kept, self.strides, strict=True))
        return map(self.cells.__getitem__, map(sum, product([self.offset], *steps)))


def _flags(positions: Positions, offset: int) -> bytearray:
    """For each item whether it is at one of the positions, if these are ascending and so many that a walk is faster."""
    if not positions or positions[-1] + offset >= 8 * len(positions) or not all(map(lt, positions, positions[1:])):
        return bytearray()
    flags = bytearray(positions[-1] + offset + 1)
    for position in positions:
        flags[position + offset] = 1
    return flags


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


class Tensor(Collection[T_co], Generic[T_co]):
    """Items in a grid: immutable, of any element type.

    One rule for indexing: a single index speaks of the flat sequence (C order), a tuple of the axes, and a string, a
    mapping or a predicate selects. `len` and iteration are flat.

    >>> t = Tensor("abcdef", (2, 3))
    >>> t[4], t[1, 1], t[:, 0].tolist(), t[:, [0, 2]].shape
    ('e', 'e', ['a', 'd'], (2, 2))
    """

    __slots__ = ("_axes", "_cells", "_pending", "_shape")
    _axes: tuple[Axis, ...]
    _cells: Cells[T_co]
    _shape: Shape
    _pending: "tuple[Self, Callable[[T_co], Any]]"

    def __init__(self, items: Iterable[T_co], shape: Iterable[int] | None = None, axes: Sequence[Axis] | None = None):
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
        self._cells = cells
        self._shape = shape
        self._axes = tuple(axes) if axes is not None else default_axes(shape)

    @classmethod
    def of_cells(cls, cells: Cells[T_co], axes: Sequence[Axis]) -> Self:
        """The tensor whose items the cells make when they are looked at."""
        self = cls.__new__(cls)
        self._cells, self._axes, self._shape = cells, tuple(axes), tuple(axis.size for axis in axes)
        return self

    if not TYPE_CHECKING:  # pragma: no branch  # a checker would take any name for an attribute

        def __getattr__(self, name: str) -> Any:
            # Only what is not there is asked for here: of what `where` returned, the cells until one looks at them.
            if name in ("_axes", "_cells", "_shape") and (pending := getattr(self, "_pending", None)) is not None:
                made = pending[0].filter(pending[1])
                self._axes, self._cells, self._shape = made._axes, made._cells, made._shape
                del self._pending
                return getattr(self, name)
            words = f"{type(self).__name__!r} object has no attribute {name!r}"
            if not name.startswith("_") and self.size == 1:
                words += f"; to look into its one item, use .item().{name}"
            raise AttributeError(words, name=name, obj=self)

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
    def dims(self) -> tuple[str, ...]:
        """The names of the axes, as xarray calls them."""
        return tuple(axis.name for axis in self._axes)

    @property
    def sizes(self) -> dict[str, int]:
        """The number of positions along each axis, by its name."""
        return {axis.name: axis.size for axis in self._axes}

    @property
    def coords(self) -> dict[str, Sequence[Any]]:
        """The coordinates by name: one for each position along the axis on which they are.

        A selection that does not fill a box of its grid is flat. It has a coordinate of each cell for each axis of the
        grid.
        """
        found = [item for axis in self._axes for item in axis.known.items()]
        is_long = {name: not isinstance(coords, Picked) or count(coords) > _LONG for name, coords in found}
        return {name: coords if is_long[name] else tuple(coords) for name, coords in found}

    @property
    def cells(self) -> Cells[T_co]:
        """What gives the item at a flat position: for those who build lazy tensors on this one."""
        return self._cells

    def __len__(self) -> int:
        return self.size

    def __bool__(self) -> bool:
        return self.size > 0  # len() fails where there are more than 2^63

    def __iter__(self) -> Iterator[T_co]:
        if (pending := getattr(self, "_pending", None)) is not None:  # no further than one looks
            return filter(pending[1], pending[0])
        return iter(self._cells)

    def __contains__(self, item: object) -> bool:
        """Whether it is the name of an item, or equal to one."""
        return (isinstance(item, str) and item in self.names) or any(equal(own, item) for own in self)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        """A NumPy array of this shape, of numbers or texts. Where one of them would change, it holds objects."""
        if copy is False:
            raise ValueError("a Tensor has no array to share, so that copy=False cannot be; use numpy.asarray")
        made = array_of(list(self)) if dtype is None else object_array(list(self)).astype(dtype)
        return made.reshape(self._shape)

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
    def __getitem__(self, index: SupportsIndex) -> T_co: ...
    @overload
    def __getitem__(
        self, index: "slice | list[int] | Mapping[str, Any] | Callable[[T_co], Any] | Tensor[bool] | EllipsisType"
    ) -> Self: ...
    @overload
    def __getitem__(self, index: tuple[slice | list[int], ...]) -> Self: ...
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

    def _box(self, kept: Mapping[int, Positions], offset: int = 0, axes: Sequence[Axis] | None = None) -> Self:
        """The product of the positions kept along some axes, `offset` saying where along the others."""
        strides = tuple(self._strides[i] for i in kept)
        if axes is None:
            axes = [self._axes[i].take(positions) for i, positions in kept.items()]
        return self._view(Box(self._cells, tuple(kept.values()), strides, offset), axes)

    def _flat(self, positions: Positions) -> Self:
        if self.ndim == 1:
            return self._box({0: positions})
        return self._view(Box(self._cells, (positions,), (1,)), [flat_axis(self._axes, positions)])

    def _selected(self, positions: Positions) -> Self:
        """The items at ascending flat positions: with axes where they are a box, else flat."""
        box = box_of(positions, self._shape) if positions else None
        return self._flat(positions) if box is None else self._box(dict(enumerate(box)))

    def _view(self, box: Box[T_co], axes: Sequence[Axis]) -> Self:
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
            return self._by_key(name, [known for known in names if known is not None])
        return self._selected(found)

    def _by_key(self, key: str, names: Sequence[str]) -> Any:
        """What a string selects that no name matches; raise `SelectionError` if that is nothing."""
        raise SelectionError(self._unnamed(key, names))

    def _unnamed(self, name: str, names: Sequence[str]) -> str:
        words = f"no item is named {name!r} or matches it as a glob; {nearest(name, names, 'the names are')}"
        return f"{words}; to look into its one item, use .item()[{name!r}]" if self.size == 1 else words

    @property
    def names(self) -> list[Any]:
        """The items' names, flat; None for an item that has none."""
        return [None if name is NOTHING else name for name in self._column("name")]

    def _column(self, path: str) -> list[Any]:
        """The items' values at a dotted path, flat; NOTHING for an item that has none there."""
        return [lookup(item, path, NOTHING) for item in self]

    def _key_at(self, path: str) -> str | None:
        """The key of an axis that an item's value at this path is the coordinate for, if it is one's.

        It is in the cells of a sweep, which are lazy. Items that are there already may be anything.
        """
        return None if isinstance(self._cells, tuple) else path

    def _along(self, path: str) -> tuple[int, Sequence[Any]] | None:
        """The axis whose coordinates are the items' values at this path, and these, if there is one."""
        key = self._key_at(path)
        along = ((number, axis.at_key(key)) for number, axis in enumerate(self._axes) if key is not None)
        return next(((number, coords) for number, coords in along if coords is not None), None)

    def _by_query(self, query: Mapping[str, Any]) -> Self:
        boxed: dict[int, Positions] = {}
        rest = dict(query)
        for path, wanted in query.items():
            number, coords = self._along(path) or (-1, ())
            if number >= 0 and number not in boxed:
                boxed[number] = positions_agreeing_with(coords, rest.pop(path))
                if not boxed[number]:
                    hint = f"{closest(wanted, coords)}; there is {listing(coords)}"
                    raise SelectionError(f"{path!r} is {wanted!r} in no item{hint}")
        return self._in_box(boxed)._by_columns(rest)

    def _in_box(self, boxed: Mapping[int, Positions]) -> Self:
        if not boxed:
            return self
        return self._box({i: boxed.get(i, range(axis.size)) for i, axis in enumerate(self._axes)})

    def _by_columns(self, query: Mapping[str, Any]) -> Self:
        """The items that agree with the query at each of its paths, each path looked up in all items at once."""
        if not query and self.size:
            return self
        agreed = [positions_agreeing_with(self._column(path), wanted) for path, wanted in query.items()]
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
                there = _distinct(values)
                return f"{path!r} is {wanted!r} in no item{closest(wanted, there)}; there is {listing(there)}"
        return f"no item has all of {dict(query)!r} at once"

    def _some(self, query: Mapping[str, Any]) -> bool:
        return any(matches(item, query) for item in self)

    def filter(self, predicate: Callable[[T_co], Any]) -> Self:
        """The items for which the predicate holds; with axes where they are a box, else flat. May be empty.

        In a flat one each item keeps its coordinates, so that `sel` and the means along an axis go on.

        >>> Tensor([1, 2, 3, 4], (2, 2)).filter(lambda n: n % 2 == 0).shape
        (2, 1)
        """
        return self._selected([i for i, item in enumerate(self) if predicate(item)])

    def where(self, predicate: Callable[[T_co], Any]) -> Self:
        """What `filter` returns, but no item is looked at before it is; a walk goes no further than it is followed.

        >>> next(iter(Tensor([1, 2, 3, 4]).where(lambda n: n > 2)))
        3
        """
        made = type(self).__new__(type(self))
        made._pending = (self, predicate)
        return made

    def item(self) -> T_co:
        """The sole item. Raises `SelectionError` if there is another number of them."""
        if self.size != 1:
            raise SelectionError(f"item() takes the sole item out of a tensor, and this one has {self.size}")
        return self._cells[0]

    def squeeze(self, *axes: str) -> Self:
        """The items without the axes (or these) that have one position, and without coordinates that all share.

        Raises `SelectionError` for an unknown axis, or one of another length.

        >>> Tensor("ab", (1, 2)).squeeze().shape
        (2,)
        """
        kept, left = {}, []
        for number, axis in enumerate(self._axes):
            rest = axis.squeezed(axes)
            if rest is not None:
                kept[number] = range(axis.size)
                left.append(rest)
        for name in axes:
            if any(name in axis.known for axis in left):
                raise SelectionError(f"axis {name!r} has more than one coordinate, so it cannot be left out")
            self._number(name)
        return self._box(kept, axes=left)

    def map(self, fn: Callable[[T_co], U]) -> "Tensor[U]":
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

    @overload
    def isel(
        self,
        indexers: Mapping[str, slice | list[int]] | None = None,
        /,
        **kwargs: slice | list[int],
    ) -> Self: ...
    @overload
    def isel(self, indexers: Mapping[str, Any] | None = None, /, **kwargs: Any) -> Any: ...
    def isel(self, indexers: Mapping[str, Any] | None = None, /, **kwargs: Any) -> Any:
        """The items at positions along named axes: an int drops its axis, a slice or list keeps it.

        Raises `SelectionError` for an unknown axis or position, and where cells have a coordinate of this name but
        do not lie along an axis of it.

        >>> Tensor("abcdef", (2, 3)).isel(axis_1=-1).tolist()
        ['c', 'f']
        """
        wanted = {**(indexers or {}), **kwargs}
        by_number = {}
        for name, entry in wanted.items():
            number = self._number(name)
            if self._axes[number].level(name) is not None:
                raise SelectionError(
                    f"{name!r} is a coordinate here, and no axis along which positions are counted; "
                    f"use sel({name}=…), or index the flat sequence"
                )
            by_number[number] = entry
        return self._by_axes(tuple(by_number.get(i, slice(None)) for i in range(self.ndim)))

    @overload
    def sel(self, indexers: Mapping[str, slice] | None = None, /, **kwargs: slice) -> Self: ...
    @overload
    def sel(self, indexers: Mapping[str, Any] | None = None, /, **kwargs: Any) -> Any: ...
    def sel(self, indexers: Mapping[str, Any] | None = None, /, **kwargs: Any) -> Any:
        """The items at coordinates along named axes: one value drops its axis, several keep it.

        Several values are a list, tuple, range or array of them, or a slice from one to another, both included.
        A name with dots goes in a dict: `t.sel({"mlp.width": 64})`. A value that several positions share
        keeps the axis. In a flat selection, one value drops its coordinate.

        Raises `SelectionError` for an unknown axis or coordinate, saying what there is.

        >>> Tensor("abcdef", (2, 3)).sel(axis_1=slice(1, 2)).tolist()
        [['b', 'c'], ['e', 'f']]
        """
        by_number: dict[int, dict[str, Any]] = {}
        for name, value in {**(indexers or {}), **kwargs}.items():
            by_number.setdefault(self._number(name), {})[name] = value
        kept: dict[int, Positions] = {}
        axes: list[Axis] = []
        offset = 0
        for number, (axis, stride) in enumerate(zip(self._axes, self._strides, strict=True)):
            found, left = axis.select(by_number[number]) if number in by_number else (range(axis.size), axis)
            if isinstance(found, int):
                offset += found * stride
            else:
                kept[number] = found
                axes.append(left)
        return self._box(kept, offset, axes) if kept else self._cells[offset]

    def _number(self, name: str) -> int:
        """The axis of this name, or on which the items have a coordinate of this name."""
        for number, axis in enumerate(self._axes):
            if name in axis.known:
                return number
        if name in self.dims:
            return self.dims.index(name)
        raise SelectionError(f"no axis is named {name!r}; {nearest(name, self.coords, 'the axes are')}")


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


def object_array(items: Sequence[Any]) -> Any:
    """The items in a flat NumPy array of objects, each as it is."""
    import numpy

    made = numpy.empty(len(items), dtype=object)
    for i, item in enumerate(items):
        made[i] = item
    return made


def array_of(items: list[Any]) -> Any:
    """The items in a flat NumPy array, of the type that NumPy chooses. Where that changes an item, it holds objects."""
    import numpy

    made: Any
    kinds = set(map(type, items))
    if _is_scalar(kinds) or kinds in ({float}, {complex}):
        return numpy.array(items)
    if kinds in ({int}, {bool}, {str}, {bytes}):
        made = numpy.array(items)
        if made.tolist() == items and (kinds != {int} or made.dtype.kind in "iu"):
            return made
    if kinds in (set(), {int, float}):
        made = numpy.array(items)
        if all(value == item or item != item for value, item in zip(made.tolist(), items, strict=True)):
            return made
    return object_array(items)


def _is_scalar(kinds: set[type]) -> bool:
    """Whether the items are of one type of NumPy's numbers."""
    parents = {(at.__module__, at.__name__) for kind in kinds for at in kind.__mro__}
    return len(kinds) == 1 and ("numpy", "generic") in parents


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
    return [unescaped(mapping, path) for path, _ in leaves(mapping)] if isinstance(mapping, Mapping) else []


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
