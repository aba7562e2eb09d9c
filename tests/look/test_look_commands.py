"""`python -m pyexp` on a folder that a real run made: ls, show, diff, best, csv."""

import csv
import functools
import io
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pyexp
from pyexp.look.commands import COMMANDS, main
from pyexp.look.screen import NARROWEST, size
from pyexp.text import LEAST, Column, aligned, cut, display_width
from tests.cli.scripts import SCRIPT, go
from tests.look.outside import ESCAPE, copied, look, on_terminal, refused, variables

run = functools.partial(subprocess.run, capture_output=True, text=True, check=True)


def test_the_help_names_every_command_and_imports_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom pyexp.look.commands import parser\nprint(parser().format_help())\n"
        "print([name for name in ('json', 'pyrsistent', 'rich', 'pickle', 'cloudpickle') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=variables(), capture_output=True, text=True, check=True
    )
    assert done.stdout.endswith("\n[]\n")
    assert look(tmp_path).stdout == look(tmp_path, "--help").stdout
    assert look(tmp_path, "--version").stdout == f"pyexp {pyexp.__version__}\n"
    assert all(re.search(rf"^    {command.name} ", done.stdout, re.M) for command in COMMANDS)


def test_ls_lists_the_runs_of_each_experiment(folder: Path, first: Path) -> None:
    done = look(folder, "ls")
    title, head, one, two = done.stdout.splitlines()
    assert (title, done.stderr, done.returncode) == ("out/mnist", "", 0)
    assert head.split() == ["run", "age", "shape", "cells", "took", "commit", "size"]
    assert re.fullmatch(r"  first  +\d+ (s|min)  1×2×3  3 done, 3 failed  +\d+\.\d s +[\d.]+ kB", one)
    assert re.fullmatch(r"  second +\d+ (s|min)  1×2×3  6 done  .*", two)
    ages = re.compile(r"\d+ s ")  # some time has passed
    assert ages.sub("", look(folder, "ls", "out/mnist").stdout) == ages.sub("", done.stdout)
    assert [line.split()[0] for line in look(folder, "ls", first).stdout.splitlines()] == ["out/mnist", "run", "first"]


def test_ls_finds_runs_without_a_level_of_timestamps(folder: Path, first: Path) -> None:
    copied(first, folder / "flat" / "mnist")
    copied(first, folder / "flat" / "mnist" / "t")
    titles = [line for line in look(folder, "ls", "flat").stdout.splitlines() if line.startswith("flat")]
    assert titles == ["flat", "flat/mnist"]


def test_results_of_classes_that_are_elsewhere_are_listed(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "shapes.py").write_text("class Square:\n    pass\n")
    (tmp_path / "there" / "main.py").write_text(
        "import pyexp, shapes\n\n@pyexp.experiment(executor='inline', timestamp='t')\ndef draw(config):\n"
        "    return {'y': 1, 'shape': shapes.Square()}\n\n"
        "if __name__ == '__main__':\n    draw.run(configs=[{'x': 1}])\n"
    )
    run([sys.executable, "main.py"], cwd=tmp_path / "there", env=variables())
    assert "  1 done  " in look(tmp_path, "ls", "there/out").stdout
    assert "1 cell: 1 done\n" in look(tmp_path, "show", "there/out/draw").stdout
    assert "'out' in it has runs" in refused(tmp_path, "ls", "there")


def test_a_run_of_a_newer_pyexp_hides_no_other(folder: Path, first: Path) -> None:
    (first / "run.json").write_text('{"format": 99}')
    lines = look(folder, "ls").stdout.splitlines()
    assert [line.split()[0] for line in lines[2:]] == ["first", "second"]
    assert "upgrade pyexp" in refused(folder, "show", first)
    assert look(folder, "gc").returncode == 0


@pytest.mark.parametrize("columns", [40, 80, 200])
@pytest.mark.parametrize("words", [["ls"], ["show", "out/mnist/first"], ["best", "out/mnist", "accuracy"]])
def test_what_is_listed_fits_the_terminal(folder: Path, words: list[str], columns: int) -> None:
    (folder / "out" / "mnist" / "first").rename(folder / "out" / "mnist" / ("2026-01-01_" + "x" * 60))
    words = [word.replace("first", "2026-01-01_" + "x" * 60) for word in words]
    lines = ESCAPE.sub("", on_terminal(folder, *words, columns=columns)).splitlines()
    assert lines
    assert [line for line in lines if display_width(line) > columns] == []


def test_the_narrowest_list_has_the_name_and_the_counts(folder: Path) -> None:
    seen = ESCAPE.sub("", on_terminal(folder, "ls", columns=40))
    assert "first" in seen
    assert "3 done, 3 failed" in seen


def test_colours_are_for_terminals_that_want_them(folder: Path) -> None:
    assert "\x1b[" in on_terminal(folder, "ls", columns=80)
    assert "\x1b" not in on_terminal(folder, "ls", columns=80, NO_COLOR="1")
    assert "\x1b" not in look(folder, "ls").stdout


def test_a_run_is_shown_with_its_commands_and_its_failures_grouped(folder: Path, first: Path) -> None:
    shown = look(folder, "show", first).stdout
    assert "  lr: 0.1, 1.0\n  seed: 0, 1, 2\n6 cells: 3 done, 3 failed\n" in shown
    assert str(pyexp.load(first)) in shown
    assert re.search(r"\ncommands\n  .*main.py -q --executor inline --timestamp first\n    finished after ", shown)
    assert shown.endswith(
        "failed\n  3 × ValueError: diverged\n      main.py:13 in experiment, first in exp_lr1.0_seed0\n"
    )


def test_a_table_is_folded_on_a_terminal_only(folder: Path, tmp_path: Path) -> None:
    (folder / "many.py").write_text(
        "import pyexp\n\n@pyexp.experiment(name='many', executor='inline', timestamp='t', durable=False)\n"
        "def many(config):\n    assert config.i != 41\n"
        "    return {f'out{k}': config.i * k for k in range(12)}\n\n"
        "if __name__ == '__main__':\n    many.run(configs=[{'name': f'c{i}', 'i': i} for i in range(100)])\n"
    )
    env = variables()
    subprocess.run([sys.executable, "many.py", "-q"], cwd=folder, env=env, check=True, capture_output=True)
    seen = ESCAPE.sub("", on_terminal(folder, "show", "out/many/t", columns=60))
    assert re.search(
        r"\nc0 .*\n(.*\n)*c10 .*\n… 84 more \(83 done, 1 failed\); `\| cat` shows all\nc95 .*\n(.*\n)*c99 ", seen
    )
    assert "too wide: out" in seen
    assert "out0" not in seen.partition("too wide")[0]  # which is the same everywhere
    whole = look(folder, "show", "out/many/t").stdout
    assert all(re.search(rf"^c{i} ", whole, re.M) for i in range(100))
    assert "too wide" not in whole


@pytest.mark.parametrize("columns", [40, 200])
def test_the_table_without_a_report_folds_to_the_terminal(tmp_path: Path, columns: int) -> None:
    (tmp_path / "main.py").write_text(
        "import pyexp\n\n@pyexp.experiment(executor='inline', durable=False)\ndef many(config):\n"
        "    assert config.i != 3, 'a long message ' * 20\n"
        "    return {f'output_{k}': config.i * k for k in range(8)}\n\nif __name__ == '__main__':\n"
        "    print(many.run(configs=[{'name': f'cell_{i}_' + 'x' * 30, 'i': i} for i in range(500)]).shape)\n"
    )
    words = [sys.executable, "main.py", "-q", "--timestamp", "t"]
    seen = ESCAPE.sub("", on_terminal(tmp_path, words=words, columns=columns))
    rows = seen.splitlines()[seen.splitlines().index(next(row for row in seen.splitlines() if row[:4] == "name")) :]
    assert len(rows) < 24
    assert [row for row in rows if display_width(row) > columns] == []
    assert rows[-2:] == ["500 cells: 499 done, 1 failed", "(500,)"]
    assert any(row.startswith("… 484 more") for row in rows)
    assert ("too wide: output_0" in seen) == (columns == 40)
    whole = run([*words, "--report"], cwd=tmp_path, env=variables()).stdout
    assert len(whole.splitlines()) == 1 + 500 + 1 + 1


def test_a_cell_is_shown_by_its_name_hash_glob_or_folder(folder: Path, first: Path) -> None:
    (cell,) = first.glob("exp_lr0.1_seed1-*")
    shown = look(folder, "show", cell).stdout
    assert shown.startswith(f"exp_lr0.1_seed1\nout/mnist/first/{cell.name}\ndone in ")
    assert re.search(r"\nconfig\n  fixed +False\n  lr +0.1\n  mlp.width  8\n", shown)
    assert "\noutputs\n  accuracy  0.99\n  weights   <builtins.list>\n" in shown
    assert shown.endswith("\nend of log.txt\n  hello from exp_lr0.1_seed1\n")
    for word in ("exp_lr0.1_seed1", cell.name[-12:], cell.name[-12:-4], "*0.1*1", cell.name):
        assert look(folder, "show", first, word).stdout == shown, word


def test_a_cell_that_failed_is_shown_with_its_traceback(folder: Path, first: Path) -> None:
    shown = look(folder, "show", first, "exp_lr1.0_seed2").stdout
    assert re.search(r"\nfailed with ValueError: diverged \(main.py:13 in experiment\) after ", shown)
    assert "\ntraceback\n  Traceback (most recent call last):\n" in shown
    assert "\n  ValueError: diverged\n" in shown


def test_a_log_cannot_move_the_cursor(folder: Path, first: Path) -> None:
    (cell,) = first.glob("exp_lr0.1_seed1-*")
    (cell / "log.txt").write_bytes(b"".join(b"line %d\n" % i for i in range(100)) + b"10%\r20%\rend \x1b[2J\xff")
    shown = on_terminal(folder, "show", cell, columns=80, NO_COLOR="1")
    assert "\x1b" not in shown
    assert "line 80" not in shown
    assert "  line 81\n" in shown
    assert shown.endswith("\n  end \\x1b[2J\ufffd\n")


def test_what_is_no_run_or_cell_is_said_in_a_line(folder: Path, first: Path) -> None:
    assert "there is no run at" in refused(folder, "show", "out")
    assert "the experiments in it are 'mnist'" in refused(folder, "show", "out")
    assert refused(folder, "show", ".").endswith("; below it is 'out/mnist'")
    assert "did you mean 'out'?" in refused(folder, "ls", "ouut")
    assert "no output folder" in refused(folder, "ls", "/proc/self/fd")
    assert "did you mean 'exp_lr0.1_seed1'" in refused(folder, "show", first, "exp_lr0.1_sed1")
    assert "matches 3 cells: " in refused(folder, "show", first, "*lr0.1*")
    assert "the outputs are 'accuracy', 'weights'" in refused(folder, "best", first, "loss")
    assert "did you mean 'accuracy'" in refused(folder, "best", first, "acuracy")
    assert "not a scalar" in refused(folder, "best", first, "weights")
    assert "invalid choice" in refused(folder, "lst")


def test_looking_unpickles_nothing(folder: Path, first: Path) -> None:
    bomb = b"cos\nsystem\n(S'touch exploded'\ntR."
    for cell in first.glob("exp_*"):
        (cell / "result.pkl").write_bytes(bomb)
        (cell / "record.json").unlink()
    for words in (["ls"], ["show", first], ["show", first, "*0.1*1"], ["csv", first], ["verify"], ["gc"], ["rm", first],
                  ["diff", first, "out/mnist/second"], ["merge", "other", "out"]):  # fmt: skip
        assert look(folder, *words).returncode in (0, 1, 2), words
    assert not (folder / "exploded").exists()


def test_the_best_cells_come_with_the_keys_that_vary(folder: Path, second: Path) -> None:
    lines = look(folder, "best", second, "accuracy", "-n", "2").stdout.splitlines()
    assert lines[0] == "the 2 largest of 6 values of accuracy"
    assert lines[1].split() == ["name", "accuracy", "lr", "seed"]
    assert [line.split()[:3] for line in lines[2:]] == [[f"exp_lr0.1_seed{i}", "0.99", "0.1"] for i in (0, 1)]
    least = look(folder, "best", second, "accuracy", "--min", "-n", "1").stdout.splitlines()
    assert (least[0], least[2].split()[0]) == ("the 1 least of 6 values of accuracy", "exp_lr1.0_seed0")
    assert look(folder, "best", second.parent / "first", "accuracy").stdout.endswith("left out: 3 failed\n")


def test_the_best_means_come_with_the_number_of_their_values(folder: Path, second: Path) -> None:
    """Also where cells failed, and where the grids of a run are no box."""
    changed = ["fixed=True", "wait=0.001", "+extra=1", "-k", "*seed0"]
    done = go(folder, "-q", "--executor", "inline", "--timestamp", "second", *changed)
    assert done.returncode == 0, done.stderr
    assert "\n  axis_0: exp\n  lr: 0.1, 1.0\n  seed: 0, 1, 2\n12 cells: " in look(folder, "show", second).stdout
    lines = look(folder, "best", second, "accuracy", "--mean", "seed").stdout.splitlines()
    assert lines[0] == "the 4 largest of 4 means of accuracy over seed"
    assert lines[1].split() == ["name", "accuracy", "values", "extra", "lr", "wait"]
    assert sorted(line.split() for line in lines[2:6]) == [
        ["exp_lr0.1_*", "0.99", "3", "0.1", "0.0"],
        ["exp_lr0.1_seed0", "0.99", "1", "1", "0.1", "0.001"],
        ["exp_lr1.0_*", "0.9", "3", "1.0", "0.0"],
        ["exp_lr1.0_seed0", "0.9", "1", "1", "1.0", "0.001"],
    ]
    with pytest.raises(pyexp.SelectionError, match=r"same coordinates, and their configs differ in 'wait', 'extra'; "):
        pyexp.load(second).mean("seed", skipna=True)
    assert pyexp.load(second)[{"config.wait": 0.0}].mean("seed").size == 2
    lines = look(folder, "best", "out/mnist/first", "accuracy", "--mean", "seed").stdout.splitlines()
    assert (lines[0], lines[-1]) == ("the 1 largest of 1 means of accuracy over seed", "left out: 3 failed")
    assert "no axis is named 'sed'; did you mean 'seed'?" in refused(
        folder, "best", second, "accuracy", "--mean", "sed"
    )


def test_nan_has_no_place_in_an_order(folder: Path, tmp_path: Path) -> None:
    code = (
        "import pyexp\n\n@pyexp.experiment(name='odd', executor='inline', timestamp='t', durable=False)\n"
        "def odd(config):\n    return {'y': config.y, 'text': 'a'}\n\n"
        "odd.run(configs=[{'name': f'c{i}', 'y': y} for i, y in enumerate([1, float('nan'), 10**400, None, 2.5])])\n"
    )
    (tmp_path / "odd.py").write_text(code)
    subprocess.run(
        [sys.executable, "odd.py"], cwd=tmp_path, env=variables(), capture_output=True, text=True, check=True
    )
    lines = look(tmp_path, "best", "out/odd", "y").stdout.splitlines()
    assert [line.split()[0] for line in lines[2:5]] == ["c2", "c4", "c0"]
    assert lines[5:] == ["left out: 1 nan, 1 None"]
    assert "it has to be a number" in refused(tmp_path, "best", "out/odd", "text")
    assert "no axis is named 'axis_0'" in refused(tmp_path, "best", "out/odd", "y", "--mean", "axis_0")


def test_the_csv_has_the_columns_of_the_records(folder: Path, first: Path) -> None:
    done = look(folder, "csv", first)
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    records = pyexp.load(first).to_records()
    assert list(rows[0]) == list(records[0])
    for row, record in zip(rows, records, strict=True):
        assert row == {key: "" if value is None else str(value) for key, value in record.items()}


def test_two_cells_differ_in_their_configs_outputs_and_code(folder: Path, first: Path, second: Path) -> None:
    done = look(folder, "diff", *(next(run.glob("exp_lr1.0_seed0-*")) for run in (first, second)))
    assert done.returncode == 1
    assert "\nconfig\n  ~ fixed  False → True\n" in done.stdout
    assert "\nstatus\n  ~ status  failed: ValueError: diverged → done\n" in done.stdout
    assert "\noutputs\n  + accuracy  0.9\n  + weights  <builtins.list>\n" in done.stdout
    assert re.search(r"\ncode\n  ~ command  .*--timestamp first → .*fixed=True\n", done.stdout)
    cell = next(first.glob("exp_lr0.1_seed0-*"))
    again = look(folder, "diff", cell, cell)
    assert (again.returncode, again.stdout.splitlines()[-1]) == (0, "no difference")


def test_two_runs_differ_in_cells_that_are_gone_added_or_changed(folder: Path, first: Path, second: Path) -> None:
    other = copied(first, folder / "out" / "mnist" / "third")
    assert look(folder, "diff", first, other).returncode == 0
    gone, changed = sorted(other.glob("exp_lr0.1_seed[01]-*"))
    shutil.rmtree(gone)
    (changed / "record.json").unlink()
    (changed / "result.pkl").unlink()
    done = look(folder, "diff", first, other)
    assert done.returncode == 1
    assert "cells (4 cells the same in both)" in done.stdout
    assert re.search(r"~ exp_lr0.1_seed0: ~ status  done → new", done.stdout)
    runs = look(folder, "diff", first, second).stdout
    assert runs.count("~ fixed  False → True") == 6
    assert "other content" not in runs  # the same weights, in cells of other hashes


def test_cells_of_one_name_are_paired_once_and_each_is_told_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, numbers in (("a", (1, 2)), ("b", (1, 3, 4)), ("c", (1, 10**5000))):
        made = pyexp.Experiment(lambda config: config.x, name="e", executor="inline", quiet=True, durable=False)
        configs = [{"name": "same", "x": x} for x in numbers]
        made.run(configs, lambda results: None, timestamp=name, output_dir=tmp_path, argv=[])
    assert main(["diff", str(tmp_path / "e" / "a"), str(tmp_path / "e" / "b")]) == 1
    cells = capsys.readouterr().out.partition("cells (1 cell the same in both)\n")[2].splitlines()
    assert re.fullmatch(r"  ~ same: ~ x  2 → [34]; ~ value  2 → [34]", cells[0])
    assert cells[1] == "  + same"
    assert main(["show", str(tmp_path / "e" / "c")]) == 0  # of an int that Python does not spell
    assert "  x: 1, 0x31e2" in capsys.readouterr().out
    assert main(["diff", str(tmp_path / "e" / "a"), str(tmp_path / "e" / "c")]) == 1


def test_cells_of_one_hash_may_have_had_other_defaults(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, default in (("a", 0.0), ("b", 0.5)):
        made = pyexp.Experiment(lambda config: config.x, name="e", executor="inline", defaults={"drop": default})
        made.run([{"name": "x", "x": 1}], lambda results: None, timestamp=name, output_dir=tmp_path, argv=[])
    assert main(["diff", str(tmp_path / "e" / "a"), str(tmp_path / "e" / "b")]) == 1
    assert "\ncells (0 cells the same in both)\n  ~ x: ~ drop  0.0 → 0.5\n" in capsys.readouterr().out


def test_a_reader_that_leaves_ends_it_quietly(folder: Path, first: Path) -> None:
    command = f"set -o pipefail; {sys.executable} -m pyexp csv out/mnist | head -1; echo $?"
    done = run(["bash", "-c", command], cwd=folder, env=variables())
    assert (done.stderr, len(done.stdout.splitlines())) == ("", 2)
    next(first.glob("exp_lr0.1_seed0-*/result.pkl")).write_bytes(b"")
    command = f"{sys.executable} -m pyexp verify >&-; echo $?"
    done = run(["bash", "-c", command], cwd=folder, env=variables())
    assert (done.stderr, done.stdout) == ("", "1\n")


def test_what_is_running_is_followed_to_its_end(tmp_path: Path) -> None:
    waiting = 'import os\n    while not os.path.exists("go"):\n        time.sleep(0.02)\n    time.sleep(config.wait)'
    (tmp_path / "main.py").write_text(SCRIPT.replace("time.sleep(config.wait)", waiting))
    start = functools.partial(
        subprocess.Popen, cwd=tmp_path, env=variables(PYTHONUNBUFFERED="1"), stdout=subprocess.PIPE, text=True
    )
    running = start([sys.executable, "main.py", "-q", "-j", "1", "--timestamp", "t"], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("out/mnist/t/exp_lr0.1_seed0-*/log.txt")) and time.monotonic() < deadline:
        time.sleep(0.02)
    command = [sys.executable, "-m", "pyexp", "show", "-f", "out/mnist/t"]
    run, cell = start(command), start([*command, "exp_lr0.1_seed0"])
    assert run.stdout is not None
    assert cell.stdout is not None
    began = [run.stdout.readline() for _ in range(3)]
    assert began[2] == "0 of 6 cells have ended; running: exp_lr0.1_seed0\n"
    assert cell.stdout.readline() == "  hello from exp_lr0.1_seed0\n"
    busy = look(tmp_path, "show", "out/mnist/t", "exp_lr0.1_seed0").stdout
    assert re.search(r"\nbusy \(process \d+ on .*\), for \d+\.\d s\n", busy)
    assert busy.endswith("\ncoordinates\n  lr    0.1\n  seed  0\n\nend of log.txt\n  hello from exp_lr0.1_seed0\n")
    assert "\n    running, python " in look(tmp_path, "show", "out/mnist/t").stdout
    (tmp_path / "go").touch()
    shown, told = run.communicate(timeout=60)[0], cell.communicate(timeout=60)[0]
    running.communicate(timeout=60)
    assert "\ndone in " in told
    assert "hello" not in told  # twice
    assert re.search(r"^\[\d/6\] exp_lr0.1_seed2 done in ", shown, re.M), shown
    assert re.search(r"\n\[6/6\] exp_lr1.0_seed\d failed after .*: ValueError: diverged", shown)
    assert "6 cells: 3 done, 3 failed\n" in shown
    assert (run.returncode, cell.returncode) == (0, 0)


texts = st.text(st.characters(exclude_categories=["C", "Z"]), max_size=30)


@given(st.integers(NARROWEST, 200), st.data())
def test_a_table_fits_and_says_what_it_left_out(width: int, data: st.DataObject) -> None:
    number = data.draw(st.integers(1, 4))
    columns = [
        Column(f"{i}{data.draw(texts)}", data.draw(st.lists(texts, min_size=number, max_size=number)), rank=i % 3)
        for i in range(data.draw(st.integers(1, 6)))
    ]
    lines, left_out = aligned(columns, width)
    assert all(display_width(line) <= width for line in lines)
    assert len(lines) == number + 1
    assert len(left_out) < len(columns)
    whole, nothing = aligned(columns, None)
    assert nothing == []
    assert all(column.head in whole[0] for column in columns)
    if (
        all(display_width(line) <= width for line in whole)
        and display_width(max(columns[0].cells, key=display_width)) <= LEAST
    ):
        assert set(left_out) <= {column.head for column in columns}


def test_a_table_of_many_columns_is_laid_out_at_once() -> None:
    many = [Column("name", ["x"]), *(Column("y", ["1"]) for _ in range(3000))]
    lines, left_out = aligned(many, 40)
    assert lines == ["name  y  y  y  y  y  y  y  y  y  y  y  y", "x     1  1  1  1  1  1  1  1  1  1  1  1"]
    assert left_out == ["y"] * 2988


@given(st.text(), st.integers(1, 50))
def test_a_text_is_cut_to_the_width_and_no_further(text: str, width: int) -> None:
    shown = cut(text, width)
    assert display_width(shown) <= max(width, 0)
    assert (shown == text) == (display_width(text) <= width)


@given(st.integers(0, 10**15))
def test_a_size_is_read_back_within_its_precision(number: int) -> None:
    amount, unit = size(number).split()
    factor = 1000 ** ["B", "kB", "MB", "GB", "TB"].index(unit)
    assert abs(float(amount) * factor - number) <= max(0.06 * number, 0)
