"""How a cell's process gets ready: the script is loaded as it is, and what was set in it since comes after."""

import os
import signal
import subprocess
import sys
import zipfile

import pytest
from conftest import EXECUTORS, of_two_cells

EACH = pytest.mark.parametrize("executor", EXECUTORS)
LOADING = pytest.mark.parametrize("executor", ["server", "fresh"])


@pytest.fixture
def told(script):
    """The lines that a script of two cells prints."""

    def run(executor: str, body: str, *, top: str = "", guarded: str = "pass") -> list[str]:
        script.write(of_two_cells(executor, body, top=top, guarded=guarded))
        ended = script.run()
        assert ended.returncode == 0, ended.stderr
        return ended.stdout.splitlines()

    return run


def logs(script) -> list[str]:
    return [path.read_text() for path in sorted(script.folder.glob("out/e/run/*/log.txt"))]


# The top level


@EACH
def test_what_the_script_sets_up_at_its_top_holds_in_its_cells(script, told, executor):
    top = """
        import decimal, logging, warnings
        import numpy
        logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
        warnings.filterwarnings("ignore", message="noisy")
        numpy.seterr(over="raise")
        decimal.getcontext().prec = 5
        sys.setrecursionlimit(54321)
        os.environ["SET_AT_THE_TOP"] = "yes"
    """
    body = """
        logging.getLogger("train").info("epoch 1")
        warnings.warn("noisy")
        here = decimal.getcontext().prec, sys.getrecursionlimit(), os.environ["SET_AT_THE_TOP"]
        return numpy.geterr()["over"], *here
    """
    pytest.importorskip("numpy")
    assert told(executor, body, top=top) == ["('raise', 5, 54321, 'yes')"] * 2
    assert logs(script) == ["INFO epoch 1\n"] * 2


@EACH
def test_names_that_only_the_script_has_are_found_in_its_cells(told, executor):
    top = """
        import enum
        from typing import Generic, NewType, ParamSpec, TypeVar
        T = TypeVar("T")
        P = ParamSpec("P")
        UserId = NewType("UserId", int)
        class Box(Generic[T]):
            def __init__(self, item: T) -> None:
                self.item = item
        class Colour(enum.Enum):
            RED = 1
        def helper():
            return "helped"
        Pair = tuple[T, T]
    """
    body = """
        box = Box[UserId](UserId(3))
        return T, P.__name__, UserId(box.item), globals()["helper"](), Colour["RED"] is Colour(1), Pair[int]
    """
    expected = "(~T, 'P', 3, 'helped', True, tuple[int, int])"
    assert told(executor, body, top=top) == [expected] * 2


@EACH
def test_a_sentinel_stays_the_one_that_defaults_and_others_refer_to(told, executor):
    top = """
        MISSING = object()
        TABLE = {"empty": MISSING}
        class Setting:
            unset = MISSING
        def is_missing(value=MISSING):
            return value is MISSING
    """
    body = "return is_missing(), TABLE['empty'] is MISSING, Setting.unset is MISSING, is_missing(3)"
    assert told(executor, body, top=top) == ["(True, True, True, False)"] * 2


@EACH
def test_a_sentinel_stays_so_beside_what_is_set_under_the_guard(told, executor):
    top = """
        MISSING = object()
        TABLE = {}
        def is_missing(value=MISSING):
            return value is MISSING
    """
    body = "return is_missing(), TABLE['other']"
    assert told(executor, body, top=top, guarded="TABLE['other'] = 1") == ["(True, 1)"] * 2


WHAT_CANNOT_BE_PICKLED = {
    "a lock": ("import threading\nthing = threading.Lock()", "with thing: return 'used'"),
    "a file": ("thing = open('notes', 'a')", "return thing.write('x') and 'used'"),
    "a console": ("from rich.console import Console\nthing = Console()", "thing.print('x'); return 'used'"),
    "a database": ("import sqlite3\nthing = sqlite3.connect(':memory:')", "return thing.total_changes == 0 and 'used'"),
    "a generator": ("thing = (i for i in range(9))", "return next(thing) == 0 and 'used'"),
    "a context variable": (
        "import contextvars\nthing = contextvars.ContextVar('thing', default='used')",
        "return thing.get()",
    ),
}


@EACH
@pytest.mark.parametrize("kind", WHAT_CANNOT_BE_PICKLED)
def test_what_cannot_be_pickled_is_made_at_the_top_of_the_script(told, executor, kind):
    top, body = WHAT_CANNOT_BE_PICKLED[kind]
    if kind == "a console":
        pytest.importorskip("rich")
    assert told(executor, body, top=top) == ["used"] * 2


@EACH
@pytest.mark.parametrize("kind", WHAT_CANNOT_BE_PICKLED)
def test_made_under_the_guard_it_is_refused_by_name_before_anything_runs(script, executor, kind):
    guarded, body = WHAT_CANNOT_BE_PICKLED[kind]
    if kind == "a console":
        pytest.importorskip("rich")
    script.write(of_two_cells(executor, body, guarded=guarded))
    ended = script.run()
    if executor == "fork":  # which has it anyway
        assert ended.stdout == "used\nused\n", ended.stderr
        return
    assert ended.returncode != 0
    assert "ConfigError: the experiment 'experiment' uses thing, a " in ended.stderr
    assert "make thing there" in ended.stderr
    assert not list(script.folder.rglob("log.txt"))


# Under the guard


@EACH
def test_what_is_set_under_the_guard_arrives(told, executor):
    top = """
        class Model:
            def __init__(self, weight):
                self.weight = weight
        MODEL = None
        SCALE = 1
        def scaled(x):
            return x * SCALE
        class Settings:
            device = None
    """
    body = "return type(MODEL) is Model, MODEL.weight, scaled(2), NEW, named(), Settings.device"
    guarded = """
        MODEL = Model(7)
        SCALE = 21
        NEW = ["made here"]
        Settings.device = "cpu"
        def named():
            return NEW[0].upper(), helper(1)
        def helper(x):
            return scaled(x)
    """
    assert told(executor, body, top=top, guarded=guarded) == [
        "(True, 7, 42, ['made here'], ('MADE HERE', 21), 'cpu')",
    ] * 2  # fmt: skip


@EACH
def test_a_function_or_class_that_is_defined_anew_under_the_guard_is_the_one_that_runs(told, executor):
    top = """
        def helper():
            return "top"
        def caller():
            return helper(), Model().told()
        class Model:
            def told(self):
                return "top"
    """
    guarded = """
        def helper():
            return "guard"
        class Model:
            def told(self):
                return "guard"
    """
    assert told(executor, "return caller()", top=top, guarded=guarded) == ["('guard', 'guard')"] * 2


COUNTED = """
    class Table:
        def __init__(self, rows):
            self.rows = rows
        def __reduce__(self):
            return rebuilt, (self.rows,)
    def rebuilt(rows):
        with open("rebuilt", "a") as file:
            file.write("x")
        return Table(rows)
    TABLE = Table([1, 2, 3])
"""


@LOADING
@pytest.mark.parametrize("guarded", ["pass", "TABLE.rows.append(4)"])
def test_what_the_worker_has_loaded_itself_is_sent_only_if_it_was_changed(script, told, executor, guarded):
    changed = guarded != "pass"
    assert told(executor, "return len(TABLE.rows)", top=COUNTED, guarded=guarded) == [str(3 + changed)] * 2
    assert (script.folder / "rebuilt").exists() == changed


UNLOADABLE = """
    import time
    class Bar:
        def __init__(self):
            self.began = time.monotonic()
        def __reduce__(self):
            return int, (f"never {self.began}",)
"""


@EACH
def test_what_can_be_pickled_but_not_loaded_stays_as_the_worker_has_loaded_it(told, executor):
    """As a tqdm bar, which differs from the parent's by the time in it."""
    assert told(executor, "return BAR.began > 0", top=UNLOADABLE + "    BAR = Bar()") == ["True"] * 2


@LOADING
def test_made_under_the_guard_what_cannot_be_loaded_is_refused_by_name(script, executor):
    script.write(of_two_cells(executor, "return BAR.began > 0", top=UNLOADABLE, guarded="BAR = Bar()"))
    ended = script.run()
    assert ended.returncode != 0
    assert "ConfigError: the experiment 'experiment' uses BAR, a " in ended.stderr


@EACH
def test_a_script_without_a_guard_runs_each_cell_once_and_is_not_loaded_beyond_run(script, executor):
    top = "with open('loaded', 'a') as file: file.write('x')"
    text = of_two_cells(executor, "with open('ran', 'a') as file: file.write(config.name)", top=top)
    script.write(
        text.replace('if __name__ == "__main__":', "if True:") + "\nwith open('after', 'a') as f: f.write('x')"
    )
    ended = script.run()
    assert ended.returncode == 0, ended.stderr
    assert sorted((script.folder / "ran").read_text()) == ["a", "b"]
    assert (script.folder / "after").read_text() == "x"
    processes = {"server": 2, "fresh": 3, "fork": 1}  # the script's own, and those that loaded it
    assert (script.folder / "loaded").read_text() == "x" * processes[executor]


@EACH
def test_a_cell_may_run_an_experiment_of_the_script_itself(told, executor):
    top = f"""
        @pyexp.experiment(name="inner", quiet=True, executor={EXECUTORS[executor]})
        def inner(config):
            return config.x * SCALE
        SCALE = 1
    """
    body = """
        run = inner.run
        return run(configs=[{"name": "i", "x": 2}], output_dir=config.out, report=lambda results: results[0].value)
    """
    assert told(executor, body, top=top, guarded="SCALE = 21") == ["42", "42"]


# However the script was started

STARTS = {
    "a file": ["main.py"],
    "a folder": ["app"],
    "an archive": ["app.pyz"],
    "stdin": ["-"],
    "a package": ["-m", "app"],
    "a module of a package": ["-m", "app.sub.main"],
    "pdb": ["-m", "pdb", "-c", "c", "-c", "q", "main.py"],
    "cProfile": ["-m", "cProfile", "-o", "profile", "main.py"],
    "trace": ["-m", "trace", "--count", "-C", "counts", "main.py"],
    "a command": ["-c", "import runpy; runpy.run_path('main.py', run_name='__main__')"],
}


@EACH
@pytest.mark.parametrize("start", STARTS)
def test_cells_run_however_the_script_was_started(script, executor, start):
    if start == "pdb" and sys.version_info[:3] == (3, 13, 0):
        pytest.skip("pdb of Python 3.13.0 takes the script's options for its own")
    top = """
        IMPORT
        class Model:
            weight = 1
        def helped(x):
            return beside.twice(x) + Model().weight + SCALE
        SCALE = 0
    """
    text = of_two_cells(executor, "return helped(20), Model()", top=top, guarded="SCALE = 1")
    text = text.replace("result.value for", "(result.value[0], type(result.value[1]).__name__) for")
    beside = "def twice(x):\n    return 2 * x\n"
    for name in ("", "app/sub/"):
        script.write(beside, f"{name}beside.py")
    script.write("", "app/__init__.py")
    script.write("", "app/sub/__init__.py")
    script.write(text.replace("IMPORT", "import beside"), "main.py")
    relative = "from .sub import beside" if start == "a package" else "from sub import beside"
    script.write(text.replace("IMPORT", relative), "app/__main__.py")
    script.write(text.replace("IMPORT", "from . import beside"), "app/sub/main.py")
    with zipfile.ZipFile(script.folder / "app.pyz", "w") as archive:
        archive.writestr("__main__.py", text.replace("IMPORT", "import beside"))
        archive.writestr("beside.py", beside)
    typed = text.replace("IMPORT", "import beside")
    ended = script.run(main=tuple(STARTS[start]), input=typed)
    assert ended.returncode == 0, ended.stderr
    assert [line for line in ended.stdout.splitlines() if line.startswith("(")] == ["(42, 'Model')"] * 2, ended.stdout


@EACH
def test_a_script_that_changes_its_directory_at_its_top_is_loaded_where_it_was_started(script, told, executor):
    (script.folder / "data").mkdir()
    (script.folder / "data" / "numbers").write_text("1 2 3")
    (script.folder / "here").write_text("read")
    script.write("told = open('here').read()", "beside.py")
    top = """
        FIRST = open("here").read()
        os.chdir("data")
        NUMBERS = open("numbers").read()
    """
    body = "return FIRST, NUMBERS, os.path.basename(os.getcwd()), open('numbers').read() == NUMBERS"
    assert told(executor, body, top=top) == ["('read', '1 2 3', 'data', True)"] * 2
    assert (script.folder / "data" / "out").is_dir()


EDITING = """
    import time
    import beside
    VERSION = "old"
"""


@LOADING
def test_an_edit_while_cells_run_reaches_no_cell(script, told, executor):
    script.write("version = 'old'\n", "beside.py")
    body = """
        if config.name == "a":
            for name in ("main.py", "beside.py"):
                text = open(name).read()
                open(name, "w").write(text.replace("old", "new") + "\\n# edited\\n")
        import beside
        return VERSION, beside.version
    """
    assert told(executor, body, top=EDITING) == ["('old', 'old')"] * 2
    assert "version = 'new'" in (script.folder / "beside.py").read_text()


# What may go wrong while the script is loaded

DEATHS = {
    "raise OSError('no such data')": "no such data",
    "sys.exit(4)": "4",
    "os._exit(3)": "exited with status 3 before it returned a result",
    "os.kill(os.getpid(), 11)": "killed by signal 11 (SIGSEGV)",
}


@LOADING
@pytest.mark.parametrize("where", ["the script", "a module"])
@pytest.mark.parametrize("death", DEATHS)
def test_what_ends_the_loading_is_the_outcome_of_each_cell(script, told, executor, where, death):
    fatal = f"""
        import os, sys
        if "__mp_main__" in sys.modules:
            print("loaded by", os.getpid())
            os.write(2, b"raw\\n")
            {death}
    """
    if where == "a module":
        script.write("\n".join(line.strip("\n")[8:] for line in fatal.splitlines()), "beside.py")
    assert told(executor, "return 1", top=fatal if where == "the script" else "import beside") == [DEATHS[death]] * 2
    assert [log.splitlines()[0].startswith("loaded by ") and "\nraw\n" in log for log in logs(script)] == [True] * 2
    error = script.record("b")["error"]
    if "raise" in death or "sys.exit" in death:
        file = "main.py" if where == "the script" else "beside.py"
        assert f'{file}", line ' in error["traceback"]
        assert all(log.endswith(error["traceback"].splitlines()[-1] + "\n") for log in logs(script))
    else:
        assert "raw\n" in error["traceback"]


@LOADING
def test_a_loading_that_hangs_ends_with_the_timeout_of_its_cell(script, executor):
    hanging = "import time\nif '__mp_main__' in sys.modules:\n    print('loading')\n    time.sleep(600)"
    short = "import pyexp.executors.processes\npyexp.executors.processes.LOADING = 0"
    script.write(of_two_cells(executor, "return 1", top=hanging, guarded=short))
    ended = script.run("--timeout", "1")
    assert ended.stdout.splitlines() == ["ran for longer than 1 s and was killed"] * 2, ended.stderr
    assert "loading the script took longer than 1 s" in ended.stderr
    assert ["loading\n" in log for log in logs(script)] == [True] * 2


@LOADING
def test_a_loading_takes_no_time_from_its_cells(script, executor):
    slow = "import time\nif '__mp_main__' in sys.modules: time.sleep(1.5)"
    script.write(of_two_cells(executor, "return 1", top=slow))
    ended = script.run("--timeout", "1")
    told = ["1", "1" if executor == "server" else "ran for longer than 1 s and was killed"]
    assert ended.stdout.splitlines() == told, ended.stderr


def test_ctrl_c_ends_a_run_whose_script_hangs_while_it_is_loaded(script):
    hanging = "import time\nif '__mp_main__' in sys.modules:\n    open('loading', 'w').write('x')\n    time.sleep(600)"
    script.write(of_two_cells("server", "return 1", top=hanging))
    run = script.start()
    script.wait_for("loading")
    run.send_signal(signal.SIGINT)
    _, errors = run.communicate(timeout=60)
    assert run.returncode == 130
    assert errors == "interrupted by Ctrl-C before the first cell began\n"


@LOADING
@pytest.mark.parametrize("death", ["os._exit(3)", "raise OSError('away')"])
def test_a_loading_that_fails_once_costs_one_cell(script, executor, death):
    """As when the memory was short, or a disk was away for a moment."""
    once = f"""
        if "__mp_main__" in sys.modules and not os.path.exists("failed"):
            open("failed", "w").close()
            {death}
    """
    script.write(of_two_cells(executor, "return SCALE", top=once + "\n        SCALE = 1", guarded="SCALE = 42"))
    ended = script.run("--retries", "1")
    served = executor == "server" and death != "os._exit(3)"  # it stays as it was loaded
    assert ended.stdout.splitlines()[1] == ("away" if served else "42"), ended.stderr


SETTINGS = """
import argparse
LR, OPTIONS, ARGS, is_open = 1, {"a": 1}, None, False

ticks = 0

def tick():
    global ticks
    ticks += 1

def opened():
    global is_open
    was, is_open = is_open, True
    return was
"""


@EACH
def test_a_setting_of_a_module_that_the_guard_made_holds_in_its_cells(script, executor):
    script.write(SETTINGS, "settings.py")
    top = "import settings\nfrom settings import OPTIONS"
    guarded = """
        settings.LR = 5
        settings.tick()
        OPTIONS["a"] = 2
        settings.ARGS = settings.argparse.Namespace(epochs=7)
        settings.opened()
    """
    body = f"""
        assert settings.opened() == {executor == "fork"}  # what is done in one process is not done in another
        assert sys.modules["".join(("set", "tings"))].ticks == {int(executor == "fork")}  # the code does not name it
        return settings.LR, settings.ARGS.epochs, settings.OPTIONS, OPTIONS
    """
    script.write(of_two_cells(executor, body, top=top, guarded=guarded))
    ended = script.run()
    assert ended.stdout.splitlines() == ["(5, 7, {'a': 2}, {'a': 2})"] * 2, ended.stderr


# The initializer

INITIALIZED = """
    STATE = {"count": 0}

    def initialize():
        with open(f"initialized-{os.getpid()}", "a") as file:
            file.write("x")
        STATE["count"] += 1
"""
REGISTERED = "experiment.initializer(initialize)"


@pytest.mark.parametrize("executor", [*EXECUTORS, "inline"])
def test_the_initializer_runs_once_in_each_process_that_gets_ready(script, executor):
    body = "STATE['count'] += 10; return STATE['count']"
    script.write(of_two_cells(executor.replace("inline", "fork"), body, top=INITIALIZED, guarded=REGISTERED))
    ended = script.run(*(["--executor", "inline"] if executor == "inline" else []))
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines() == (["11", "21"] if executor == "inline" else ["11", "11"])
    notes = list(script.folder.glob("initialized-*"))
    assert [note.read_text() for note in notes] == ["x"] * (2 if executor == "fresh" else 1)


@EACH
def test_the_error_of_an_initializer_is_told(script, executor):
    top = "def initialize():\n    raise OSError('no such data')"
    script.write(of_two_cells(executor, "return 1", top=top, guarded=REGISTERED))
    ended = script.run()
    if executor == "fork":  # it is called in the run's own process
        assert ended.returncode != 0
        assert "OSError: no such data" in ended.stderr
        return
    assert ended.stdout.splitlines() == ["no such data"] * 2, ended.stderr
    assert "in initialize" in script.record("a")["error"]["traceback"]
    assert all(log.endswith("OSError: no such data\n") for log in logs(script))


# What goes with a cell


@EACH
def test_the_title_of_a_process_names_its_cell(told, executor):
    pytest.importorskip("setproctitle")
    if not os.path.isdir("/proc/self"):
        pytest.skip("the title is read from /proc")
    lines = told(executor, "return open('/proc/self/cmdline').read().strip(chr(0))")
    assert [line[:8] for line in lines] == ["pyexp a-", "pyexp b-"]


@EACH
def test_a_claim_names_the_process_that_runs_the_cell(told, executor):
    if not sys.platform.startswith("linux"):
        pytest.skip("no claims are inherited")
    body = """
        import time
        (claim,) = config.out.parent.glob(f".claims/{config.out.name}")
        for _ in range(500):  # it is signed when the process has begun
            if claim.read_text().startswith(f"process {os.getpid()} on "):
                return "signed"
            time.sleep(0.01)
        return claim.read_text()
    """
    assert told(executor, body) == ["signed"] * 2


def test_a_config_that_no_socket_takes_at_once_arrives_whole(script):
    for executor in EXECUTORS:
        text = of_two_cells(executor, "return len(config.text)")
        script.write(
            text.replace('"name": "a"', '"name": "a", "text": "x" * 5_000_000').replace('"b"', '"b", "text": ""')
        )
        ended = script.run("--rerun")
        assert ended.stdout == "5000000\n0\n", ended.stderr


def test_what_a_process_that_the_loading_has_started_writes_later_is_in_the_log_too(script):
    loading = (
        "import subprocess\nif '__mp_main__' in sys.modules:\n    subprocess.Popen(['sh', '-c', 'sleep 1; echo late'])"
    )
    script.write(of_two_cells("fresh", "import time; time.sleep(2)", top=loading))
    ended = script.run("-j", "2")
    assert ended.returncode == 0, ended.stderr
    assert logs(script) == ["late\n"] * 2


def test_in_a_session_without_a_script_cells_run_too(script):
    """At a prompt there is no file to load: all goes by value."""
    text = of_two_cells("server", "return SCALE", top="SCALE = 1", guarded="SCALE = 42")
    command = [sys.executable, "-i"]
    lines = "\n".join(f"exec({part!r})" for part in [text])
    ended = subprocess.run(command, input=lines, cwd=script.folder, capture_output=True, text=True, check=False)
    assert "42\n42\n" in ended.stdout, ended.stderr
