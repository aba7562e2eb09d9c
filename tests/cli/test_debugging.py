"""How a person gets at a cell that fails: a debugger in this process, and a traceback where the output is."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.cli.scripts import environment, go, write

SCRIPT = """
import json, pdb, sys
import pyexp

def double(text):
    number = json.loads(text)
    return number * 2

@pyexp.experiment(name="e", timestamp="t", durable=False)
def experiment(config):
    secret = 41
    print("hello from", config.name)
    if config.name == "stops":
        breakpoint()
    if config.name == "asks":
        input("go on? ")
    if config.name == "exits":
        sys.exit("enough")
    print("bye from", config.name, flush=True)
    return double(config.text)

if __name__ == "__main__":
    texts = {"fails": "no JSON", "exits": "1", "stops": "1", "asks": "1", "works": "21"}
    experiment.run(configs=[{"name": name, "text": text} for name, text in texts.items()])
"""
CTRL_C = "^C"
WHERE = "main.py:6 in double"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path, SCRIPT)
    return tmp_path


def typed(folder: Path, *arguments: str, keys: str, **changes: str) -> str:
    """What is on the terminal on which `python main.py …` was started, a line of the keys typed at each prompt."""
    leader, follower = pty.openpty()
    command = [sys.executable, "main.py", *arguments]
    streams = {"stdin": follower, "stdout": follower, "stderr": follower}
    started = subprocess.Popen(command, cwd=folder, env=environment(TERM="dumb", **changes), **streams)
    os.close(follower)
    lines, line, screen, seen = keys.splitlines(), "", b"", 0
    with suppress(OSError):  # how a terminal says that nobody is at the other end any more
        while True:
            if not select.select([leader], [], [], 10)[0]:
                if line != CTRL_C:
                    break
                started.send_signal(signal.SIGINT)  # it came where Python ignores it, and is pressed once more
                continue
            if not (part := os.read(leader, 1 << 16)):
                break
            screen += part
            if screen.endswith((b"(Pdb) ", b"go on? ")) and len(screen) > seen:
                seen = len(screen)
                line = lines.pop(0) if lines else "q"
                if line == CTRL_C:
                    started.send_signal(signal.SIGINT)
                else:
                    os.write(leader, f"{line}\n".encode())
    started.kill()
    started.wait(timeout=60)
    os.close(leader)
    return screen.decode().replace("\r", "")


def record(folder: Path, name: str) -> dict[str, Any]:
    (path,) = folder.glob(f"out/e/t/{name}-*/record.json")
    return json.loads(path.read_text())


def log(folder: Path, name: str) -> str:
    (path,) = folder.glob(f"out/e/t/{name}-*/log.txt")
    return path.read_text()


def test_pdb_opens_in_the_frame_of_the_users_code_that_raised(folder: Path) -> None:
    screen = typed(folder, "--pdb", "-k", "[fw]*", keys="p text\ndown\nup\nup\np secret\nq")
    assert "hello from fails\n" in screen
    assert screen.count("Traceback (most recent call last)") == 1
    assert "main.py(6)double()\n-> number = json.loads(text)\n(Pdb) p text\n'no JSON'\n" in screen
    assert "json/__init__.py" in screen.partition("(Pdb) down")[2]
    assert "(Pdb) p secret\n41\n" in screen
    assert screen.index("(Pdb) q") < screen.index(f"(char 0) ({WHERE})") < screen.index("hello from works")
    assert "log:" not in screen
    assert record(folder, "fails")["error"]["type"] == "JSONDecodeError"
    assert record(folder, "works")["status"] == "done"


def test_pdb_is_for_errors_alone(folder: Path) -> None:
    screen = typed(folder, "--pdb", "-k", "[ew]*", keys="")
    assert "(Pdb)" not in screen
    assert record(folder, "exits")["error"]["type"] == "SystemExit"
    assert record(folder, "works")["status"] == "done"


def test_who_leaves_a_breakpoint_is_not_asked_again_by_pdb(folder: Path) -> None:
    screen = typed(folder, "--pdb", "-k", "stops", keys="q")
    assert screen.count("(Pdb)") == 1
    assert record(folder, "stops")["error"]["message"] == ""


def test_ctrl_c_in_pdb_ends_the_run_with_the_failure_recorded(folder: Path) -> None:
    screen = typed(folder, "--pdb", "-k", "[fw]*", keys=f"{CTRL_C}\nq")
    assert "--KeyboardInterrupt--" in screen
    assert "interrupted by Ctrl-C" in screen
    assert record(folder, "fails")["error"]["type"] == "JSONDecodeError"
    assert not list(folder.glob("out/e/t/works-*"))


def test_pdb_wins_over_the_executor_of_the_script(folder: Path) -> None:
    write(folder, SCRIPT.replace('name="e"', 'name="e", executor="fork"'))
    assert "(Pdb) p text\n'no JSON'\n" in typed(folder, "--pdb", "-k", "fails", keys="p text")
    assert record(folder, "fails")["executor"] == "InlineExecutor"


@pytest.mark.parametrize("arguments", [[], ["-s"]])
def test_a_breakpoint_inline_stops_in_the_experiment(folder: Path, arguments: list[str]) -> None:
    screen = typed(folder, "--executor", "inline", "-k", "stops", *arguments, keys="p secret\nc")
    assert re.search(r"^> .*/main\.py\(\d+\)experiment\(\)$", screen, re.M)
    assert "(Pdb) p secret\n41\n" in screen
    assert "inline.py" not in screen
    assert record(folder, "stops")["status"] == "done"


def test_a_breakpoint_is_the_debugger_that_the_user_has_named(folder: Path) -> None:
    (folder / "mine.py").write_text("import sys\ndef stop():\n    print('in', sys._getframe(1).f_code.co_name)\n")
    screen = typed(folder, "--executor", "inline", "-k", "stops", keys="", PYTHONBREAKPOINT="mine.stop")
    assert "\nin experiment\n" in screen
    screen = typed(folder, "--executor", "inline", "-k", "stops", "--rerun", keys="", PYTHONBREAKPOINT="0")
    assert "(Pdb)" not in screen
    assert log(folder, "stops") == "hello from stops\nbye from stops\n"


@pytest.mark.parametrize("executor", ["subprocess", "fork", "inline"])
def test_a_cell_without_a_terminal_that_wants_one_says_how_to_give_it_one(folder: Path, executor: str) -> None:
    done = subprocess.run(
        [sys.executable, "main.py", "--executor", executor, "-k", "[sa]*"],
        cwd=folder, env=environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True,
    )  # fmt: skip
    words = "a cell has no terminal: add --executor inline -s -k NAME"
    assert done.stderr.count(f"BdbQuit: {words} (main.py:") == 2
    assert done.stderr.count(f"EOFError: {words} (main.py:16 in experiment)") == 2
    error = record(folder, "asks")["error"]
    assert (error["type"], error["message"]) == ("EOFError", words)
    assert error["traceback"].endswith("EOFError: EOF when reading a line\n")


def test_an_experiment_that_raises_so_itself_is_quoted(folder: Path) -> None:
    write(folder, SCRIPT.replace('sys.exit("enough")', 'raise EOFError("the file ends early")'))
    assert "EOFError: the file ends early" in go(folder, "-k", "exits").stderr


def test_at_a_terminal_a_cell_can_ask(folder: Path) -> None:
    screen = typed(folder, "--executor", "inline", "-s", "-k", "asks", keys="yes")
    assert "go on? yes\n" in screen
    assert record(folder, "asks")["status"] == "done"
    typed(folder, "--executor", "inline", "-s", "-k", "asks", "--rerun", keys="\x04")
    assert "terminal" not in record(folder, "asks")["error"]["message"]


def test_the_traceback_of_a_failed_cell_is_the_end_of_its_log(folder: Path) -> None:
    told = go(folder, "--executor", "inline", "-k", "[fe]*")
    for name in ("fails", "exits"):
        traceback = record(folder, name)["error"]["traceback"]
        before = "hello from fails\nbye from fails\n" if name == "fails" else "hello from exits\n"
        assert log(folder, name) == before + traceback
    assert "Traceback" not in told.stderr


def test_without_capturing_the_traceback_is_on_stderr_once(folder: Path) -> None:
    told = go(folder, "--executor", "inline", "-s", "-k", "fails")
    assert told.stderr.count(record(folder, "fails")["error"]["traceback"]) == 1
    assert told.stderr.count("Traceback") == 1


def test_a_cell_that_is_interrupted_leaves_no_traceback_on_stderr(folder: Path) -> None:
    write(folder, SCRIPT.replace('sys.exit("enough")', "import os; os.kill(os.getpid(), 2)"))
    told = go(folder, "--executor", "inline", "-s", "-k", "exits")
    assert told.returncode == 130
    assert "Traceback" not in told.stderr
