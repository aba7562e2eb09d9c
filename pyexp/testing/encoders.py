"""What every registered encoder has to do, as one check of the values that it encodes."""

import os
import pickle
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from importlib.machinery import PathFinder
from typing import Any

import cloudpickle

from pyexp.configs import encoders, registered
from pyexp.errors import HashError, UsageError
from pyexp.hashing import config_hash
from pyexp.store.byvalue import dumps_by_value

# Runs in the other process. The script is named there as here, since the name of its classes is part of the hash.
_IN_A_FRESH_PROCESS = """
import pickle, sys
sys.path[:], file, encoders, values = pickle.load(sys.stdin.buffer)
if file is not None:
    sys.modules["__main__"].__file__ = file
import pyexp
kinds, values = pickle.loads(encoders), pickle.loads(values)
for kind, encoder in kinds:
    pyexp.register_encoder(kind, encoder)
print(*[pyexp.config_hash({"value": value}) for value in values])
"""


def check_encoder(values: Iterable[Any], same: Iterable[Iterable[Any]] = ()) -> None:
    """Check the registered encoder of the values, which all differ from one another.

    Different values have different hashes. A value has one hash: asked for again, as a copy, and in processes with
    other seeds of Python's own hash. The values in each group of `same` have one hash too.

    >>> from pyexp import register_encoder
    >>> class Angle:
    ...     def __init__(self, degrees): self.degrees = degrees
    >>> register_encoder(Angle, lambda angle: angle.degrees)
    >>> check_encoder([Angle(90), Angle(90.0), Angle("90")])
    >>> register_encoder(Angle, lambda angle: int(angle.degrees))
    >>> check_encoder([Angle(90), Angle(90.5)])
    Traceback (most recent call last):
        ...
    AssertionError: values[0] and values[1] differ and have one hash: the encoder leaves out where they differ

    Raises AssertionError naming all that is wrong, and `UsageError` for fewer than two values, or one whose class has
    no encoder.
    """
    given = {f"values[{i}]": value for i, value in enumerate(values)}
    groups = [{f"same[{i}][{j}]": value for j, value in enumerate(group)} for i, group in enumerate(same)]
    if len(given) < 2:
        raise UsageError(
            f"there are {len(given)} values; give two or more that differ, so that it shows if they collide"
        )
    everything = {**given, **{where: value for group in groups for where, value in group.items()}}
    for where, value in everything.items():
        if registered(type(value)) is None:
            raise UsageError(f"{where} is {value!r}, and no encoder is registered for {type(value).__qualname__}")
    try:
        hashes = {where: _hash(value) for where, value in everything.items()}
    except HashError as error:
        raise AssertionError(f"a value has no hash: {error}") from error
    wrong = [
        f"{one} and {where} differ and have one hash: the encoder leaves out where they differ"
        for one, where in _collisions({where: hashes[where] for where in given})
    ]
    wrong += [
        f"{first} and {where} are the same, and have two hashes"
        for first, *others in map(list, filter(None, groups))
        for where in others
        if hashes[where] != hashes[first]
    ]
    for where, value in everything.items():
        if _hash(value) != hashes[where]:
            wrong.append(f"{where} has another hash each time")
        elif _hash(_copied(value)) != hashes[where]:
            wrong.append(
                f"{where} and its copy have two hashes: the encoder depends on its id or on the order of a set"
            )
    wrong += [] if wrong else _elsewhere(everything, hashes)
    assert not wrong, "\n".join(wrong)


def _hash(value: Any) -> str:
    return config_hash({"value": value})


def _collisions(hashes: dict[str, str]) -> list[tuple[str, str]]:
    """The pairs of places with one hash."""
    first: dict[str, str] = {}
    return [(first[made], where) for where, made in hashes.items() if first.setdefault(made, where) != where]


def _copied(value: Any) -> Any:
    try:
        return deepcopy(value)
    except Exception:  # what cannot be copied has no copy with another hash
        return value


def _elsewhere(values: dict[str, Any], hashes: dict[str, str]) -> list[str]:
    """What is wrong in other processes."""
    try:
        with _by_value(_modules(values.values())):
            sent = dumps_by_value([*values.values()])
            known = dumps_by_value([*encoders.items()])
    except Exception as error:  # whatever pickling raises
        return [f"the values cannot be pickled, so no cell can get them: {type(error).__name__}: {error}"]
    kit = pickle.dumps((sys.path, getattr(sys.modules["__main__"], "__file__", None), known, sent))
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", _IN_A_FRESH_PROCESS], check=False, input=kit, capture_output=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        )  # fmt: skip
        if done.returncode:
            return [f"the values cannot be hashed in another process:\n{done.stderr.decode(errors='replace')}"]
        there = dict(zip(values, done.stdout.decode().split(), strict=True))
        if wrong := [
            f"{where} has another hash in another process: the encoder depends on an id, an address, hash() or the "
            "order of a set"
            for where in values
            if there[where] != hashes[where]
        ]:
            return wrong
    return []


def _modules(values: Iterable[Any]) -> set[str]:
    """The names of the modules of all classes and encoders of the values."""
    kinds = {kind for value in values for kind in type(value).__mro__}
    return {thing.__module__ for kind in kinds for thing in (kind, encoders.get(kind)) if hasattr(thing, "__module__")}


@contextmanager
def _by_value(names: Iterable[str]) -> Iterator[None]:
    """Pickle by value, meanwhile, what is in those modules that a new process does not find: pytest may load such."""
    lost = [sys.modules[name] for name in names if name in sys.modules and not _is_found(name)]
    for module in lost:
        cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        for module in lost:
            cloudpickle.unregister_pickle_by_value(module)


def _is_found(name: str) -> bool:
    """Whether a new process with this `sys.path` finds the module of this name, or has it built in."""
    if not hasattr(sys.modules[name], "__file__"):
        return True
    path: Sequence[str] | None = None
    parts = name.split(".")
    for i in range(len(parts)):
        spec = PathFinder.find_spec(".".join(parts[: i + 1]), path)
        if spec is None:
            return False
        path = spec.submodule_search_locations
    return True
