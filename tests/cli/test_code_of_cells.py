"""What a config names is part of the code of the cells that have it, and of no other's."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.scripts import environment, go

MODELS = """
import abc
import enum
import functools
from dataclasses import dataclass, make_dataclass

import helper

def square(x):
    return helper.times(x, x)

def power(x, n):
    return x ** n

@functools.lru_cache
def cached(x):
    return x

class Base:
    def start(self, x):
        return x + 1

class Cube(Base):
    def __call__(self, x):
        return self.start(x) ** 3

class Speed(enum.Enum):
    FAST = 2

@dataclass(frozen=True)
class Scale:
    factor: float

    def apply(self, x):
        return x * self.factor

Alias = enum.Enum("Shade", {"DARK": 1})

class Wrapped:
    def __init__(self, loss):
        self.loss, self.me = loss, self

class Shape(metaclass=abc.ABCMeta):
    pass

class Round(Shape):
    sides = 0

class Square(Shape):
    sides = 4

Made = make_dataclass("Made", ["x"], namespace={"apply": lambda self: self.x + 5})  # Python 3.11 says types.Made

class Moved:
    def __call__(self, x):
        return x + 6

Moved.__module__ = "elsewhere"

def key(x):
    return -x

def unused(x):
    return x
"""
FAMILY = """
def make(name):
    return type(name, (), {"apply": lambda self: 1})

ALL = {name: make(name) for name in ("One", "Two")}
"""
HELPER = "def times(x, y):\n    return x * y\n"
SCRIPT = """
import functools, sys
from pyexp import experiment, register_encoder
import family
import models

register_encoder(models.Wrapped, lambda wrapped: wrapped.loss)

class Own:
    def __call__(self, x):
        return x - 1


@experiment(executor="inline", timestamp="t", quiet=True)
def trial(config):
    return str(config.value)

@trial.configs
def configs():
    return [{"name": name, "value": value} for name, value in {
        "plain": 1,
        "function": models.square,
        "class": models.Cube,
        "partial": functools.partial(models.power, n=2),
        "cached": models.cached,
        "enum": models.Speed.FAST,
        "object": models.Scale(0.5),
        "own": Own,
        "alias": models.Alias.DARK,
        "wrapped": models.Wrapped(models.power),
        "round": models.Round,
        "four": models.Square,
        "made": models.Made(1),
        "moved": models.Moved,
        "keyed": models.Scale({models.key: 1}),
        "nameless": family.ALL["One"],
        "deep": {"a": [{"b": (models.square, 1)}], "c": len, "d": functools.partial(max, 1)},
    }.items()]

if __name__ == "__main__":
    trial.run()
"""
FILES = {"main": SCRIPT, "models": MODELS, "helper": HELPER, "family": FAMILY}
EDITS = [
    ("models", "return helper.times(x, x)", "return helper.times(x, 2)", "function deep"),
    ("helper", "return x * y", "return x + y", "function deep"),
    ("models", "return x ** n", "return x ** -n", "partial wrapped"),
    (
        "models",
        '"DARK": 1',
        '"DARK": 2',
        "alias",
    ),
    ("models", "self.loss, self.me = loss, self", "self.me, self.loss = self, loss", "wrapped"),
    ("models", "    return x\n\nclass Base", "    return 2 * x\n\nclass Base", "cached"),
    ("models", "** 3", "** 4", "class"),
    ("models", "return x + 1", "return x + 2", "class"),
    ("models", "FAST = 2", "FAST = 3", "enum"),
    ("models", "x * self.factor", "x / self.factor", "object keyed"),
    ("models", "sides = 4", "sides = 5", "four"),
    ("models", "self.x + 5", "self.x + 6", "made"),
    ("models", "x + 6", "x + 7", "moved"),
    ("models", "return -x", "return +x", "keyed"),
    ("family", "self: 1", "self: 2", "nameless"),
    ("main", "return x - 1", "return x - 2", "own"),
    ("models", "def unused(x):\n    return x", "def unused(x):\n    return -x", ""),
    ("models", "    return x ** n", "    # why\n    return (x ** n)", ""),
    ("main", '"plain": 1', '"plain": 1, "new": models.unused', ""),
]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    for name, text in FILES.items():
        (folder / f"{name}.py").write_text(text)
    go(folder)
    return folder


@pytest.mark.parametrize(("module", "old", "new", "changed"), EDITS)
def test_an_edit_of_what_a_config_names_is_seen_in_its_cells_alone(
    finished: Path, module: str, old: str, new: str, changed: str
) -> None:
    path = finished / f"{module}.py"
    before = path.read_text()
    assert before.count(old) == 1
    try:
        path.write_text(before.replace(old, new))
        plan = go(finished, "-n", "-v").stdout
        found = re.findall(r"^load +(\S+?)-\S+ .*by other code", plan, re.M)
        assert found == [name for name in re.findall(r'^        "(\w+)": ', SCRIPT, re.M) if name in changed.split()], (
            plan
        )
        assert plan.count("run  ") == ('"new"' in new)
    finally:
        path.write_text(before)


def test_a_grid_as_it_was_run_is_compared_too(finished: Path) -> None:
    """What its configs name is known by name. What an object holds is not: such cells are left out."""

    def said(*words: str) -> str:
        return go(finished, "--report", "--as-run", *words).stderr

    assert "other code" not in said()
    main, models = finished / "main.py", finished / "models.py"
    try:
        main.write_text(SCRIPT.replace("str(config.value)", "repr(config.value)"))
        assert "2 of 2 loaded results were made by other code: main.trial changed; " in said("-k", "[pf]*n")
        main.write_text(SCRIPT.replace("\nclass Own", "\nimport warnings\nwarnings.simplefilter('error')\n\nclass Own"))
        assert "8 of 17 loaded results were made by other code: main.<module> is new; " in said()
        main.write_text(SCRIPT)
        models.write_text(MODELS.replace("return helper.times(x, x)", "return helper.times(x, 2)"))
        assert "1 of 17 loaded result was made by other code: models.square changed; " in said()
        models.write_text(MODELS.replace("FAST = 2", "FAST = 3"))
        assert "1 of 17 loaded result was made by other code: models.Speed changed; " in said()
    finally:
        main.write_text(SCRIPT)
        models.write_text(MODELS)


def test_a_result_has_the_code_that_its_config_names_and_the_run_its_source(finished: Path) -> None:
    (run,) = (finished / "out" / "trial").iterdir()
    parts = {
        path.parent.name.rpartition("-")[0]: set(json.loads(path.read_text())["code"]["parts"])
        for path in run.glob("*/record.json")
    }
    more = {name: each - parts["plain"] for name, each in parts.items()}
    assert more["plain"] == set()
    assert more["function"] == more["deep"] == {"models.square", "helper.times"}
    assert more["class"] == {"models.Cube", "models.Base"}
    assert more["own"] == {"main.Own"}
    assert MODELS in [path.read_text() for path in (run / "code").iterdir()]


@pytest.mark.parametrize("executor", ["subprocess", "fork", "inline"])
def test_a_result_whose_record_is_lost_knows_the_code_of_its_cell(tmp_path: Path, executor: str) -> None:
    for name, text in FILES.items():
        (tmp_path / f"{name}.py").write_text(text)
    go(tmp_path, "--executor", executor)
    for record in tmp_path.glob("out/trial/t/*/record.json"):
        record.unlink()
    assert "other code" not in go(tmp_path, "-n").stdout
    (tmp_path / "helper.py").write_text(HELPER.replace("x * y", "x + y"))
    assert "17 to load (2 made by other code)" in go(tmp_path, "-n").stdout


OWN = """
import sys
sys.path.append(__file__.rpartition("pkg")[0])
from pyexp import experiment

class Own:
    start = 1

@experiment(executor="inline", timestamp="t", quiet=True)
def trial(config):
    return config.model.start

@trial.configs
def configs():
    return [{"name": "own", "model": Own}]

if __name__ == "__main__":
    trial.run()
"""


def test_a_class_of_the_script_has_one_name_however_the_script_is_started(tmp_path: Path) -> None:
    """A record of `python -m pkg.main` names pkg.main.Own."""
    script = tmp_path / "pkg" / "main.py"
    script.parent.mkdir()
    script.write_text(OWN)

    def said(*words: str) -> str:
        command = [sys.executable, *words]
        ended = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False)
        return ended.stderr

    said("-m", "pkg.main")
    assert said("pkg/main.py", "--report", "--as-run") == said("-m", "pkg.main", "--report", "--as-run") == ""
    script.write_text(OWN.replace("start = 1", "start = 2"))
    told = said("pkg/main.py", "--report", "--as-run")
    assert "1 of 1 loaded result was made by other code: main.Own changed; " in told
