"""Ctrl-C and its kin: nothing finished is lost, nothing stays behind, and a line says how to go on."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time

import pytest

SLEEPING = """
import os, signal, subprocess, sys, time
import pyexp

@pyexp.experiment(name="e")
def experiment(config):
    (config.out / "child.pid").write_text(str(subprocess.Popen(["sleep", "600"], start_new_session=True).pid))
    if config.stubborn:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    (config.out / "cell.pid").write_text(str(os.getpid()))
    if config.name == "quick":
        return {"x": 1}
    try:
        time.sleep(600)
    except KeyboardInterrupt:
        (config.out / "asked").write_text("yes")
        raise

@experiment.configs
def configs():
    stubborn = "stubborn" in sys.argv[0]
    return [{"name": name, "stubborn": stubborn} for name in ("quick", "slow", "slower", "last")]

if __name__ == "__main__":
    experiment.run()
"""
NUMBERS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}


def wait_until_stuck(script):
    """The notes of the cells that began, when the second of them hangs."""
    script.wait_for("out/e/run/slow-*/cell.pid")
    script.wait_for("out/e/run/quick-*/result.pkl")
    return list(script.folder.glob("out/e/run/*/*.pid"))


@pytest.mark.parametrize("number", NUMBERS, ids=lambda number: number.name)
@pytest.mark.parametrize("executor", ["subprocess", "fork"])
def test_a_signal_asks_the_cells_to_stop_and_says_how_to_go_on(script, gone, executor, number):
    script.write(SLEEPING)
    run = script.start("--executor", executor)
    notes = wait_until_stuck(script)
    run.send_signal(number)
    _, errors = run.communicate(timeout=60)
    assert run.returncode == NUMBERS[number]
    assert "interrupted" in errors
    assert "--timestamp run" in errors
    assert "Traceback" not in errors
    gone(*notes)
    assert script.results() == ["quick"]
    assert list(script.folder.glob("out/e/run/slow-*/asked"))
    assert not list(script.folder.glob("out/e/run/last-*"))


@pytest.mark.parametrize("executor", ["subprocess", "fork"])
def test_a_cell_that_does_not_stop_is_killed_at_once_by_a_second_signal(script, gone, executor):
    script.write(SLEEPING.replace('"stubborn" in sys.argv[0]', "True"))
    run = script.start("--executor", executor, "-j", "2", "--grace", "600")
    notes = wait_until_stuck(script)
    run.send_signal(signal.SIGINT)
    while not (line := run.stderr.readline()).startswith("waiting up to 600 s for "):
        assert line
    assert line.endswith(" to stop; once more (Ctrl-C) kills what is left\n")
    run.send_signal(signal.SIGINT)
    run.communicate(timeout=60)
    assert run.returncode == 130
    gone(*notes)


def test_a_cell_that_does_not_stop_is_killed_after_its_grace(script, gone):
    script.write(SLEEPING.replace('"stubborn" in sys.argv[0]', "True"))
    run = script.start("--grace", "1.5")
    notes = wait_until_stuck(script)
    run.send_signal(signal.SIGINT)
    _, errors = run.communicate(timeout=60)
    assert run.returncode == 130
    assert errors.count("waiting up to 1.5 s for 1 cell to stop") == 1
    gone(*notes)


def test_without_grace_a_cell_that_does_not_stop_is_killed_at_once(script, gone):
    script.write(SLEEPING.replace('"stubborn" in sys.argv[0]', "True"))
    run = script.start("--grace", "0")
    notes = wait_until_stuck(script)
    run.send_signal(signal.SIGTERM)
    _, errors = run.communicate(timeout=60)
    assert run.returncode == 143
    assert "waiting" not in errors
    gone(*notes)


def test_a_cell_that_saves_its_state_when_asked_to_stop_has_the_time_for_it(script):
    script.write("""
import time
import pyexp

@pyexp.experiment(name="e", grace=60)
def experiment(config):
    (config.out / "began").write_text("yes")
    try:
        time.sleep(600)
    except KeyboardInterrupt:
        time.sleep(1)
        (config.out / "checkpoint").write_text("whole")
        raise

if __name__ == "__main__":
    experiment.run(configs=[{"name": "a"}])
""")
    run = script.start()
    script.wait_for("out/e/run/a-*/began")
    run.send_signal(signal.SIGTERM)
    _, errors = run.communicate(timeout=60)
    assert run.returncode == 143, errors
    assert "waiting up to 60 s for 1 cell to stop" in errors
    assert [path.read_text() for path in script.folder.glob("out/e/run/a-*/checkpoint")] == ["whole"]


def test_a_cell_that_commits_its_result_but_cannot_say_so_has_finished(script):
    script.write("""
import os, signal, time
import pyexp

@pyexp.experiment(name="e")
def experiment(config):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    (config.out / "began").write_text("yes")
    while not (config.out.parent / "go").exists():
        time.sleep(0.01)
    os.closerange(3, 4096)  # also the pipe to its supervisor
    return {"x": 1}

if __name__ == "__main__":
    experiment.run(configs=[{"name": "a"}])
""")
    run = script.start()
    script.wait_for("out/e/run/a-*/began")
    run.send_signal(signal.SIGINT)
    assert "waiting up to " in run.stderr.readline() + run.stderr.readline()
    (script.folder / "out/e/run/go").touch()
    _, errors = run.communicate(timeout=60)
    assert run.returncode == 130, errors
    (record,) = script.folder.glob("out/e/run/a-*/record.json")
    told = json.loads(record.read_text())
    assert (told["status"], told["outputs"]) == ("done", {"x": 1})
    assert told["code"]["parts"]


def test_what_was_interrupted_goes_on_where_it_was(script):
    script.write(SLEEPING)
    run = script.start("-j", "2")
    wait_until_stuck(script)
    run.send_signal(signal.SIGINT)
    run.communicate(timeout=60)
    script.write(SLEEPING.replace("time.sleep(600)", "pass"))
    ended = script.run("-j", "2")
    assert ended.returncode == 0, ended.stderr
    assert script.results() == ["last", "quick", "slow", "slower"]
    assert len(re.findall(r"done in", ended.stderr)) == 3


def test_a_hangup_that_is_ignored_stays_ignored(script):
    script.write("""
import os, signal, time
import pyexp

@pyexp.experiment(name="e")
def experiment(config):
    os.kill(os.getppid(), signal.SIGHUP)
    os.kill(os.getpid(), signal.SIGHUP)
    return 1

if __name__ == "__main__":
    experiment.run(configs=[{"name": "a"}, {"name": "b"}])
""")
    for executor in ("subprocess", "fork"):
        command = ["nohup", *script.command("--rerun", "--executor", executor)]
        ended = subprocess.run(command, cwd=script.folder, capture_output=True, text=True, timeout=60, check=False)
        assert ended.returncode == 0, ended.stderr
        assert script.results() == ["a", "b"]


def test_a_cells_own_keyboard_interrupt_is_its_own_failure(script):
    script.write("""
import pyexp

@pyexp.experiment(name="e")
def experiment(config):
    if config.name == "a":
        raise KeyboardInterrupt("mine")
    return 1

if __name__ == "__main__":
    experiment.run(configs=[{"name": "a"}, {"name": "b"}])
""")
    for executor in ("subprocess", "fork", "inline"):
        ended = script.run("--rerun", "--executor", executor)
        assert ended.returncode == 0, ended.stderr
        assert script.results() == ["b"]
        assert script.record("a")["error"]["type"] == "KeyboardInterrupt"


def test_in_another_thread_no_handler_is_set(script):
    script.write("""
import signal, threading
import pyexp

experiment = pyexp.experiment(name="e")(lambda config: config.i)

def work():
    experiment.run(configs=[{"name": "a", "i": 1}], argv=[], executor=executor, timestamp="run")

if __name__ == "__main__":
    before = signal.getsignal(signal.SIGINT)
    for executor in ("subprocess", "inline"):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert signal.getsignal(signal.SIGINT) is before
""")
    ended = script.run()
    assert ended.returncode == 0, ended.stderr
    assert script.results() == ["a"]


def press(script, *args, keys=b"\x03", until="out/e/run/slow-*/cell.pid", times=1):
    """Run the script in a terminal of its own, and press keys there: its exit status, and what was on the screen."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(script.folder)
        os.execv(sys.executable, script.command(*args))
    script.wait_for(until)
    screen = b""
    for _ in range(times):
        os.write(terminal, keys)
        time.sleep(0.3)
    deadline = time.monotonic() + 60
    ended = status = 0
    while not ended and time.monotonic() < deadline:
        ended, status = os.waitpid(pid, os.WNOHANG)
        while select.select([terminal], [], [], 0.05)[0]:
            try:
                screen += os.read(terminal, 1 << 16)
            except OSError:  # Linux: the other end is closed
                break
    os.close(terminal)
    return os.waitstatus_to_exitcode(status), screen.decode()


@pytest.mark.parametrize(
    "args",
    [("--executor", "inline"), ("--executor", "subprocess"), ("--executor", "fork"), ("-j", "4")],
    ids=" ".join,
)
def test_ctrl_c_in_a_terminal(script, gone, args):
    script.write(SLEEPING.replace(', "slower"', ""))
    status, screen = press(script, *args)
    assert status == 130, screen
    assert "interrupted by Ctrl-C" in screen
    assert "--timestamp run" in screen
    assert "Traceback" not in screen
    assert script.results() == ["quick"]
    if "inline" in args:  # what the experiment itself has detached is its own affair there
        for note in script.folder.glob("out/e/run/*/child.pid"):
            os.kill(int(note.read_text()), signal.SIGKILL)
    gone(*(note for note in script.folder.glob("out/e/run/*/*.pid") if note.stat().st_size))


MANY = """
import sys
import pyexp

experiment = pyexp.experiment(name="e")(lambda config: config.i)
if __name__ == "__main__":
    experiment.run(configs=[{"name": f"c{i}", "i": i} for i in range(COUNT)], report=lambda results: print("all"))
"""


@pytest.mark.parametrize(("executor", "count"), [("fork", 250), ("inline", 800), ("subprocess", 60)])
def test_a_signal_at_any_moment_loses_nothing(script, executor, count):
    """Interrupted again and again, at moments spread over starting and committing cells, the run comes to its end."""
    script.write(MANY.replace("COUNT", str(count)))
    for i in range(4):
        finished = script.results()
        run = script.start("--executor", executor, "-j", "2" if executor != "inline" else "1")
        script.wait_for("out/e/run/c*/result.pkl", len(finished) + 1)
        time.sleep(0.013 * i)
        run.send_signal(signal.SIGINT)
        _, errors = run.communicate(timeout=60)
        assert run.returncode == 130, errors
        assert "Traceback" not in errors
    finished = script.results()
    ended = script.run("--executor", executor)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == "all\n"
    assert len(script.results()) == count
    assert len(re.findall("done in", ended.stderr)) == count - len(finished)


def test_ctrl_c_while_no_cell_runs_ends_in_one_line(script):
    """While the plan is made, and once more while the executor closes after a first one."""
    script.write("""
import os, signal
import pyexp

class Rate:
    pass

def encode(rate):
    if "planning" in os.environ:
        os.kill(os.getpid(), signal.SIGINT)
    return "rate"

pyexp.register_encoder(Rate, encode)

class Own(pyexp.Executor):
    def run(self, fn, config, result_path):
        os.kill(os.getpid(), signal.SIGINT)
        return 1

    def close(self):
        os.kill(os.getpid(), signal.SIGINT)

experiment = pyexp.experiment(name="e", executor=Own())(lambda config: 1)
if __name__ == "__main__":
    experiment.run(configs=[{"name": name, "rate": Rate()} for name in "ab"])
""")
    ended = script.run(env={**os.environ, "planning": "1"})
    assert (ended.returncode, ended.stderr) == (130, "interrupted by Ctrl-C; no cell was running\n")
    ended = script.run()
    assert ended.returncode == 130, ended.stderr
    assert "Traceback" not in ended.stderr
    assert "; 1 of 2 cells are left; to go on: python main.py --no-durable --timestamp run" in ended.stderr
