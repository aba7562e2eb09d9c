"""Several processes on the same run: each cell is executed once, all end with all results, the dead are replaced."""

import json
import os
import shutil
import signal
import time
from pathlib import Path

import pytest
from sweeps import Sweep, ended, kill, processes_of

pytestmark = [pytest.mark.faults, pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="looks into /proc")]


def share(sweep: Sweep, processes: int, *arguments: str) -> None:
    """Start so many processes at once, and check that each ends with all results and no cell was run twice."""
    started = [sweep.start("--timestamp=t", *arguments) for _ in range(processes)]
    for status, out, err in [ended(process, 1200) for process in started]:
        assert (status, out) == (0, sweep.report), err
        assert "warning" not in err
    assert sorted(sweep.told("began")) == sorted(f"c{i}" for i in range(sweep.cells))
    assert sweep.told("beside") == []
    assert sweep.left_over() == []


@pytest.mark.parametrize(("processes", "executor"), [(2, "subprocess"), (2, "inline"), (8, "fork")])
def test_processes_share_a_run_and_each_cell_is_run_once(processes: int, executor: str, tmp_path: Path) -> None:
    share(Sweep(tmp_path / "here", cells=24, seconds=0.01), processes, f"--executor={executor}")


@pytest.mark.long
@pytest.mark.parametrize(("processes", "cells", "executor"), [(64, 1000, "inline"), (64, 200, "fork")])
def test_many_processes_share_a_large_run(processes: int, cells: int, executor: str, tmp_path: Path) -> None:
    share(Sweep(tmp_path / "here", cells=cells, seconds=0.001), processes, f"--executor={executor}")


def test_every_process_that_shared_a_run_is_in_its_description(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path / "here", cells=1, seconds=3)
    share(sweep, 4, "--executor=inline")
    told = json.loads((sweep.folder / "t" / "run.json").read_text())
    assert len(told["cells"]) == 1
    assert len(told["commands"]) == 4


@pytest.mark.parametrize("executor", ["subprocess", "fork", "inline"])
def test_the_cell_of_a_killed_process_is_taken_over(executor: str, tmp_path: Path) -> None:
    sweep = Sweep(tmp_path / "here", cells=1, seconds=300)
    first = sweep.start("--timestamp=t", f"--executor={executor}")
    while not sweep.told("began"):
        assert first.poll() is None
        time.sleep(0.01)
    second = sweep.start("--timestamp=t", f"--executor={executor}", "--timeout=5" if executor != "inline" else "-j1")
    time.sleep(0.5)
    assert second.poll() is None
    assert sweep.told("began") == ["c0"], "the second ran a cell that the first had"
    parents = processes_of(sweep.place)

    def is_of_second(pid: int) -> bool:
        return pid == second.pid or (pid in parents and is_of_second(parents[pid]))

    kill(first.pid)  # before its cell, or it may live to record that this was killed
    for pid in parents:
        if not is_of_second(pid):
            kill(pid)
    ended(first)
    deadline = time.monotonic() + 10
    while len(sweep.told("began")) < 2:
        assert time.monotonic() < deadline, "nobody took the cell over"
        time.sleep(0.01)
    os.killpg(second.pid, signal.SIGTERM)
    os.killpg(second.pid, signal.SIGTERM)
    ended(second)


def test_two_runs_of_one_second_have_two_folders(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path / "here", cells=2, seconds=0.0)
    started = [sweep.start("--executor=inline") for _ in range(6)]
    for status, out, err in map(ended, started):
        assert (status, out) == (0, sweep.report), err
    assert len(list(sweep.folder.iterdir())) == 6
    assert sweep.told("began").count("c0") == 6
    assert (sweep.place / "out" / ".gitignore").read_text() == "*\n"
    assert sweep.left_over() == []


def test_the_latest_run_is_the_one_begun_last_though_the_clock_went_back(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path / "here", cells=1, seconds=0.0)
    ended(sweep.start("--executor=inline"))
    (old,) = sweep.folder.iterdir()
    told = json.loads((old / "run.json").read_text())
    (old / "run.json").write_text(json.dumps({**told, "started": told["started"] + 7200}, indent=1))
    future = old.rename(old.parent / "2999-01-01_00-00-00")
    ended(sweep.start("--executor=inline"))
    (new,) = set(sweep.folder.iterdir()) - {future}
    shutil.rmtree(next(new.glob("c0-*")))
    status, _, err = ended(sweep.start("--continue", "--executor=inline"))
    assert status == 0, err
    assert list(new.glob("c0-*")), "another run was continued"


def test_processes_that_rerun_at_once_all_end_with_all_results(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path / "here", cells=6, seconds=0.2)
    share(sweep, 1, "--executor=inline")
    started = [sweep.start("--timestamp=t", "--rerun", "--executor=inline")]
    while len(sweep.told("began")) < 6 + 3:
        assert started[0].poll() is None
        time.sleep(0.01)
    # These remove what the first has just made; it has to wait for what they make.
    started += [sweep.start("--timestamp=t", "--rerun", "--executor=inline") for _ in range(2)]
    for status, out, err in map(ended, started):
        assert (status, out) == (0, sweep.report), err
    assert sweep.told("beside") == []
    assert min(map(sweep.told("began").count, sweep.told("began"))) >= 2
    assert sweep.left_over() == []


def test_a_rerun_that_was_interrupted_goes_on_with_what_is_left(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path / "here", cells=8, seconds=0.1)
    share(sweep, 1, "--executor=inline")
    rerun = sweep.start("--timestamp=t", "--rerun", "--executor=inline")
    while len(sweep.told("began")) < 8 + 3:
        assert rerun.poll() is None
        time.sleep(0.01)
    kill(rerun.pid)
    ended(rerun)
    again = sweep.told("began")[8:]
    status, out, _ = ended(sweep.start("--timestamp=t", "--executor=inline"))
    assert (status, out) == (0, sweep.report)
    rest = sweep.told("began")[8 + len(again) :]
    assert set(again) | set(rest) == {f"c{i}" for i in range(8)}, "an old result came back"
    assert not set(again[:-1]) & set(rest), "a new result was lost"
