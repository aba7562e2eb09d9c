"""The charts of a grid's scalar outputs, as Vega-Lite specifications: values in, values out.

Knows which chart fits which axes; not how it is drawn. A specification names its fields `x`, `y`, `value`, …, and what
a config or an output is called stands in its titles only, where Vega takes it for text.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from pyexp.results import cells_in_words, spelled

#: An axis whose last word is one of these, or ends in "seed", repeats an experiment: it is averaged over.
REPEATS = frozenset({"seed", "seeds", "replicate", "rep", "repeat", "fold", "trial"})

#: Up to `FEW` coordinates get colours of their own. Numbers with more than `MANY` coordinates are drawn as points.
FEW, MANY = 10, 30

#: Charts on a page.
MOST = 60

Row = Mapping[str, Any]
Spec = dict[str, Any]
#: What is drawn of the cells at each position along the dimensions of a chart.
Points = Mapping[tuple[int, ...], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Dimension:
    """What tells cells apart: its name, its coordinates in order, and for each cell the position of its own."""

    name: str
    coords: tuple[Any, ...]
    codes: tuple[int, ...]

    @property
    def is_number(self) -> bool:
        """Whether it can be drawn along a line: its coordinates are different finite floats."""
        numbers = {as_float(at) for at in self.coords}
        return None not in numbers and len(numbers) == len(self.coords)

    @property
    def repeats(self) -> bool:
        """Whether it repeats the experiment."""
        word = self.name.rpartition(".")[2].lower()
        return word in REPEATS or word.endswith("seed")

    @property
    def shown(self) -> list[Any]:
        """The coordinates as they are drawn: numbers, or texts that all differ."""
        if self.is_number:
            return [as_float(at) for at in self.coords]
        return distinct_texts(self.coords)


def as_float(value: Any) -> float | None:
    """The number as a finite float; None for what has none, and for a bool.

    >>> as_float(2), as_float(True), as_float(float("nan")), as_float(10**400)
    (2.0, None, None, None)
    """
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def distinct_texts(values: Sequence[Any]) -> list[str]:
    """A text for each of the different values, no two alike.

    >>> distinct_texts([1, "1", True]), distinct_texts(["a", 1])
    (['1', "'1'", 'True'], ['a', '1'])
    """
    texts = list(map(spelled, values))
    if len(set(texts)) < len(texts):
        texts = [repr(value) if isinstance(value, str) else text for value, text in zip(values, texts, strict=True)]
    made: list[str] = []
    for number, text in enumerate(texts):
        made.append(text if text not in made else f"{text} (at {number})")
    return made


def dimension(name: str, values: Sequence[Any]) -> Dimension:
    """The dimension along which cells have these values. Numbers are in order; 1, True, 1.0 and "1" are four."""
    found: dict[tuple[str, str], Any] = {}
    keys = [(type(value).__name__, spelled(value)) for value in values]
    for key, value in zip(keys, values, strict=True):
        found.setdefault(key, value)
    order = list(found)
    if all(as_float(value) is not None for value in found.values()):
        order.sort(key=lambda key: found[key])
    place = {key: position for position, key in enumerate(order)}
    return Dimension(name, tuple(found[key] for key in order), tuple(place[key] for key in keys))


def dimensions(rows: Sequence[Row], axes: Sequence[str]) -> list[Dimension]:
    """What tells the cells of a table apart: its axes, or the leaves of the configs where an axis only counts cells.

    Where cells have the same coordinates, as after an override, the leaves that differ between them tell them apart.
    Of those that tell the cells apart alike, as the keys of a zip do, one is taken, a number if there is one.
    """
    configs = [key for key in rows[0] if key.startswith("config.")] if rows else []
    found = _telling(rows, axes)
    if all(len(each.coords) == len(rows) and not each.is_number for each in found):
        return _telling(rows, configs) or found
    # Of a cell that has not run, the config may be unknown.
    ran = [i for i, row in enumerate(rows) if any(row[key] is not None for key in configs)]
    places = [tuple(each.codes[i] for each in found) for i in ran]
    number = len(set(places))
    if number < len(places):
        codes = {key: dimension(key, [rows[i][key] for i in ran]).codes for key in configs}
        dividing = [key for key in configs if len(set(zip(places, codes[key], strict=True))) > number]
        found = _telling(rows, [*axes, *dividing])
    return found


def _telling(rows: Sequence[Row], names: Sequence[str]) -> list[Dimension]:
    known: dict[tuple[int, ...], Dimension] = {}
    for name in names:
        made = dimension(name, [row[name] for row in rows])
        if len(made.coords) < 2:
            continue
        first: dict[int, int] = {}
        alike = tuple(first.setdefault(code, len(first)) for code in made.codes)
        if alike not in known or (made.is_number and not known[alike].is_number):
            known[alike] = made
    return list(known.values())


def numeric(rows: Sequence[Row], keys: Sequence[str]) -> list[str]:
    """The columns with at least one value in which all values are numbers or bools. None does not count as a value."""
    return [
        key
        for key in keys
        if any(row[key] is not None for row in rows)
        and all(row[key] is None or isinstance(row[key], (bool, int, float)) for row in rows)
    ]


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart: its specification, and a line on what it does not show."""

    spec: Spec
    note: str = ""


def charts(rows: Sequence[Row], axes: Sequence[str], outputs: Sequence[str]) -> list[Chart]:
    """The charts of a table: for each numeric output one for each pair of axes, or for the one axis there is.

    Means are over the axes that repeat the experiment, and over those that are not drawn, as the chart's title says.
    """
    known = dimensions(rows, axes)
    drawn = [each for each in known if not each.repeats] or known
    alone = [(each,) for each in drawn if len(drawn) == 1 or (each.is_number and len(each.coords) > MANY)]
    wanted = [*alone, *combinations(drawn, 2)]
    return [chart(rows, output, of, known) for output in numeric(rows, outputs) for of in wanted]


def chart(rows: Sequence[Row], output: str, of: Sequence[Dimension], known: Sequence[Dimension]) -> Chart:
    """The chart of one output over one or two dimensions."""
    over = [each.name for each in known if each not in of]
    groups: dict[tuple[int, ...], list[Any]] = {}
    for at, row in zip(zip(*(each.codes for each in of), strict=True), rows, strict=True):
        groups.setdefault(at, []).append(row[output])
    points: dict[tuple[int, ...], dict[str, Any]] = {}
    for at, values in sorted(groups.items()):
        there = [value for value in values if value is not None]
        if there:
            point = summary(there)
            where = {each.name: each.coords[code] for each, code in zip(of, at, strict=True)}
            points[at] = {**point, "part": len(there) < len(values), "told": _told(point, output, where)}
    lost = sum(point["value"] is None for point in points.values())
    missing = sum(row[output] is None for row in rows)
    has_spread = any(point["n"] > 1 for point in points.values())
    told = (f"mean ± sd over {', '.join(over)}" if has_spread else "") if over else ""
    title = {"text": output, "subtitle": told or " × ".join(each.name for each in of), "anchor": "start", "limit": 420}
    notes = [f"{missing} of {len(rows)} cells have no value"] if missing else []
    notes += ["✕ marks a mean of only some of its cells"] if any(point["part"] for point in points.values()) else []
    notes += [f"{lost} of {len(points)} points are not finite numbers"] if lost else []
    # A description for screen readers would be an expression with the titles in it: the table is there for them.
    config = {"aria": False}
    return Chart({"title": title, "config": config, **_marks(output, of, points, has_spread)}, "; ".join(notes))


def summary(values: Sequence[float]) -> dict[str, Any]:
    """Mean, standard deviation (that of `Results.std`) and number of the values; None for what is not finite.

    >>> summary([1, 3]), summary([1, float("nan")])["value"]
    ({'value': 2.0, 'low': 1.0, 'high': 3.0, 'sd': 1.0, 'n': 2}, None)
    """
    try:
        mean = math.fsum(values) / len(values)
        spread = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / len(values))
    except (OverflowError, ValueError):  # too large for floats, or infinities of both signs
        mean = spread = math.nan
    made = {"value": mean, "low": mean - spread, "high": mean + spread, "sd": spread}
    return {**{key: number if math.isfinite(number) else None for key, number in made.items()}, "n": len(values)}


def _marks(output: str, of: Sequence[Dimension], points: Points, has_spread: bool) -> Spec:
    """The data and the marks of a chart: lines, points with bars, or a heat-map."""
    if len(of) == 1:
        return _lines(output, of[0], None, points, has_spread)
    one, other = of
    x, colour = (one, other) if len(one.coords) >= len(other.coords) else (other, one)
    if not x.is_number and colour.is_number and len(x.coords) <= FEW:
        x, colour = colour, x
    if x.is_number and len(colour.coords) <= FEW:
        if x is not one:
            points = {(right, left): point for (left, right), point in points.items()}
        return _lines(output, x, colour, points, has_spread)
    shown = one.shown, other.shown
    values = [
        {"x": shown[0][left], "y": shown[1][right], **point}
        for (left, right), point in points.items()
        if point["value"] is not None
    ]
    colours = {"field": "value", "type": "quantitative", "title": None, "scale": {"scheme": "viridis"}}
    is_scatter = all(each.is_number and len(each.coords) > MANY for each in of)
    across = _along(one) if is_scatter else _ordered(one)
    up = _along(other) if is_scatter else _ordered(other, is_up=True)
    mark = {"type": "circle", "size": 50, "opacity": 0.9} if is_scatter else {"type": "rect"}
    return {
        "data": {"values": values},
        "encoding": {"x": {"field": "x", **across}, "y": {"field": "y", **up}},
        "layer": [{"mark": mark, "encoding": {"color": colours, "tooltip": _TOOLTIP}}, *_parts(values)],
    }


def _parts(values: Sequence[Spec], encoding: Spec | None = None) -> list[Spec]:
    """The marks on means that lack some of their cells. None without such a mean: Vega would warn of no data."""
    mark = {"type": "text", "text": "✕", "color": "#c0392b", "dy": -9 if encoding else 0}
    there = any(value["part"] and value["value"] is not None for value in values)
    return [{"transform": [{"filter": "datum.part"}], "mark": mark, "encoding": encoding or {}}] if there else []


def _lines(output: str, x: Dimension, colour: Dimension | None, points: Points, has_spread: bool) -> Spec:
    shown, colours = x.shown, [] if colour is None else distinct_texts(colour.coords)
    values = [
        {"x": shown[at[0]], **({"colour": colours[at[1]]} if len(at) > 1 else {}), **point}
        for at, point in points.items()
    ]
    is_line = x.is_number and len(x.coords) <= MANY
    encoding: Spec = {"x": {"field": "x", **(_along(x) if x.is_number else _ordered(x))}}
    if colour is not None:
        scheme = {"scheme": "viridis"} if colour.is_number else {"scheme": "tableau10"}
        encoding["color"] = {
            "field": "colour",
            "type": "nominal",
            "title": colour.name,
            "legend": {"symbolOpacity": 1},
            "scale": {"domain": colours, **scheme},
        }
    y = {"type": "quantitative", "title": output, "scale": {"zero": False}}
    spread = {"y": {"field": "low", **y}, "y2": {"field": "high"}}
    around = {"type": "area", "opacity": 0.2} if is_line else {"type": "rule", "opacity": 0.6}
    mark = {"type": "line", "point": True} if is_line else {"type": "circle", "size": 50}
    layers = [{"mark": mark, "encoding": {"y": {"field": "value", **y}, "tooltip": _TOOLTIP}}]
    if has_spread:
        layers.insert(0, {"mark": around, "encoding": spread})
    layers += _parts(values, {"y": {"field": "value", **y}})
    return {"data": {"values": values}, "encoding": encoding, "layer": layers}


def _along(of: Dimension) -> Spec:
    """A numeric axis; logarithmic where the numbers are positive and the greatest is 100 times the least."""
    numbers = [number for number in map(as_float, of.coords) if number is not None]
    is_log = min(numbers) > 0 and max(numbers) / min(numbers) >= 100
    scale = {"type": "log", "nice": False} if is_log else {"zero": False}
    axis = {"tickCount": 5, **({"format": "~g"} if is_log else {})}
    return {"type": "quantitative", "title": of.name, "scale": scale, "axis": axis}


def _ordered(of: Dimension, is_up: bool = False) -> Spec:
    # Not as `sort`: of that Vega-Lite makes an expression, which not every name survives.
    scale = {"domain": of.shown[::-1] if is_up else of.shown}
    axis = {"labelLimit": 120, "labelOverlap": True}
    return {"type": "ordinal", "title": of.name, "sort": None, "scale": scale, "axis": axis}


def _told(point: Mapping[str, Any], output: str, at: Mapping[str, Any]) -> str:
    """The tooltip of a point."""
    spread = f" ± {point['sd']:.6g}" if point["n"] > 1 and point["sd"] is not None else ""
    value = "not finite" if point["value"] is None else f"{point['value']:.6g}{spread} ({cells_in_words(point['n'])})"
    return "\n".join([*(f"{name}: {spelled(each)}" for name, each in at.items()), f"{output}: {value}"])


#: A tooltip is a text in the data: what is in a title is put into an expression, which not every name survives.
_TOOLTIP: Spec = {"field": "told", "type": "nominal"}


def parallel(rows: Sequence[Row], axes: Sequence[str], outputs: Sequence[str]) -> dict[str, Any]:
    """The axes of a chart of parallel coordinates, and for each the height (0 to 1, or None) of every cell on it.

    They are the dimensions and the numeric outputs. A chart needs two of them.
    """
    drawn = [
        {"name": each.name, "low": _end(each.coords[0]), "high": _end(each.coords[-1]), "heights": _heights(each)}
        for each in dimensions(rows, axes)
    ]
    for key in numeric(rows, outputs):
        numbers = [as_float(row[key] + 0 if isinstance(row[key], bool) else row[key]) for row in rows]
        known = [number for number in numbers if number is not None]
        if known:
            low, high = min(known), max(known)
            heights = [None if number is None else _height(number, low, high) for number in numbers]
            drawn.append({"name": key, "low": _end(low), "high": _end(high), "heights": heights})
    return {"axes": drawn} if len(drawn) > 1 else {"axes": []}


def _end(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else spelled(value)


def _heights(of: Dimension) -> list[float]:
    last = len(of.coords) - 1
    return [round(code / last, 4) for code in of.codes]


def _height(number: float, low: float, high: float) -> float:
    whole = high / 2 - low / 2  # halves, as the distance of two floats may be more than any float
    return round((number / 2 - low / 2) / whole, 4) if whole else 0.5
