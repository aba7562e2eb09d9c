"""The server loads the script once and forks a process for each cell; neither its death nor its end costs a result."""

import ast
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from conftest import alive, of_two_cells

import pyexp
from pyexp.store import claims
from pyexp.worker import guardian

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="there is no server")


def workers(run: subprocess.Popen) -> list[int]:
    """The servers and interpreters that are children of a run's process."""
    children = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
    return [int(pid) for pid in children if b"pyexp.worker.main" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def until(holds) -> bool:
    """Whether it comes true within some seconds."""
    deadline = time.monotonic() + 30
    while not (true := holds()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return bool(true)


WAITING = """
import os, time
import pyexp
import beside

VERSION = "old"
TOLD = []

@pyexp.experiment(name="e", durable=False)
def experiment(config):
    with open(f"ran-{config.name}", "a") as file:
        file.write(f"{os.getppid()}\\n")
    while not os.path.exists("go"):
        time.sleep(0.01)
    return VERSION, beside.version, TOLD

@experiment.report
def report(results):
    print(*[result.get("type") or result.value for result in results], sep=chr(10))

if __name__ == "__main__":
    TOLD.append("told")
    experiment.run(configs=[{"name": f"c{i}"} for i in range(6)])
"""


@pytest.fixture
def waiting(script):
    """A run of six cells, two at a time, the first two of which have begun and wait for the file `go`."""
    script.write("version = 'old'\n", "beside.py")
    script.write(WAITING)
    run = script.start("-j", "2", stdout=subprocess.PIPE)
    script.wait_for("ran-*", 2)
    return run


def go_on(script, run: subprocess.Popen) -> str:
    """What the run prints at its end."""
    script.write("x", "go")
    out, errors = run.communicate(timeout=120)
    assert run.returncode == 0, errors
    return out


WHOLE = "('old', 'old', ['told'])"
#: Lines of a cell that kill its server, and wait until it is dead: on a busy machine that takes a while.
KILL_SERVER = "server = os.getppid()\nos.kill(server, 9)\nwhile os.getppid() == server: pass"


def test_a_server_that_is_killed_costs_no_cell(script, waiting):
    (server,) = workers(waiting)
    os.kill(server, signal.SIGKILL)
    while not guardian.has_gone(server):  # on a busy machine it takes a while to die
        time.sleep(0.01)
    assert go_on(script, waiting).splitlines() == [WHOLE] * 6
    notes = [(script.folder / f"ran-c{i}").read_text().split() for i in range(6)]
    assert [len(note) for note in notes] == [1] * 6
    assert {note[0] for note in notes[:2]} == {str(server)}
    (other,) = {note[0] for note in notes[2:]}  # no cell ran as an orphan of the first
    assert other != str(server)


def test_ctrl_c_is_heard_while_a_server_that_is_started_again_loads(script):
    top = """
        if "__mp_main__" in sys.modules and os.path.exists("killed"):
            import time
            open("loading", "w").write("x")
            time.sleep(600)
    """
    script.write(of_two_cells("server", f"open('killed', 'w').close()\n{KILL_SERVER}\nreturn 1", top=top))
    run = script.start()
    script.wait_for("loading")
    run.send_signal(signal.SIGINT)
    _, errors = run.communicate(timeout=60)
    assert run.returncode == 130, errors
    assert "interrupted by Ctrl-C; 1 of 2 cells are left" in errors


def test_what_a_child_fails_of_before_its_cell_begins_is_in_the_log(script):
    script.write(of_two_cells("server", "return 1", top="if '__mp_main__' in sys.modules: os.setsid = None"))
    ended = script.run()
    assert ended.stdout == "pyexp's worker failed before the cell began; the log says why\n" * 2, ended.stderr
    for log in script.folder.glob("out/e/run/*/log.txt"):
        assert "TypeError: 'NoneType' object is not callable" in log.read_text()


@pytest.mark.parametrize("executor", ["server", "fresh"])
def test_what_an_interpreter_fails_of_before_its_cell_begins_is_in_the_log(script, executor):
    script.write("raise ImportError('it is broken')", "broken/pyrsistent.py")
    script.write(of_two_cells(executor, "return 1", guarded="sys.path.insert(0, 'broken')"))
    ended = script.run()
    assert ended.stdout == "exited with status 1 before it returned a result\n" * 2, ended.stderr
    for log in script.folder.glob("out/e/run/*/log.txt"):
        assert "ImportError: it is broken" in log.read_text()


def test_an_edit_reaches_no_cell_of_a_server_that_was_started_again(script, waiting):
    script.write(WAITING.replace("old", "new"))
    script.write("version = 'new'\n", "beside.py")
    (server,) = workers(waiting)
    os.kill(server, signal.SIGKILL)
    assert go_on(script, waiting).splitlines() == [WHOLE] * 6


def test_a_script_that_has_gone_is_loaded_by_a_server_that_is_started_again(script, waiting):
    for name in ("main.py", "beside.py"):
        (script.folder / name).unlink()
    (server,) = workers(waiting)
    os.kill(server, signal.SIGKILL)
    assert go_on(script, waiting).splitlines() == [WHOLE] * 6


def test_the_next_child_waits_while_a_cell_runs_and_its_death_costs_no_cell(script):
    body = """
        import time
        server = os.getppid()
        def others():
            return set(open(f"/proc/{server}/task/{server}/children").read().split()) - {str(os.getpid())}
        while not others():
            time.sleep(0.01)
        for pid in others():
            os.kill(int(pid), 9)
            while os.path.exists(f"/proc/{pid}") and ") Z" not in open(f"/proc/{pid}/stat").read():
                time.sleep(0.01)  # on a busy machine it takes a while to die
        return "killed"
    """
    script.write(of_two_cells("server", body))
    ended = script.run("--timeout", "60")
    assert (ended.returncode, ended.stdout) == (0, "killed\nkilled\n"), ended.stderr


def test_a_cell_that_kills_its_server_is_told_as_any_other(script):
    script.write(of_two_cells("server", f"{KILL_SERVER}\nreturn 1"))
    ended = script.run()
    assert (ended.returncode, ended.stdout) == (0, "1\n1\n"), ended.stderr


def test_a_cell_that_dies_after_its_server_is_a_failure_of_its_own(script):
    body = "if config.name == 'a': os.kill(os.getppid(), 9); os._exit(3)\nreturn 1"
    script.write(of_two_cells("server", body))
    ended = script.run()
    told = ended.stdout.splitlines()
    assert told[0].startswith("exited before it returned a result"), ended.stderr
    assert told[1] == "1"


@pytest.mark.parametrize("executor", ["server", "fork"])
def test_each_cell_has_a_process_of_its_own_in_the_state_of_the_loading(script, executor):
    """Also of a file that the script has begun to read: a fork shares its position with the process it was made of."""
    body = "COUNT.append(1)\nreturn len(COUNT), os.getppid(), os.getpid(), os.read(READ, 4)"
    top = "COUNT = []\nREAD = os.open(__file__, os.O_RDONLY)\nos.read(READ, 1)"
    script.write(of_two_cells(executor, body, top=top))
    ended = script.run()
    (count, server, cell, read), (count_too, server_too, cell_too, read_too) = map(
        ast.literal_eval, ended.stdout.splitlines()
    )
    assert (count, count_too) == (1, 1)
    assert read == read_too == b"impo"
    assert server == server_too
    assert len({server, cell, cell_too}) == 3


@pytest.mark.parametrize("executor", ["server", "fresh"])
def test_what_the_loading_writes_is_in_the_log_of_each_cell_before_all_else(script, executor):
    top = "print('loaded', end=' ')\nsys.stdout.flush()\nos.write(2, b'raw ')"
    script.write(of_two_cells(executor, "print('in', config.name)", top=top))
    ended = script.run()
    assert ended.returncode == 0, ended.stderr
    logs = [path.read_text() for path in sorted(script.folder.glob("out/e/run/*/log.txt"))]
    assert logs == ["loaded raw in a\n", "loaded raw in b\n"]


UNFIT = {
    "a thread": "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()",
    "a native pool": "import polars\npolars.DataFrame({'a': [1], 'b': [1]}).group_by('b').agg(polars.col('a').sum())",
}


@pytest.mark.parametrize("kind", UNFIT)
def test_a_script_that_starts_threads_at_its_top_has_fresh_interpreters_and_one_line_says_so(script, kind):
    if kind == "a native pool":
        pytest.importorskip("polars")
    script.write(of_two_cells("server", "return os.getppid() == int(os.environ['RUN'])", top=UNFIT[kind]).replace(
        "import pyexp\n", "import pyexp\nos.environ.setdefault('RUN', str(os.getpid()))\n", 1))  # fmt: skip
    ended = script.run()
    assert ended.stdout == "True\nTrue\n", ended.stderr
    told = [line for line in ended.stderr.splitlines() if "fresh interpreter" in line]
    assert len(told) == 1
    assert "thread" in told[0]


def test_a_fork_after_a_native_pool_was_used_is_warned_of(script):
    pytest.importorskip("polars")
    script.write(of_two_cells("fork", "return 1", top=UNFIT["a native pool"]))
    ended = script.run()
    assert ended.stdout == "1\n1\n", ended.stderr
    assert "of a library's own" in ended.stderr


def test_a_script_may_use_multiprocessing_at_its_top_and_in_its_cells(script):
    top = """
        import multiprocessing
        LOCK, COUNT = multiprocessing.Lock(), multiprocessing.Value("i", 40)
        def add(n):
            with COUNT.get_lock():
                COUNT.value += n
    """
    body = """
        with LOCK:
            child = multiprocessing.get_context("fork").Process(target=add, args=(2,))
            child.start()
            child.join()
            return child.exitcode
    """
    script.write(of_two_cells("server", body, top=top))
    ended = script.run()
    assert ended.stdout == "0\n0\n", ended.stderr
    script.write(of_two_cells("server", "return 1", top="import multiprocessing"))  # and of it no more than the name
    ended = script.run("--rerun")
    assert ended.stdout == "1\n1\n", ended.stderr


def test_a_server_ends_as_any_process_does(script):
    top = """
        import atexit
        atexit.register(lambda: open(f"ended-{os.getpid()}", "w").write("x"))
        NOTES = open(f"notes-{os.getpid()}", "w")
        NOTES.write("loaded")
    """
    script.write(of_two_cells("server", "return os.getppid()", top=top))
    ended = script.run()
    server, again = ended.stdout.split()
    assert server == again
    assert (script.folder / f"ended-{server}").exists()
    assert {path.read_text() for path in script.folder.glob("notes-*")} == {"loaded"}
    assert len(list(script.folder.glob("ended-*"))) == 2  # the script's own, and the server's: not its cells'


def test_no_process_is_left_in_a_process_that_goes_on(tmp_path):
    def failing(config):
        raise ValueError

    made = pyexp.experiment(name="e", quiet=True, durable=False, output_dir=tmp_path, fail_fast=True)(failing)
    before = _children()  # of other tests, which may still be going
    made.run([{"name": f"c{i}"} for i in range(9)], report=lambda results: None, argv=[])
    assert _children() <= before


def _children() -> set[str]:
    """The processes that this one has started and not waited for."""
    return set(Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text().split())


@pytest.mark.parametrize("executor", ["server", "fresh"])
def test_no_process_is_left_when_the_run_is_over(script, executor):
    script.write(of_two_cells(executor, "return 1"))
    assert script.run("-j", "2").returncode == 0
    left = [pid for pid in os.listdir("/proc") if pid.isdecimal() and str(script.folder) in _directory(pid)]
    assert left == []


def _directory(pid: str) -> str:
    try:
        return os.readlink(f"/proc/{pid}/cwd")
    except OSError:
        return ""


def test_a_worker_that_nobody_ends_keeps_its_claim_and_its_server_ends_by_itself(script, waiting):
    (server,) = workers(waiting)
    children = Path(f"/proc/{waiting.pid}/task/{waiting.pid}/children").read_text().split()
    (guardian,) = [int(pid) for pid in children if b"guardian.py" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    cells = [int(pid) for pid in Path(f"/proc/{server}/task/{server}/children").read_text().split()]
    os.kill(guardian, signal.SIGKILL)
    waiting.kill()
    waiting.communicate()
    folder = str(script.folder / "out" / "e" / "run" / ".claims")
    try:
        assert until(lambda: not alive(server))
        assert sorted(name.partition("-")[0] for name in claims.holders(folder)) == ["c0", "c1"]
    finally:
        for pid in cells:
            os.kill(pid, signal.SIGKILL)
    assert until(lambda: not claims.holders(folder))
