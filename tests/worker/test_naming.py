"""What is sent of a script: digests that are equal where a script is loaded twice, and differ where a value was set."""

import copy
import json
import os
import subprocess
import sys
from types import FunctionType, ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyexp.worker.messages import Lack
from pyexp.worker.naming import digest, lacking, path_in, survey

CONFUSABLE = st.sampled_from([0, 1, True, False, 1.0, 0.0, -0.0, "1", "", b"1", None, "None", (), (1,), 10**30])
VALUES = st.recursive(
    CONFUSABLE | st.integers() | st.text(max_size=5) | st.floats(allow_nan=False),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=3), inner, max_size=3)
        | st.frozensets(st.text(max_size=3), max_size=4)
    ),
    max_leaves=8,
)


@given(VALUES)
def test_a_copy_has_the_same_digest(value):
    assert digest(copy.deepcopy(value), {}) == digest(value, {}) is not None


@given(VALUES, VALUES)
def test_what_differs_in_value_or_type_differs_in_digest(one, other):
    assert (digest(one, {}) == digest(other, {})) == (repr(one) == repr(other) or _same_sets(one, other))


def _same_sets(one, other) -> bool:
    """Whether they differ in the order of sets alone."""

    def sorted_(value):
        if isinstance(value, frozenset):
            return ("set", sorted(value))
        if isinstance(value, (list, tuple)):
            return (type(value).__name__, [sorted_(item) for item in value])
        if isinstance(value, dict):
            return [(key, sorted_(item)) for key, item in value.items()]
        return repr(value)

    return sorted_(one) == sorted_(other)


def script(source: str) -> ModuleType:
    module = ModuleType("__main__")
    exec(compile(source, "main.py", "exec"), vars(module))
    return module


SOURCE = """
import enum, logging, functools
log = logging.getLogger(__name__)
names = {"a", "b", "c", "d", "e"}
nested = {"x": [frozenset("hello"), (1, 2)]}
class Kind(enum.Enum):
    ONE = 1
class Point:
    def __init__(self, x): self.x = x
    def far(self): return LIMIT
LIMIT = 5
point = Point(3)
table = {Kind.ONE: point, "other": [Point(n) for n in range(3)]}
missing = object()
lock = __import__("threading").Lock()
unused = 7
def helper(x, default=missing): return names, nested, x
@functools.lru_cache
def cached(x): return x
def experiment(config):
    log.info("x"); lock.acquire()
    return helper(config), table, cached(1), [lambda: point.far()]
"""
REACHED = {"log", "names", "nested", "LIMIT", "point", "table", "lock", "helper", "cached", "experiment"}


def test_a_survey_follows_the_names_of_names():
    main = script(SOURCE)
    found = survey([main.experiment], vars(main))
    assert {*found.values, "experiment"} >= REACHED
    assert not {"unused", "missing"} & set(found.values)
    assert found.values["lock"] is None
    assert {"experiment", "helper", "cached", "Point", "Kind"} <= set(found.paths)


@pytest.mark.parametrize("seed", ["0", "1", "77"])
def test_a_script_that_is_loaded_again_lacks_nothing(seed):
    """Whatever PYTHONHASHSEED is there: the digests are compared with those of another process."""
    main = script(SOURCE)
    mine = survey([main.experiment], vars(main))
    code = (
        "import sys, types, json; from pyexp.worker.naming import survey\n"
        "main = types.ModuleType('__mp_main__'); exec(compile(sys.argv[1], 'main.py', 'exec'), vars(main))\n"
        "found = survey([main.experiment], vars(main))\n"
        "print(json.dumps({name: value and value.hex() for name, value in found.values.items()}))"
    )
    other = subprocess.run(
        [sys.executable, "-c", code, SOURCE],
        env={**os.environ, "PYTHONHASHSEED": seed},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(other.stdout) == {name: value and value.hex() for name, value in mine.values.items()}
    assert lacking(mine, vars(script(SOURCE))) == Lack([], [], [])


CHANGES = {
    "LIMIT = 6": (["LIMIT"], []),
    "point.x = 4": (["point", "table"], []),
    "names.add('f')": (["names"], []),
    "extra = 1": ([], []),
    "def helper(x): return 0": ([], ["helper"]),
    "Point.scale = 2": ([], ["Point"]),
    "Point.far = lambda self: 7": ([], ["Point"]),
    "def wrapped(x): return 1\nhelper.__wrapped__ = wrapped": ([], ["helper"]),
    "del Kind": ([], ["Kind"]),
    "lock = __import__('threading').Lock()": ([], []),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_was_set_since_is_lacked(change):
    parent, worker = script(SOURCE), script(SOURCE)
    exec(compile(f"\n{change}" if change.startswith("def") else change, "main.py", "exec"), vars(parent))
    differ, missing, paths, _ = lacking(survey([parent.experiment], vars(parent)), vars(worker))
    if change == "del Kind":  # then its instances go by value, class and all
        assert "table" in differ
    else:
        assert (sorted(differ), missing, paths) == (CHANGES[change][0], [], CHANGES[change][1])


def test_what_is_missing_in_the_worker_is_named():
    parent, worker = script(SOURCE), script(SOURCE)
    del worker.point
    del worker.Point
    _differ, missing, paths, _ = lacking(survey([parent.experiment], vars(parent)), vars(worker))
    assert missing == ["point"]
    assert "Point" in paths


def test_a_path_leads_through_wrappers():
    main = script(
        "import functools\n"
        "def twice(fn):\n"
        "    @functools.wraps(fn)\n"
        "    def wrapper(x): return fn(fn(x))\n"
        "    return wrapper\n"
        "@twice\n"
        "def one(x): return x\n"
        "class A:\n"
        "    class B:\n"
        "        def method(self): pass\n"
    )
    assert path_in(vars(main), main.one) == "one"
    assert path_in(vars(main), main.one.__wrapped__) == "one.__wrapped__"
    assert path_in(vars(main), main.A.B) == "A.B"
    assert path_in(vars(main), main.A.B.method) == "A.B.method"
    assert path_in(vars(main), main.one.__closure__[0].cell_contents) == "one.__wrapped__"
    assert path_in(vars(main), FunctionType(main.A.B.method.__code__, {"__name__": "__main__"}, "one")) is None
