"""Whatever kills the run's process, nothing that it started stays behind."""

import os
import random
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from pyexp.worker import guardian
from tests.look.outside import look

pytestmark = pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="processes are looked up in /proc")

SLEEPERS = """
import os, signal, subprocess, sys, time
import pyexp

@pyexp.experiment(name="e")
def experiment(config):
    def note(pid, kind):
        (config.out / f"{kind}.pid").write_text(str(pid))

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    note(subprocess.Popen(["sleep", "600"]).pid, "child")
    note(subprocess.Popen(["sleep", "600"], start_new_session=True).pid, "session")
    if os.fork() == 0:
        os.setsid()
        if (pid := os.fork()) == 0:
            time.sleep(600)
        note(pid, "daemon")
        os._exit(0)
    note(os.getpid(), "cell")
    time.sleep(600)

@experiment.configs
def configs():
    return [{"name": f"c{i}"} for i in range(4)]

if __name__ == "__main__":
    experiment.run()
"""


@pytest.mark.parametrize("executor", ["subprocess", "fork"])
@pytest.mark.parametrize("whom", ["process", "group"])
def test_kill_9_of_the_run_leaves_no_process(script, gone, executor, whom):
    script.write(SLEEPERS)
    run = script.start("--executor", executor, "-j", "2", stderr=subprocess.DEVNULL)
    notes = script.wait_for("out/e/run/*/*.pid", 8)
    (os.killpg if whom == "group" else os.kill)(run.pid, signal.SIGKILL)
    run.wait()
    gone(*notes)


def test_abort_ends_the_cell_that_show_names_and_leaves_its_stack(script, gone):
    script.write(SLEEPERS)
    run = script.start("-k", "c0", stderr=subprocess.DEVNULL)
    (note,) = script.wait_for("out/e/run/c0-*/cell.pid")
    shown = look(script.folder, "show", "out/e/run", "c0").stdout
    (number,) = re.findall(r"busy \(process (\d+) on", shown)
    os.kill(int(number), signal.SIGABRT)
    run.wait()
    gone(note)
    assert "killed by signal 6 (SIGABRT)" in str(script.record("c0"))
    log = (note.parent / "log.txt").read_text()
    assert "Fatal Python error: Aborted" in log
    assert re.search(r'main\.py", line \d+ in experiment', log)


def guardians_of(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in children if b"guardian.py" in Path(f"/proc/{child}/cmdline").read_bytes()]


def test_a_guardian_that_was_killed_is_replaced(script, gone):
    text = SLEEPERS.replace("    time.sleep(600)\n\n@", "    time.sleep(600 if config.name == 'c1' else 1)\n\n@")
    script.write(text)
    run = script.start("-j", "2", stderr=subprocess.DEVNULL)
    (first,) = script.wait_for("out/e/run/c1-*/cell.pid")
    (guardian,) = guardians_of(run.pid)
    os.kill(guardian, signal.SIGKILL)
    notes = script.wait_for("out/e/run/c[023]-*/cell.pid", 3)
    script.wait_for("out/e/run/c[023]-*/result.pkl", 3)
    assert guardian not in guardians_of(run.pid)
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    gone(first, *notes)


def test_a_guardian_goes_with_its_run(script):
    script.write(
        "import pyexp\nimport subprocess\n"
        """
experiment = pyexp.experiment(name="e")(lambda config: 1)
if __name__ == "__main__":
    experiment.run(configs=[{"name": "c"}], report=lambda results: print(subprocess.run(
        ["ps", "-o", "args=", "--ppid", str(__import__("os").getpid())], capture_output=True, text=True).stdout))
"""
    )
    ended = script.run()
    assert ended.returncode == 0, ended.stderr
    assert "guardian" not in ended.stdout
    assert "ps -o" in ended.stdout


COUNTED = """
import os, time
import pyexp

@pyexp.experiment(name="e")
def experiment(config):
    with open(config.witness, "a") as file:
        file.write(f"begin {config.i}\\n")
    time.sleep(0.05)
    return {"i": config.i, "big": os.urandom(100_000)}

@experiment.configs
def configs():
    return [{"name": f"c{i}", "i": i, "witness": os.path.abspath("witness")} for i in range(12)]

@experiment.report
def report(results):
    print([r["i"] for r in results])

if __name__ == "__main__":
    experiment.run()
"""


@pytest.mark.parametrize("executor", ["subprocess", "fork"])
def test_a_run_that_is_killed_again_and_again_comes_to_its_end(script, executor):
    kill_at_random(script, executor, kills=4, seed=1)


@pytest.mark.long
@pytest.mark.faults
@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("executor", ["subprocess", "fork"])
def test_a_run_that_is_killed_at_any_moment_comes_to_its_end(script, executor, seed):
    kill_at_random(script, executor, kills=10, seed=seed)


def kill_at_random(script, executor, kills, seed):
    """Kill the run some times, then let it end: all results are there, and what was finished was not run again."""
    draw = random.Random(seed)
    script.write(COUNTED)
    begun: dict[str, int] = {}
    for _ in range(kills):
        run = script.start("--executor", executor, "-j", "2", stderr=subprocess.DEVNULL)
        script.wait_for("witness")
        time.sleep(draw.uniform(0.0, 0.6))
        run.kill()
        run.wait()
        for name in script.results():
            begun.setdefault(name, beginnings(script, name))
    ended = script.run("--executor", executor, "-j", "2")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.split("\n")[0] == str(list(range(12)))
    assert {name: beginnings(script, name) for name in begun} == begun
    assert not list(script.folder.glob("out/e/run/*/.*tmp"))
    assert not list(script.folder.glob("out/e/run/.claims/*"))


def beginnings(script, name):
    """How often the cell was begun."""
    return (script.folder / "witness").read_text().split("\n").count(f"begin {name[1:]}")


@pytest.mark.parametrize("executor", ["subprocess", "fork"])
def test_a_worker_that_dies_between_its_commit_and_its_last_word_is_not_tried_again(script, executor):
    script.write(
        """
import os, signal
import pyexp

def replace(old, new, replaced=os.replace):
    replaced(old, new)
    if str(new).endswith("result.pkl"):
        os.kill(os.getpid(), signal.SIGKILL)

@pyexp.experiment(name="e")
def experiment(config):
    os.close(os.open(f"ran-{os.getpid()}", os.O_CREAT))
    os.replace = replace
    return 42

if __name__ == "__main__":
    experiment.run(configs=[{"name": "a"}], report=lambda results: print(*[r.value for r in results]))
"""
    )
    ended = script.run("--executor", executor, "--retries", "2")
    assert (ended.returncode, ended.stdout) == (0, "42\n"), ended.stderr
    assert len(list(script.folder.glob("ran-*"))) == 1
    assert script.record("a")["attempts"] == []


@pytest.mark.parametrize("executor", ["subprocess", "fork"])
def test_what_a_try_has_left_half_written_is_gone_once_another_has_finished(script, executor):
    script.write(
        """
import os
import pyexp

@pyexp.experiment(name="e")
def experiment(config):
    if not os.path.exists("tried"):
        open("tried", "w").close()
        (config.out / ".result.pkl.0123456789abcdef.pyexp-tmp").write_text("half of it")
        os._exit(9)
    return 42

if __name__ == "__main__":
    experiment.run(configs=[{"name": "a"}], report=lambda results: print(*[r.value for r in results]))
"""
    )
    ended = script.run("--executor", executor, "--retries", "1")
    assert (ended.returncode, ended.stdout) == (0, "42\n"), ended.stderr
    assert list(script.folder.rglob("*.pyexp-tmp")) == []


@pytest.mark.parametrize(
    ("command", "is_spared"),
    [
        (b"python\0-c\0from multiprocessing.resource_tracker import main;main(5)\0", True),
        (b"", True),  # for an instant, a process that begins a program has none
        (b"python\0main.py\0", False),
        (None, False),  # it has ended
    ],
)
def test_what_may_become_a_resource_tracker_is_spared(tmp_path, monkeypatch, command, is_spared):
    (tmp_path / "self").mkdir()
    (tmp_path / "7").mkdir()
    if command is not None:
        (tmp_path / "7" / "cmdline").write_bytes(command)
    monkeypatch.setattr(guardian, "PROC", str(tmp_path))
    assert guardian._tracks(7) is is_spared
