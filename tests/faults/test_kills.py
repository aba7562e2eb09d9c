"""kill -9 at random: of a worker, of the run, of all of it at once; then the same command again.

The short form runs always. The long one, a thousand kills, takes some ten minutes:

    pytest -m long tests/faults/test_kills.py
"""

import os
import random
import time
from pathlib import Path

import pytest
from sweeps import Sweep, ended, kill, processes_of

pytestmark = [pytest.mark.faults, pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="looks into /proc")]


def kill_at_random(sweep: Sweep, executor: str, chance: random.Random) -> str:
    """Start or continue the run, kill a part of it after a while, wait until all of it is gone; what was killed."""
    run = sweep.start("--timestamp=t", f"--executor={executor}", "-j2")
    # From the interpreter's start on, into the run; now and then when it is over.
    time.sleep(chance.uniform(0.0, 0.7))
    victim = chance.choice(["run", "worker", "everything"])
    found = processes_of(sweep.place)
    workers = [pid for pid in found if pid != run.pid]
    if victim == "worker" and workers:
        kill(chance.choice(workers))
        time.sleep(chance.uniform(0.0, 0.1))
        kill(run.pid)  # else it would just go on
    elif victim == "everything":
        for pid in chance.sample(workers, len(workers)):
            kill(pid)
        kill(run.pid)
    else:
        victim = "run"
        kill(run.pid)
    ended(run)
    deadline = time.monotonic() + 60
    while processes_of(sweep.place):
        assert time.monotonic() < deadline, "a process outlives its run"
        time.sleep(0.01)
    return victim


def kill_and_continue(place: Path, executor: str, seed: int, kills: int) -> int:
    """Kill a sweep again and again until it is finished; how many kills that were, at most so many."""
    chance = random.Random(seed)
    sweep = Sweep(place, cells=12, seconds=0.02)
    known: set[str] = set()
    done = 0
    while done < kills and len(known) < sweep.cells:
        before = sweep.told("began")
        kill_at_random(sweep, executor, chance)
        done += 1
        again = set(sweep.told("began")[len(before) :]) & known
        assert not again, f"{again} had been finished, and were run again"
        known = sweep.finished()
        assert len(sweep.finished() & known) == len(known)
    before = sweep.told("began")
    status, out, err = ended(sweep.start("--timestamp=t", f"--executor={executor}", "-j2"))
    assert (status, out) == (0, sweep.report), err
    assert not set(sweep.told("began")[len(before) :]) & known
    assert sweep.told("beside") == []
    assert sweep.left_over() == []
    assert {path.name.rpartition("-")[0] for path in (sweep.folder / "t").glob("*-*") if path.is_dir()} == {
        f"c{i}" for i in range(sweep.cells)
    }
    return done


@pytest.mark.parametrize("executor", ["subprocess", "fork", "inline"])
def test_after_kills_the_next_run_ends_as_if_there_had_been_none(executor: str, tmp_path: Path) -> None:
    done = 0
    for seed in range(5):
        done += kill_and_continue(tmp_path / str(seed), executor, seed, kills=5 - done)
        if done >= 5:
            break
    assert done == 5


@pytest.mark.long
@pytest.mark.parametrize("executor", ["subprocess", "fork", "inline"])
def test_a_thousand_kills(executor: str, tmp_path: Path) -> None:
    done = seed = 0
    while done < 334:
        seed += 1
        done += kill_and_continue(tmp_path / str(seed), executor, 1000 + seed, kills=334 - done)
    print(f"{executor}: {done} kills over {seed} sweeps")
