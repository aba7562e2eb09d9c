"""Overrides: `key=value`, said outside the script, laid over every config of a grid.

Knows their spelling and what they may touch; not where they were said.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pyrsistent import PMap

from pyexp.configs import Change, FrozenConfig, applied, equal, freeze, leaves, lookup
from pyexp.dotted import Path, split
from pyexp.errors import ConfigError, UsageError, nearest
from pyexp.tensor import Axis, Tensor, strides_of


@dataclass(frozen=True, slots=True)
class Override:
    """One key that is to have one value in every config; `adds` says that it need not be there before.

    `text` is how it was written.
    """

    path: Path
    value: Any
    adds: bool
    text: str

    @property
    def key(self) -> str:
        """The key as it is written, with dots."""
        return ".".join(self.path)


def override_of(text: str) -> Override:
    """The override that is spelled `key=value` or `+key=value`: a Python literal, else a string.

    >>> override_of("mlp.width=64").value, override_of("model=cnn").value, override_of("+debug=True").adds
    (64, 'cnn', True)

    Raises `UsageError` for what is not spelled so.
    """
    key, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f"unexpected argument {text!r}; an override is written key=value")
    return override(key, _literal(value), text)


def overrides_of(given: Any) -> tuple[Override, ...]:
    """The overrides in a dict by key (`{"mlp.width": 64, "+debug": True}`) or in a list of `key=value`.

    Raises `UsageError` for what is neither.
    """
    if isinstance(given, Mapping):
        return tuple(override(key, value, f"{key}={value!r}") for key, value in given.items())
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise UsageError(f"overrides is {given!r}; it takes a dict by key, or a list of 'key=value'")
    return tuple(item if isinstance(item, Override) else override_of(item) for item in given)


def override(key: Any, value: Any, text: str) -> Override:
    """The override of a key, which adds it where it begins with `+`. Raises `UsageError` for a key that is none."""
    where = f"the override {text!r}"
    try:
        path = split(key.removeprefix("+") if isinstance(key, str) else key, where)
        frozen = freeze(value, where)
    except ConfigError as error:
        raise UsageError(str(error)) from None
    if path[0] in ("name", "out"):
        why = "is what tells the cells apart" if path[0] == "name" else "is the folder that pyexp gives each cell"
        raise UsageError(f"{where} cannot be: {path[0]!r} {why}")
    return Override(path, frozen, key.startswith("+"), text)


def _literal(text: str) -> Any:
    import warnings  # only an override pays for these
    from ast import literal_eval

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Python's about how the literal is written, as in "\d"
            return literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text


def overridden(configs: Tensor[FrozenConfig], overrides: Sequence[Override]) -> Tensor[FrozenConfig]:
    """The grid with the overrides laid over every config, the later over the earlier; coordinates follow.

    Raises `UsageError` for a key that is not in every config (unless it is added), naming the nearest that is; and for
    one in which the configs differ: that is what the grid is made of.
    """
    if not overrides or not configs:
        return configs
    cells = tuple(configs)
    for one in overrides:
        _refuse_misplaced(one, cells)
    made: list[Change] = [(one.path, one.value) for one in overrides]
    changed = tuple(applied(config, made) for config in cells)
    along = zip(configs.axes, strides_of(configs.shape), strict=True)
    axes = [_axis_after(axis, stride, cells, changed, overrides) for axis, stride in along]
    return Tensor.of_cells(changed, axes)


def _axis_after(
    axis: Axis,
    stride: int,
    before: Sequence[FrozenConfig],
    after: Sequence[FrozenConfig],
    overrides: Iterable[Override],
) -> Axis:
    """The axis, whose neighbours are a `stride` apart among the configs, after the overrides.

    An override may reach a coordinate where all are the same in what it sets: on an axis of one, or inside of maps.
    """
    path = axis.key or axis.name
    parts = tuple(path.split("."))
    if not any(one.path[: len(parts)] == parts[: len(one.path)] for one in overrides):
        return axis
    expected = (axis.coords[position // stride % axis.size] for position in range(len(before)))
    held = (lookup(config, path, _NOTHING) for config in before)
    if axis.key is None and not all(map(equal, held, expected)):  # it only bears the name of a key
        return axis
    now = [lookup(after[position * stride], path, _NOTHING) for position in range(axis.size)]
    coords = [None if value is _NOTHING else value for value in now]
    return Axis(axis.name, coords, None if any(value is _NOTHING for value in now) else axis.key)


def _refuse_misplaced(one: Override, cells: Sequence[FrozenConfig]) -> None:
    values = [lookup(config, one.key, _NOTHING) for config in cells]
    known = [value for value in values if value is not _NOTHING]
    for value in known:
        if value is not known[0] and not equal(value, known[0]):
            raise UsageError(
                f"{one.key!r} cannot be overridden: the configs differ in it ({known[0]!r}, {value!r}, …); "
                "choose among them with -k, or change them in the script"
            )
    if one.adds:
        _refuse_burying(one, cells)
    elif len(known) < len(cells):
        lacking = next(config for config, value in zip(cells, values, strict=True) if value is _NOTHING)
        raise UsageError(_unknown(one, lacking, len(known), len(cells)))


def _unknown(one: Override, config: FrozenConfig, known: int, size: int) -> str:
    remedy = f"to add it, write +{one.key}=…"
    if known:
        lacking = f"{size - known} of {size} configs, such as {config.get('name', '')!r},"
        return f"{lacking} have no key {one.key!r}; {remedy}"
    return f"no config has the key {one.key!r}; {nearest(one.key, _keys(config), 'the keys are')} ({remedy})"


def _keys(config: FrozenConfig) -> list[str]:
    """The dotted keys of a config that can be overridden, those of maps among them."""
    paths = [path for path, _ in leaves(config) if path != "name"]
    maps = [".".join(path.split(".")[:depth]) for path in paths for depth in range(1, path.count(".") + 1)]
    return list(dict.fromkeys([*paths, *maps]))


def _refuse_burying(one: Override, cells: Iterable[FrozenConfig]) -> None:
    """Raise `UsageError` if a value that is no map stands where the added key's map would have to."""
    for depth in range(1, len(one.path)):
        above = ".".join(one.path[:depth])
        for config in cells:
            value = lookup(config, above, _NOTHING)
            if value is not _NOTHING and not isinstance(value, PMap):
                raise UsageError(f"+{one.key} cannot be added: {above!r} is {value!r} and not a map of keys")


_NOTHING = object()
