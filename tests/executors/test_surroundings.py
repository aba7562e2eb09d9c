"""However the script was started, wherever its modules are, whatever state the parent is in: a cell runs as there."""

import ast
import os
import resource
import subprocess
import sys

import pytest

BOTH = pytest.mark.parametrize("executor", ["subprocess", "fork"])

PLAIN = """
import sys
import pyexp

@pyexp.experiment(name="e")
def experiment(config):
    BODY

if __name__ == "__main__":
    experiment.run(configs=[{"name": "a"}, {"name": "b"}], report=lambda results: print(*[r.value for r in results]))
"""


def plain(body: str) -> str:
    return PLAIN.replace("BODY", body)


def check(ended: subprocess.CompletedProcess, out: str) -> None:
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == f"{out}\n", ended.stderr


FLAGS = [("-W", "error"), ("-O",), ("-I",), ("-X", "dev"), ("-s", "-E"), ("-u",)]


@BOTH
@pytest.mark.parametrize("flags", FLAGS, ids="".join)
def test_the_flags_of_the_interpreter_are_the_cells_too(script, executor, flags):
    told = "(sys.flags.optimize, sys.flags.isolated, sys.flags.dev_mode, sys.warnoptions)"
    script.write(plain(f"return {told}"))
    command = [sys.executable, *flags, "-c", f"import sys; print({told})"]
    here = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    check(script.run("--executor", executor, flags=flags), f"{here} {here}")


@BOTH
def test_modules_beside_the_script_are_found_wherever_it_is_started_from(script, executor, tmp_path):
    script.write("answer = 42", "project/beside.py")
    script.write(plain("import beside; return beside.answer"), "project/main.py")
    check(script.run("--executor", executor, main=("project/main.py",)), "42 42")


@BOTH
def test_pythonpath_is_heeded(script, executor):
    script.write("answer = 42", "lib/elsewhere.py")
    script.write(plain("import elsewhere; return elsewhere.answer"))
    environment = {**os.environ, "PYTHONPATH": "lib"}
    check(script.run("--executor", executor, env=environment), "42 42")


@BOTH
def test_a_script_may_be_a_module_of_a_package(script, executor):
    script.write("", "pkg/__init__.py")
    script.write("answer = 42", "pkg/beside.py")
    script.write(plain("from . import beside; return beside.answer"), "pkg/main.py")
    check(script.run("--executor", executor, main=("-m", "pkg.main")), "42 42")


@BOTH
def test_a_script_may_change_its_directory_before_the_run(script, executor):
    script.write("answer = 42", "beside.py")
    (script.folder / "other").mkdir()
    script.write(
        plain("import beside, os; return beside.answer, os.path.basename(os.getcwd())").replace(
            "import sys", "import os, sys\nos.chdir('other')", 1
        )
    )
    check(script.run("--executor", executor), "(42, 'other') (42, 'other')")


@BOTH
def test_a_script_needs_no_guard(script, executor):
    text = plain("return 42").replace('if __name__ == "__main__":', "print('once')\nif True:")
    script.write(text)
    check(script.run("--executor", executor), "once\n42 42")


@BOTH
def test_modules_that_bear_the_names_of_pythons_own_do_not_take_over(script, executor):
    """In the working directory they are not looked at, and a worker does not stumble over those beside the script."""
    for name in ("marshal", "random", "pickle", "contextlib", "select", "zlib", "typing", "traceback", "resource"):
        script.write("raise SystemExit('hijacked')", f"work/{name}.py")
    script.write(plain("import random; return random.Random(1).random() > 0"), "main.py")
    ended = script.run("--executor", executor, main=("../main.py",), cwd=script.folder / "work")
    check(ended, "True True")


def test_a_worker_does_not_stumble_over_modules_beside_the_script(script):
    for name in ("zlib", "marshal", "contextlib", "typing", "warnings"):
        script.write("raise SystemExit('hijacked')", f"{name}.py")
    script.write(
        plain("return 42")
        .replace("import sys\n", "import sys\nhere = sys.path.pop(0)\n", 1)
        .replace("experiment.run(", "sys.path.insert(0, here)\n    experiment.run(")
    )
    check(script.run(), "42 42")


@BOTH
def test_what_the_script_defines_goes_to_the_cell_and_comes_back_as_itself(script, executor):
    script.write("""
import enum, sys
from dataclasses import dataclass
import pyexp

class Colour(enum.Enum):
    RED = 1

@dataclass(frozen=True)
class Point:
    x: int
    colour: Colour

big = bytes(50_000_000)
offset = 40

def shifted(x):
    return x + offset

@pyexp.experiment(name="e")
def experiment(config):
    return {"p": Point(shifted(2), Colour.RED), "same": config.colour is Colour.RED, "size": len(big)}

def report(results):
    (r,) = results
    print(r["p"] == Point(42, Colour.RED), r["p"].colour is Colour.RED, isinstance(r["p"], Point), r["same"], r["size"])

if __name__ == "__main__":
    experiment.run(configs=[{"name": "a", "colour": Colour.RED}], report=report)
""")
    check(script.run("--executor", executor), "True True True True 50000000")


@BOTH
@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)], ids=str)
def test_descriptors_that_are_closed_in_the_parent_do_no_harm(script, executor, closed):
    script.write("""
import os, sys
import pyexp

@pyexp.experiment(name="e")
def experiment(config):
    os.write(1, b"out\\n")
    os.write(2, b"err\\n")
    return os.read(0, 1)

def report(results):
    with open("report", "w") as file:
        file.write(str([r.value for r in results]))

if __name__ == "__main__":
    experiment.run(configs=[{"name": "a"}, {"name": "b"}], report=report)
""")
    shell = " ".join(f"{number}{'<' if number == 0 else '>'}&-" for number in closed)
    command = ["sh", "-c", f'exec "$@" {shell}', "sh", *script.command("--executor", executor, "-j", "2")]
    ended = subprocess.run(command, cwd=script.folder, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr
    assert (script.folder / "report").read_text() == "[b'', b'']"
    for log in script.folder.glob("out/e/run/*/log.txt"):
        assert log.read_text() == "out\nerr\n"


@BOTH
@pytest.mark.parametrize("limit", [30, 31, 32])
def test_few_descriptors_mean_few_cells_at_a_time(script, executor, limit):
    script.write(
        plain("import time; time.sleep(0.2); return 1").replace(
            '[{"name": "a"}, {"name": "b"}]', '[{"name": f"c{i}"} for i in range(20)]'
        )
    )

    def few():
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))

    check(script.run("--executor", executor, "-j", "20", preexec_fn=few), " ".join("1" * 20))


@BOTH
def test_a_parent_that_ignores_its_children_still_hears_how_they_ended(script, executor):
    script.write(
        plain("import os; return 42 if config.name == 'a' else os._exit(0)")
        .replace("import sys", "import signal, sys\nsignal.signal(signal.SIGCHLD, signal.SIG_IGN)", 1)
        .replace("r.value for", "r.get('message') or r.value for")
    )
    ended = script.run("--executor", executor)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("42 exited before it returned a result")


FORKING = """
import atexit, os, sys, threading
import pyexp

@pyexp.experiment(name="e", executor="fork")
def experiment(config):
    return state["n"]

def shown(results):
    print(*[r.value for r in results])

state = {"n": 0}
log = open("buffered", "w")
log.write("once\\n")
sys.stdout.write("once and ")
atexit.register(lambda: print("at exit"))

def work():
    state["n"] = 42
    try:
        experiment.run(configs=[{"name": f"c{i}"} for i in range(5)], report=shown, argv=[], jobs=2)
    finally:
        print("finally")

if __name__ == "__main__":
    RUN
    log.close()
"""


@pytest.mark.parametrize("run", ["work()", "t = threading.Thread(target=work); t.start(); t.join()"])
def test_nothing_of_the_caller_runs_twice_in_a_fork(script, run):
    script.write(FORKING.replace("RUN", run))
    ended = script.run()
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == "once and 42 42 42 42 42\nfinally\nat exit\n"
    assert (script.folder / "buffered").read_text() == "once\n"
    assert [log.read_text() for log in script.folder.glob("out/e/*/*/log.txt")] == [""] * 5


def test_what_the_callers_exit_handlers_hold_is_not_destroyed_in_a_fork(script):
    held = """
import atexit, os, sys
class Held:
    def leave(self):
        os.write(1, b"left ")
    def __del__(self):
        os.write(1, b"freed ")
atexit.register(Held().leave)
"""
    script.write(plain("atexit.register(print, 'own'); return 1").replace("import sys", held, 1))
    ended = script.run("--executor", "fork")
    assert (ended.returncode, ended.stdout) == (0, "1 1\nleft freed "), ended.stderr
    assert [log.read_text() for log in script.folder.glob("out/e/*/*/log.txt")] == ["own\n"] * 2


def test_a_fork_beside_other_threads_is_warned_of(script):
    script.write(
        plain("return 42").replace(
            "import sys",
            """
import sys, threading
stop = threading.Event()
threading.Thread(target=stop.wait, name="the poller", daemon=True).start()
""",
            1,
        )
    )
    ended = script.run("--executor", "fork")
    check(ended, "42 42")
    assert "RuntimeWarning: forking a process with other live threads (the poller)" in ended.stderr


@pytest.mark.parametrize("executor", ["fork", "pyexp.SubprocessExecutor(fresh=True)"])
def test_a_cell_begins_with_the_generators_of_the_script_but_for_the_global_one(script, executor):
    seeded = "import random, sys\nrandom.seed(1)\nown = random.Random(1)"
    text = plain("return own.random(), random.random()").replace("import sys", seeded, 1)
    script.write(text.replace('name="e"', f'name="e", executor={executor if "." in executor else repr(executor)}'))
    ended = script.run()
    (own, fresh), (own_too, fresh_too) = ast.literal_eval(ended.stdout.replace(") (", "), ("))
    assert own == own_too
    assert fresh != fresh_too


@BOTH
def test_cells_at_a_time_share_the_cores(script, executor):
    script.write(plain("import os; return os.environ.get('OMP_NUM_THREADS'), os.environ.get('MKL_NUM_THREADS')"))
    environment = {key: value for key, value in os.environ.items() if not key.endswith("_NUM_THREADS")}
    each = str(max(len(os.sched_getaffinity(0)) // 2, 1))
    environment["MKL_NUM_THREADS"] = "7"
    assert f"('{each}', '7')" in script.run("--executor", executor, "-j", "2", env=environment).stdout
    assert "(None, '7')" in script.run("--executor", executor, "--rerun", env=environment).stdout


@BOTH
def test_live_output_is_shown_with_its_cell(script, executor):
    script.write(plain("print(config.name, 'é', end=''); sys.stdout.flush(); print('!'); print('no newline', end='')"))
    one = script.run("--executor", executor, "-s").stderr
    assert "a é!\nno newline" in one
    assert "[" not in one.partition("a é!")[2].partition("no newline")[0]
    two = script.run("--executor", executor, "-s", "-j", "2", "--rerun").stderr
    for name in "ab":
        (folder,) = [path.name for path in script.folder.glob(f"out/e/run/{name}-*")]
        assert f"[{folder}] {name} é!\n" in two
        assert f"[{folder}] no newline\n" in two


@BOTH
def test_each_attempt_is_kept_with_its_error_and_its_log(script, executor):
    script.write(
        plain("""
    tries = len(list(config.out.glob("log-*")))
    print("attempt", tries)
    if tries < 2:
        raise ValueError(f"at attempt {tries}")
    return tries
""")
    )
    check(script.run("--executor", executor, "--retries", "2"), "2 2")
    record = script.record("a")
    assert [attempt["message"] for attempt in record["attempts"]] == ["at attempt 0", "at attempt 1"]
    (folder,) = script.folder.glob("out/e/run/a-*")
    logs = [(folder / name).read_text() for name in ("log-1.txt", "log-2.txt", "log.txt")]
    assert [log.splitlines()[0] for log in logs] == ["attempt 0", "attempt 1", "attempt 2"]
    assert [log.splitlines()[-1] for log in logs] == [
        "ValueError: at attempt 0", "ValueError: at attempt 1", "attempt 2",
    ]  # fmt: skip


@BOTH
def test_a_fork_bomb_is_over_at_its_timeout(script, gone, executor):
    script.write(
        plain("""
    import os, time
    for _ in range(6):
        os.fork() or os.setsid()
    (config.out / f"{os.getpid()}.pid").write_text(str(os.getpid()))
    time.sleep(60)
""").replace("r.value", "r['type']")
    )
    check(script.run("--executor", executor, "--timeout", "2"), "TimeoutError TimeoutError")
    gone(*script.folder.glob("out/e/run/*/*.pid"))


@pytest.mark.long
@BOTH
def test_three_hundred_cells_leave_nothing(script, executor):
    script.write("""
import os, threading
import pyexp
from pyexp.testing.executors import _possessions

@pyexp.experiment(name="e")
def experiment(config):
    os.write(1, b"x" * 100_000)
    if config.i % 3 == 1:
        raise ValueError
    if config.i % 3 == 2:
        os._exit(1)

if __name__ == "__main__":
    before = _possessions()
    experiment.run(configs=[{"name": f"c{i}", "i": i} for i in range(300)], report=len)
    assert _possessions() == before, (before, _possessions())
""")
    ended = script.run("--executor", executor, "-j", "4", timeout=600)
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert len(script.results()) == 100


@pytest.mark.long
@BOTH
def test_a_result_of_half_a_gigabyte_comes_back(script, executor):
    script.write(plain("return bytes(500_000_000)").replace("r.value for", "len(r.value) for"))
    check(script.run("--executor", executor, timeout=600), "500000000 500000000")


DIRECT = """
import os, sys
from pathlib import Path
from pyexp import Config, ExecutorError, get_executor

def fn(config):
    os.write(1, b"out")
    if config.x < 0:
        raise ValueError("below zero")
    return {"root": config.x ** 0.5, "out": config.out.name}

if __name__ == "__main__":
    sys.stdout and sys.stdout.write("once ")
    executor = get_executor(sys.argv[1])
    told = executor.run(fn, Config({"x": 16}), Path("deep/er/result.pkl"))
    try:
        executor.run(fn, Config({"x": -1}), Path("failed/own-name.pkl"))
    except ExecutorError as error:
        told["error"] = str(error).splitlines()[0]
    Path("told").write_text(str(told))
"""


@pytest.mark.parametrize("executor", ["subprocess", "fork", "inline"])
@pytest.mark.parametrize("closed", [(), (0,), (1,), (2,), (0, 1, 2)], ids=str)
def test_an_executor_by_itself_runs_one_cell_as_the_interface_says(script, executor, closed):
    script.write(DIRECT)
    shell = " ".join(f"{number}{'<' if number == 0 else '>'}&-" for number in closed)
    command = ["sh", "-c", f'exec "$@" {shell}', "sh", sys.executable, "main.py", executor]
    ended = subprocess.run(command, cwd=script.folder, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr
    told = {"root": 4.0, "out": "er", "error": "ValueError: below zero"}
    assert ast.literal_eval((script.folder / "told").read_text()) == told
    assert (script.folder / "deep/er/log.txt").read_text() == "out"
    assert ended.stdout == ("" if 1 in closed else "once ")
