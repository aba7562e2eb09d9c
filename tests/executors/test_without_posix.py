"""Cells in fresh interpreters, on a system whose standard library has nothing that POSIX alone has.

It is imitated: `without_posix/sitecustomize.py` takes all that away from the run's process, its workers and guardian.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pyexp.testing import executor_behaviours

pytest.importorskip("psutil")

WITHOUT_POSIX = Path(__file__).parent / "without_posix"

#: What needs POSIX itself: the behaviour, and why.
POSIX = {
    "kill_is_told": "it sends SIGKILL",
    "timeout_kills_what_is_stopped": "it sends SIGSTOP",
}

CHECK = """
import os, sys, pathlib
from pyexp import SubprocessExecutor
from pyexp.testing import executor_behaviours

assert not hasattr(os, "fork")
(behaviour,) = [each for each in executor_behaviours() if each.name == sys.argv[1]]
behaviour.check(SubprocessExecutor, pathlib.Path(sys.argv[2]))
"""


@pytest.fixture
def environment() -> dict[str, str]:
    import pyexp

    path = (str(WITHOUT_POSIX), str(Path(pyexp.__file__).parents[1]), os.environ.get("PYTHONPATH", ""))
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path))}


@pytest.mark.parametrize("behaviour", [each.name for each in executor_behaviours(exempt=POSIX)])
def test_the_contract_is_kept(behaviour: str, tmp_path: Path, environment):
    command = [sys.executable, "-c", CHECK, behaviour, str(tmp_path)]
    told = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert told.returncode == 0, told.stderr


def test_without_psutil_it_is_named(tmp_path, environment):
    code = (
        "import sys; sys.modules['psutil'] = None; import pyexp; pyexp.SubprocessExecutor().run(len, {}, sys.argv[1])"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "result.pkl")]
    told = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert told.stderr.splitlines()[-1] == (
        "pyexp.errors.ExecutorError: nothing here tells which processes a cell has started; pip install psutil"
    )


SCRIPT = """
import os, signal, subprocess, sys, time
import pyexp

def child(config, seconds=300):
    sleep = [sys.executable, "-I", "-S", "-c", f"import time; time.sleep({seconds})"]
    process = subprocess.Popen(sleep)
    (config.out / "child").write_text(str(process.pid))
    process.returncode = 0

def returns(config):
    return [config.name, hasattr(os, "fork"), hasattr(signal, "SIGKILL")]

def raises(config):
    raise ValueError("no convergence")

def exits(config):
    os._exit(3)

def ends(config):
    os.kill(os.getpid(), 9)

def prints(config):
    for number in range(20_000):
        print(number)

def leaves(config):
    child(config)
    return "left"

def hangs(config):
    child(config)
    (config.out / "pid").write_text(str(os.getpid()))
    time.sleep(300)

def saves(config):
    child(config)
    try:
        (config.out / "pid").write_text(str(os.getpid()))
        time.sleep(300)
    except KeyboardInterrupt:
        (config.out / "saved").write_text("saved")
        raise

KINDS = {each.__name__: each for each in (returns, raises, exits, ends, prints, leaves, hangs, saves)}

@pyexp.experiment(name="out", quiet=True)
def experiment(config):
    return KINDS[config.name](config)

@experiment.configs
def configs():
    return [{"name": name} for name in KINDS]

assert not hasattr(os, "fork")
experiment.run()
"""


def test_cells_end_in_every_way(script, environment, gone):
    script.write(SCRIPT)
    told = script.run("-j", "3", "--timeout", "6", env=environment)
    assert script.results() == ["leaves", "prints", "returns"], told.stderr
    ends = {name: script.record(name).get("error", {}).get("message") for name in ("raises", "exits", "ends", "hangs")}
    assert ends == {
        "raises": "no convergence",
        "exits": "exited with status 3 before it returned a result",
        "ends": "killed by signal 9 (SIGKILL)",  # on Windows it would have exited with status 9
        "hangs": "ran for longer than 6 s and was killed",
    }
    (log,) = script.folder.glob("out/*/*/prints-*/log.txt")
    assert log.read_text() == "".join(f"{number}\n" for number in range(20_000))
    gone(*script.folder.glob("out/*/*/*/child"))


def test_ctrl_c_interrupts_the_cells(script, environment, gone):
    script.write(SCRIPT)
    run = script.start("-j", "3", "-k", "saves", env=environment, stderr=subprocess.DEVNULL)
    script.wait_for("out/*/*/saves-*/pid")
    run.send_signal(signal.SIGINT)
    assert run.wait(60) == 130
    assert script.wait_for("out/*/*/saves-*/saved")
    gone(*script.folder.glob("out/*/*/*/child"), *script.folder.glob("out/*/*/*/pid"))


def test_nothing_outlives_a_run_that_is_killed(script, environment, gone):
    script.write(SCRIPT)
    run = script.start("-j", "3", "-k", "[hs]a*", env=environment, stderr=subprocess.DEVNULL)
    script.wait_for("out/*/*/*/pid", 2)
    run.kill()
    run.wait(60)
    gone(*script.folder.glob("out/*/*/*/child"), *script.folder.glob("out/*/*/*/pid"))
