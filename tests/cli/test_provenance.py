"""`run.json` says what was asked for before anything starts, by which command, from which code; and no more."""

import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import pyexp
from pyexp.store.history import history
from pyexp.store.layout import Run
from tests.cli.scripts import SCRIPT, environment, go, ran, write

ONE_LINE = ("--executor", "inline", "-q", "--timestamp", "t")
needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


def told(folder: Path) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((folder / "out" / "mnist" / "t" / "run.json").read_text())
    return data


def git(folder: Path, *arguments: str) -> str:
    who = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path)
    return tmp_path


def test_the_command_the_versions_the_host_and_the_times_are_there(folder: Path) -> None:
    before = time.time()
    go(folder, *ONE_LINE, "+note=a b")
    run = told(folder)
    (command,) = run["commands"]
    assert command["command"].endswith("main.py --executor inline -q --timestamp t '+note=a b'")
    assert (command["host"], command["python"]) == (socket.gethostname(), platform.python_version())
    assert command["pyexp"] == pyexp.__version__
    assert before <= run["started"] <= command["started"] + 1
    assert command["started"] <= command["ended"] <= time.time()
    assert (command["status"], run["experiment"], run["format"]) == ("finished", "mnist", 2)


def test_the_grid_is_there_before_the_first_cell_starts(folder: Path) -> None:
    write(
        folder,
        SCRIPT.replace(
            "    print(", "    import shutil; shutil.copy(config.out.parent / 'run.json', 'seen.json')\n    print("
        ),
    )
    go(folder, *ONE_LINE, "-k", "*lr1.0_seed2")
    seen = json.loads((folder / "seen.json").read_text())
    assert seen["shape"] == [1, 2, 3]
    assert [axis["name"] for axis in seen["axes"]] == ["axis_0", "lr", "seed"]
    assert seen["axes"][1]["coords"] == [0.1, 1.0]
    assert [cell["name"] for cell in seen["cells"]] == [
        f"exp_lr{lr}_seed{i}" for lr in ("0.1", "1.0") for i in range(3)
    ]
    for cell in seen["cells"]:
        assert cell["folder"].endswith(f"-{cell['hash']}")
    assert seen["commands"][0]["ended"] is None


def test_every_command_on_a_run_is_kept_and_when_it_began_stays(folder: Path) -> None:
    go(folder, *ONE_LINE)
    first = told(folder)
    go(folder, *ONE_LINE, "--lf")
    second = told(folder)
    assert second["started"] == first["started"]
    assert second["commands"][0] == first["commands"][0]
    assert len(second["commands"]) == 2


def test_a_command_with_nothing_to_do_leaves_it_as_it_is(folder: Path) -> None:
    go(folder, *ONE_LINE, "fixed=True")
    before = (folder / "out" / "mnist" / "t" / "run.json").read_bytes()
    for arguments in ([], ["--report"], ["-n"], ["--lf"]):
        go(folder, "--timestamp", "t", "fixed=True", *arguments)
    assert (folder / "out" / "mnist" / "t" / "run.json").read_bytes() == before


def test_nothing_of_the_environment_is_there(folder: Path) -> None:
    go(folder, *ONE_LINE, MY_SECRET="hunter2")
    assert "hunter2" not in (folder / "out" / "mnist" / "t" / "run.json").read_text()


def test_how_a_run_ended_is_there(folder: Path) -> None:
    command = [sys.executable, "main.py", "--timestamp", "t", "wait=20"]
    started = subprocess.Popen(command, cwd=folder, env=environment(), stderr=subprocess.DEVNULL)
    while not (folder / "ran.txt").exists():
        time.sleep(0.05)
    started.terminate()
    assert started.wait(30) == 128 + 15
    assert told(folder)["commands"][0]["status"] == "interrupted"


@needs_git
def test_the_commit_is_there_and_whether_the_code_is_clean(folder: Path) -> None:
    git(folder, "init", "-q")
    (folder / ".gitignore").write_text("ran.txt\n")
    git(folder, "add", ".")
    go(folder, *ONE_LINE, "+commit=0")
    git(folder, "commit", "-qm", "one")
    go(folder, *ONE_LINE, "+commit=1")
    write(folder, SCRIPT + "# changed\n")
    go(folder, *ONE_LINE, "+commit=2")
    git(folder, "commit", "-qam", "two")
    (folder / "new.py").touch()
    go(folder, *ONE_LINE, "+commit=3")
    one, two = git(folder, "rev-parse", "HEAD~1"), git(folder, "rev-parse", "HEAD")
    commands = history(Run(str(folder / "out" / "mnist" / "t"))).commands  # each ran another grid
    states = [command["git"] for command in commands]
    assert states == [
        {"commit": None, "state": "dirty"},
        {"commit": one, "state": "clean"},
        {"commit": one, "state": "dirty"},
        {"commit": two, "state": "dirty"},
    ]


@needs_git
def test_the_code_is_where_the_script_is_and_not_where_it_is_started(folder: Path, tmp_path: Path) -> None:
    code = tmp_path / "code"
    code.mkdir()
    shutil.move(folder / "main.py", code / "main.py")
    git(code, "init", "-q")
    git(code, "add", ".")
    git(code, "commit", "-qm", "one")
    subprocess.run([sys.executable, "code/main.py", *ONE_LINE], cwd=folder, check=True, env=environment())
    assert told(folder)["commands"][0]["git"] == {"commit": git(code, "rev-parse", "HEAD"), "state": "clean"}


UNKNOWN = {"commit": None, "state": "unknown"}


def test_without_a_work_tree_git_is_not_asked(folder: Path) -> None:
    fake = folder / "bin" / "git"
    fake.parent.mkdir()
    fake.write_text("#!/bin/sh\ntouch asked\n")
    fake.chmod(0o755)
    go(folder, *ONE_LINE, PATH=f"{fake.parent}{os.pathsep}{os.environ['PATH']}")
    assert told(folder)["commands"][0]["git"] == UNKNOWN
    assert not (folder / "asked").exists()


@pytest.mark.parametrize("answer", ["exit 1", "echo nonsense", "sleep 60", "kill -9 $$", "yes"])
def test_a_git_that_fails_or_hangs_fails_no_run(folder: Path, answer: str) -> None:
    fake = folder / "bin" / "git"
    fake.parent.mkdir()
    fake.write_text(f"#!/bin/sh\n{answer}\n")
    fake.chmod(0o755)
    (folder / ".git").mkdir()
    go(folder, *ONE_LINE, "fixed=True", PATH=f"{fake.parent}{os.pathsep}{os.environ['PATH']}")
    assert len(ran(folder)) == 6
    (command,) = told(folder)["commands"]
    assert (command["git"], command["status"]) == (UNKNOWN, "finished")


def test_where_there_is_no_git_nothing_is_known(folder: Path) -> None:
    (folder / ".git").mkdir()
    go(folder, *ONE_LINE, "fixed=True", PATH=str(folder))
    assert told(folder)["commands"][0]["git"] == UNKNOWN
