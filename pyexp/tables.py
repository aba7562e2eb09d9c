"""`Results`, the Tensor that a report gets, and the tables made of it: text, records, pandas, xarray, means.

Only what the records hold is looked at, scalar outputs, so no table loads a result. pandas, xarray and NumPy are
imported by the methods that give their types.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import product
from operator import attrgetter, is_, itemgetter
from typing import TYPE_CHECKING, Any

from pyexp.configs import NOTHING, FrozenConfig, equal, frozen_map, leaves, lookup, parts_of, thaw
from pyexp.errors import ExtraError, ResultError
from pyexp.results import EXACT, OWN, Record, Result, cells_in_words, clipped, records_of, spelled
from pyexp.tensor import Tensor

if TYPE_CHECKING:
    import pandas
    import xarray

#: Characters of a value that a printed table shows.
WIDEST = 60

#: The columns that every table has; an axis or an output of such a name is called `axis.…` or `output.…` there.
FIRST, LAST = ("name",), ("status", "seconds", "failure")


class Results(Tensor[Result]):
    """The results of a grid, in its shape; printed, a table. A selection of Results is Results too."""

    __slots__ = ()

    @classmethod
    def of(cls, results: Tensor[Result]) -> "Results":
        """The same results, with these methods."""
        return cls.of_cells(results.cells, results.axes)

    def __str__(self) -> str:
        return table(self)

    def _axis_at(self, path: str) -> int | None:
        return self._axis_with(path.removeprefix("config.")) if path.startswith("config.") else None

    def _column(self, path: str) -> list[Any]:
        if path in OWN:
            return [record.name for record in records_of(self)] if path == "name" else super()._column(path)
        if path.startswith("config."):
            return [lookup(record.config, path.removeprefix("config."), NOTHING) for record in records_of(self)]
        scalars = _scalars(records_of(self), path)
        return [_output(result, path) for result in self] if scalars is None else scalars

    def to_records(self) -> list[dict[str, Any]]:
        """A dict for each cell, all with the same keys in the same order.

        They are `name`, the coordinate on each axis, `config.…` for each leaf of the configs, the scalar outputs,
        `status`, `seconds`, `failure`; None stands for what a cell has not. An output of such a name is `output.…`.
        """
        rows = list(_rows(self))
        labels = axis_labels(self)
        keys = sorted(dict.fromkeys(key for row in rows for key in row), key=lambda key: _rank(key, labels))
        names = _plain_names(keys)
        return [{name: row.get(key) for key, name in names.items()} for row in rows]

    def to_pandas(self) -> "pandas.DataFrame":
        """The records as a DataFrame; a column that lacks an int or a bool is nullable, so that the others stay exact.

        Raises `ExtraError` (an ImportError) without pandas.
        """
        module, rows = _imported("pandas", "to_pandas"), self.to_records()
        columns = {key: [row[key] for row in rows] for key in (rows[0] if rows else ())}
        made: pandas.DataFrame = module.DataFrame(
            {key: module.Series(values, dtype=_pandas_type(values)) for key, values in columns.items()}
        )
        return made

    def to_xarray(self) -> "xarray.Dataset":
        """A Dataset of the scalar outputs, `status` and `seconds`: the axes are its dimensions, NaN what is missing.

        Numbers that no one NumPy type holds exactly are there as objects, a coordinate that is no scalar as text.
        Raises `ExtraError` (an ImportError) without xarray.
        """
        labels = axis_labels(self)
        coords = {label: (label, _coordinates(axis.coords)) for label, axis in zip(labels, self.axes, strict=True)}
        records = records_of(self)
        columns = {label_of(key, labels): [r.outputs.get(key) for r in records] for key in _keys(records)}
        columns["status"] = [record.status for record in records]
        columns["seconds"] = [record.seconds if record.status != "missing" else None for record in records]
        shaped = {key: (labels, _array(values).reshape(self.shape)) for key, values in columns.items()}
        made: xarray.Dataset = _imported("xarray", "to_xarray").Dataset(shaped, coords)
        return made

    def reduce(self, fn: Callable[[list[float]], float], *axes: str, skipna: bool = False) -> "Results":
        """The Results without these axes (without any, if none is named), each output `fn` of the numbers along them.

        Outputs that are no numbers are left out. A config keeps what is the same along the axes; in the name, `*`
        stands for what is not, so that it selects the cells it comes from.

        Raises `ResultError` if a cell has no result or lacks an output, unless `skipna`, which leaves out what is
        missing or NaN and gives NaN for what has no number at all; `SelectionError` for an unknown axis.
        """
        if not self.size:
            raise ResultError("there are no cells to reduce")
        if not self.ndim:
            return self
        gone = {self._number(name) for name in axes or [axis.name for axis in self.axes]}
        keys = _numeric(records_of(self), skipna)
        index = product(*((slice(None),) if i in gone else range(size) for i, size in enumerate(self.shape)))
        made = tuple(_reduced(self[at], fn, keys, skipna) for at in index)
        return Results.of_cells(made, [axis for i, axis in enumerate(self.axes) if i not in gone])

    def mean(self, *axes: str, skipna: bool = False) -> "Results":
        """The mean along the axes; see `reduce`."""
        return self.reduce(_mean, *axes, skipna=skipna)

    def std(self, *axes: str, ddof: int = 0, skipna: bool = False) -> "Results":
        """The standard deviation along the axes, as NumPy and xarray take it; `ddof=1` for that of a sample."""
        return self.reduce(lambda numbers: _std(numbers, ddof), *axes, skipna=skipna)

    def median(self, *axes: str, skipna: bool = False) -> "Results":
        """The median along the axes; see `reduce`."""
        return self.reduce(_unless_nan(_median), *axes, skipna=skipna)

    def min(self, *axes: str, skipna: bool = False) -> "Results":
        """The least along the axes; see `reduce`."""
        return self.reduce(_unless_nan(min), *axes, skipna=skipna)

    def max(self, *axes: str, skipna: bool = False) -> "Results":
        """The greatest along the axes; see `reduce`."""
        return self.reduce(_unless_nan(max), *axes, skipna=skipna)

    def sum(self, *axes: str, skipna: bool = False) -> "Results":
        """The sum along the axes; see `reduce`."""
        return self.reduce(sum, *axes, skipna=skipna)


def _scalars(records: Sequence[Record], path: str) -> list[Any] | None:
    """The records' outputs of this name, if each has it as it was returned.

    A pass for each of the two maps of a record takes half the time of one for both: it is memory that is waited for.
    Mostly all share one map of kinds, which then is looked at once.
    """
    try:
        values = list(map(itemgetter(path), map(attrgetter("outputs"), records)))
        kinds = list(map(attrgetter("kinds"), records))
        distinct = kinds[:1] if all(map(is_, kinds, kinds[1:])) else kinds
        return values if {each[path] for each in distinct} <= EXACT else None
    except KeyError:
        return None


def _output(result: Result, path: str) -> Any:
    """The result's value at a path, NOTHING if it has none; a scalar output is at hand without looking further."""
    record = result.record
    if path in record.outputs and record.kinds[path] in EXACT:
        return record.outputs[path]
    return lookup(result, path, NOTHING)


def axis_labels(results: Tensor[Result]) -> list[str]:
    """What the axes are called in a table."""
    own = {*FIRST, *LAST}
    return [f"axis.{axis.name}" if axis.name in own else axis.name for axis in results.axes]


def label_of(key: str, axes: Iterable[str]) -> str:
    """What an output is called in a table with these axes."""
    return f"output.{key}" if key in (*FIRST, *axes, *LAST) or key.startswith("config.") else key


def _rows(results: Results) -> Iterator[dict[str, Any]]:
    labels = axis_labels(results)
    for at, result in zip(product(*(axis.coords for axis in results.axes)), results, strict=True):
        record = result.record
        config = {f"config.{path}": thaw(value) for path, value in leaves(record.config) if path != "name"}
        outputs = {label_of(key, labels): value for key, value in record.outputs.items()}
        last = {"status": record.status, "seconds": record.seconds, "failure": brief_error(record)}
        yield {"name": record.name, **dict(zip(labels, map(thaw, at), strict=True)), **config, **outputs, **last}


def _plain_names(columns: Sequence[str]) -> dict[str, str]:
    """What each column is called: the dots of keys are written as they are, unless two columns were then the same."""
    names = {key: ".".join(parts_of(key)) if key.startswith("config.") else key for key in columns}
    return names if len(set(names.values())) == len(names) else dict(zip(columns, columns, strict=True))


def _rank(key: str, axes: Sequence[str]) -> int:
    """The place of a column's group in a row."""
    groups = (key in FIRST, key in axes, key.startswith("config."), key not in LAST)
    return groups.index(True) if True in groups else len(groups)


def brief_error(record: Record) -> str | None:
    """A failure in a line; None for a success."""
    return clipped(f"{record.type}: {record.message}").rstrip(": ") if record.failed else None


def _keys(records: Iterable[Record]) -> list[str]:
    """The names of the scalar outputs, in the order in which they are first met."""
    return list(dict.fromkeys(key for record in records for key in record.outputs))


def _imported(module: str, method: str) -> Any:
    try:
        return __import__(module)
    except ImportError as error:
        raise ExtraError(f"{method}() needs {module}: pip install {module} ({error})") from None


def _coordinates(coords: Sequence[Any]) -> Any:
    """The coordinates of an axis as an array: what is no scalar (a list, a nested config) as text."""
    plain = [at if at is None or isinstance(at, (bool, int, float, str)) else str(thaw(at)) for at in coords]
    return _array(plain)


def _array(values: list[Any]) -> Any:
    """The scalars as a flat NumPy array, with NaN for None; of the narrowest type that changes none of them."""
    numpy: Any = __import__("numpy")
    kinds = _kinds(values)
    is_complete = all(value is not None for value in values)
    if is_complete and kinds in ({str}, {bool}, {int}):
        made = numpy.array(values)
        if kinds != {int} or made.dtype.kind in "iu":
            return made
    filled = [math.nan if value is None else value for value in values]
    if kinds <= {int, float} and not (is_complete and kinds == {int}) and all(map(_is_float, filled)):
        return numpy.array(filled, dtype=float)
    made = numpy.empty(len(values), dtype=object)
    made[:] = filled
    return made


def _kinds(values: Iterable[Any]) -> set[type]:
    """What kinds of values there are: bool, int, float and str, or what else they are; None is none."""
    scalars = (bool, int, float, str)  # in this order: a bool is an int too
    return {
        next((kind for kind in scalars if isinstance(value, kind)), type(value))
        for value in values
        if value is not None
    }


def _is_float(number: float) -> bool:
    """Whether a float holds the number exactly."""
    try:
        return isinstance(number, float) or int(float(number)) == number
    except OverflowError:
        return False


def _pandas_type(values: list[Any]) -> Any:
    """The type of a column that changes none of the values; None where it is pandas' own choice."""
    kinds = _kinds(values)
    is_complete = all(value is not None for value in values)
    if kinds == {bool}:
        return "bool" if is_complete else "boolean"
    if kinds == {int}:
        numbers = [value for value in values if value is not None]
        sizes = ((-(1 << 63), 1 << 63, "int64"), (0, 1 << 64, "uint64"))
        fitting = (kind for least, end, kind in sizes if least <= min(numbers) and max(numbers) < end)
        kind = next(fitting, "object")
        return kind if is_complete or kind == "object" else kind.replace("i", "I").replace("u", "U")
    if kinds == {int, float}:
        return "float64" if all(value is None or _is_float(value) for value in values) else "object"
    return None if len(kinds) < 2 else "object"


def _numeric(records: list[Record], skipna: bool) -> list[str]:
    """The outputs that are numbers. Raises `ResultError` if one is missing somewhere, unless `skipna`."""
    lacking = [record for record in records if record.failed]
    if lacking and not skipna:
        number = f"{len(lacking)} of {cells_in_words(len(records))}"
        first = f"{lacking[0].name!r}: {brief_error(lacking[0])}"
        raise ResultError(f"{number} have no result ({first}); skipna=True takes what there is")
    done = [record for record in records if not record.failed]
    keys = [key for key in _keys(done) if all(_is_number(record.outputs.get(key)) for record in done)]
    for key, record in () if skipna else product(keys, done):
        if record.outputs.get(key) is None:
            raise ResultError(f"{record.name!r} has no {key!r}; skipna=True takes what there is")
    return keys


def _is_number(value: Any) -> bool:
    return value is None or isinstance(value, (bool, int, float))


def _reduced(group: Results, fn: Callable[[list[float]], float], keys: list[str], skipna: bool) -> Result:
    """One result in place of a group of them."""
    records = records_of(group)
    outputs = {key: _of_numbers(fn, [r.outputs.get(key) for r in records], skipna) for key in keys}
    record = Record(
        name=common_name([record.name for record in records]),
        config=common_config([record.config for record in records]),
        hash="",
        status="done",
        outputs=outputs,
        kinds={key: type(value).__name__ for key, value in outputs.items()},
        started=min(record.started for record in records),
        seconds=math.fsum(record.seconds for record in records),
    )
    return Result(record, None, partial(dict, outputs))


def _of_numbers(fn: Callable[[list[float]], float], values: list[Any], skipna: bool) -> float:
    kept = [value for value in values if not skipna or (value is not None and value == value)]
    try:
        return fn(kept) if kept else math.nan
    except OverflowError:  # an int that no float holds
        return fn([_as_float(value) for value in kept])


def _as_float(number: float) -> float:
    """The number as a float, infinite if it is beyond all of them."""
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf


def common_name(names: Sequence[str]) -> str:
    """One name for several, with `*` for what differs between them.

    >>> common_name(["exp_lr0.1_s0", "exp_lr0.1_s1"]), common_name(["a", "b_c"])
    ('exp_lr0.1_*', '*')
    """
    parts = [name.split("_") for name in names]
    if len(set(map(len, parts))) > 1:
        return "*"
    return "_".join(part[0] if len(set(part)) == 1 else "*" for part in zip(*parts, strict=True))


def common_config(configs: Sequence[FrozenConfig]) -> FrozenConfig:
    """What is the same in all the configs, also within their maps."""
    first, *others = configs
    kept = {}
    for key, value in first.items():
        theirs = [other[key] for other in others if key in other]
        if len(theirs) < len(others):
            continue
        if isinstance(value, FrozenConfig) and all(isinstance(each, FrozenConfig) for each in theirs):
            kept[key] = common_config([value, *theirs])
        elif all(equal(value, each) for each in theirs):
            kept[key] = value
    return frozen_map(kept)


def _mean(numbers: list[float]) -> float:
    return sum(numbers) / len(numbers)


def _std(numbers: list[float], ddof: int) -> float:
    if len(numbers) <= ddof:
        return math.nan
    middle = _mean(numbers)
    return math.sqrt(sum((number - middle) ** 2 for number in numbers) / (len(numbers) - ddof))


def _median(numbers: list[float]) -> float:
    ordered, half = sorted(numbers), len(numbers) // 2
    return ordered[half] if len(numbers) % 2 else (ordered[half - 1] + ordered[half]) / 2


def _unless_nan(fn: Callable[[list[float]], float]) -> Callable[[list[float]], float]:
    """The function, but NaN where there is one among the numbers: it has no place in an order."""
    return lambda numbers: math.nan if any(number != number for number in numbers) else fn(numbers)


def table(results: Tensor[Result]) -> str:
    """The results as text: a row for each cell, its scalar outputs in columns, failures in words and counted."""
    records = records_of(results)
    keys = _keys(records)
    rows = [[record.name or record.hash, *(_shown(record, key) for key in keys)] for record in records]
    shown = [["name", *keys], *(row for row, record in zip(rows, records, strict=True) if not record.failed)]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    widths[0] = max(len(row[0]) for row in [shown[0], *rows])
    lines = [_line(shown[0], widths)]
    for row, record in zip(rows, records, strict=True):
        lines.append(
            f"{row[0]:<{widths[0]}}  {record.status}: {brief_error(record)}" if record.failed else _line(row, widths)
        )
    if any(record.failed for record in records):
        lines.append(counts([record.status for record in records]))
    return "\n".join(lines)


def _line(row: list[str], widths: list[int]) -> str:
    numbers = (f"{cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True))
    return "  ".join([f"{row[0]:<{widths[0]}}", *numbers]).rstrip()


def _shown(record: Record, key: str) -> str:
    value = record.outputs.get(key, "")
    return f"{value:.6g}" if isinstance(value, float) else clipped(spelled(value), WIDEST)


def counts(words: Sequence[str]) -> str:
    """How many there are of each, in a line.

    >>> counts(["done", "failed", "done"])
    '3 cells: 2 done, 1 failed'
    """
    told = ", ".join(f"{number} {word}" for word, number in Counter(words).items())
    return f"{cells_in_words(len(words))}: {told}"
