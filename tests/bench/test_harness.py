"""The benchmarks still do what they say: every work of pyexp and of the limit, a few times; no time is looked at."""

import math
import subprocess
import sys
from pathlib import Path

import pytest
from scale import WORKS as SCALES
from scale import driven, exponent
from works import WORKS

HERE = Path(__file__).parent
pytestmark = pytest.mark.bench


def figure(*command: str, folder: Path) -> float:
    done = subprocess.run([sys.executable, *command], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return float(done.stdout.split()[-1])


@pytest.mark.parametrize("contestant", ["limit", "pyexp_"])
@pytest.mark.parametrize("work", [work.name for work in WORKS])
def test_a_work_gives_a_figure(tmp_path: Path, contestant: str, work: str) -> None:
    count = 10_000 if "walk" in work else 200 if "select" in work else 4
    assert math.isfinite(figure(str(HERE / "contestants" / f"{contestant}.py"), work, str(count), folder=tmp_path))


def test_every_contestant_of_the_study_gives_a_figure() -> None:
    pytest.importorskip("sklearn")
    command = [sys.executable, str(HERE / "study.py"), "--rounds", "1", "--count", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    rows = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    assert len(rows) == 1 + 2 * 7 + 2 + 2 + 2


@pytest.mark.parametrize("work", SCALES)
def test_a_work_of_any_size_gives_a_figure(tmp_path: Path, work: str) -> None:
    assert figure(str(HERE / "scale.py"), work, "100", folder=tmp_path) > 0


def test_the_loop_is_never_faster_than_its_slots(tmp_path: Path) -> None:
    rate, part = driven(str(tmp_path), 300, 0.05)
    assert rate > 0
    assert 0 < part <= 1


def test_the_exponent_of_a_line_is_one() -> None:
    assert exponent([(10, 0.1), (100, 1.0), (1000, 10.0)]) == pytest.approx(1.0)
