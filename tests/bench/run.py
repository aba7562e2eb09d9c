"""Time pyexp beside its peers and beside the limit of each work, in one run, in turn, and write the table.

    python tests/bench/run.py                 print the table
    python tests/bench/run.py --write         and write it to docs/reference/performance.md
    python tests/bench/run.py --only noop_fork sweep_walk --rounds 9

Contestants run in an environment of their own (.venv-bench, made at the first run). Each figure is the median of its
rounds; in a round every contestant of a work runs once, one after the other, so that a machine that slows down slows
all of them. Ratios are to be trusted, single figures are this machine's.
"""

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import page
from works import UNITS, WORKS, Work

HERE = Path(__file__).resolve().parent
TOP = HERE.parents[1]
PEERS = (
    "exca",
    "hydra-core",
    "joblib",
    "matplotlib",
    "numpy",
    "pandas",
    "sacred",
    "scikit-learn",
    "setuptools<82",  # for sacred 0.8.7, which imports pkg_resources, gone from 82 on, and does not ask for it
    "signac",
    "submitit",
    "xarray",
    "xyzpy",
)


def environment() -> str:
    """The interpreter of the contestants' environment, made if it is not there, or made for other peers."""
    folder = TOP / ".venv-bench"
    python, made_for = folder / "bin" / "python", folder / "peers.txt"
    if not made_for.exists() or made_for.read_text() != "\n".join(PEERS):
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", "-e", str(TOP), *PEERS], check=True)
        made_for.write_text("\n".join(PEERS))
    # Where Python must not write what it compiles, each start would compile anew what was edited since.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    subprocess.run([str(python), "-m", "compileall", "-q", str(TOP / "pyexp"), str(HERE)], check=True)
    return str(python)


def contestants(work: Work) -> list[Path]:
    """The contestants that do the work."""
    found = sorted((HERE / "contestants").glob("*.py"))
    return [path for path in found if f"\ndef {work.name}(" in path.read_text()]


def figure(python: str, contestant: Path, work: Work, place: str) -> float:
    """One measurement, in seconds, in a new folder at this place; not a number where the contestant cannot do it."""
    command = [python, str(contestant), work.name, str(work.count)]
    folder = tempfile.mkdtemp(dir=place)
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600, check=False)
    try:
        return float(done.stdout.split()[-1])
    except (IndexError, ValueError):
        sys.stderr.write(f"{contestant.stem} cannot do {work.name}: {done.stderr.strip()[-200:]}\n")
        return float("nan")


def measured(python: str, work: Work, rounds: int, place: str) -> dict[str, float]:
    """The median figure of each contestant, by its name."""
    paths = contestants(work)
    figures: dict[str, list[float]] = {path.stem: [] for path in paths}
    for _ in range(rounds):
        for path in paths:
            figures[path.stem].append(figure(python, path, work, place))
    return {name: statistics.median(found) for name, found in figures.items()}


def row(work: Work, figures: dict[str, float]) -> str:
    """The table's row for a work."""
    unit = UNITS[work.unit]
    limit, ours = figures["limit"], figures["pyexp_"]
    peers = {name: value for name, value in figures.items() if name not in ("limit", "pyexp_") and value == value}
    best = min(peers, key=lambda name: peers[name], default=None)
    beside = "" if best is None else f"{best.removesuffix('_')} {peers[best] / unit:.3g}"
    ratio = "" if best is None else f"{ours / peers[best]:.2f}"
    return (
        f"| {work.title} | {limit / unit:.3g} {work.unit} | {ours / unit:.3g} {work.unit} | {ours / limit:.2f} "
        f"| {beside} | {ratio} | {work.goal} | {verdict(work, ours, limit)} |"
    )


def verdict(work: Work, ours: float, limit: float) -> str:
    """Whether the goal is met."""
    if not work.goal:
        return ""
    if work.goal.endswith("x"):
        return "yes" if ours / limit <= float(work.goal[:-1]) else "no"
    amount, unit = work.goal.split()
    return "yes" if ours <= float(amount) * UNITS[unit] else "no"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="*", default=[work.name for work in WORKS])
    parser.add_argument("--place", default=None, help="a folder on the disk that is to be measured")
    parser.add_argument("--write", action="store_true")
    wanted = parser.parse_args()
    python = environment()
    head = (
        f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"{platform.system()}, medians of {wanted.rounds}\n\n"
        "| work | limit | pyexp | ratio to limit | best peer | ratio to it | goal | met |\n"
        "|---|---|---|---|---|---|---|---|"
    )
    print(head)
    rows = []
    with tempfile.TemporaryDirectory(dir=wanted.place) as place:
        for work in (work for work in WORKS if work.name in wanted.only):
            rows.append(row(work, measured(python, work, wanted.rounds, place)))
            print(rows[-1], flush=True)
    if wanted.write:
        page.write("table", [head, *rows])
        with tempfile.TemporaryDirectory(dir=wanted.place) as place:
            page.write("scale", scale_section(python, place))


def scale_section(python: str, place: str) -> list[str]:
    """What the page says about scale, measured with that interpreter at this place; the picture is put beside it."""
    code = "import pathlib, scale, sys; print(*scale.section(sys.executable, pathlib.Path(sys.argv[1])), sep=chr(10))"
    command = [python, "-c", code, str(page.PAGE.with_name("scale.svg"))]
    environment = {**os.environ, "PYTHONPATH": str(HERE)}
    return subprocess.run(
        command, check=True, capture_output=True, text=True, env=environment, cwd=place
    ).stdout.splitlines()


if __name__ == "__main__":
    main()
