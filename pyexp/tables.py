"""`Results`, the Tensor that a report gets, and its tables: text, records, pandas, xarray, means.

Tables show scalar outputs, which the records hold, and load a result only for arrays. pandas, xarray and NumPy are
imported by the methods that return their types.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, product
from types import EllipsisType
from typing import TYPE_CHECKING, Any, TypeAlias

from pyexp.axes import MISSING, Axis, codes_along, strides_of
from pyexp.configs import NOTHING, as_python, common_config, differing, equal, leaves, lookup, parts_of, thaw
from pyexp.errors import ExtraError, ResultError, SelectionError, UsageError, called, listing, nearest
from pyexp.results import (
    EXACT,
    OWN,
    Record,
    Result,
    brief_error,
    cells_in_words,
    clipped,
    done,
    known_output,
    labels,
    records_of,
    spelled,
)
from pyexp.tensor import Tensor, array_of, is_float, object_array
from pyexp.text import Column, aligned, cut, ends, html_ends, html_table, in_words, more, printable

if TYPE_CHECKING:
    import pandas
    import xarray


#: `warnings.warn`. `pyexp/__init__.py` sets it when it loads this module.
warn: Any = None

#: Characters of a value that a printed table shows.
WIDEST = 60

#: Names of results that a notebook offers as completions.
MOST_COMPLETIONS = 1000

#: The columns of every table. An axis or output with one of these names becomes `axis.…` or `output.…`.
FIRST, LAST = ("name",), ("status", "seconds", "failure")

#: The axes to reduce, as xarray names them: one, several, all (`...`).
Dim: TypeAlias = str | Iterable[str] | EllipsisType | None


_BY_NAME = called("name the axes: results.mean('seed')")


class Results(Tensor[Result]):
    """A Tensor of `Result`, in the shape of the grid, with tables and reductions. A selection is Results too.

    `print(results)` prints a table. `results["loss"]` is the Tensor of that output, if no name is `loss`: NaN where a
    cell has no such output.

    >>> results.shape, [axis.name for axis in results.axes]
    ((1, 2, 3), ['axis_0', 'lr', 'seed'])
    >>> results.sel(lr=2.0)["loss"].tolist(), results[{"config.lr": 2.0, "config.seed": 3}].item().loss
    ([[2.0, 4.0, 6.0]], 6.0)
    """

    __slots__ = ()
    _INSTEAD = "; to_pandas() makes a DataFrame of it, numpy.asarray(results['…']) an array"

    @classmethod
    def of(cls, results: Tensor[Result]) -> "Results":
        """The results in a Tensor, as Results."""
        return cls.of_cells(results.cells, results.axes)

    def __str__(self) -> str:
        return table(self)

    def _repr_html_(self) -> str:
        """The table as a notebook shows it: the cells at both ends, their coordinates, outputs and failures."""
        shown = self[html_ends(self.size)].to_records()
        axes = coord_labels(self)
        columns = [
            key
            for key in (shown[0] if shown else FIRST)
            if not (key.startswith("config.") and key.removeprefix("config.") in axes)
            and (key in FIRST or len(shown) < 2 or any(not equal(row[key], shown[0][key]) for row in shown))
        ]
        rows = [["" if row[key] is None else brief(row[key]) for key in columns] for row in shown]
        records = records_of(self)
        told = "; ".join([counts([record.status for record in records]), *_notes(records)])
        return html_table(columns, rows, self.size, told)

    def _ipython_key_completions_(self) -> list[str]:
        records = records_of(self)
        return [*_outputs(records), *(record.name for record in records[:MOST_COMPLETIONS])]

    def to_html(self, path: Any = None) -> str:
        """Write a page with the table, the charts and the failures to one HTML file, and return its absolute path.

        It opens without a network. Only records are read, so a run need not be finished, and no result is loaded.
        Without a path it is `report.html` in the folder of the run that the results are from.

        Raises `ResultError` if they are not all from one run and no path is given; `ExtraError` (an ImportError)
        without the extra [html]; OSError.
        """
        page: Any = __import__("pyexp.look.page", fromlist=["write"])  # by name, as what writes is above this module
        return str(page.write(self, path))

    def _key_at(self, path: str) -> str | None:
        return path.removeprefix("config.") if path.startswith("config.") else None

    def _column(self, path: str) -> list[Any]:
        if path in OWN:
            return [record.name for record in records_of(self)] if path == "name" else super()._column(path)
        if path.startswith("config."):
            return [lookup(record.config, path.removeprefix("config."), NOTHING) for record in records_of(self)]
        return [_looked_up(result, path) for result in self]

    def _by_key(self, key: str, names: Sequence[str], hint: str = "") -> Any:
        outputs = [known for known in _outputs(records_of(self)) if known not in OWN]
        if key in outputs:
            return self.map(lambda result: result[key] if key in result.record.kinds else math.nan)
        if key.startswith("config."):
            hint += f"; to select by a key of the configs, use results[{{{key!r}: value}}]"
        return super()._by_key(key, names, f"{hint}; the outputs are {listing(outputs)}" if outputs else hint)

    def _hint(self, name: str) -> str:
        if name in _outputs(records_of(self)) and self.size > 1:
            return f"; an output is taken as in results[{name!r}]"
        return super()._hint(name)

    def to_records(self, *, arrays: bool = False) -> list[dict[str, Any]]:
        """A list with a dict for each cell, in C order. All have the same keys in the same order.

        The keys are `name`, the coordinates, `config.…` for each leaf of the configs, the scalar outputs, `status`,
        `seconds` and `failure`. With `arrays`, all outputs are included, which loads the results. A value that a cell
        lacks is None. An output whose name is taken is called `output.…`.

        >>> [row["loss"] for row in results.to_records()], list(results.to_records()[0])[:4]
        ([0.5, 1.0, 1.5, 2.0, 4.0, 6.0], ['name', 'axis_0', 'lr', 'seed'])
        """
        rows = list(_rows(self, arrays))
        labels = coord_labels(self)
        keys = sorted(dict.fromkeys(key for row in rows for key in row), key=lambda key: _rank(key, labels))
        names = {key: ".".join(parts_of(key)) if key.startswith("config.") else key for key in keys}
        if len(set(names.values())) < len(names):  # with plain dots, two columns would have the same name
            names = {key: key for key in keys}
        return [{name: row.get(key) for key, name in names.items()} for row in rows]

    @called("take a column of the DataFrame: results.to_pandas()['loss']")
    def to_pandas(self, *, arrays: bool | None = None) -> "pandas.DataFrame":
        """The records as a DataFrame. A column of ints or bools with gaps is nullable, so that its values stay exact.

        With `arrays=True`, outputs other than scalars become columns of objects, and the results are loaded. Without
        it they are left out, with a UserWarning; `arrays=False` leaves them out silently.

        Raises `ExtraError` (an ImportError) without pandas.

        >>> results.to_pandas(arrays=False).groupby("lr")["loss"].max().to_dict()
        {0.5: 1.5, 2.0: 6.0}
        """
        module = _imported("pandas", "to_pandas")
        if arrays is None:
            _warn_of(_others(records_of(self)), "to_pandas()", "arrays=False")
        rows = self.to_records(arrays=bool(arrays))
        columns = {key: [row[key] for row in rows] for key in (rows[0] if rows else ())}
        made: pandas.DataFrame = module.DataFrame({key: _series(module, values) for key, values in columns.items()})
        return made

    @called("take a variable of the Dataset: results.to_xarray()['loss']")
    def to_xarray(self, *, dims: Mapping[str, str | Sequence[str]] | None = None) -> "xarray.Dataset":
        """A Dataset of the scalar outputs, `status` and `seconds`, with the axes as dimensions. Missing values are NaN.

        The cells of a flat selection are put back on their grid, with NaN in the holes. Integers beside NaN become
        floats if floats hold them exactly. Values that no single NumPy type holds exactly are objects; so are bools
        and texts beside NaN. A coordinate other than a scalar becomes text.

        `dims` names the dimensions of outputs that are arrays or lists: `{"curve": ["step"]}`. Their coordinates count
        from 0, and shorter arrays are filled up with NaN. Arrays that `dims` does not name are left out; without
        `dims`, a UserWarning lists them.

        Raises `SelectionError` if `dims` do not fit or if two cells have the same coordinates, `ResultError` for a
        grid that is much larger than memory, and `ExtraError` (an ImportError) without xarray.

        >>> results.to_xarray(dims={"curve": "step"})["curve"].sizes
        Frozen({'axis_0': 1, 'lr': 2, 'seed': 3, 'step': 2})
        """
        module = _imported("xarray", "to_xarray")
        records = records_of(self)
        if dims is None:
            _warn_of(_others(records), "to_xarray()", "dims={}")
        grid = _layout(self)
        columns = {key: [known_output(r, key) for r in records] for key in _keys(records) if key not in (dims or {})}
        columns = {label_of(key, grid.coords): values for key, values in columns.items()}
        columns["status"] = [record.status for record in records]
        columns["seconds"] = [record.seconds if record.has_run else None for record in records]
        shaped = {key: (grid.dims, _array(grid.laid(values)).reshape(grid.shape)) for key, values in columns.items()}
        stacked, counted = _stacked(self, grid, dims or {})
        made: xarray.Dataset = module.Dataset(shaped | stacked, grid.coords | counted)
        return made

    def reduce(
        self, fn: Callable[[list[float]], float], *axes: str, dim: Dim = None, skipna: bool = False
    ) -> "Results":
        """The Results without these axes: each output is `fn` of the numbers along them. Without axes, reduce all.

        Name the axes one by one, or by `dim=` as in xarray. In a flat selection, cells that agree in all other
        coordinates are reduced together. Outputs other than numbers are left out. The config keeps the values that
        are the same along the axes. In the name, `*` stands for the parts that differ.

        With `skipna`, missing results and NaN are left out, and an output without any number is NaN.

        Raises `ResultError` if a cell has no result or lacks an output, unless `skipna`. Raises `SelectionError` for an
        unknown axis, and for a part of the coordinates if cells that agree in all of them have different configs.

        >>> results.reduce(lambda numbers: max(numbers) - min(numbers), "seed")["loss"].tolist()
        [[1.0, 4.0]]
        """
        return self._reduce(
            axes, dim, lambda records: _numeric(records, skipna), partial(_of_numbers, fn, skipna), skipna
        )

    def _reduce(
        self, axes: Sequence[str], dim: Dim, keys_of: Callable[[list[Record]], list[str]],
        of_values: Callable[[list[Any]], float], notes_gaps: bool = False,
    ) -> "Results":  # fmt: skip
        """The Results without these axes: each output is one number made of its values along them."""
        if not self.size:
            raise ResultError("there are no cells to reduce: these results are empty")
        gone = self._gone(axes, dim)
        is_partial = gone is not None and any(0 < len(gone & each.known.keys()) < len(each.known) for each in self.axes)
        for one, other, keys in clashing(self) if is_partial else ():
            raise SelectionError(
                f"{one.name!r} and {other.name!r} have the same coordinates, and their configs differ in "
                f"{listing(keys)}; select one of them first, by filter or results[{{'config.…': …}}]"
            )
        entries: list[Sequence[Any]] = []
        left: list[Axis] = []
        for axis in self.axes:
            if gone is None or any(map(axis.is_named, gone)):
                entries.append([slice(None)])
                continue
            groups, rest = axis.grouped(gone) if gone & axis.known.keys() else ([[i] for i in range(axis.size)], axis)
            entries.append(groups)
            left += [] if rest is None else [rest]
        outputs = keys_of(records_of(self))
        groups_of_cells = map(self.__getitem__, product(*entries)) if self.ndim else [self[:]]
        made = tuple(_reduced(group, outputs, of_values, notes_gaps) for group in groups_of_cells)
        return Results.of_cells(made, left)

    def _gone(self, axes: Sequence[str], dim: Dim) -> set[str] | None:
        """The names of the axes to reduce; None for all of them."""
        given: list[Any] = [*axes] if dim is None else [*axes, dim]
        if not given or any(each is ... for each in given):
            return None
        if any(not isinstance(each, (str, Iterable)) for each in given):
            raise SelectionError(f"a reduction names axes ({listing(self.coords)}), and not {listing(given)}")
        gone: set[str] = {name for each in given for name in ((each,) if isinstance(each, str) else each)}
        outputs = (gone - set(self.coords)) & set(_outputs(records_of(self)))
        for name in outputs:
            raise SelectionError(
                f"{name!r} is an output, and a reduction names axes ({listing(self.coords)}); take the "
                f"output afterwards: results.mean('…')[{name!r}]"
            )
        for name in gone:
            self._number(name)
        return gone

    @_BY_NAME
    def count(self, *axes: str, dim: Dim = None) -> "Results":
        """The number of values along the axes: of each scalar output, those that are not missing, None or NaN.

        It is the number of values in a mean with `skipna=True`. Missing results need no `skipna`. See `reduce` for the
        axes.

        >>> results.count("seed")["loss"].tolist()
        [[3, 3]]
        """
        return self._reduce(axes, dim, _keys, lambda values: len(_known(values)))

    @_BY_NAME
    def mean(self, *axes: str, dim: Dim = None, skipna: bool = False) -> "Results":
        """The mean along the axes, as in `results.mean("seed")`. See `reduce` for the arguments and errors.

        >>> results.mean("seed")["loss"].tolist(), results.mean()["loss"].item()
        ([[1.0, 4.0]], 2.5)
        """
        return self.reduce(_mean, *axes, dim=dim, skipna=skipna)

    @_BY_NAME
    def std(self, *axes: str, dim: Dim = None, ddof: int = 0, skipna: bool = False) -> "Results":
        """The standard deviation along the axes. See `reduce` for the arguments and errors.

        It is the root of the sum of squared deviations, divided by the number of values minus `ddof`. `ddof` is 0, as
        in NumPy and xarray. Use `ddof=1`, as in pandas, for the error bars of a sample. An output with `ddof` values or
        fewer is NaN.

        >>> results.std("seed", ddof=1)["loss"].tolist()
        [[0.5, 2.0]]
        """
        if not isinstance(ddof, int):
            raise UsageError(f"ddof is {ddof!r}, of type {type(ddof).__name__}; it takes a whole number: 0, or 1")
        return self.reduce(lambda numbers: _std(numbers, ddof), *axes, dim=dim, skipna=skipna)

    @_BY_NAME
    def median(self, *axes: str, dim: Dim = None, skipna: bool = False) -> "Results":
        """The median along the axes; the mean of the middle two for an even number. See `reduce`.

        >>> results.median("lr", "seed")["loss"].tolist()
        [1.75]
        """
        return self.reduce(_unless_nan(_median), *axes, dim=dim, skipna=skipna)

    @_BY_NAME
    def min(self, *axes: str, dim: Dim = None, skipna: bool = False) -> "Results":
        """The least number along the axes; NaN if one is NaN. See `reduce`.

        >>> results.min("seed")["loss"].tolist()
        [[0.5, 2.0]]
        """
        return self.reduce(_unless_nan(min), *axes, dim=dim, skipna=skipna)

    @_BY_NAME
    def max(self, *axes: str, dim: Dim = None, skipna: bool = False) -> "Results":
        """The greatest number along the axes; NaN if one is NaN. See `reduce`.

        >>> results.max(dim="seed")["loss"].tolist()
        [[1.5, 6.0]]
        """
        return self.reduce(_unless_nan(max), *axes, dim=dim, skipna=skipna)

    @_BY_NAME
    def sum(self, *axes: str, dim: Dim = None, skipna: bool = False) -> "Results":
        """The sum along the axes. See `reduce`.

        >>> results.sum("seed")["loss"].tolist()
        [[3.0, 12.0]]
        """
        return self.reduce(sum, *axes, dim=dim, skipna=skipna)


def clashing(results: Results) -> Iterator[tuple[Record, Record, list[str]]]:
    """Pairs of cells with the same coordinates whose configs differ, and the keys in which they do.

    A run whose base config was changed between two commands has such cells.
    """
    records = records_of(results)
    for axis, stride in zip(results.axes, strides_of(results.shape), strict=True):
        first: dict[tuple[int, ...], Record] = {}
        along = zip(*(level.codes for level in axis.levels), strict=True) if axis.is_flat and axis.levels else ()
        for position, codes in enumerate(along):
            record = records[position * stride]
            other = first.setdefault(codes, record) if record.has_run else record
            if other is not record and (keys := differing([dict(leaves(each.config)) for each in (other, record)])):
                yield other, record, keys


def _looked_up(result: Result, path: str) -> Any:
    """The result's value at a path, or NOTHING. A scalar output is taken from the record."""
    record = result.record
    if path in record.outputs and record.kinds[path] in EXACT:
        return record.outputs[path]
    return lookup(result, path, NOTHING)


def coord_labels(results: Tensor[Result]) -> list[str]:
    """The names of the coordinates in a table."""
    return [coord_label(name) for axis in results.axes for name in axis.known]


def coord_label(name: str) -> str:
    """The name of a coordinate in a table."""
    return f"axis.{name}" if name in (*FIRST, *LAST) or name.startswith(("config.", "axis.")) else name


def label_of(key: str, axes: Iterable[str]) -> str:
    """The name of an output in a table with these axes: another one for each output."""
    return f"output.{key}" if key in (*FIRST, *axes, *LAST) or key.startswith(("config.", "output.")) else key


def output_labels(results: Tensor[Result]) -> list[str]:
    """What the scalar outputs are called in a table."""
    axes = coord_labels(results)
    return [label_of(key, axes) for key in _keys(records_of(results))]


def _rows(results: Results, arrays: bool) -> Iterator[dict[str, Any]]:
    labels = coord_labels(results)
    along = (zip(*(map(thaw, coords) for coords in axis.known.values()), strict=True) for axis in results.axes)
    for at, result in zip(product(*along), results, strict=True):
        record = result.record
        config = {f"config.{path}": thaw(value) for path, value in leaves(record.config) if path != "name"}
        shown = [key for key in record.kinds if key in record.outputs or key not in OWN] if arrays else record.outputs
        # NumPy's numbers as Python's, which a gap in their column does not change.
        outputs = {
            label_of(key, labels): known_output(record, key) if key in OWN or not arrays else as_python(result[key])
            for key in shown
        }
        failure = brief_error(record) if record.failed else None
        last = {"status": record.status, "seconds": record.seconds, "failure": failure}
        yield {"name": record.name, **dict(zip(labels, chain(*at), strict=True)), **config, **outputs, **last}


def _rank(key: str, axes: Sequence[str]) -> int:
    """The place of a column's group in a row."""
    groups = (key in FIRST, key in axes, key.startswith("config."), key not in LAST)
    return groups.index(True) if True in groups else len(groups)


def instead(record: Record) -> str:
    """What a printed table shows in place of the outputs of a cell that is not done: its status, and why."""
    if record.has_run:
        return f"{record.status}: {brief_error(record)}"
    is_said = record.message.startswith(record.status)
    return clipped(record.message) if is_said else clipped(f"{record.status}: {record.message}").rstrip(": ")


def _outputs(records: Iterable[Record]) -> list[str]:
    """The names of all outputs, in order of first appearance."""
    return list(dict.fromkeys(key for record in records if not record.failed for key in record.kinds))


def _others(records: Iterable[Record]) -> list[str]:
    """The names of the outputs other than scalars. They are in the results, not in the records."""
    having = (record for record in records if len(record.kinds) > len(record.outputs))
    return list(dict.fromkeys(key for record in having for key in record.kinds if key not in record.outputs))


def _warn_of(others: Sequence[str], what: str, silent: str) -> None:
    """Warn, in the name of the method's caller, that a method of `Results` leaves out these outputs."""
    if others:
        warn(
            f"{what} leaves out what is not a scalar: {listing(others)}; to_xarray(dims={{{others[0]!r}: ['step']}}) "
            f"and to_pandas(arrays=True) include it, and {silent} switches off this warning",
            stacklevel=4,
        )


def _keys(records: Iterable[Record]) -> list[str]:
    """The names of the scalar outputs, in order of first appearance."""
    return list(dict.fromkeys(key for record in records for key in record.outputs))


def _imported(module: str, method: str) -> Any:
    try:
        return __import__(module)
    except ImportError as error:
        raise ExtraError(f"{method}() needs {module}: pip install {module} ({error})") from None


def _coordinates(coords: Sequence[Any]) -> Any:
    """The coordinates of an axis as an array. Anything but a scalar (a list, a nested config) becomes text."""
    return _array(at if at is None or isinstance(at, (bool, int, float, str)) else str(thaw(at)) for at in coords)


@dataclass(frozen=True, slots=True)
class _Layout:
    """The grid of a Dataset: its dimensions, its coordinates by label, and the flat positions of the cells on it."""

    dims: tuple[str, ...]
    shape: tuple[int, ...]
    coords: dict[str, Any]
    places: Sequence[int]

    def laid(self, values: Sequence[Any]) -> list[Any]:
        """The values of the cells in the order of the grid, with None in the holes."""
        laid: list[Any] = [None] * math.prod(self.shape)
        for place, value in zip(self.places, values, strict=True):
            laid[place] = value
        return laid


#: A grid with more places is made only if every place has a cell.
MOST_PLACES = 10_000_000


def _layout(results: Results) -> _Layout:
    """The grid of the results."""
    sizes: dict[str, int] = {}
    coords: dict[str, Any] = {}
    places = [0] * results.size
    for axis, along in zip(results.axes, codes_along(results.axes, range(results.size)), strict=True):
        levels = [level.known() for level in axis.as_levels]
        for head in (level for level in levels if level.under is None):
            label = coord_label(head.name)
            # A cell without a coordinate is at one more position.
            values = [*head.axis.coords, *([None] if MISSING in head.codes else [])]
            sizes[label] = size = len(values)
            coords[label] = (label, _coordinates(values))
            first = {code: position for position, code in reversed(tuple(enumerate(head.codes)))}
            for level in levels:
                if level.under == head.name:
                    found = [level.coords[first[code]] for code in range(head.axis.size)]
                    coords[coord_label(level.name)] = (label, _coordinates([*found, *values[len(found) :]]))
            codes = head.take(along).codes
            places = [place * size + code % size for place, code in zip(places, codes, strict=True)]
    shape = tuple(sizes.values())
    if math.prod(shape) > MOST_PLACES and math.prod(shape) > results.size:
        raise ResultError(
            f"{cells_in_words(results.size)} are spread over a grid of {math.prod(shape)} places, too many for an "
            "array; use to_pandas(), or select some of them"
        )
    first_at: dict[int, int] = {}
    for i, place in enumerate(places):
        if first_at.setdefault(place, i) != i:
            raise SelectionError(
                f"{results[first_at[place]].name!r} and {results[i].name!r} have the same coordinates, where a grid "
                "has one place; use to_pandas(), or select one of them"
            )
    return _Layout(tuple(sizes), shape, coords, places)


def _stacked(
    results: Results, grid: _Layout, dims: Mapping[str, str | Sequence[str]]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The outputs that are arrays as variables of a Dataset, and the coordinates of their dimensions."""
    known = _outputs(records_of(results))
    sizes: dict[str, int] = {}
    found: dict[str, tuple[tuple[str, ...], list[Any]]] = {}
    for key, given in dims.items():
        if key not in known:
            raise SelectionError(f"dims names {key!r}, and no result has it; {nearest(key, known, 'the outputs are')}")
        own = (given,) if isinstance(given, str) else tuple(given)
        taken = {*grid.coords, *(label_of(each, grid.coords) for each in known), "status", "seconds"} & {*own}
        if taken or len(set(own)) < len(own):
            raise SelectionError(f"dims of {key!r} are {list(own)}; each has to be a name of its own, unlike any other")
        values = [_as_array(result, key, len(own)) if key in result.record.kinds else None for result in results]
        for shape in (value.shape for value in values if value is not None):
            for name, size in zip(own, shape, strict=True):
                sizes[name] = max(size, sizes.get(name, 0))
        found[key] = own, values
    made = {}
    for key, (own, values) in found.items():
        whole = _padded(grid.laid(values), tuple(sizes[name] for name in own))
        made[label_of(key, grid.coords)] = (grid.dims + own, whole.reshape(grid.shape + whole.shape[1:]))
    return made, {name: (name, _array(range(size))) for name, size in sizes.items()}


def _as_array(result: Result, key: str, ndim: int) -> Any:
    """An output as a NumPy array of `ndim` dimensions, with its elements unchanged."""
    import numpy

    value = result[key]
    if isinstance(value, (list, tuple)):
        try:
            objects = numpy.array(value, dtype=object)
        except ValueError:  # of lists of arrays that have other shapes
            objects = object_array(value)
        made = array_of(objects.ravel().tolist()).reshape(objects.shape)
    else:
        made = numpy.asarray(value)
    if made.ndim != ndim:
        raise SelectionError(
            f"{key!r} of {result.name!r} has the shape {made.shape}, and dims names {ndim} for it; give a name for "
            "each dimension"
        )
    return made


def _padded(arrays: Sequence[Any], shape: tuple[int, ...]) -> Any:
    """One array of all arrays, each filled up with NaN to `shape`. None is all NaN. The type changes no element."""
    import numpy

    types = {array.dtype for array in arrays if array is not None}
    kinds = {each.kind for each in types}
    is_complete = all(array is not None and array.shape == shape for array in arrays)
    is_exact = (
        not types or (len(kinds) == 1 and kinds <= set("fcmM")) or (is_complete and (len(types) == 1 or kinds == {"U"}))
    )
    if is_complete and kinds <= set("iu") and types:
        is_exact = numpy.result_type(*types).kind in "iu"
    made: Any = numpy.empty((len(arrays), *shape), numpy.result_type(*types or [float]) if is_exact else object)
    if not is_complete:
        made.fill("NaT" if is_exact and kinds & set("mM") else math.nan)
    for i, array in enumerate(arrays):
        if array is not None:
            # As objects, the elements of times would be plain numbers, without their unit.
            is_time = not is_exact and array.dtype.kind in "mM"
            made[(i, *map(slice, array.shape))] = object_array(array.ravel()).reshape(array.shape) if is_time else array
    return made if is_exact else array_of(made.ravel().tolist()).reshape(made.shape)


def _array(values: Iterable[Any]) -> Any:
    """The scalars as a flat NumPy array, with NaN for None, of the narrowest type that changes no value."""
    return array_of([math.nan if value is None else value for value in values])


def _series(module: Any, values: list[Any]) -> Any:
    """The values as a Series of a type that changes none of them; of objects if there is no such type."""
    known = [value for value in values if value is not None]
    scalars = (bool, int, float, str)  # in this order: a bool is an int too
    kinds = {next((kind for kind in scalars if isinstance(value, kind)), type(value)) for value in known}
    is_complete = len(known) == len(values)
    dtype = None if len(kinds) < 2 else "object"  # pandas chooses for one kind
    if kinds == {bool}:
        dtype = "bool" if is_complete else "boolean"
    elif kinds == {int}:
        sizes = ((-(1 << 63), 1 << 63, "int64"), (0, 1 << 64, "uint64"))
        fitting = (name for least, end, name in sizes if least <= min(known) and max(known) < end)
        dtype = next(fitting, "object")
        if not is_complete:
            dtype = {"int64": "Int64", "uint64": "UInt64"}.get(dtype, dtype)
    elif kinds == {int, float} and all(map(is_float, known)):
        dtype = "float64"
    made = module.Series(values, dtype=dtype)
    if dtype is not None or made.dtype == object or kinds <= {*scalars}:
        return made
    is_same = all(value is None or equal(item, value) for item, value in zip(made, values, strict=True))
    return made if is_same else module.Series(values, dtype=object)


def _numeric(records: list[Record], skipna: bool) -> list[str]:
    """The names of the outputs that are numbers. Raises `ResultError` if a record lacks one, unless `skipna`."""
    lacking = [record for record in records if record.failed]
    if lacking and not skipna:
        number = f"{len(lacking)} of {cells_in_words(len(records))}"
        first = f"{lacking[0].name!r}: {brief_error(lacking[0])}"
        raise ResultError(f"{number} have no result ({first}); skipna=True takes what there is")
    done = [record for record in records if not record.failed]
    numbers = (type(None), bool, int, float)
    keys = [key for key in _keys(done) if all(isinstance(known_output(record, key), numbers) for record in done)]
    for key, record in () if skipna else product(keys, done):
        if record.outputs.get(key) is None:
            kind = record.kinds.get(key, "NoneType")
            words = f"has no {key!r}" if kind == "NoneType" else f"has a {kind} as {key!r}, and no number"
            raise ResultError(f"{record.name!r} {words}; skipna=True takes what there is")
    return keys


def _reduced(group: Results, keys: list[str], of_values: Callable[[list[Any]], float], notes_gaps: bool) -> Result:
    """One result for a group of results. Its record says which values were left out, if it `notes_gaps`."""
    records = records_of(group)
    values = {key: [record.outputs.get(key) for record in records] for key in keys}
    outputs = {key: of_values(each) for key, each in values.items()}
    made = done(outputs, [])  # a function of NumPy's returns NumPy's numbers
    name = common_name([record.name for record in records])
    numbers = {key: (len(_known(each)), len(each)) for key, each in values.items()}
    gaps = [f"{key} has {number} of {size} values" for key, (number, size) in numbers.items() if number < size]
    record = Record(
        name=name,
        config=common_config([record.config for record in records]),
        hash="",
        status="done",
        outputs=made["outputs"],
        kinds=made["kinds"],
        message=f"{name}: {', '.join(gaps)}" if notes_gaps and gaps else next(_told(records), ""),
        started=min(record.started for record in records),
        seconds=math.fsum(record.seconds for record in records),
    )
    return Result(record, None, partial(dict, outputs))


def _told(records: Iterable[Record]) -> Iterator[str]:
    """What the records of reduced results say about values that were left out."""
    return (record.message for record in records if record.message and not record.failed)


def _notes(records: Sequence[Record]) -> list[str]:
    """A line on values that were left out of reduced results. Empty if there are none."""
    found = list(_told(records))
    rows = f"{len(found)} of {len(records)} row{'s' * (len(records) > 1)}"
    return [f"skipna left values out in {rows}; {clipped(found[0])}; count() counts the values"] if found else []


def _known(values: list[Any]) -> list[Any]:
    """The values that are not missing or NaN."""
    return [value for value in values if value is not None and value == value]


def _of_numbers(fn: Callable[[list[float]], float], skipna: bool, values: list[Any]) -> float:
    kept = _known(values) if skipna else values
    try:
        return fn(kept) if kept else math.nan
    except OverflowError:  # an int that no float holds
        return fn([_as_float(value) for value in kept])


def _as_float(number: float) -> float:
    """The number as a float; infinite if it is too large for one."""
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf


def common_name(names: Sequence[str]) -> str:
    """One name for several, with `*` for the parts that differ.

    >>> common_name(["exp_lr0.1_s0", "exp_lr0.1_s1"]), common_name(["a", "b_c"])
    ('exp_lr0.1_*', '*')
    """
    parts = [name.split("_") for name in names]
    if len(set(map(len, parts))) > 1:
        return "*"
    return "_".join(part[0] if len(set(part)) == 1 else "*" for part in zip(*parts, strict=True))


def _mean(numbers: list[float]) -> float:
    return sum(numbers) / len(numbers)


def _std(numbers: list[float], ddof: int) -> float:
    if len(numbers) <= ddof:
        return math.nan
    middle = _mean(numbers)
    far = [number - middle for number in numbers]
    # A square may be too large or too small for a float. By a power of two, no digit changes.
    _, exponent = math.frexp(max(map(abs, far)))
    root = math.sqrt(sum(math.ldexp(each, -exponent) ** 2 for each in far) / (len(numbers) - ddof))
    return root * 2.0 ** (exponent // 2) * 2.0 ** (exponent - exponent // 2)


def _median(numbers: list[float]) -> float:
    ordered, half = sorted(numbers), len(numbers) // 2
    return ordered[half] if len(numbers) % 2 else (ordered[half - 1] + ordered[half]) / 2


def _unless_nan(fn: Callable[[list[float]], float]) -> Callable[[list[float]], float]:
    """The function, but returning NaN if a number is NaN, since NaN cannot be ordered."""
    return lambda numbers: math.nan if any(number != number for number in numbers) else fn(numbers)


def table(
    results: Tensor[Result], width: int | None = None, height: int | None = None, rest: str = "`| cat` shows all"
) -> str:
    """The results as text: a row for each cell with its scalar outputs or its failure, and a count of failures.

    For a terminal of some width and height: the first and last rows, and the columns that differ most. What is left
    out is counted; `rest` says what shows that.
    """
    records = records_of(results)
    head, last = ends(len(records), height)
    names = labels(records)
    picked = [records[i] for i in (*head, *last)]
    keys = _keys(records)
    done = [record.outputs for record in records if width is not None and not record.failed]
    varies = {key: len({spelled(outputs.get(key), repr) for outputs in done}) > 1 for key in keys}
    columns = [Column("name", [printable(names[i]) for i in (*head, *last)])]
    for key in keys:
        shown = [printable(brief(known_output(record, key, ""))) for record in picked]
        columns.append(Column(printable(key), shown, varies[key], right=True))
    failures = {i: printable(instead(record)) for i, record in enumerate(picked) if record.failed}
    lines, hidden = aligned(columns, width, failures)
    left = Counter(record.status for record in records[len(head) : len(records) - len(last)])
    lines[1 + len(head) : 1 + len(head)] = more(left, rest, width)
    if hidden:
        lines.append(f"too wide: {', '.join(hidden)}")
    if others := _others(records):
        lines.append(f"not shown, as not a scalar: {', '.join(map(printable, others))}")
    lines += map(printable, _notes(records))
    if any(record.failed for record in records):
        lines.append(counts([record.status for record in records]))
    return "\n".join(cut(line, width) for line in lines)


def brief(value: Any) -> str:
    """A scalar as a table shows it.

    >>> brief(1 / 3), brief("a\\nb")
    ('0.333333', 'a')
    """
    return f"{value:.6g}" if isinstance(value, float) else clipped(spelled(value), WIDEST)


def counts(words: Sequence[str]) -> str:
    """The number of cells with each word, in one line.

    >>> counts(["done", "failed", "done"])
    '3 cells: 2 done, 1 failed'
    """
    return f"{cells_in_words(len(words))}: {in_words(Counter(words))}"
