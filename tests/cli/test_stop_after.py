"""`--stop-after`: no cell begins too late, those that run finish, and the exit says how to go on."""

from pathlib import Path

import pytest
from scripts import go, ran, write

#: Cells that run until the time for new ones is over, as one that begins too late would show.
_SCRIPT = """
import time
import pyexp

@pyexp.experiment(name="e", durable=False)
def experiment(config):
    with open("ran.txt", "a") as ran:
        ran.write(config.name + chr(10))
    time.sleep(2.5 if config.name in ("a", "b") else 0)
    if config.name == "b":
        raise ValueError("diverged")
    return config.name

if __name__ == "__main__":
    experiment.run(configs=[{"name": name} for name in "abcd"],
                   report=lambda results: print(*[result.record.type or result.value for result in results]))
"""


@pytest.mark.parametrize("executor", ["subprocess", "fork"])
def test_no_cell_begins_too_late_and_those_that_run_finish(tmp_path: Path, executor: str):
    write(tmp_path, _SCRIPT)
    stop = ("--stop-after", "2", "--executor", executor, "-j", "2", "--retries", "3")
    done = go(tmp_path, *stop, "--timestamp", "t")
    assert sorted(ran(tmp_path)) == ["a", "b"]
    assert list(tmp_path.glob("out/e/t/b-*/record.json"))  # it has failed, and is not tried again
    assert done.returncode == 75
    assert done.stdout == ""
    assert "no new cell begins after 2 s; those that run may finish" in done.stderr
    words = f"stopped after 2 s; 3 of 4 cells are left; to go on: python main.py --executor {executor} -j 2"
    assert done.stderr.count("1 of 4 cells failed:\n  b: ValueError") == 1
    assert words in done.stderr.splitlines()[-1]
    assert done.stderr.splitlines()[-1].endswith("--stop-after 2.0 --retries 3 --timestamp t")
    again = go(tmp_path, "--timestamp", "t")
    assert (again.returncode, again.stdout) == (0, "a ValueError c d\n")
    assert sorted(ran(tmp_path)) == ["b", "c", "d"]


def test_a_run_that_ends_in_time_ends_as_ever(tmp_path: Path):
    write(tmp_path, _SCRIPT)
    done = go(tmp_path, "--stop-after", "1000", "-k", "[cd]")
    assert (done.returncode, done.stdout) == (0, "c d\n")
    late = go(tmp_path, "--stop-after", "0.000001", "-k", "[cd]", "--continue")
    assert (late.returncode, late.stdout) == (0, "c d\n")  # nothing was left to begin


def test_a_run_does_not_wait_for_the_cells_of_others_when_it_is_late(tmp_path: Path):
    from pyexp.store import claims

    write(tmp_path, _SCRIPT)
    assert go(tmp_path, "--timestamp", "t", "-k", "c").returncode == 0
    (folder,) = (tmp_path / "out/e/t").glob("c-*")
    held = claims.claim(str(tmp_path / "out/e/t/.claims"), folder.name)
    assert held is not None
    (folder / "result.pkl").unlink()
    (folder / "record.json").unlink()
    waited = go(tmp_path, "--timestamp", "t", "--stop-after", "1", "-k", "c")
    held.release()
    assert waited.returncode == 75
    assert "stopped after 1 s; 1 of 1 cell are left" in waited.stderr


def test_in_a_program_it_is_the_error_of_ctrl_c(tmp_path: Path):
    text = _SCRIPT.replace("    experiment.run(", "    try:\n     experiment.run(argv=[], stop_after=1e-6, ")
    write(tmp_path, text + "    except KeyboardInterrupt as error:\n     print('stopped:', error, error.status)\n")
    done = go(tmp_path)
    assert done.stdout.startswith("stopped: stopped after 1e-06 s; 4 of 4 cells are left; to go on: python main.py")
    assert done.stdout.endswith(" 75\n")
    assert ran(tmp_path) == []
