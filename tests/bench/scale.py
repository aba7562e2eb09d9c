"""What pyexp costs as the work grows, in seconds, and how many cells a second its loop can carry.

    python tests/bench/scale.py                    print both tables
    python tests/bench/scale.py plan 10000         one measurement

Each measurement runs in an interpreter of its own, below the working directory. The loop is driven by a pool of 1,000
slots whose cells do nothing but last, each for a time drawn from a log-normal distribution: all that is real is what
the run's own process does, claims, records and results included.
"""

import heapq
import itertools
import math
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import pyexp
from pyexp.executors.base import Function, Running, RunSettings, Session, SessionExecutor, StopRequest, Task
from pyexp.results import Outcome, done
from pyexp.store import history, pickling

SIZES = (100, 1_000, 10_000, 100_000, 1_000_000)
#: Works for which cells have to be on disk: so many at most, as they take a folder and three files each.
ON_DISK = 100_000
SLOTS = 1_000
#: Mean seconds of a simulated cell; the spread is that of a standard log-normal distribution.
LENGTHS = (0.0, 0.5, 1.0, 2.0, 5.0)


def grid(count: int) -> Any:
    """So many configs, of two axes."""
    side = min(count, 100)
    configs = pyexp.sweep(
        [{"name": "e", **{f"b{i}": i for i in range(10)}}], [{"name": f"x{x}", "x": x} for x in range(side)]
    )
    return pyexp.sweep(configs, [{"name": f"y{y}", "y": y} for y in range(count // side)])


def noop(config: Any) -> Any:
    """Nothing, with an output."""
    return {"value": config.x}


def made(folder: str, executor: Any = "inline") -> Any:
    """The experiment, whose runs are in the folder."""
    return pyexp.experiment(name="e", timestamp=False, durable=False, quiet=True, output_dir=folder, executor=executor)(
        noop
    )


def seconds(call: Callable[[], Any]) -> float:
    """How long the call takes."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def plan(folder: str, count: int) -> float:
    """The plan of a grid of which nothing is there yet."""
    return seconds(lambda: made(folder).plan(grid(count)))


def warm_start(folder: str, count: int) -> float:
    """A run of which all is finished, to a report that reads a scalar of each cell."""
    made(folder).run(grid(count), report=lambda results: None, argv=[])
    return seconds(lambda: made(folder).run(grid(count), report=lambda results: [r["value"] for r in results], argv=[]))


def listing(folder: str, count: int) -> float:
    """The list of runs, with their cells by status."""
    made(folder).run(grid(count), report=lambda results: None, argv=[])
    return seconds(lambda: history.kept(os.path.join(folder, "e")))


def loading(folder: str, count: int) -> float:
    """`pyexp.load` of a run, and a scalar of each result."""
    made(folder).run(grid(count), report=lambda results: None, argv=[])
    return seconds(lambda: [result["value"] for result in pyexp.load(os.path.join(folder, "e"))])


WORKS: dict[str, tuple[Callable[[str, int], float], int]] = {
    "plan": (plan, SIZES[-1]),
    "warm start": (warm_start, ON_DISK),
    "list": (listing, ON_DISK),
    "load": (loading, ON_DISK),
}


class Simulated(SessionExecutor):
    """Slots on machines that are not there; `lengths` are those of the cells that were run."""

    def __init__(self, slots: int, mean: float) -> None:
        self.count = slots
        self.mean = mean
        self.lengths: list[float] = []

    def session(self, fn: Function, settings: RunSettings, stop: StopRequest) -> "SimulatedSession":
        return SimulatedSession(self, settings, stop)


class SimulatedSession(Session):
    """A cell ends when its time is over, and its result is written then."""

    def __init__(self, machines: Simulated, settings: RunSettings, stop: StopRequest) -> None:
        super().__init__(settings, stop)
        self._machines = machines
        self._random = random.Random(0)
        self._due: list[tuple[float, int, Running]] = []
        self._number = itertools.count()

    def slots(self) -> int:
        return self._machines.count

    def start(self, task: Task) -> Running:
        running = Running(task)
        length = self._machines.mean * self._random.lognormvariate(-0.5, 1.0)  # whose mean is 1
        self._machines.lengths.append(length)
        heapq.heappush(self._due, (running.began + length, next(self._number), running))
        return running

    def wait(self, running: Collection[Any], seconds: float) -> list[tuple[Any, Outcome]]:
        if self._due:
            time.sleep(min(max(self._due[0][0] - time.monotonic(), 0.0), seconds))
        ended = []
        while self._due and self._due[0][0] <= time.monotonic():
            one = heapq.heappop(self._due)[2]
            pickling.save(one.task.result_path, {"value": 0}, durable=False)
            ended.append((one, done({"value": 0}, [])))
        return ended

    def kill(self, running: Any) -> None:
        """It is not there."""


def driven(folder: str, count: int, mean: float) -> tuple[float, float]:
    """Cells a second while so many run, and the least time that these slots need, as a part of what they took."""
    pool = Simulated(SLOTS, mean)
    took = seconds(lambda: made(folder, pool).run(grid(count), report=lambda results: None, argv=[]))
    return count / took, least(pool.lengths) / took


def least(lengths: list[float]) -> float:
    """When the last cell ends, if each begins as soon as a slot is free, in this order."""
    free = [0.0] * SLOTS
    for length in lengths:
        heapq.heapreplace(free, free[0] + length)
    return max(free)


def exponent(points: list[tuple[int, float]]) -> float:
    """The slope of the last two decades on a log-log picture."""
    (first, low), (last, high) = points[-3], points[-1]
    return math.log(high / low) / math.log(last / first)


def measured(python: str, name: str, size: int) -> float:
    """One measurement in a fresh interpreter."""
    command = [python, __file__, name, str(size)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def section(python: str, picture: Path) -> list[str]:
    """The lines of the page about scale; the picture is written to its file."""
    found = {name: [(n, measured(python, name, n)) for n in SIZES if n <= most] for name, (_, most) in WORKS.items()}
    draw(found, picture)
    head = [
        f"![cost as the work grows]({picture.name})",
        "",
        "| work | " + " | ".join(f"{n:,}" for n in SIZES) + " | exponent |",
    ]
    rows = [
        f"| {name} | " + " | ".join([*(f"{took:.3g} s" for _, took in points), *[""] * (len(SIZES) - len(points))])
        + f" | {exponent(points):.2f} |"
        for name, points in found.items()
    ]  # fmt: skip
    loop = ["", f"| mean length of a cell, {SLOTS:,} slots | cells a second | of the ideal |", "|---|---|---|"]
    for mean in LENGTHS:
        with tempfile.TemporaryDirectory(dir=".") as folder:
            rate, part = driven(folder, 5_000 if mean else 3_000, mean)
        loop.append(f"| {mean:g} s | {rate:.0f} | {part:.0%} |" if mean else f"| none | {rate:.0f} | |")
    return [*head, "|---|" + "---|" * (len(SIZES) + 1), *rows, *loop]


def draw(found: dict[str, list[tuple[int, float]]], picture: Path) -> None:
    """Draw seconds over cells."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "pyexp"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 4))
    for name, points in found.items():
        axes.loglog(*zip(*points, strict=True), marker="o", label=name)
    axes.set_xlabel("cells")
    axes.set_ylabel("seconds")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(picture, metadata={"Date": None}, bbox_inches="tight")


def main() -> None:
    if len(sys.argv) == 1:
        with tempfile.TemporaryDirectory(dir=".") as folder:
            print("\n".join(section(sys.executable, Path(folder) / "scale.svg")))
        return
    work, _ = WORKS[sys.argv[1]]
    print(work(os.path.abspath(tempfile.mkdtemp(dir=".")), int(sys.argv[2])))


if __name__ == "__main__":
    main()
