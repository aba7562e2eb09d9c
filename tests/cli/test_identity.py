"""A run knows which script and which grids it belongs to, and keeps what happened in it."""

import subprocess
import sys
from pathlib import Path

import pytest

import pyexp

SCRIPT = """
import sys
from pyexp import experiment

@experiment(executor="inline")
def trial(config):
    print("in", config.name)
    (config.out / "metrics.csv").open("a").write("line\\n")
    if config.get("fails") and not (config.out.parent / "fixed").exists():
        raise ValueError("no")
    return {"x": config.x, "files": sorted(path.name for path in config.out.iterdir())}

@trial.configs
def configs():
    return CONFIGS

if __name__ == "__main__":
    trial.run()
"""
ONE, TWO = '[{"name": "one", "x": 1}]', '[{"name": "two", "x": 2}]'


def write(folder: Path, name: str = "main.py", configs: str = ONE) -> None:
    (folder / name).write_text(SCRIPT.replace("CONFIGS", configs))


def go(folder: Path, *arguments: str, name: str = "main.py", code: int = 0) -> str:
    command = [sys.executable, name, *arguments]
    done = subprocess.run(command, check=False, cwd=folder, capture_output=True, text=True)
    assert done.returncode == code, (done.stdout, done.stderr)
    return done.stdout + done.stderr


def test_the_latest_run_is_that_of_the_script(tmp_path: Path) -> None:
    write(tmp_path, "a.py", ONE)
    write(tmp_path, "b.py", TWO)
    go(tmp_path, "--timestamp", "of_a", name="a.py")
    go(tmp_path, "--timestamp", "of_b", name="b.py")
    for arguments in (["--continue"], ["--report"], ["--lf"]):
        go(tmp_path, *arguments, name="a.py")
        assert [result.name for result in pyexp.load(tmp_path / "out" / "trial" / "of_b")] == ["two"]
    assert "one" in go(tmp_path, "--report", name="a.py")
    assert "two" in go(tmp_path, "--report", name="b.py")
    profile = [sys.executable, "-m", "cProfile", "-o", "profile", "a.py", "--timestamp", "of_a_too"]
    subprocess.run(profile, check=True, cwd=tmp_path, capture_output=True)
    assert "of_a_too" in go(tmp_path, "--continue", name="a.py")


def test_a_script_without_a_run_is_told_whose_runs_there_are(tmp_path: Path) -> None:
    write(tmp_path, "a.py", ONE)
    write(tmp_path, "b.py", TWO)
    go(tmp_path, "--timestamp", "t", name="b.py")
    told = go(tmp_path, "--continue", name="a.py", code=2)
    assert "was begun by 'a'; its runs were begun by 'b'" in told
    assert "--name" in told
    told = go(tmp_path, "--timestamp", "t", name="a.py", code=2)
    assert told == (
        "error: the run t was begun by 'b', and this is 'a'; "
        "give this experiment another --name, or run both in one with --extend\n"
    )
    go(tmp_path, "--timestamp", "t", "--extend", name="a.py")
    assert [result.name for result in pyexp.load(tmp_path / "out" / "trial" / "t")] == ["two", "one"]
    for name in ("a.py", "b.py"):  # the run is of both now, and of no third
        assert "finished" in go(tmp_path, "--continue", "-n", name=name)
        assert "finished" in go(tmp_path, "--timestamp", "t", "-n", name=name)
    write(tmp_path, "c.py", ONE)
    assert "was begun by 'b'" in go(tmp_path, "--timestamp", "t", name="c.py", code=2)


def test_a_run_without_a_cell_of_the_grid_is_not_continued(tmp_path: Path) -> None:
    write(tmp_path)
    go(tmp_path, "--timestamp", "t")
    write(tmp_path, configs=TWO)
    told = go(tmp_path, "--continue", code=2)
    assert told == (
        "error: the run t has 1 cell, and none of this grid; "
        "begin a new run, or add this grid to it with --timestamp t\n"
    )
    go(tmp_path, "--timestamp", "t")
    assert [result.name for result in pyexp.load(tmp_path / "out" / "trial" / "t")] == ["one", "two"]


@pytest.mark.parametrize("quiet", [[], ["-q"]])
def test_a_misspelt_timestamp_is_said(tmp_path: Path, quiet: list[str]) -> None:
    write(tmp_path)
    assert "note" not in go(tmp_path, "--timestamp", "baseline", *quiet)
    told = go(tmp_path, "--timestamp", "baselin", *quiet)
    assert "note: this begins the new run 'baselin'; did you mean 'baseline'?" in told
    assert "note" in go(tmp_path, "--timestamp", "baselime", "-n", *quiet)
    assert not (tmp_path / "out" / "trial" / "baselime").exists()


def test_a_run_with_overrides_is_reported_as_it_was(tmp_path: Path) -> None:
    write(tmp_path)
    go(tmp_path, "x=7", "--timestamp", "t")
    told = go(tmp_path, "--report", code=2)
    assert "no cell of this grid has ended" in told
    assert "1 cell of other grids; --as-run shows all cells of the run" in told
    assert go(tmp_path, "--as-run").split()[:4] == ["name", "x", "one", "7"]
    go(tmp_path, "--timestamp", "t")
    told = go(tmp_path, "--report")
    assert "note: this grid leaves out 1 cell of other grids" in told
    assert go(tmp_path, "--report", "--as-run").count("one") == 2


def test_a_report_needs_no_configs(tmp_path: Path) -> None:
    made = pyexp.experiment(name="e", executor="inline", quiet=True, output_dir=tmp_path)(lambda config: config.x)
    made.run([{"name": "a", "x": 1}], list, argv=[])
    assert [(result.name, result.value) for result in made.results()] == [("a", 1)]
    assert [result.value for result in made.run(report=True, argv=[])] == [1]
    with pytest.raises(pyexp.ConfigError, match="there are no configs"):
        made.run(argv=[])


def test_the_logs_and_failures_of_earlier_commands_are_kept(tmp_path: Path) -> None:
    write(tmp_path, configs='[{"name": "one", "x": 1, "fails": True}]')
    go(tmp_path, "--timestamp", "t")
    go(tmp_path, "--lf")
    (tmp_path / "out" / "trial" / "t" / "fixed").touch()
    go(tmp_path, "--continue", "--retries", "1")
    (cell,) = (tmp_path / "out" / "trial" / "t").glob("one-*")
    assert {path.name for path in cell.iterdir()} == {
        "log.txt", "log-1.txt", "log-2.txt", "record.json", "result.pkl", "metrics.csv"
    }  # fmt: skip
    assert "ValueError: no" in (cell / "log-2.txt").read_text()
    assert "ValueError" not in (cell / "log.txt").read_text()
    record = pyexp.load(cell).record
    assert [(attempt.type, attempt.message) for attempt in record.attempts] == [("ValueError", "no")] * 2
    assert (cell / "metrics.csv").read_text() == "line\n" * 3  # what failed goes on where it was


def test_a_rerun_begins_in_an_empty_folder_and_keeps_the_old_one_until_it_is_done(tmp_path: Path) -> None:
    write(tmp_path)
    go(tmp_path, "--timestamp", "t")
    (cell,) = (tmp_path / "out" / "trial" / "t").glob("one-*")
    (cell / "checkpoint").write_text("old")
    go(tmp_path, "--timestamp", "t", "--rerun")
    assert pyexp.load(cell).value["files"] == ["log.txt", "metrics.csv"]
    assert {path.name for path in cell.parent.iterdir()} == {cell.name, "run.json", "code"}
    # A rerun that fails leaves what was there aside, and no run takes it for a result.
    (cell / "checkpoint").write_text("old")
    script = (tmp_path / "main.py").read_text()
    (tmp_path / "main.py").write_text(script.replace('print("in"', 'raise KeyError; print("in"'))
    for arguments in (["--rerun"], ["--rerun"], ["--lf"]):
        go(tmp_path, "--timestamp", "t", *arguments)
        (aside,) = cell.parent.glob(".before-*")
        assert (aside / "checkpoint").read_text() == "old"
        assert not (cell / "result.pkl").exists()
    (tmp_path / "main.py").write_text(script)
    go(tmp_path, "--continue")
    assert not list(cell.parent.glob(".before-*"))
    assert pyexp.load(cell).value["x"] == 1


BROKEN = """
import errno, fcntl
def flock(descriptor, how):
    raise OSError(errno.ENOSYS, "Function not implemented")
fcntl.flock = flock
"""


def test_locks_that_do_not_work_are_said_loudly(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "main.py").write_text(BROKEN + (tmp_path / "main.py").read_text())
    told = go(tmp_path, "-q", "--check", code=1)
    assert told.count("WARNING: locks do not work in the folder of this run") == 1
    assert "WARNING" not in go(tmp_path, "--continue", "--check")  # nothing is run


def test_home_is_meant_by_a_tilde(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    write(tmp_path)
    go(tmp_path, "--output-dir", "~/results", "--timestamp", "t")
    assert (tmp_path / "home" / "results" / "trial" / "t" / "run.json").exists()
    assert pyexp.load("~/results/trial").size == 1


SEVERAL = """
from pyexp import experiment

@experiment(executor="inline", quiet=True)
def first(config):
    raise ValueError("no")

@experiment(executor="inline", quiet=True)
def second(config):
    print("second", flush=True)

if __name__ == "__main__":
    first.run([{"name": "a"}], report=lambda results: print("first reported"))
    IF second.run([{"name": "a"}], report=lambda results: print("second reported"))
    print("the end")
"""


@pytest.mark.parametrize("runs", [True, False])
def test_a_checked_script_runs_all_its_experiments_first(tmp_path: Path, runs: bool) -> None:
    (tmp_path / "main.py").write_text(SEVERAL.replace("IF ", "" if runs else "if 0: "))
    told = go(tmp_path, "--check", code=1)
    assert "first reported" in told
    assert ("second reported" in told) is runs
    assert ("the end" in told) is not runs


def test_a_new_cell_says_which_finished_one_is_nearest(tmp_path: Path) -> None:
    write(tmp_path, configs='[{"name": "exp", "x": 1, "lr": lr, "mlp": {"width": 8}} for lr in (0.1, 0.2)]')
    go(tmp_path, "--timestamp", "t")
    assert "nearest" not in go(tmp_path, "-n", "--timestamp", "t")
    for change, words in {
        '"lr": 0.1, "dropout": 0.0, "mlp": {"width": 8}': "differs in dropout: absent → 0.0",
        '"lr": 0.2, "mlp": {"width": 8.0}': "differs in mlp.width: 8 → 8.0",
        '"mlp": {"width": 8}, "note": "a" * 100': "differs in lr: 0.1 → absent, note: absent → 'aaaaaaaaaaaaaaaaa",
    }.items():
        write(tmp_path, configs=f'[{{"name": "exp", "x": 1, {change}}}]')
        told = go(tmp_path, "-n", "--timestamp", "t")
        assert f"(new (nearest: exp, {words}" in told, told


def test_a_mistake_in_the_script_keeps_its_traceback_and_one_on_the_command_line_is_a_line(tmp_path: Path) -> None:
    write(tmp_path)
    text = (tmp_path / "main.py").read_text()
    for wrong in ("trial.run(job=3)", "trial.run(executor='frok')", "trial.run(report=3)"):
        (tmp_path / "main.py").write_text(text.replace("trial.run()", wrong))
        told = go(tmp_path, "-q", code=1)
        assert f", in <module>\n    {wrong}\n" in told
    (tmp_path / "main.py").write_text(text)
    for arguments in (["--job", "3"], ["--executor", "frok"]):
        assert go(tmp_path, *arguments, code=2).count("\n") == 1


def test_two_experiments_that_share_a_name_keep_their_runs_apart(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(SEVERAL.replace("IF ", "").replace('raise ValueError("no")', "return 1"))
    go(tmp_path, "--name", "both")
    told = go(tmp_path, "--name", "both", "--report")
    assert "first reported" in told
    assert "second reported" in told
    assert "finished" in go(tmp_path, "--name", "both", "--continue", "-n")
    told = go(tmp_path, "--name", "both", "--timestamp", "t", code=2)
    assert "the run t was begun by 'main.first', and this is 'main.second'" in told


NAMED = "import itertools, time\ntick = itertools.count()\ntime.strftime = lambda *args: f't {next(tick)}'\n"


def test_the_runs_of_one_command_have_one_name_so_that_it_continues_them_all(tmp_path: Path) -> None:
    script = NAMED + SEVERAL.replace("IF ", "").replace('raise ValueError("no")', 'open("ran", "a").write("first ")')
    broken = script.replace('print("second", flush=True)', 'raise ValueError("no")')
    (tmp_path / "main.py").write_text(broken)
    assert "to run them again: python main.py --timestamp 't 0' --lf\n" in go(tmp_path)
    assert "to run them again: python main.py --lf\n" in go(tmp_path, "--continue")
    (tmp_path / "main.py").write_text(script)
    assert "second reported" in go(tmp_path, "--timestamp", "t 0", "--lf", "--check")
    assert [path.name for path in sorted((tmp_path / "out").glob("*/t*"))] == ["t 0", "t 0"]
    assert (tmp_path / "ran").read_text() == "first "
    assert "second reported" in go(tmp_path, "--name", "both")  # whose folder has that name already
    assert len(list((tmp_path / "out" / "both").glob("t*"))) == 2
