"""Interpreters that start ahead of their cells: each still runs one, writes to its log, and is never seen otherwise."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import alive

import pyexp
from pyexp import claims
from pyexp.executors import SubprocessExecutor

LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")

SCRIPT = """
import sys
import pyexp
import beside

@pyexp.experiment(name="e", executor="subprocess")
def experiment(config):
    print("in", config.name)
    return beside.told()

if __name__ == "__main__":
    beside.is_cell = False
    experiment.run(configs=[{"name": f"c{i}"} for i in range(4)], report=lambda results: print(
        *[r.get("message") or r.value for r in results], sep="\\n"))
"""

IMPORTED = """
import os, sys
count = 0
is_main = sys.argv[-1] != "cell" and "PYEXP_CELL" not in os.environ
if not is_main:
    os.close(os.open(f"import-{os.getpid()}", os.O_CREAT))
    print("imported by", os.getpid())
    BODY

def told():
    global count
    count += 1
    return f"{os.getpid()} {count}"
"""


@pytest.fixture
def ran(script):
    """The ended run of four cells whose module does this when a cell's interpreter imports it."""

    def run(body: str, *args: str) -> subprocess.CompletedProcess:
        script.write(IMPORTED.replace("BODY", body), "beside.py")
        script.write(SCRIPT)
        ended = script.run(*args)
        assert ended.returncode == 0, ended.stderr
        return ended

    return run


def logs(script) -> list[str]:
    return [path.read_text() for path in sorted(script.folder.glob("out/e/run/*/log.txt"))]


@pytest.mark.parametrize("jobs", ["1", "3"])
def test_each_interpreter_is_fresh_and_none_is_started_for_nothing(script, ran, jobs):
    told = [line.split() for line in ran("pass", "-j", jobs).stdout.splitlines()]
    assert [count for _, count in told] == ["1"] * 4
    pids = {pid for pid, _ in told}
    assert len(pids) == 4
    assert {path.name.removeprefix("import-") for path in script.folder.glob("import-*")} == pids


def test_what_an_import_writes_is_in_the_log_of_its_cell_before_all_else(script, ran):
    told = [line.split()[0] for line in ran("os.write(2, b'raw\\n')").stdout.splitlines()]
    assert logs(script) == [f"imported by {pid}\nraw\nin c{number}\n" for number, pid in enumerate(told)]


def test_an_import_that_raises_fails_each_cell_and_its_log_and_traceback_say_where(script, ran):
    assert ran("raise OSError('no such data')").stdout == "no such data\n" * 4
    assert all(log.startswith("imported by ") for log in logs(script))
    assert 'beside.py", line' in script.record("c3")["error"]["traceback"]


DEATHS = {
    "os._exit(3)": "exited with status 3 before it returned a result",
    "os.kill(os.getpid(), 11)": "killed by signal 11 (SIGSEGV)",
    "sys.exit(4)": "4",
}


@pytest.mark.parametrize("death", DEATHS)
def test_an_import_that_kills_the_interpreter_fails_each_cell_and_its_log_is_kept(script, ran, death):
    assert ran(death).stdout == f"{DEATHS[death]}\n" * 4
    assert all(log.startswith("imported by ") for log in logs(script))
    if death != "sys.exit(4)":
        assert "imported by " in script.record("c2")["error"]["traceback"]


def test_an_interpreter_that_is_killed_while_it_waits_costs_no_cell(tmp_path):
    class Unlucky(SubprocessExecutor):
        def _waiting(self):
            for interpreter in self._ready:
                os.kill(interpreter.pid, signal.SIGKILL)
                while not interpreter.ended:
                    time.sleep(0.001)
            return super()._waiting()

    assert len({result.value for result in three_cells(tmp_path, Unlucky())}) == 3


def three_cells(folder, executor):
    made = pyexp.experiment(name="e", quiet=True, durable=False, output_dir=folder, executor=executor)
    grid = [{"name": f"c{i}"} for i in range(3)]
    return made(lambda config: os.getpid()).run(grid, report=lambda results: results, argv=[])


def test_an_import_that_hangs_ends_with_the_timeout_of_its_cell(script, ran):
    told = ran("import time; time.sleep(60)", "--timeout", "0.5").stdout.splitlines()
    assert told == ["ran for longer than 0.5 s and was killed"] * 4
    assert all(log.startswith("imported by ") for log in logs(script))


def test_without_standby_each_interpreter_starts_with_its_cell(tmp_path):
    pids = []

    class Counting(SubprocessExecutor):
        def _boot(self):
            pids.append(len(list(tmp_path.rglob("log.txt"))))
            return super()._boot()

    assert len({result.value for result in three_cells(tmp_path, Counting(standby=0))}) == 3
    assert pids == [0, 1, 2]


def test_a_function_with_much_in_it_is_shipped_once_and_is_whole_in_each_cell(script):
    script.write(
        "import os, pyexp\n"
        "table = os.urandom(1 << 10) * (1 << 15)\n"
        "@pyexp.experiment(name='e')\n"
        "def experiment(config):\n    return hash(table) == config.hash\n"
        "if __name__ == '__main__':\n"
        "    experiment.run(configs=[{'name': f'c{i}', 'hash': hash(table)} for i in range(3)], report=lambda results:"
        " print([r.value for r in results]))\n"
    )
    ended = script.run(env={**os.environ, "PYTHONHASHSEED": "0"})
    assert ended.stdout == "[True, True, True]\n", ended.stderr


def test_a_config_that_no_socket_takes_at_once_arrives_whole(script):
    script.write(
        "import pyexp\n"
        "@pyexp.experiment(name='e')\n"
        "def experiment(config):\n    return len(config.text)\n"
        "if __name__ == '__main__':\n"
        "    experiment.run(configs=[{'name': f'c{i}', 'text': 'x' * 5_000_000} for i in range(3)], report=lambda"
        " results: print([r.value for r in results]))\n"
    )
    ended = script.run()
    assert ended.stdout == "[5000000, 5000000, 5000000]\n", ended.stderr


def test_what_a_process_of_an_import_writes_later_is_in_the_log_too(script, ran):
    body = "import subprocess; subprocess.Popen(['sh', '-c', 'echo early; sleep 0.7; echo late'])"
    script.write(IMPORTED.replace("BODY", body), "beside.py")
    script.write(SCRIPT.replace('print("in", config.name)', "import time; time.sleep(2.5)"))
    ended = script.run("-j", "4")
    assert ended.returncode == 0, ended.stderr
    assert all(log.endswith("late\n") and log.count("early") == 1 and "\0" not in log for log in logs(script))


def test_no_interpreter_is_left_in_a_process_that_goes_on(tmp_path):
    def failing(config):
        raise ValueError

    made = pyexp.experiment(name="e", quiet=True, durable=False, output_dir=tmp_path, fail_fast=True)(failing)
    made.run([{"name": f"c{i}"} for i in range(9)], report=lambda results: None, argv=[])
    with pytest.raises(ChildProcessError):
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG)


LONG = """
import os, time, pyexp
from pathlib import Path

@pyexp.experiment(name="e")
def experiment(config):
    Path(f"pid-{config.name}").write_text(str(os.getpid()))
    time.sleep(60)

if __name__ == "__main__":
    experiment.run(configs=[{"name": "a"}, {"name": "b"}])
"""


@LINUX
def test_a_worker_that_nobody_ends_keeps_its_claim_and_those_that_wait_end_by_themselves(script):
    script.write(LONG)
    run = script.start()
    (note,) = script.wait_for("pid-*")
    worker = int(note.read_text())
    children = [int(pid) for pid in Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()]
    (guardian,) = [pid for pid in children if b"guardian" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    (waiting,) = set(children) - {guardian, worker}
    os.kill(guardian, signal.SIGKILL)
    run.kill()
    run.communicate()
    folder = str(script.folder / "out" / "e" / "run" / ".claims")
    try:
        assert until(lambda: not alive(waiting))
        (claimed,) = claims.holders(folder)
        assert claimed.startswith("a-")
    finally:
        os.kill(worker, signal.SIGKILL)
    assert until(lambda: not claims.holders(folder))


def until(holds):
    """Whether it comes true within some seconds."""
    deadline = time.monotonic() + 20
    while not (true := holds()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return true


@LINUX
def test_no_interpreter_is_left_when_the_run_is_over(script, ran):
    ran("pass", "-j", "2")
    left = [pid for pid in os.listdir("/proc") if pid.isdecimal() and str(script.folder) in _directory(pid)]
    assert left == []


def _directory(pid: str) -> str:
    try:
        return os.readlink(f"/proc/{pid}/cwd")
    except OSError:
        return ""
