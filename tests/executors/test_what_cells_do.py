"""What experiments do to their own process, and what must come of it all the same: one true record for each cell."""

import decimal
import json
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import pyexp
from pyexp import ConfigError, Executor

EVERYWHERE = pytest.mark.parametrize("executor", ["subprocess", "fork", "inline"])

FORKING = """
import os, time
import pyexp

@pyexp.experiment(name="e")
def experiment(config):
    child = os.fork()
    if child == 0:
        BODY
    _, status = os.waitpid(child, 0)
    return {"who": "parent", "status": os.waitstatus_to_exitcode(status)}

if __name__ == "__main__":
    experiment.run(configs=[{"name": "a"}, {"name": "b"}], report=lambda results: print(
        *[(r["who"], r["status"], r.value["who"]) for r in results]))
"""


@EVERYWHERE
@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("return {'who': 'child', 'status': 0}", 0),
        ("raise ValueError('of the child')", 1),
        ("raise SystemExit(3)", 3),
        ("raise SystemExit", 0),
    ],
)
def test_a_process_that_a_cell_forks_is_not_taken_for_the_cell(script, executor, body, status):
    script.write(FORKING.replace("BODY", body))
    ended = script.run("--executor", executor)
    assert ended.stdout == f"('parent', {status}, 'parent') ('parent', {status}, 'parent')\n", ended.stderr
    assert ("of the child" in (next(script.folder.glob("out/e/run/a-*")) / "log.txt").read_text()) == ("Value" in body)


@EVERYWHERE
def test_an_error_is_told_also_when_nothing_can_be_opened_any_more(script, executor):
    script.write(
        "import pyexp\n"
        "@pyexp.experiment(name='e')\n"
        "def experiment(config):\n"
        "    files = []\n"
        "    while True: files.append(open('/dev/null'))\n"
        "if __name__ == '__main__':\n"
        "    experiment.run(configs=[{'name': 'a'}])\n"
    )
    ended = script.run(
        "--executor", executor, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
    )
    assert ended.returncode == 0, ended.stderr
    error = script.record("a")["error"]
    assert (error["type"], "Too many open files: '/dev/null'" in error["message"]) == ("OSError", True)
    assert "in experiment" in error["traceback"]


@pytest.mark.parametrize("executor", ["subprocess", "fork"])
def test_an_error_is_told_also_when_memory_is_short(script, executor):
    script.write(
        "import pyexp, resource\n"
        "@pyexp.experiment(name='e')\n"
        "def experiment(config):\n"
        "    resource.setrlimit(resource.RLIMIT_AS, (300 << 20, 300 << 20))\n"
        "    kept = []\n"
        "    while True: kept.append(' ' * 100 + str(len(kept)))\n"
        "if __name__ == '__main__':\n"
        "    experiment.run(configs=[{'name': 'a'}])\n"
    )
    assert script.run("--executor", executor).returncode == 0
    assert script.record("a")["error"]["type"] == "MemoryError"


def test_a_traceback_is_told_without_the_module_that_formats_them(script):
    script.write(
        "import sys, pyexp\n"
        "@pyexp.experiment(name='e')\n"
        "def experiment(config):\n"
        "    sys.modules['traceback'] = None\n"
        "    raise ValueError('boom')\n"
        "if __name__ == '__main__':\n"
        "    experiment.run(configs=[{'name': 'a'}])\n"
    )
    script.run("--executor", "subprocess")
    error = script.record("a")["error"]
    assert (error["type"], error["message"]) == ("ValueError", "boom")
    assert ", line 5, in experiment" in error["traceback"]


@EVERYWHERE
def test_what_a_cell_saves_under_a_name_of_pyexp_is_kept_beside(script, executor):
    script.write(
        "import pyexp\n"
        "@pyexp.experiment(name='e')\n"
        "def experiment(config):\n"
        "    for name in ('result.pkl', 'record.json', 'result-1.pkl'): (config.out / name).write_text(f'my {name}')\n"
        "    if config.fails: raise ValueError\n"
        "    return 1\n"
        "cells = [{'name': name, 'fails': name == 'b'} for name in 'ab']\n"
        "if __name__ == '__main__': experiment.run(cells, report=lambda results: print(results[0].value))\n"
    )
    assert script.run("--executor", executor).stdout == "1\n"
    for name in "ab":
        folder = next(script.folder.glob(f"out/e/run/{name}-*"))
        assert json.loads((folder / "record.json").read_text())["status"] == ("done" if name == "a" else "failed")
        assert (folder / "record-1.json").read_text() == "my record.json"
    assert (next(script.folder.glob("out/e/run/a-*")) / "result-2.pkl").read_text() == "my result.pkl"


@EVERYWHERE
def test_a_folder_in_the_place_of_the_record_is_set_aside(script, executor):
    script.write(
        "import pyexp\n"
        "@pyexp.experiment(name='e')\n"
        "def experiment(config):\n    (config.out / 'record.json').mkdir()\n"
        "if __name__ == '__main__':\n"
        "    experiment.run(configs=[{'name': 'a'}], report=lambda results: None)\n"
    )
    assert "warning" not in script.run("--executor", executor).stderr
    assert script.record("a")["status"] == "done"
    assert "1 to load" in script.run("--executor", executor).stderr
    assert list(script.folder.glob("out/e/run/a-*/record.json.unreadable"))


HELPERS = """
import functools, multiprocessing, pickle
from concurrent.futures import ProcessPoolExecutor
import pyexp

class Model:
    def __init__(self, weight):
        self.weight = weight

def square(x):
    return x * x

@functools.lru_cache(maxsize=7)
def load(n):
    return list(range(n))

@functools.cache
def twice(n):
    return sum(load(n)) * 2

@pyexp.experiment(name="e")
def experiment(config):
    with multiprocessing.get_context("METHOD").Pool(1) as pool, ProcessPoolExecutor(1) as futures:
        mapped = pool.map(square, [1, 2]) + list(futures.map(square, [3]))
    made = pickle.loads(pickle.dumps(Model(4))) if config.model else None
    twice(3)
    hits = load(3) and load.cache_info().hits, load.cache_parameters()["maxsize"]
    return {"got": [mapped, isinstance(made, Model), twice(3), *hits]}

if __name__ == "__main__":
    experiment.run(configs=[{"name": "a", "model": True}], report=lambda results: print(results[0].value["got"]))
"""


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.parametrize("plain", [True, False], ids=["by code", "by cloudpickle"])
def test_what_the_script_defines_can_be_pickled_by_name_in_a_cell(script, method, plain):
    text = HELPERS.replace("METHOD", method)
    if plain:  # a class of the script goes by cloudpickle
        text = text.replace("pickle.loads(pickle.dumps(Model(4))) if config.model else None", "None")
        text = text.replace("isinstance(made, Model)", "made is None")
    script.write(text)
    ended = script.run("--executor", "subprocess")
    assert ended.stdout == "[[1, 4, 9], True, 6, 1, 7]\n", ended.stderr


FORMS = {
    "a partial": "functools.partial(cell)",
    "an object": "Callable()",
    "a closure of another module": "deco.timed(cell)",
    "a bound method": "Callable().__call__",
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_it_can_whatever_form_the_experiment_has(script, form):
    script.write("def timed(fn):\n    def inner(config):\n        return fn(config)\n    return inner\n", "deco.py")
    script.write(
        "import functools, pickle, pyexp, deco\n"
        "def square(x):\n    return x * x\n"
        "def cell(config):\n    return pickle.loads(pickle.dumps(square))(3)\n"
        "class Callable:\n    def __call__(self, config):\n        return cell(config)\n"
        "if __name__ == '__main__':\n"
        f"    pyexp.experiment(name='e')({form}).run(configs=[{{'name': 'a'}}], report=lambda r: print(r[0].value))\n"
    )
    ended = script.run()
    assert ended.stdout == "9\n", ended.stderr


@EVERYWHERE
def test_classes_within_classes_and_what_holds_locks_come_and_go(script, executor):
    script.write(
        "import functools, pickle, pyexp\n"
        "class Metrics:\n    pass\n"
        "class Model:\n"
        "    class Metrics:\n        pass\n"
        "    class Other:\n        class Deep:\n            pass\n"
        "    @functools.cached_property\n"
        "    def size(self):\n        return 7\n"
        "@functools.singledispatch\n"
        "def told(value):\n    return 'any'\n"
        "@told.register\n"
        "def _(value: int):\n    return 'int'\n"
        "@pyexp.experiment(name='e')\n"
        "def experiment(config):\n"
        "    assert type(pickle.loads(pickle.dumps(Model.Other.Deep()))) is Model.Other.Deep\n"
        "    assert Model().size == pyexp.Config({'x': 7}).x\n"
        "    return {'m': Model.Metrics(), 'd': Model.Other.Deep(), 't': Metrics(), 'told': told(1) + told('')}\n"
        "def report(results):\n"
        "    (r,) = results\n"
        "    print(type(r.m) is Model.Metrics, type(r.d) is Model.Other.Deep, type(r.t) is Metrics, r.told)\n"
        "if __name__ == '__main__':\n"
        "    experiment.run(configs=[{'name': 'a'}], report=report)\n"
    )
    for _ in range(2):
        ended = script.run("--executor", executor)
        assert ended.stdout == "True True True intany\n", ended.stderr


@EVERYWHERE
def test_a_class_that_is_made_in_a_cell_comes_back_as_one_of_its_base(script, executor):
    script.write(
        "import dataclasses, pyexp, typing\n"
        "Label = typing.NewType('Label', str)\n"
        "class Base:\n    pass\n"
        "class Mixin(Base):\n    pass\n"
        "@pyexp.experiment(name='e')\n"
        "def experiment(config):\n"
        "    Point = dataclasses.make_dataclass('Point', ['x'], bases=(Mixin,))\n"
        "    Point.__module__ = '__main__'\n"
        "    class Local(Base):\n        label: Label\n"
        "    return [type('Made', (Base,), {})(), Local(), Point(1)]\n"
        "if __name__ == '__main__':\n"
        "    experiment.run(configs=[{'name': 'a'}], report=lambda results: print(\n"
        "        [isinstance(each, Base) for each in results[0].value], isinstance(results[0].value[2], Mixin),\n"
        "        results[0].value[1].__annotations__['label'] is Label))\n"
    )
    for _ in range(2):
        ended = script.run("--executor", executor)
        assert ended.stdout == "[True, True, True] True True\n", ended.stderr


def test_a_run_in_a_cell_does_not_read_the_command_line_of_the_run_around_it(script):
    script.write(
        "import pyexp\n"
        "@pyexp.experiment(name='inner', executor='inline', quiet=True)\n"
        "def inner(config):\n    return 1\n"
        "@pyexp.experiment(name='outer')\n"
        "def outer(config):\n"
        "    inner.run(configs=[{'name': 'i'}], report=lambda r: r, output_dir=config.out)\n"
        "    return [path.name for path in config.out.glob('inner/*')]\n"
        "if __name__ == '__main__':\n"
        "    outer.run(configs=[{'name': 'a'}], report=lambda results: print(results[0].value))\n"
    )
    for executor in ("subprocess", "fork"):
        ended = script.run("--rerun", "--executor", executor)
        assert ended.returncode == 0, ended.stderr
        assert ended.stdout.startswith("['20"), ended.stdout


@pytest.mark.parametrize("executor", ["subprocess", "fork"])
def test_what_cannot_be_sent_is_the_error_that_says_so(tmp_path, executor):
    lock = threading.Lock()

    def locked(config):
        with lock:
            return 1

    run = pyexp.experiment(name="e", output_dir=tmp_path, quiet=True)(locked).run
    if executor == "subprocess":
        with pytest.raises(ConfigError, match="cannot be sent to another process"):
            run(configs=[{"name": "a"}], executor=executor, argv=[])
    again = pyexp.SubprocessExecutor()
    with pytest.raises(ConfigError, match="cannot be sent to another process"):
        again.run(locked, {}, tmp_path / "x" / "result.pkl")
    assert again.run(len, {"name": "b"}, tmp_path / "y" / "result.pkl") == 2


class Late(Executor):
    """The first try of cell a fails when the second has long finished."""

    def __init__(self) -> None:
        self.tries = 0
        self.second, self.ended = threading.Event(), threading.Event()

    def run(self, fn, config, result_path):
        if config.name != "a":
            return fn(config)
        self.tries += 1
        if self.tries == 1:
            self.second.wait(60)
            time.sleep(0.5)  # its result is kept by now
            self.ended.set()
            raise ConnectionError("late")
        self.second.set()
        return fn(config)


def test_a_thread_that_was_given_up_takes_no_result_away(tmp_path):
    executor = Late()
    made = pyexp.experiment(name="e", output_dir=tmp_path, quiet=True, executor=executor, timeout=1, retries=1)
    results = made(lambda config: {"x": [1]}).run(configs=[{"name": "a"}], report=lambda results: results, argv=[])
    assert executor.tries == 2
    assert executor.ended.wait(10)
    time.sleep(0.2)
    assert results["a"]["x"] == [1]


class Carrying(Executor):
    def run(self, fn, config, result_path):
        return pyexp.attempt(fn, config, result_path)() if config.name == "carried" else fn(config)


def test_a_cell_in_a_thread_has_the_context_of_the_run_and_the_initializer_to_itself(tmp_path):
    """Decimals, NumPy's `seterr` and the like belong to a context, and a new thread has an empty one."""
    called = []

    def fn(config):
        found = str(decimal.Decimal(1) / 3)
        decimal.getcontext().prec = 2
        return {"found": found}

    def initialize():
        decimal.getcontext().prec = 6
        called.append(1)

    made = pyexp.experiment(name="e", output_dir=tmp_path, quiet=True, executor=Carrying())(fn)
    configs = [{"name": name} for name in ("a", "b", "carried")]
    options = {"argv": [], "report": lambda results: [r.get("message") or r["found"] for r in results]}
    with decimal.localcontext(prec=4):
        assert made.run(configs=configs[:2], **options) == ["0.3333"] * 2
        made.initializer(initialize)
        assert made.run(configs=configs, **options) == ["0.333333"] * 3
        assert called == [1]
        assert str(decimal.Decimal(1) / 3) == "0.3333"


def test_what_changes_during_a_run_reaches_no_cell_that_is_carried(tmp_path):
    """Not the source of a module either: what cells have in common is packed once."""
    state = []

    class Changing(Executor):
        def run(self, fn, config, result_path):
            state.append(config.name)
            return pyexp.attempt(fn, config, result_path)()

    made = pyexp.experiment(name="e", output_dir=tmp_path, quiet=True, executor=Changing())(lambda config: len(state))
    results = made.run(configs=[{"name": "a"}, {"name": "b"}], report=lambda results: results, argv=[])
    assert [result.value for result in results] == [1, 1]


class Clumsy(Executor):
    def run(self, fn, config, result_path):
        result_path.mkdir()
        raise ValueError("boom")


def test_an_executor_that_leaves_a_folder_in_place_of_its_result_ends_its_cell(tmp_path):
    made = pyexp.experiment(name="e", output_dir=tmp_path, quiet=True, executor=Clumsy())(len)
    results = made.run(configs=[{"name": "a"}, {"name": "b"}], report=lambda results: results, argv=[])
    assert [(r["type"], r["message"]) for r in results] == [("ValueError", "boom")] * 2


STARTS = {
    "a folder": ["app"],
    "an archive": ["app.zip"],
    "stdin": ["-"],
    "cProfile": ["-m", "cProfile", "-o", "/dev/null", "main.py"],
    "trace": ["-m", "trace", "--count", "-C", "counts", "main.py"],
    "a module": ["-m", "app"],
}


@pytest.mark.parametrize("start", STARTS.values(), ids=STARTS)
def test_the_command_line_is_read_however_the_script_is_started(tmp_path: Path, start):
    import zipfile

    text = (
        "import pyexp\n"
        "@pyexp.experiment(name='e', executor='inline')\n"
        "def experiment(config):\n    return 1\n"
        "if __name__ == '__main__':\n    experiment.run(configs=[{'name': 'a'}])\n"
    )
    (tmp_path / "app").mkdir()
    for name in ("main.py", "app/__main__.py"):
        (tmp_path / name).write_text(text)
    with zipfile.ZipFile(tmp_path / "app.zip", "w") as archive:
        archive.writestr("__main__.py", text)

    def run(*flags: str) -> subprocess.CompletedProcess:
        command = [sys.executable, *start, *flags]
        return subprocess.run(command, cwd=tmp_path, input=text, capture_output=True, text=True, check=False)

    assert "1 to run" in run("-n").stdout
    assert "unknown option '--bogus'" in run("--bogus").stderr
    assert not (tmp_path / "out").exists()
    assert run("--timestamp", "t").returncode == 0
    assert json.loads((tmp_path / "out" / "e" / "t" / "run.json").read_text())["shape"] == [1]


@EVERYWHERE
def test_the_files_of_a_run_have_the_mode_of_the_run_and_not_of_a_cell_that_changed_it(script, executor):
    script.write(
        "import os, pyexp\n"
        "@pyexp.experiment(name='e')\n"
        "def experiment(config):\n"
        "    os.umask(0)\n"
        "    return 1\n"
        "if __name__ == '__main__':\n"
        "    os.umask(0o027)\n"
        "    experiment.run(configs=[{'name': 'a'}, {'name': 'b'}], report=lambda results: print(oct(os.umask(0))))\n"
    )
    ended = script.run("--executor", executor)
    assert ended.stdout == "0o27\n", ended.stderr
    for cell in script.folder.glob("out/e/run/[ab]-*"):
        assert {oct(path.stat().st_mode & 0o777) for path in cell.iterdir()} == {"0o640"}, list(cell.iterdir())
        assert oct(cell.stat().st_mode & 0o777) == "0o750"
