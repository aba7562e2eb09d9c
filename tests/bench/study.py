"""Time the default executor on real work beside multiprocessing, in one run, in turn, and print the table.

    python tests/bench/study.py
    python tests/bench/study.py --only study_1 study_2 --skip fresh spawn

It takes seven minutes, and three without `fresh` and `spawn`, which import scikit-learn for each cell. Scripts run in
the interpreter that runs this, if scikit-learn is there, else in the environment of `run.py`, always with this
checkout's pyexp, and with one thread each. Each figure is the median of its rounds; in a round every contestant of a
work runs once, one after the other. Ratios are to the contestant marked with a star; if two are, to the faster.

The study is timed from outside, from the start of the interpreter to its end. For the other cells, the figure is the
mean time from the start of one to the start of the next: what the start of a run costs is in the study.
"""

import argparse
import importlib.util
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from run import TOP, environment, verdict
from works import UNITS, Work

#: What every script of the study begins with: 18 cells that compute for 2.2 s in one process.
STUDY = """
from itertools import product

from sklearn.datasets import load_digits
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.svm import SVC

GRID = list(product((1.0, 3.0, 10.0), (0.0005, 0.001, 0.002), (0, 1)))[:{count}]

def accuracy(C, gamma, seed):
    x, y = load_digits(return_X_y=True)
    folds = StratifiedKFold(3, shuffle=True, random_state=seed)
    return cross_val_score(SVC(C=C, gamma=gamma), x, y, cv=folds).mean()

def check(accuracies):
    assert len(accuracies) == len(GRID) and min(accuracies) > 0.9
"""

PYEXP = """
import os
import time

import pyexp
{top}
@pyexp.experiment(name="m", executor={executor}, jobs={jobs}, durable={durable})
def experiment(config):
    {body}

@experiment.configs
def configs():
    return [{{"name": f"c{{i}}", "i": i}} for i in range({count})]

@experiment.report
def report(results):
    {report}

if __name__ == "__main__":
    experiment.run()
"""

PROCESSES = """
import multiprocessing
from multiprocessing.connection import wait
{top}
def cell(queue, config):
    queue.put(accuracy(*config))

def process_each(context):
    queue, running = context.SimpleQueue(), {{}}
    for config in GRID:
        while len(running) == {jobs}:
            for sentinel in wait(running):
                running.pop(sentinel).join()
        process = context.Process(target=cell, args=(queue, config))
        process.start()
        running[process.sentinel] = process
    for process in running.values():
        process.join()
    return [queue.get() for _ in GRID]

def pool(context):
    with context.Pool({jobs}, maxtasksperchild=1) as pool:
        return pool.starmap(accuracy, GRID, chunksize=1)

if __name__ == "__main__":
    context = multiprocessing.get_context({method!r})
    if {method!r} == "forkserver":
        context.set_forkserver_preload(["sklearn.datasets", "sklearn.model_selection", "sklearn.svm"])
    check({way}(context))
"""

#: An interpreter that holds what a script of pyexp holds, and forks.
BARE_FORK = """
import os
import time

import pyexp
{top}
pyexp.experiment(name="m")(lambda config: None)

if __name__ == "__main__":
    began = time.monotonic()
    for _ in range({count}):
        pid = os.fork()
        if not pid:
            os._exit(0)
        os.waitpid(pid, 0)
    print((time.monotonic() - began) / {count})
"""

OURS, FRESH = "pyexp subprocess", "pyexp fresh"
EXECUTORS = {
    OURS: "'subprocess'",
    "pyexp fork": "'fork'",
    FRESH: "pyexp.SubprocessExecutor(fresh=True)",
}
#: The start method of each contestant, and the function of the script that runs a process for each cell.
PEERS = {
    "multiprocessing forkserver*": ("forkserver", "process_each"),
    "multiprocessing forkserver, Pool*": ("forkserver", "pool"),
    "multiprocessing fork": ("fork", "process_each"),
    "multiprocessing spawn": ("spawn", "process_each"),
}
FAILED = float("nan")
STARTS = "began = sorted(cell['began'] for cell in results); print((began[-1] - began[0]) / (len(began) - 1))"
ASLEEP = "open(f'asleep{config.i}', 'w').close()\n    while not os.path.exists('woken'): time.sleep(0.05)"


def seconds(command: list[str], folder: Path, count: int) -> float:
    """Wall time of the whole process."""
    began = time.monotonic()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600, check=False)
    took = time.monotonic() - began
    return took if done.returncode == 0 else failed(done.stderr)


def printed(command: list[str], folder: Path, count: int) -> float:
    """The figure that the script prints last."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600, check=False)
    return float(done.stdout.split()[-1]) if done.returncode == 0 else failed(done.stderr)


def overhead(command: list[str], folder: Path, count: int) -> float:
    """What the printed figure is above the 0.1 s of a cell."""
    return printed(command, folder, count) - 0.1


def memory(command: list[str], folder: Path, count: int) -> float:
    """Proportional set size in bytes, of the run and of all its descendants, while so many cells sleep."""
    with open(folder / "log", "w") as log, subprocess.Popen(command, cwd=folder, stdout=log, stderr=log) as run:
        while run.poll() is None and len(list(folder.glob("asleep*"))) < count:
            time.sleep(0.05)
        found = sum(map(proportional_set_size, descendants(run.pid)))
        (folder / "woken").touch()
    return found if run.returncode == 0 else failed((folder / "log").read_text())


def descendants(top: int) -> set[int]:
    """The process and all that it has started, as far as their parents live."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended meanwhile
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    found = {top}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def proportional_set_size(pid: int) -> int:
    """Bytes of a process, where n processes share a page an nth of it; 0 if it has ended."""
    with suppress(OSError), open(f"/proc/{pid}/smaps_rollup") as lines:
        return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("Pss:"))
    return 0


def failed(why: str) -> float:
    """Say on stderr why there is no figure."""
    sys.stderr.write(f"no figure: {why.strip()[-500:]}\n")
    return FAILED


@dataclass(frozen=True, slots=True)
class Contest:
    """A work, how a figure is got from a script, and the script of each contestant, pyexp's default first."""

    work: Work
    measure: Callable[[list[str], Path, int], float]
    scripts: dict[str, str]


def script(name: str, work: Work, body: str, **more: object) -> str:
    """The script of one of pyexp's executors."""
    values = {"top": "", "jobs": 1, "durable": True, "report": STARTS, **more}
    return PYEXP.format(executor=EXECUTORS[name], count=work.count, body=body, **values)


def study(work: Work, jobs: int) -> Contest:
    """The 18 cells, so many at a time."""
    top = STUDY.format(count=work.count)
    body = "return {'accuracy': accuracy(*GRID[config.i])}"
    report = "check([cell['accuracy'] for cell in results])"
    ours = {name: script(name, work, body, top=top, jobs=jobs, report=report) for name in EXECUTORS}
    peers = {
        name: PROCESSES.format(top=top, jobs=jobs, method=method, way=way) for name, (method, way) in PEERS.items()
    }
    return Contest(work, seconds, ours | peers)


def contests(count: int | None) -> list[Contest]:
    """All that is measured, with so many cells in each, if the number is given."""
    study_1, study_2, bare, loaded, noop, asleep = (
        replace(work, count=count or work.count)
        for work in (
            Work("study_1", "18 cells of scikit-learn, one at a time", "s", "1.15x", 18),
            Work("study_2", "18 cells of scikit-learn, 2 at a time", "s", "1.15x", 18),
            Work("overhead", "overhead on cells of 100 ms, no import", "ms", "5 ms", 40),
            Work("overhead_loaded", "overhead on cells of 100 ms, scikit-learn imported", "ms", "5 ms", 40),
            Work("noop", "no-op cell, scikit-learn imported, not synced", "ms", "1.5x", 200),
            Work("memory", "8 cells at a time, scikit-learn imported: memory of all processes", "MB", "", 8),
        )
    )
    nothing = "return {'began': time.monotonic()}"
    sleep = "began = time.monotonic(); time.sleep(0.1); return {'began': began}"
    top = STUDY.format(count=18)
    return [
        study(study_1, 1),
        study(study_2, 2),
        Contest(bare, overhead, {OURS: script(OURS, bare, sleep)}),
        Contest(loaded, overhead, {OURS: script(OURS, loaded, sleep, top=top)}),
        Contest(
            noop,
            printed,
            {
                OURS: script(OURS, noop, nothing, top=top, durable=False),
                "bare fork*": BARE_FORK.format(top=top, count=noop.count),
            },
        ),
        Contest(
            asleep,
            memory,
            {
                name + star: script(name, asleep, ASLEEP, top=top, jobs=asleep.count, report="pass")
                for name, star in ((OURS, ""), (FRESH, "*"))
            },
        ),
    ]


def measured(contest: Contest, rounds: int, skip: list[str], python: str, place: str) -> dict[str, float]:
    """The median figure of each contestant, by its name, without those whose last word is to be skipped."""
    scripts = {name: text for name, text in contest.scripts.items() if name.rstrip("*").split()[-1] not in skip}
    figures: dict[str, list[float]] = {name: [] for name in scripts}
    for _ in range(rounds):
        for name, text in scripts.items():
            folder = Path(tempfile.mkdtemp(dir=place))
            (folder / "main.py").write_text(text)
            figures[name].append(contest.measure([python, "main.py"], folder, contest.work.count))
    return {name: statistics.median(found) for name, found in figures.items()}


def rows(work: Work, figures: dict[str, float]) -> list[str]:
    """The table's rows for a work: one for each contestant that has a figure, the default with the goal."""
    beside = min((value for name, value in figures.items() if name.endswith("*") and value == value), default=FAILED)
    return [
        f"| {work.title} | {name} | {float(f'{value / UNITS[work.unit]:.3g}'):g} {work.unit} "
        f"| {'' if beside != beside else f'{value / beside:.2f}'} "
        + (f"| {work.goal} | {verdict(work, value, beside)} |" if name == OURS else "| | |")
        for name, value in figures.items()
        if value == value
    ]


def prepare() -> str:
    """The interpreter of the scripts. What they inherit from this process is set."""
    python = sys.executable if importlib.util.find_spec("sklearn") else environment()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPATH"] = str(TOP)
    os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))
    return python


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--count", type=int, help="cells in each work")
    parser.add_argument("--only", nargs="*", help="names of works")
    parser.add_argument("--skip", nargs="*", default=[], help="last words of contestants' names")
    wanted = parser.parse_args()
    python = prepare()
    print(
        f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"{platform.system()}, medians of {wanted.rounds}\n\n"
        "| work | contestant | figure | ratio to * | goal | met |\n"
        "|---|---|---|---|---|---|"
    )
    with tempfile.TemporaryDirectory() as place:
        for contest in contests(wanted.count):
            if wanted.only is None or contest.work.name in wanted.only:
                figures = measured(contest, wanted.rounds, wanted.skip, python, place)
                print("\n".join(rows(contest.work, figures)), flush=True)


if __name__ == "__main__":
    main()
