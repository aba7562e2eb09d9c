"""Processes that share a run as jobs of a Slurm array do: stopped by SIGTERM at any time, and started again."""

import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from scripts import environment, write

CELLS, KILLS = 30, 20
#: A cell says when it begins and when it has come to its end, and that nobody else has it meanwhile.
_SCRIPT = f"""
import os, random, signal, time
import pyexp

@pyexp.experiment(name="e")
def experiment(config):
    mine = config.out / "mine"
    mine.touch(exist_ok=False)
    try:
        time.sleep(random.uniform(0.1, 0.6))
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with open("ended.txt", "a") as ended:
            ended.write(config.name + chr(10))
    finally:
        mine.unlink()
    return config.i

if __name__ == "__main__":
    experiment.run(configs=[{{"name": f"c{{i}}", "i": i}} for i in range({CELLS})],
                   report=lambda results: print(sum(result.value for result in results)))
"""


@pytest.mark.parametrize("processes", [8, pytest.param(16, marks=pytest.mark.long)])
def test_every_cell_comes_to_its_end_once_and_all_have_all_results(tmp_path: Path, processes: int):
    write(tmp_path, _SCRIPT)

    def start(number: int) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "main.py", "--timestamp", "s1", "--stop-after", "600"],
            cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    chance = random.Random(processes)
    jobs = [start(number) for number in range(processes)]
    ends: Counter[int] = Counter()
    for _ in range(KILLS):
        time.sleep(chance.uniform(0, 1.5))
        number = chance.randrange(processes)
        jobs[number].send_signal(signal.SIGTERM)
        jobs[number].communicate(timeout=120)
        ends[jobs[number].returncode] += 1
        jobs[number] = start(number)
    said = [job.communicate(timeout=300) for job in jobs]
    assert [job.returncode for job in jobs] == [0] * processes, said
    assert {out for out, _ in said} == {f"{sum(range(CELLS))}\n"}
    assert sorted((tmp_path / "ended.txt").read_text().split()) == sorted(f"c{i}" for i in range(CELLS))
    assert set(ends) <= {0, 143, -signal.SIGTERM}  # the last is that of one that had hardly begun
    assert ends[143] > 0
