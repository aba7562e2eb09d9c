"""Where the code of an experiment is found: asked of scripts as they are run."""

import functools
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import pyexp
from pyexp.store.code import change
from pyexp.worker.sources import Codes
from tests.cli.scripts import environment

#: Prints the fingerprints of functions of every kind, and which modules that loaded.
SCRIPT = """
import functools
import sys
import pyexp
import helper
from pyexp.worker.sources import Codes

LR = 0.1

@pyexp.experiment
def plain(config):
    from pkg.lazy import g
    return g(config) + LR + helper.f(config)

def make(n):
    def inner(config):
        return helper.f(config) + n
    return inner

def wrapped(fn):
    @functools.wraps(fn)
    def wrapper(config):
        return fn(config)
    return wrapper

class Kind:
    def __call__(self, config):
        return 1
    def method(self, config):
        return helper.f(config)
    @classmethod
    def of_class(cls, config):
        return 1

@wrapped
def decorated(config):
    return LR

made = pyexp.experiment(make(3))
short = lambda config: LR
part = functools.partial(helper.two, helper.f)
kind = Kind()
exec("def typed(config): return 1")
space = {}
exec("def typed_elsewhere(config): return 1", space)

def ready():
    helper.ready()

def show(**functions):
    for name, fn in functions.items():
        before = set(sys.modules)
        code = Codes(fn, ready if name == "plain" else None).of()
        parts = [part + ("?" if digest.startswith("unknown") else "") for part, digest in code.parts.items()]
        if "-v" in sys.argv:
            print(code)
        loaded = [each for each in set(sys.modules) - before if "pkg" in each]
        print(name, "/", code.hash == "unknown", "/", *parts, "/", *loaded)

if __name__ == "__main__":
    show(plain=plain, made=made.fn, experiment=made, short=short, part=part, kind=kind, method=kind.method,
         of_class=Kind.of_class, decorated=decorated, typed=typed, typed_elsewhere=space["typed_elsewhere"],
         nameless=functools.partial(helper.two, 3), builtin=len, library=functools.reduce, installed=pyexp.sweep)
"""
FILES = {
    "main.py": SCRIPT,
    "helper.py": "import math\ndef f(x): return math.sin(x)\ndef two(a, c): return a\ndef ready(): pass\n",
    "pkg/__init__.py": "",
    "pkg/lazy.py": "import colorsys\nfrom . import deep\nfrom .space import far\n"
    "def g(x): return deep.h(x) + far.k() + colorsys.own()\n",
    "colorsys.py": "def own(): return 1\n",  # wins over the standard library's
    "pkg/deep.py": "def h(x): return x\n",
    "pkg/space/far.py": "def k(): return 1\n",
}
EXPECTED = {
    "plain": (
        False,
        "colorsys.own helper.f helper.ready main.LR main.plain main.ready pkg.deep.h pkg.lazy.g pkg.space.far.k",
    ),
    "made": (False, "helper.f main.made main.make main.make.<locals>.inner.n"),
    "experiment": (False, "helper.f main.made main.make main.make.<locals>.inner.n"),
    "short": (False, "main.LR main.short"),
    "part": (False, "helper.f helper.two main.part"),
    "kind": (False, "helper.f main.Kind main.kind"),
    "method": (False, "helper.f main.Kind main.kind"),
    "of_class": (False, "helper.f main.Kind"),
    "decorated": (False, "main.LR main.decorated main.wrapped"),
    "typed": (True, "<exec>.typed?"),
    "typed_elsewhere": (True, "<exec>.typed_elsewhere?"),
    "nameless": (True, "<exec>.partial? helper.two helper.two.[0]"),
    "builtin": (True, "<exec>.len?"),
    "library": (True, "<exec>.reduce?"),
    "installed": (True, "sweep.sweep?"),
}


def write(folder: Path, **changes: str) -> Path:
    for name, text in {**FILES, **changes}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def run(folder: Path, *command: str, **changes: str) -> str:
    done = subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment(**changes), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def without_top(parts: str) -> str:
    """The parts but for what the script does at its top, `exec`, and the dict that it fills."""
    return " ".join(each for each in parts.split() if each not in ("main.<module>", "main.space"))


def test_the_code_of_every_kind_of_function_is_found(tmp_path: Path) -> None:
    said = {}
    for line in run(write(tmp_path), "main.py").splitlines():
        name, is_unknown, parts, loaded = (each.strip() for each in line.split("/"))
        said[name] = is_unknown == "True", without_top(parts)
        assert loaded == ""
    assert said == EXPECTED


def test_a_script_has_the_same_code_however_it_is_started(tmp_path: Path) -> None:
    folder = write(tmp_path / "one")
    other = write(tmp_path / "two" / "three")
    (folder / "use.py").write_text(
        "import main\nif __name__ == '__main__': main.show(plain=main.plain, experiment=main.made)"
    )
    whole = run(folder, "main.py", "-v")
    assert run(other, "main.py", "-v") == whole
    assert run(tmp_path, "one/main.py", "-v") == whole
    assert run(folder, "-m", "main", "-v") == whole
    assert run(tmp_path, "-m", "one.main", "-v", PYTHONPATH=f"{folder}{os.pathsep}{Path(__file__).parents[2]}") == whole
    imported = run(folder, "use.py", "-v").splitlines()
    assert imported == whole.splitlines()[:2] + whole.splitlines()[4:6]


@pytest.mark.parametrize("executor", ["inline", "fork", "subprocess"])
def test_a_cell_has_the_code_of_its_parent(executor: str, tmp_path: Path) -> None:
    (tmp_path / "helper.py").write_text("def f(x): return x\n")
    (tmp_path / "main.py").write_text(
        "import pyexp, helper\nfrom pyexp.worker.sources import Codes\nLR = 0.1\n"
        "@pyexp.experiment\ndef experiment(config):\n    helper.f(LR)\n    return Codes(experiment).of().hash\n"
        "if __name__ == '__main__':\n    hash = Codes(experiment).of().hash\n"
        f"    (result,) = experiment.run([{{'name': 'a'}}], executor={executor!r}, report=list, argv=[])\n"
        "    print(hash == result.value, result.name, hash)\n"
    )
    assert run(tmp_path, "main.py").startswith("True a ")


def test_an_edit_during_a_run_is_not_of_its_code(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(
        "import pyexp\nfrom pyexp.worker.sources import Codes\n"
        "@pyexp.experiment\ndef experiment(config): return 1\n"
        "before = Codes(experiment).of()\n"
        "with open(__file__, 'a') as file: file.write('def experiment(config): return 2')\n"
        "print(Codes(experiment).of() == before)\n"
    )
    assert run(tmp_path, "main.py") == "True\n"


def test_code_is_taken_again_once_a_source_has_changed(tmp_path: Path) -> None:
    (tmp_path / "helper.py").write_text("def f(x): return 1\n")
    (tmp_path / "main.py").write_text(
        "import gc, helper, pathlib, pyexp\nfrom pyexp.worker.sources import Codes\n"
        "def experiment(config): return helper.f(config)\n"
        "for number, is_on in (1, True), (2, False), (1, False), (1, True):\n"
        "    (gc.enable if is_on else gc.disable)()\n"
        "    pathlib.Path(helper.__file__).write_text(f'def f(x): return {number}\\n')\n"
        "    hash = Codes(experiment).of().hash\n    print(number, is_on == gc.isenabled(), hash)\n"
    )
    one, two, *others = run(tmp_path, "main.py").splitlines()
    assert others == [one, one]
    assert one.startswith("1 True ")
    assert two.startswith("2 True ")
    assert one[7:] != two[7:]


def parts(folder: Path, **changes: str) -> Any:
    return run(folder, "-c", "import use; use.show()", **changes).split()


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"lib.py": b"#" * 500 + b"\n# coding: latin-1\ndef f(c): return '\xe9'"}, ["lib.f"]),
        ({"lib.py": b"\xef\xbb\xbfdef f(c): return 1\r\n"}, ["lib.f"]),
        ({"lib.py": b"import broken\ndef f(c): return broken.x", "broken.py": b"x = '\xe9'"},
         ["broken.<module>?", "broken.x?", "lib.f"]),
        ({"lib.py": b"import compiled\ndef f(c): return compiled.x", "compiled.so": b""}, ["compiled.x?", "lib.f"]),
        ({"lib.py": b"def f(c):\n    import there\n    return there.x", "site-packages/there.py": b"x = 1"}, ["lib.f"]),
        ({"lib.py": b"def f(c):\n    import json.tool, email, lib\n    return lib.x, json.x, nothing.x\nx = 1"},
         ["lib.f", "lib.x"]),
        ({"lib.py": b"def f(c): return 1\nf.__module__ = 'elsewhere'"}, ["elsewhere.f?"]),
    ],
)  # fmt: skip
def test_a_module_is_found_if_it_is_the_users_own(files: dict[str, bytes], expected: list[str], tmp_path: Path) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    (tmp_path / "use.py").write_text(
        "import sys, types\nfrom pyexp.worker.sources import Codes\n"
        "for name in ('broken', 'compiled'):\n"
        "    sys.modules[name] = types.ModuleType(name)\n    del sys.modules[name].__spec__\n"
        "import lib\nfor name in ('broken', 'compiled'): del sys.modules[name]\n"
        "sys.modules['odd'] = None\nsys.meta_path.append(3)\n"
        "from importlib.machinery import ModuleSpec\n"
        "class Finder:\n"
        "    def find_spec(self, name, path, target):\n"
        "        if name == 'compiled':\n"
        "            from importlib.util import spec_from_file_location\n"
        "            return spec_from_file_location(name, __file__.replace('use.py', 'compiled.so'), loader=object())\n"
        "sys.meta_path.insert(0, Finder())\n"
        "def show():\n"
        "    for name, digest in Codes(lib.f).of().parts.items(): print(name + '?' * digest.startswith('unknown'))\n"
    )
    path = os.pathsep.join([str(tmp_path), str(tmp_path / "site-packages"), str(Path(__file__).parents[2])])
    assert parts(tmp_path, PYTHONPATH=path) == expected


def test_what_is_typed_is_known_as_far_as_its_lines_are_kept(tmp_path: Path) -> None:
    """As a notebook keeps them: by cell. What no function there tells is unknown, but for values that cannot change."""
    cells = [
        "LR = 0.1; RATES = [LR]; calls = 0",
        "from pyexp import experiment\\nclass Net:\\n    def m(self): return 1\\n",
        "@experiment\\ndef first(config): return Net().m() + len(config)\\n",
        "STEPS = 3\\ndef second(config):\\n    global calls\\n    calls += 1\\n    return LR, RATES, STEPS\\n",
        "STEPS = 4",
    ]
    code = (
        "import linecache\n"
        + "".join(
            f"text = '{cell}'\nlinecache.cache['<cell {i}>'] = (1, None, text.splitlines(True), '<cell {i}>')\n"
            f"exec(compile(text, '<cell {i}>', 'exec'))\n"
            for i, cell in enumerate(cells)
        )
        + (
            "from pyexp.store.code import change\nfrom pyexp.worker.sources import Codes\n"
            "before = Codes(second).of()\n"
            "for fn in (first, second):\n"
            "    print(*[name + '?' * digest.startswith('unknown') for name, digest in Codes(fn).of().parts.items()])\n"
            "for LR, STEPS in ((0.1, 4), (0.2, 4), (0.1, 3)):\n"
            "    print(change(Codes(second).of(), before))\n"
        )
    )
    said = run(tmp_path, "-c", code, PYTHONPATH=str(Path(__file__).parents[2])).splitlines()
    assert said[:2] == [
        "__main__.Net __main__.first",
        "__main__.LR __main__.RATES? __main__.STEPS __main__.calls? __main__.second",
    ]
    unsure = "__main__.RATES is unknown, {}__main__.calls is unknown"
    assert said[2] == ""  # what is unknown may be the same
    assert said[3] == "__main__.LR changed, " + unsure.format("")
    assert said[4] == unsure.format("__main__.STEPS changed, ")


def scaled(factor, seen=()):
    def experiment(config):
        return config.x * factor + len(seen)

    return experiment


def counted(fn):
    calls = 0

    @functools.wraps(fn)
    def wrapper(config):
        nonlocal calls
        calls += 1
        return fn(config)

    return wrapper


def test_a_count_of_calls_is_no_part_of_the_code() -> None:
    fn = counted(scaled(3))
    before = Codes(fn).of()
    fn(pyexp.Config(x=1))
    assert Codes(fn).of() == before
    assert Codes(counted(scaled(4))).of() != before


def two_that_count():
    calls = 0

    def count():
        nonlocal calls
        calls += 1

    def experiment(config):
        count()
        return calls

    return experiment


def test_a_count_that_another_function_keeps_is_no_part_of_the_code() -> None:
    fn = two_that_count()
    before = Codes(fn).of()
    fn(None)
    assert Codes(fn).of() == before


def test_a_fingerprint_that_cannot_be_taken_is_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tries = []

    def fail(*_: Any) -> None:
        tries.append(1)
        raise RecursionError

    codes = Codes(two_that_count())
    monkeypatch.setattr(codes, "_fingerprint", fail)
    assert [codes.of(pyexp.freeze({"x": i})) for i in range(3)] == [None, None, None]
    assert tries == [1]


def test_functions_of_one_factory_differ_by_the_values_that_they_hold() -> None:
    """Only by values that cannot change: a list may be a cache."""
    one, same, other, cached = (Codes(fn).of() for fn in (scaled(1), scaled(1), scaled(10), scaled(1, [5])))
    assert one == same != other
    assert change(one, other) == "test_sources.scaled.<locals>.experiment.factor changed"
    assert change(one, cached) == "test_sources.scaled.<locals>.experiment.seen is gone"
    first, second, named = (
        Codes(fn).of()
        for fn in (functools.partial(scaled, 1), functools.partial(scaled, 2), functools.partial(scaled, seen=(1,)))
    )
    assert change(first, second).endswith("test_sources.scaled.[0] changed")
    assert change(first, named).endswith("test_sources.scaled.[0] is gone, test_sources.scaled.seen is new")


def with_default(factor):
    def experiment(config, times=factor, *, plus=factor, seen=[]):  # noqa: B006
        return config.x * times + plus + len(seen)

    return experiment


class Trainer:
    def __init__(self, factor: int) -> None:
        self.factor = factor
        self.calls = 0
        self.seen = [factor]
        self.folder = Path(str(id(self)))

    def __call__(self, config: pyexp.Config) -> int:
        self.calls += 1
        return int(config.x) * self.factor

    def train(self, config: pyexp.Config) -> int:
        return self(config)


def test_defaults_and_objects_differ_by_the_values_that_they_hold() -> None:
    one, same, other = (Codes(with_default(factor)).of() for factor in (1, 1, 10))
    assert one == same
    home = "test_sources.with_default.<locals>.experiment"
    assert change(one, other) == f"{home}.plus changed, {home}.times changed"
    for form in (Trainer, lambda factor: Trainer(factor).train):
        first, second = form(1), form(10)
        before, after = Codes(first).of(), Codes(second).of()
        assert "test_sources.Trainer.factor changed" in change(before, after)
        first(pyexp.Config(x=1))
        assert Codes(first).of() == before  # a count of calls is no part of it


STALE = """
import importlib, sys
from pyexp.store.code import change
from pyexp.worker.sources import Codes

SOURCE = "from pyexp import experiment\\nLR = 1\\n@experiment\\ndef e(config): return LR\\n"
def write(text):
    with open("lib.py", "w") as file:
        file.write(text)

write(SOURCE)
import lib
before = Codes(lib.e.fn, is_loaded=True).of()
write(SOURCE.replace("1", "100"))
for is_loaded in (True, False):
    print(change(before, Codes(lib.e.fn, is_loaded=is_loaded).of()))
importlib.reload(lib)
print(change(before, Codes(lib.e.fn, is_loaded=True).of()))
"""


def test_a_module_that_was_edited_since_it_was_loaded_is_not_what_inline_runs(tmp_path: Path) -> None:
    said = run(tmp_path, "-c", STALE, PYTHONPATH=os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])]))
    edited = "lib.LR changed"
    assert said.splitlines() == [f"lib.<before an edit> is new, {edited}", edited, edited]
