"""A run on terminals of 40 and 200 columns, and without one: nothing buries the failure, and counts agree."""

import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyexp.configs import frozen_map
from pyexp.look import progress
from pyexp.look.folding import LEAST_ERROR, failure_line, plan_for_stdout
from pyexp.look.progress import LEAST_BAR, WIDEST_BAR, heartbeat, is_due, status_line
from pyexp.plan import Mode, cells_of, plan
from pyexp.results import labels, record_of
from pyexp.sweep import grid_of
from pyexp.testing import configs
from pyexp.text import display_width, ends
from pyexp.worker.outcome import failed
from tests.look.outside import ESCAPE, on_terminal, variables

#: Two cells, a failure and 497 more; with `wait`, what comes after the first cell waits for long.
MANY = """
import time
import pyexp

@pyexp.experiment(name="many", durable=False, timestamp="t")
def many(config):
    time.sleep(config.wait if config.i else 0)
    if config.i == 2:
        raise ValueError("diverged because of a learning rate that was too large by far, as it turned out")
    return {"loss": config.i / 7, "accuracy": config.i * 2, "a_long_name_of_an_output": 1, "another_long_name": 2}

if __name__ == "__main__":
    many.run(configs=[{"name": f"cell{i}", "i": i, "wait": 0} for i in range(500)])
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "many.py").write_text(MANY)
    return tmp_path


def typed(*words: str) -> list[str]:
    return [sys.executable, "many.py", *words]


@pytest.mark.parametrize("columns", [40, 200])
def test_one_failure_of_500_cells_is_in_sight_and_the_table_fits(folder: Path, columns: int) -> None:
    seen = ESCAPE.sub("", on_terminal(folder, columns=columns, words=typed("-x")))
    lines = seen[seen.rindex("ran 3 cells") :].splitlines()
    assert len(lines) <= 32
    assert re.search(r"  cell2: ValueError: diverged .* \(many\.py:9 in many\)\n +log: out/", seen)
    table = lines[next(at for at, line in enumerate(lines) if line.startswith("name")) :]
    assert all(len(line) <= columns for line in table)
    assert ("another_long_name" in table[0]) == (columns == 200)
    (fold,) = (line for line in table if line.startswith("…"))
    assert fold == "… 484 more (484 new); -v shows all"
    assert table[-1] == "500 cells: 2 done, 1 failed, 497 new"
    assert "cell499  new" in table
    if columns == 200:  # at 40 it is the case of this one
        whole = ESCAPE.sub("", on_terminal(folder, columns=columns, words=typed("-v", "--report")))
        assert len(whole.splitlines()) == 502
        planned = on_terminal(folder, columns=columns, words=typed("-n")).splitlines()
        assert len(planned) == 18
        assert planned[11] == "… 484 more (484 run); -v shows all"


@pytest.mark.parametrize("columns", [40, 200])
def test_the_display_fits_and_what_is_left_at_ctrl_c_is_what_it_has_shown(folder: Path, columns: int) -> None:
    words = typed("wait=600", "-j", "3", "--grace", "0")
    seen = on_terminal(folder, columns=columns, words=words, interrupt=r"1/500.*3 running")
    frames = [line for line in ESCAPE.sub("\n", seen).splitlines() if "500  " in line or re.search(r"\d s  cell", line)]
    assert all(display_width(frame) <= columns for frame in frames)
    assert any(re.search(r"\d s  cell3$", frame) for frame in frames)
    shown = [re.search(r"(\d+)/500  .*?(\d+) left", frame) for frame in frames]
    left = [int(found[2]) for found in shown if found][-1]
    said = re.search(r"interrupted by Ctrl-C; (\d+) of 500 cells are\s+left", seen.replace("\n", " "))
    assert said
    assert int(said[1]) == left == 499


@given(st.data(), st.integers(40, 200), st.floats(0, 1e6))
def test_the_status_line_fits_and_its_counts_add_up(data: st.DataObject, width: int, seconds: float) -> None:
    total = data.draw(st.integers(1, 99_999))
    done = data.draw(st.integers(0, total))
    failures = data.draw(st.integers(0, total - done))
    running = data.draw(st.integers(0, total - done - failures))
    bar, text = status_line(done, failures, running, total, seconds=seconds, width=width)
    assert bar + bool(bar) + len(text) <= width
    assert bar == 0 or LEAST_BAR <= bar <= WIDEST_BAR
    assert text.startswith(f"{done + failures}/{total}  ")
    counted = {word: int(number) for number, word in re.findall(r"(\d+) (done|failed|left|running)", text)}
    said = {"done": done, "failed": failures, "left": total - done, "running": running}
    assert counted.items() <= said.items()
    assert ("failed" in counted) == bool(failures)
    assert width < 100 or counted == {word: number for word, number in said.items() if number}


@given(st.text(), st.text(max_size=300), st.integers(20, 200))
def test_a_failure_is_a_line_that_fits_with_its_frame(name: str, message: str, width: int) -> None:
    def fail() -> None:
        raise ValueError(message)

    try:
        fail()
    except ValueError as error:
        record = record_of("c", {}, "abc", failed(error), seconds=1.0)
    line = failure_line("[1/2] c failed", " after 1.0 s", record, width)
    assert line.isprintable()
    assert line.startswith("[1/2] c failed")
    assert line.endswith(" in fail)")
    frame = line[line.rindex(" (") :]
    assert display_width(line) <= max(width, len("[1/2] c failed: ") + LEAST_ERROR + len(frame))
    assert display_width(failure_line("[1/2] c failed", " after 1.0 s", record, None)) >= display_width(line)


@given(st.integers(0, 1000), st.integers(1, 100))
def test_the_ends_of_a_table_do_not_overlap_and_what_is_between_is_the_rest(size: int, height: int) -> None:
    head, last = ends(size, height)
    assert [*head, *last] == sorted({*head, *last} & {*range(size)})
    assert len(head) + len(last) == min(size, max(height - 8, 12))


@given(st.dictionaries(st.text("abc", min_size=1), st.floats(0, 1e5), max_size=20), st.integers(0, 3), st.data())
def test_a_heartbeat_names_the_cells_their_times_and_their_processes(
    since: dict[str, float], waiting: int, data: st.DataObject
) -> None:
    running = {f"{name}-hash": (name, start) for name, start in since.items()}
    known = data.draw(st.sets(st.sampled_from(sorted(running)))) if running else set()
    holders: Mapping[str, str] = {folder: f"(process {at} on host)" for at, folder in enumerate(sorted(known))}
    line = heartbeat(3, 30, running, holders, waiting=waiting, now=1e5)
    assert line.startswith("[3/30] ")
    shown = list(running)[: progress.MOST_RUNNING]
    for folder in shown:
        name, start = running[folder]
        told = f" {name} for {progress.span(1e5 - start)}"
        assert (f"{told} {holders[folder]}" if folder in holders else told) in line
    assert (f"and {len(running) - len(shown)} more" in line) == (len(running) > len(shown))
    assert ("waiting for" in line) == (not running and waiting > 0)


@given(st.floats(0, 1e6), st.floats(0, 1e6))
def test_a_heartbeat_is_due_after_a_minute(now: float, last: float) -> None:
    assert is_due(now, last) == (now - last >= 60)


def test_without_a_terminal_a_line_tells_each_minute_which_cells_run(folder: Path) -> None:
    """The minute is made shorter by the script, which finds the constant."""
    shorter = "import pyexp.look.progress as progress\nprogress.HEARTBEAT = 0.3\n"
    text = MANY.replace("import pyexp\n", f"import pyexp\n{shorter}", 1).replace("range(500)", "range(2)")
    (folder / "many.py").write_text(text)
    done = subprocess.run(
        typed("wait=1.5", "-j", "2"), cwd=folder, env=variables(), capture_output=True, text=True, check=True
    )
    assert re.search(r"^\[1/2\] running: cell1 for \d\.\d s \(process \d+ on \S+\)$", done.stderr, re.M)
    quiet = subprocess.run(typed("-q", "wait=1.5"), cwd=folder, env=variables(), capture_output=True, check=True)
    assert quiet.stderr == b""


@given(st.lists(configs(), min_size=1, max_size=5, unique_by=repr), st.data())
def test_cells_without_a_name_are_called_by_what_varies(found: list[dict[str, object]], data: st.DataObject) -> None:
    named = [{**config, "name": data.draw(st.sampled_from(["", "a", "b"]))} for config in found]
    records = [record_of(str(c["name"]), pmap_of(c), f"hash{i}", {"status": "done"}) for i, c in enumerate(named)]
    told = labels(records)
    assert all(label for label in told)
    names = [record.name for record in records]
    for label, name in zip(told, names, strict=True):
        assert label == name if name and names.count(name) == 1 else label.startswith(name)
    assert labels(records[:0]) == []


def test_cells_of_one_name_are_told_apart_by_what_varies() -> None:
    cells = [{"name": "a", "x": 1, "y": 0}, {"name": "a", "x": 2, "y": 0}, {"name": "b", "x": 3}]
    records = [record_of(c["name"], pmap_of(c), f"hash{i}", {"status": "done"}) for i, c in enumerate(cells)]
    unknown = record_of("a", frozen_map({"name": "a"}), "hash4", {"status": "done"})
    assert labels([*records, unknown]) == ["a (x=1)", "a (x=2)", "b", "a"]
    assert labels([records[0], records[2], unknown]) == ["a", "b", "a"]
    assert labels([records[0], records[0]]) == ["a", "a"]


def pmap_of(config: Mapping[str, object]) -> object:
    (cell,) = grid_of([dict(config)])
    return cell


def test_the_keys_that_vary_are_in_the_plan_the_table_and_the_lines(tmp_path: Path) -> None:
    alike = MANY.replace('f"cell{i}"', '"twin" if i > 2 else ""').replace("range(500)", "range(5)")
    (tmp_path / "many.py").write_text(alike.replace('"wait": 0', '"wait": 0, "mlp": {"width": 8 if i else 9}'))

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(typed(*words), cwd=tmp_path, env=variables(), capture_output=True, text=True, check=True)

    planned = run("-n").stdout
    assert re.search(r"^run +unnamed-\w+  i=1, mlp\.width=8  \(new\)$", planned, re.M)
    assert re.search(r"^run +twin-\w+  twin \(i=4\)  \(new\)$", planned, re.M)
    done = run()
    assert "[1/5] i=0, mlp.width=9 done in" in done.stderr
    assert "[3/5] i=2, mlp.width=8 failed after" in done.stderr
    assert "[5/5] twin (i=4) done in" in done.stderr
    assert re.search(r"^  i=2, mlp\.width=8: ValueError", done.stderr, re.M)
    assert re.search(r"^i=1, mlp\.width=8 +0\.14", done.stdout, re.M)
    shown = subprocess.run(
        [sys.executable, "-m", "pyexp", "show", "out/many/t"],
        cwd=tmp_path,
        env=variables(),
        capture_output=True,
        check=True,
    ).stdout.decode()
    assert re.search(r"^  i=2, mlp\.width=8: ValueError", shown, re.M)
    assert "unnamed" not in shown


def test_what_is_folded_only_on_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    made = plan(cells_of(grid_of([{"name": f"c{i}"} for i in range(50)])), {}, Mode.RUN)
    assert plan_for_stdout(made, "") == str(made)
