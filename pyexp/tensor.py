"""`Tensor`: items of any type in the shape of a grid, with named axes, to be indexed and selected.

Knows shapes, positions and names. Does not know how a grid is made (`sweep`) or what an item means. A Tensor never
changes. It may be lazy: `cells` is any object that returns the item at a flat position, so that slicing copies no item.
"""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import translate
from itertools import product
from math import prod
from operator import index as as_int
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
from pyexp.configs import NOTHING, FrozenConfig, equal, is_numpy, leaves, lookup, shown, thaw, unescaped
from pyexp.errors import SelectionError, UsageError, called, closest, listing, nearest
from pyexp.text import html_table, in_a_line

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
U = TypeVar("U")


class Cells(Protocol[T_co]):
    """An object that returns the item at a flat position, counted in C order."""

    def __getitem__(self, position: int, /) -> T_co: ...
    def __iter__(self) -> Iterator[T_co]: ...


#: Positions along a longer axis are computed one by one, not listed.
_LONG = 1_000_000


@dataclass(frozen=True, slots=True)
class Box(Generic[T]):
    """A product of positions in other cells: the item is at the sum of `offset` and each position times its stride."""

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


def box_of(positions: Positions, shape: Shape) -> tuple[Positions, ...] | None:
    """One index set for each axis, if the flat positions are their product; None if they do not form a box.

    >>> box_of([0, 2], (2, 2)), box_of([0, 3], (2, 2))
    (((0, 1), (0,)), None)
    """
    sets: list[list[int]] = []
    for size, stride in zip(shape, strides_of(shape), strict=True):
        sets.append(sorted({position // stride % size for position in positions}))
        if len(positions) % len(sets[-1]):  # cannot be a box, whatever the other axes are
            return None
    # The positions are distinct members of the product, so they are all of it if there are as many.
    return tuple(map(tuple, sets)) if prod(map(len, sets)) == len(positions) else None


class Tensor(Collection[T_co], Generic[T_co]):
    """Items in a grid: immutable, of any element type.

    One rule for indexing: a single index counts along the flat sequence (C order), a tuple indexes the axes, and a
    string, a mapping or a predicate selects. `len` and iteration are flat.

    >>> t = Tensor("abcdef", (2, 3))
    >>> t[4], t[1, 1], t[:, 0].tolist(), t[:, [0, 2]].shape
    ('e', 'e', ['a', 'd'], (2, 2))
    """

    __slots__ = ("_axes", "_cells", "_pending", "_shape")
    _axes: tuple[Axis, ...]
    _cells: Cells[T_co]
    _shape: Shape
    _pending: "tuple[Self, Callable[[T_co], Any]]"
    #: A hint for an attribute that is missing and like no other.
    _INSTEAD = "; numpy.asarray(…) makes an array of it"

    def __init__(self, items: Iterable[T_co], shape: Iterable[int] | None = None, axes: Sequence[Axis] | None = None):
        """Put the items, given in C order, into a shape; flat without one.

        Raises `SelectionError` (a ValueError) if the number of items or the axes do not fit the shape.
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
        """A lazy tensor: `cells` returns each item when it is used."""
        self = cls.__new__(cls)
        self._cells, self._axes, self._shape = cells, tuple(axes), tuple(axis.size for axis in axes)
        return self

    if not TYPE_CHECKING:  # pragma: no branch  # a checker would take any name for an attribute

        def __getattr__(self, name: str) -> Any:
            # Python calls this for missing attributes only: here, the cells of what `where` returned, when first used.
            if name in ("_axes", "_cells", "_shape") and (pending := getattr(self, "_pending", None)) is not None:
                made = pending[0].filter(pending[1])
                self._axes, self._cells, self._shape = made._axes, made._cells, made._shape
                del self._pending
                return getattr(self, name)
            hint = "" if name.startswith("_") else self._hint(name) or self._INSTEAD
            # With the object and no name, Python adds no hint of its own to the error's.
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}{hint}", obj=self)

        def _no_arithmetic(self, other: object) -> Any:
            if hasattr(other, "__array__") and not isinstance(other, Tensor):
                return NotImplemented  # an array takes this for an array
            raise UsageError(
                "a Tensor has no arithmetic; numpy.asarray(…) has it, filter(lambda item: …) selects, and "
                "concat([a, b]) joins grids"
            )

        __add__ = __sub__ = __mul__ = __truediv__ = __lt__ = __le__ = __gt__ = __ge__ = _no_arithmetic

    def _hint(self, name: str) -> str:
        """What to use in place of an attribute that is missing, after a semicolon."""
        with suppress(Exception):  # several items, or a user's function fails to make the one
            item = self.item()
            if hasattr(item, name) or lookup(item, name, NOTHING) is not NOTHING:
                return f"; to look into its one item, use .item().{name}"
        if any(name in axis.known for axis in self._axes):
            return f"; its coordinates are .coords[{name!r}], and .sel({name}=…) selects"
        if name in ("append", "extend"):
            return "; a Tensor never changes: pyexp.concat([a, b]) joins two"
        from difflib import get_close_matches  # only a mistake pays for it

        known = [each for each in dir(type(self)) if not each.startswith("_")]
        return "".join(f"; did you mean {each!r}?" for each in get_close_matches(name, known, n=1, cutoff=0.7))

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
        """The coordinates by name, one for each position along their axis.

        A selection that does not fill a box of its grid is flat, and its one axis has the coordinates of all axes of
        the grid.
        """
        found = [item for axis in self._axes for item in axis.known.items()]
        is_long = {name: not isinstance(coords, Picked) or count(coords) > _LONG for name, coords in found}
        return {name: coords if is_long[name] else tuple(coords) for name, coords in found}

    @property
    def cells(self) -> Cells[T_co]:
        """The object that returns the item at a flat position. Use it to build a lazy tensor on this one."""
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
        """Whether `item` is the name of an item, or equals one."""
        return (isinstance(item, str) and item in self.names) or any(equal(own, item) for own in self)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        """A NumPy array of this shape. It holds numbers or texts, or objects if an item would change otherwise."""
        if copy is False:
            raise ValueError("a Tensor has no array to share, so copy=False is impossible; use numpy.asarray")
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

    def _repr_html_(self) -> str:
        """The dimensions, the coordinates and the first items, as a notebook shows them."""
        rows = [
            (name, axis.name, in_a_line((thaw(coords[i]) for i in range(min(axis.size, 8))), axis.size))
            for axis in self._axes
            for name, coords in axis.known.items()
        ]
        shape = ", ".join(f"{axis.name}: {axis.size}" for axis in self._axes)
        shown = (self[i] for i in range(min(self.size, 3)))
        first = in_a_line((thaw(item) if isinstance(item, FrozenConfig) else item for item in shown), self.size)
        head = f"{type(self).__name__} ({shape}): {first}"
        return html_table(["coordinate", "dimension", "values"], rows, len(rows), head)

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
        """The item or selection at `index`, by the rule in the class docstring.

        Raises `SelectionError` (an IndexError) if it selects nothing. The message lists what could be selected.
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
        strides = strides_of(self._shape)
        offset = sum(entry * stride for entry, stride in zip(kept, strides, strict=True) if isinstance(entry, int))
        stays = {i: entry for i, entry in enumerate(kept) if not isinstance(entry, int)}
        return self._box(stays, offset) if stays else self._cells[offset]

    def _box(self, kept: Mapping[int, Positions], offset: int = 0, axes: Sequence[Axis] | None = None) -> Self:
        """The product of the positions kept along some axes; `offset` fixes the position along the others."""
        strides = strides_of(self._shape)
        if axes is None:
            axes = [self._axes[i].take(positions) for i, positions in kept.items()]
        return self._view(Box(self._cells, tuple(kept.values()), tuple(strides[i] for i in kept), offset), axes)

    def _flat(self, positions: Positions) -> Self:
        if self.ndim == 1:
            return self._box({0: positions})
        return self._view(Box(self._cells, (positions,), (1,)), [flat_axis(self._axes, positions)])

    def _selected(self, positions: Positions) -> Self:
        """The items at ascending flat positions: with axes if they form a box, flat otherwise."""
        box = box_of(positions, self._shape) if positions else None
        return self._flat(positions) if box is None else self._box(dict(enumerate(box)))

    def _view(self, box: Box[T_co], axes: Sequence[Axis]) -> Self:
        # Items that exist already are copied, so that a small selection does not keep a large tensor alive.
        return self.of_cells(tuple(box) if isinstance(self._cells, tuple) else box, axes)  # of a subclass: the same

    def _by_mask(self, mask: Any) -> Self:
        if mask.shape != self.shape:
            raise SelectionError(f"a mask of shape {mask.shape} does not fit a tensor of shape {self.shape}")
        flags = list(map(_plain, mask if isinstance(mask, Tensor) else mask.ravel()))
        if not all(isinstance(flag, bool) for flag in flags):
            raise SelectionError(f"a tensor or array as index has to hold booleans, as a mask of shape {self.shape}")
        return self._selected([i for i, flag in enumerate(flags) if flag])

    def _by_name(self, name: str) -> Any:
        names = [known if isinstance(known, str) else None for known in self._column("name")]
        exact = [i for i, known in enumerate(names) if known == name]
        if len(exact) == 1:
            return self._cells[exact[0]]
        fits = re.compile(translate(name)).match
        found = exact or [i for i, known in enumerate(names) if known is not None and fits(known)]
        if not found:
            return self._by_key(name, [known for known in names if known is not None])
        return self._selected(found)

    def _by_key(self, key: str, names: Sequence[str], hint: str = "") -> Any:
        """What a string selects if no name matches it: nothing here, so raise `SelectionError`, with the hint."""
        words = f"no item is named {key!r} or matches it as a glob; {nearest(key, names, 'the names are')}"
        inside = f"; to look into its one item, use .item()[{key!r}]" if self.size == 1 else ""
        raise SelectionError(f"{words}{inside}{hint}")

    @property
    def names(self) -> list[Any]:
        """The items' names, flat; None for an item without a name."""
        return [None if name is NOTHING else name for name in self._column("name")]

    def _column(self, path: str) -> list[Any]:
        """The items' values at a dotted path, flat; NOTHING for an item without a value there."""
        return [lookup(item, path, NOTHING) for item in self]

    def _key_at(self, path: str) -> str | None:
        """The axis key that stands for this path of an item; None if no axis can tell the value.

        The lazy cells of a sweep have it. Items that exist already may be anything.
        """
        return None if isinstance(self._cells, tuple) else path

    def _by_query(self, query: Mapping[str, Any]) -> Self:
        boxed: dict[int, Positions] = {}
        rest = dict(query)
        for path, wanted in query.items():
            key = self._key_at(path)
            along = ((i, axis.at_key(key)) for i, axis in enumerate(self._axes) if key is not None)
            number, coords = next(((i, found) for i, found in along if found is not None), (-1, ()))
            if number >= 0 and number not in boxed:
                boxed[number] = positions_agreeing_with(coords, rest.pop(path))
                if not boxed[number]:
                    hint = f"{closest(wanted, coords)}; there is {listing(coords)}"
                    raise SelectionError(f"{path!r} is {wanted!r} in no item{hint}")
        whole = {i: boxed.get(i, range(axis.size)) for i, axis in enumerate(self._axes)}
        box = self._box(whole) if boxed else self
        if not rest and box.size:
            return box
        agreed = [positions_agreeing_with(box._column(path), wanted) for path, wanted in rest.items()]
        found = sorted(set.intersection(*map(set, agreed))) if agreed else []
        if not found:
            raise SelectionError(box._why_none(rest))
        return box._selected(found)

    def _why_none(self, query: Mapping[str, Any]) -> str:
        """A message: which key or value of the query no item has, and what is known in its place."""
        for path, wanted in _asked(query):
            values = [value for value in self._column(path) if value is not NOTHING]
            if not values:
                maps = [item for item in map(shown, self) if isinstance(item, Mapping)]
                known = {unescaped(item, known) for item in maps for known, _ in leaves(item)}
                return f"no item has {path!r}; {nearest(path, sorted(known))}"
            if not positions_agreeing_with(values, wanted):
                there: list[Any] = []
                for value in values:
                    if not any(equal(value, other) for other in there):  # what is equal need not be hashable
                        there.append(value)
                return f"{path!r} is {wanted!r} in no item{closest(wanted, there)}; there is {listing(there)}"
        return f"no item has all of {dict(query)!r} at once"

    @called("give a function of an item: filter(lambda r: …); sel(lr=0.1) selects by coordinates")
    def filter(self, predicate: Callable[[T_co], Any]) -> Self:
        """The items for which the predicate holds: with axes if they form a box, flat otherwise. May be empty.

        In a flat selection each item keeps its coordinates, so `sel` and means along an axis still work.

        >>> Tensor([1, 2, 3, 4], (2, 2)).filter(lambda n: n % 2 == 0).shape
        (2, 1)
        """
        _validate_function(predicate, "filter")
        return self._selected([i for i, item in enumerate(self) if predicate(item)])

    @called("give a function of an item: where(lambda r: …); sel(lr=0.1) selects by coordinates")
    def where(self, predicate: Callable[[T_co], Any]) -> Self:
        """Like `filter`, but lazy: the predicate is called only for items that an iteration reaches.

        >>> next(iter(Tensor([1, 2, 3, 4]).where(lambda n: n > 2)))
        3
        """
        _validate_function(predicate, "where")
        made = type(self).__new__(type(self))
        made._pending = (self, predicate)
        return made

    def item(self) -> T_co:
        """The only item. Raises `SelectionError` if the number of items is not one.

        >>> Tensor("abc").filter(lambda letter: letter > "b").item()
        'c'
        """
        if self.size != 1:
            raise SelectionError(f"item() takes the only item out of a tensor, and this one has {self.size}")
        return self._cells[0]

    def squeeze(self, *axes: str) -> Self:
        """The same items without the axes of one position, and without coordinates that all items share.

        If `axes` are named, drop only these. Raises `SelectionError` for an unknown axis, or one of several positions.

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
        """What `fn` returns for each item, in the same shape, with the same axes.

        >>> Tensor([1, 2], (1, 2)).map(str).tolist()
        [['1', '2']]
        """
        _validate_function(fn, "map")
        return Tensor.of_cells(tuple(fn(item) for item in self), self._axes)

    def tolist(self) -> list[Any]:
        """The items in nested lists, one level for each axis, as in NumPy.

        >>> Tensor("abcd", (2, 2)).tolist()
        [['a', 'b'], ['c', 'd']]
        """
        nested: list[Any] = list(self)
        for axis in range(self.ndim - 1, 0, -1):
            size = self._shape[axis]
            nested = [nested[i * size : (i + 1) * size] for i in range(prod(self._shape[:axis]))]
        return nested if self.ndim else nested[0]  # NumPy too gives a bare item for no axes

    @overload
    def isel(self, indexers: Mapping[str, slice | list[int]] | None = None, /, **kwargs: slice | list[int]) -> Self: ...
    @overload
    def isel(self, indexers: Mapping[str, Any] | None = None, /, **kwargs: Any) -> Any: ...
    @called("name the axes: isel(lr=0)")
    def isel(self, indexers: Mapping[str, Any] | None = None, /, **kwargs: Any) -> Any:
        """The items at positions along named axes. An int drops its axis; a slice or list keeps it.

        Raises `SelectionError` for an unknown axis or position, and for a coordinate of a flat selection: cells do not
        lie along it.

        >>> Tensor("abcdef", (2, 3)).isel(axis_1=-1).tolist()
        ['c', 'f']
        """
        by_number = {}
        for name, entry in _wanted(indexers, kwargs, "isel").items():
            number = self._number(name)
            if self._axes[number].level(name) is not None:
                raise SelectionError(
                    f"{name!r} is a coordinate here, not an axis, so it has no positions to count; "
                    f"use sel({name}=…), or index the flat sequence"
                )
            by_number[number] = entry
        return self._by_axes(tuple(by_number.get(i, slice(None)) for i in range(self.ndim)))

    @overload
    def sel(self, indexers: Mapping[str, slice] | None = None, /, **kwargs: slice) -> Self: ...
    @overload
    def sel(self, indexers: Mapping[str, Any] | None = None, /, **kwargs: Any) -> Any: ...
    @called("name the axes: sel(lr=0.1)")
    def sel(self, indexers: Mapping[str, Any] | None = None, /, **kwargs: Any) -> Any:
        """The items at coordinates along named axes. One value drops its axis; several keep it.

        Give several values as a list, tuple, range or array, or as a slice from one to another, inclusive. Put a name
        with dots in a dict: `t.sel({"mlp.width": 64})`. A value that several positions share keeps the axis. In a flat
        selection, one value drops its coordinate.

        Raises `SelectionError` for an unknown axis or coordinate. The message lists the known ones.

        >>> Tensor("abcdef", (2, 3)).sel(axis_1=slice(1, 2)).tolist()
        [['b', 'c'], ['e', 'f']]
        """
        by_number: dict[int, dict[str, Any]] = {}
        for name, value in _wanted(indexers, kwargs, "sel").items():
            by_number.setdefault(self._number(name), {})[name] = value
        kept: dict[int, Positions] = {}
        axes: list[Axis] = []
        offset = 0
        for number, (axis, stride) in enumerate(zip(self._axes, strides_of(self._shape), strict=True)):
            found, left = axis.select(by_number[number]) if number in by_number else (range(axis.size), axis)
            if isinstance(found, int):
                offset += found * stride
            else:
                kept[number] = found
                axes.append(left)
        return self._box(kept, offset, axes) if kept else self._cells[offset]

    def _number(self, name: str) -> int:
        """The number of the axis that has this name, or a coordinate of this name."""
        for number, axis in enumerate(self._axes):
            if name in axis.known:
                return number
        if name in self.dims:
            return self.dims.index(name)
        raise SelectionError(f"no axis is named {name!r}; {nearest(name, self.coords, 'the axes are')}")


def _wanted(indexers: Any, kwargs: Mapping[str, Any], method: str) -> dict[str, Any]:
    """The entries of an index by axis name. Raises `SelectionError` if they are not given by name."""
    if indexers is not None and not isinstance(indexers, Mapping):
        raise SelectionError(f"{method} takes axes by name, and not {indexers!r}; write {method}(axis=…) or a dict")
    for name in indexers or ():
        if name in kwargs:
            raise SelectionError(f"{method} has {name!r} twice, in the dict and as a keyword; keep one of them")
    return {**(indexers or {}), **kwargs}


def _validate_function(fn: Any, method: str) -> None:
    """Raise `SelectionError` for anything but a function."""
    if not callable(fn):
        remedies: dict[type, str] = {
            str: f"; an output is taken as in results[{fn!r}]",
            dict: "; to select by values, use t[{…}]",
        }
        raise SelectionError(f"{method} takes a function of an item, and not {fn!r}{remedies.get(type(fn), '')}")


def _spread(index: tuple[Any, ...], ndim: int) -> tuple[Any, ...]:
    """One entry for each axis. An ellipsis, and entries missing at the end, stand for whole axes."""
    dots = [i for i, entry in enumerate(index) if entry is ...]
    if len(dots) > 1:
        raise SelectionError("an index can have one ellipsis ('...') only")
    if len(index) - len(dots) > ndim:
        raise SelectionError(f"too many indices: {len(index) - len(dots)} for a tensor of {ndim} axes")
    whole = (slice(None),) * (ndim - len(index) + len(dots))
    at = dots[0] if dots else len(index)
    return (*index[:at], *whole, *index[at + 1 :])


def _kept(entry: Any, size: int, what: str) -> int | Positions:
    """The position or positions that one entry of an index keeps along an axis of `size`."""
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
        value = {
            float: "; to select by value, use sel(axis=value)",
            bool: "; to select by a condition, use filter(lambda item: …)",  # `tensor == value` is one bool
        }.get(type(entry), "")
        raise SelectionError(f"{words}; use an int, a slice or a list of ints{value}") from None
    if not -size <= position < size:
        raise SelectionError(f"index {position} is outside {what}, which has {size} positions")
    return position % size


def object_array(items: Sequence[Any]) -> Any:
    """A flat NumPy array of objects, which are the items themselves."""
    import numpy

    return numpy.fromiter(items, dtype=object, count=len(items))


def array_of(items: list[Any]) -> Any:
    """A flat NumPy array of the items, of the type that NumPy chooses; of objects if that type would change an item."""
    import numpy

    made: Any
    kinds = set(map(type, items))
    if kinds in ({float}, {complex}) or (len(kinds) == 1 and is_numpy(type(items[0]), "generic")):
        return numpy.array(items)
    if kinds in ({int}, {bool}, {str}, {bytes}):
        made = numpy.array(items)
        if made.tolist() == items and (kinds != {int} or made.dtype.kind in "iu"):
            return made
    if kinds in (set(), {int, float}) and all(map(is_float, items)):
        return numpy.array(items, dtype=float)
    return object_array(items)


def is_float(number: float) -> bool:
    """Whether a float holds the number exactly."""
    try:
        return isinstance(number, float) or int(float(number)) == number
    except OverflowError:
        return False


def _plain(entry: Any) -> Any:
    """A NumPy scalar or array as a Python number, bool or list. Any other value is returned as it is."""
    return entry.tolist() if hasattr(entry, "dtype") else entry


def _positions(entries: Sequence[Any], size: int, what: str) -> Positions:
    """The positions that a list of ints keeps, or a mask of one boolean for each position."""
    if entries and all(isinstance(entry, bool) for entry in entries):
        if len(entries) != size:
            raise SelectionError(f"a mask of {len(entries)} booleans does not fit {what}, which has {size} positions")
        return tuple(i for i, flag in enumerate(entries) if flag)
    kept = [_kept(entry, size, what) for entry in entries]
    if not all(isinstance(position, int) for position in kept):
        raise SelectionError(f"{what} cannot be indexed with a nested list; use a flat list of ints")
    return tuple(kept)  # type: ignore[arg-type]  # just seen to be ints


def _asked(query: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The dotted paths of a query, with the wanted values."""
    for key in sorted(query, key=str):
        value = query[key]
        yield from leaves(value, f"{key}.") if isinstance(value, Mapping) and value else [(f"{key}", value)]
