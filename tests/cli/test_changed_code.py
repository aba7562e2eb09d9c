"""Every result says which code made it, and no run mixes two codes without saying so."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import pyexp
from tests.cli.scripts import environment, go, write
from tests.look.outside import look

SCRIPT = '''
from pyexp import experiment
import helper

SCALE = 1

@experiment(executor="inline", timestamp="t")
def trial(config):
    """Run one cell."""
    (config.out / "ran").open("a").write("x")
    return helper.power(config.x) * SCALE

@trial.configs
def configs():
    return [{"name": f"x{x}", "x": x} for x in (2, 3, 4)]

if __name__ == "__main__":
    trial.run()
'''
HELPER = "def power(x):\n    return x ** 2\n\ndef unused(x):\n    return x\n"
NOTE = (
    "note: 3 of 3 loaded results were made by other code: helper.power changed; --rerun-changed runs them again, "
    "--accept-code says that the change does not matter"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "main.py").write_text(SCRIPT)
    (tmp_path / "helper.py").write_text(HELPER)
    go(tmp_path)
    return tmp_path


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    before = path.stat().st_mtime
    path.write_text(text.replace(old, new))
    os.utime(path, (before + 2, before + 2))  # Python's own cache does not notice an edit of one size in one second


def values(folder: Path) -> list[Any]:
    return [result.value for result in pyexp.load(folder / "out" / "trial" / "t")]


def test_a_result_of_other_code_is_loaded_counted_and_named(folder: Path) -> None:
    edit(folder / "helper.py", "x ** 2", "x ** 3")
    done = go(folder)
    assert NOTE in done.stderr.splitlines()
    assert "3 cells: 3 to load (3 made by other code)" in done.stderr
    assert NOTE in go(folder, "-q").stderr.splitlines()
    assert NOTE in go(folder, "--report").stderr.splitlines()
    plan = go(folder, "-n").stdout
    assert plan.count(", by other code: helper.power changed)") == 3
    assert values(folder) == [4, 9, 16]


def test_it_runs_again_if_that_is_asked_for_and_in_an_empty_folder(folder: Path) -> None:
    edit(folder / "main.py", "SCALE = 1", "SCALE = 10")
    edit(folder / "main.py", "(2, 3, 4)", "(2, 3, 4, 5)")
    assert "3 cells" not in go(folder, "-n", "--rerun-changed").stderr
    assert go(folder, "-n", "--rerun-changed").stdout.splitlines()[-1] == "4 cells: 4 to run"
    done = go(folder, "--rerun-changed")
    assert "made by other code" not in done.stderr
    assert values(folder) == [40, 90, 160, 250]
    assert {path.read_text() for path in folder.glob("out/trial/t/*/ran")} == {"x"}
    assert go(folder, "-n", "--rerun-changed").stdout.splitlines()[-1] == "4 cells: 4 to load"


def test_only_what_other_code_made_runs_again(folder: Path) -> None:
    edit(folder / "helper.py", "x ** 2", "x ** 3")
    go(folder, "-k", "x3", "--rerun-changed")
    assert values(folder) == [4, 27, 16]
    assert "2 of 3 loaded results were made by other code" in go(folder).stderr
    go(folder, "-q", "--timestamp", "u")  # by one code, so that one cell of the two runs was made by the same
    assert (
        "\ncode\n  ~ helper.power changed (2 of 3 cells)\n"
        in look(folder, "diff", *folder.glob("out/trial/[tu]")).stdout
    )


def test_a_change_that_is_accepted_is_said_no_more(folder: Path) -> None:
    """Without a timestamp, it is a change since the latest run: no new run begins."""
    edit(folder / "main.py", ', timestamp="t"', "")
    edit(folder / "helper.py", "x ** 2", "x * x")
    accepted = go(folder, "--accept-code").stderr.partition("\n")[2]
    edit(folder / "main.py", '"inline"', '"inline", timestamp="t"')
    assert "note: 3 of 3 loaded results accepted as made by this code: helper.power changed\n" in accepted
    assert "other code" not in accepted
    assert (
        "--accept-code has nothing to accept: every loaded result is of this code" in go(folder, "--accept-code").stderr
    )
    assert "other code" not in go(folder).stderr
    assert go(folder, "-n", "--rerun-changed").stdout.splitlines()[-1] == "3 cells: 3 to load"
    (record,) = [json.loads(path.read_text()) for path in folder.glob("out/trial/t/x2-*/record.json")]
    assert len(record["code"]["accepted"]) == 1
    assert sorted(record["code"]["parts"]) == ["helper.power", "main.SCALE", "main.trial"]
    edit(folder / "helper.py", "x * x", "x ** 2")  # back to what made them
    assert "other code" not in go(folder).stderr
    edit(folder / "helper.py", "x ** 2", "x ** 5")
    assert "3 of 3 loaded results were made by other code" in go(folder).stderr


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("helper.py", "def unused(x):\n    return x\n", "def unused(x):\n    return -x\n"),
        ("helper.py", "    return x ** 2", "    # why\n    return (x ** 2)"),
        ("main.py", "Run one cell.", "Run a cell, slowly."),
        ("main.py", "(2, 3, 4)", "(4, 3, 2)"),
        ("main.py", "trial.run()", "print('hello'); trial.run()"),
        ("main.py", "def trial(config):", "def trial(config: dict) -> int:"),
    ],
)
def test_an_edit_that_changes_no_result_is_no_other_code(folder: Path, file: str, old: str, new: str) -> None:
    edit(folder / file, old, new)
    assert "other code" not in go(folder).stderr


OWN = """
from pyexp import Executor, attempt

class Own(Executor):
    def run(self, fn, config, result_path):
        return fn(config) if config.x == 2 else attempt(fn, config, result_path)()
"""


@pytest.mark.parametrize("executor", ["'subprocess'", "'fork'", "'inline'", "own.Own()"])
def test_a_result_whose_record_is_lost_knows_its_code(folder: Path, executor: str) -> None:
    (folder / "own.py").write_text(OWN)
    edit(folder / "main.py", "trial.run()", f"import own; trial.run(executor={executor})")
    assert "ran 3 cells" in go(folder, "--rerun").stderr
    records = {path: json.loads(path.read_text())["code"] for path in folder.glob("out/trial/t/*/record.json")}
    for lost in records:
        lost.unlink()  # as after a kill between the result and the record
    assert "other code" not in go(folder).stderr
    assert {path: json.loads(path.read_text())["code"] for path in records} == records

    lost.unlink()
    edit(folder / "helper.py", "x ** 2", "x ** 3")
    assert "3 cells: 3 to load (3 made by other code)" in go(folder, "-n").stdout
    assert "3 of 3 loaded results were made by other code: " in go(folder).stderr
    assert json.loads(lost.read_text())["code"] == {"hash": records[lost]["hash"], "parts": {}}
    plan = go(folder, "-n").stdout
    assert [plan.count(f"by other code: {change}") for change in ("what changed is not known", "helper")] == [1, 2]
    assert go(folder, "-n", "--rerun-changed").stdout.splitlines()[-1] == "3 cells: 3 to run"
    go(folder, "--accept-code")
    assert "other code" not in go(folder).stderr


def test_a_result_of_before_there_was_a_fingerprint_is_loaded_without_a_word(folder: Path) -> None:
    from pyexp.store.files import checked_json

    for path in folder.glob("out/trial/t/*/record.json"):
        told = json.loads(path.read_text())
        del told["code"], told["checksum"]
        path.write_bytes(checked_json(told))
    edit(folder / "helper.py", "x ** 2", "x ** 3")
    assert "other code" not in go(folder).stderr


def test_a_script_that_cannot_be_read_runs_all_the_same(tmp_path: Path) -> None:
    code = "import pyexp; pyexp.experiment(lambda c: c.x).run([{'x': 1}], print, executor='inline', argv=[])"
    import subprocess
    import sys

    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert "1" in done.stdout


def test_the_sources_that_made_the_results_are_kept_once_by_content(folder: Path) -> None:
    run = folder / "out" / "trial" / "t"
    first = {path.name: path.read_text() for path in (run / "code").iterdir()}
    assert sorted(first.values()) == sorted([SCRIPT, HELPER])
    edit(folder / "helper.py", "x ** 2", "x ** 3")
    go(folder, "--rerun-changed")
    assert {path.name: path.read_text() for path in (run / "code").iterdir()}.items() >= first.items()
    assert len(list((run / "code").iterdir())) == 3
    commands = json.loads((run / "run.json").read_text())["commands"]
    assert [(run / command["sources"]["helper"]).read_text() for command in commands] == [
        HELPER, HELPER.replace("x ** 2", "x ** 3")
    ]  # fmt: skip
    assert all((run / command["sources"]["main"]).read_text() == SCRIPT for command in commands)


LAZY = """
from pathlib import Path
from pyexp import experiment

@experiment(timestamp="t", quiet=True)
def trial(config):
    helper_file = Path(__file__).with_name("helper.py")
    if config.x == 0:
        helper_file.write_text(helper_file.read_text().replace("** 2", "** 3"))
    import helper
    return helper.power(config.x + 2)

if __name__ == "__main__":
    trial.run([{"name": f"x{x}", "x": x} for x in range(4)], report=lambda results: print([r.value for r in results]))
"""


@pytest.mark.parametrize("executor", ["subprocess", "fork"])
def test_an_edit_while_cells_run_reaches_no_cell_also_where_the_import_is_in_the_function(
    tmp_path: Path, executor: str
) -> None:
    (tmp_path / "main.py").write_text(LAZY)
    (tmp_path / "helper.py").write_text(HELPER)
    done = go(tmp_path, "--executor", executor)
    assert done.stdout == "[4, 9, 16, 25]\n", done.stderr
    records = [json.loads(path.read_text())["code"]["hash"] for path in tmp_path.glob("out/trial/t/*/record.json")]
    assert len(set(records)) == 1


def test_a_part_that_is_unknown_hides_no_change_of_another(folder: Path) -> None:
    (folder / "broken.py").write_text("def f(c) return 1\n")  # it cannot be read, and is never imported
    late = "    if config.x < 0:\n        import broken\n        return broken.f(config)\n    return helper"
    edit(folder / "main.py", "    return helper", late)
    go(folder, "--rerun")
    record = json.loads(next(iter(folder.glob("out/trial/t/*/record.json"))).read_text())
    assert record["code"]["hash"] == "unknown"
    assert "other code" not in go(folder).stderr
    edit(folder / "helper.py", "x ** 2", "x ** 3")
    assert "helper.power changed" in go(folder).stderr
    go(folder, "--accept-code")
    assert "other code" not in go(folder).stderr
    edit(folder / "helper.py", "x ** 3", "x ** 4")
    assert "helper.power changed" in go(folder).stderr


WAITS = """
import os, time
import pyexp

FACTOR = 1

@pyexp.experiment(name="e", timestamp="t", executor="inline")
def experiment(config):
    open("began", "w").close()
    while not os.path.exists("go"):
        time.sleep(0.02)
    return FACTOR

if __name__ == "__main__":
    experiment.run([{"name": "a"}], lambda results: print(results[0].value))
"""


def test_a_result_that_an_older_process_makes_meanwhile_is_told(tmp_path: Path) -> None:
    write(tmp_path, WAITS)
    older = subprocess.Popen([sys.executable, "main.py"], cwd=tmp_path, env=environment(), stdout=subprocess.PIPE)
    try:
        while not (tmp_path / "began").exists():
            assert older.poll() is None
            time.sleep(0.02)
        write(tmp_path, WAITS.replace("FACTOR = 1", "FACTOR = 2"))
        newer = subprocess.Popen(
            [sys.executable, "main.py"], cwd=tmp_path, env=environment(), stderr=subprocess.PIPE, text=True
        )
        assert newer.stderr is not None
        assert "1 to wait for" in newer.stderr.readline()
        (tmp_path / "go").touch()
        assert "note: 1 of 1 loaded result was made by other code: main.FACTOR changed" in newer.communicate()[1]
    finally:
        (tmp_path / "go").touch()
        older.communicate()


GIVEN = """
import argparse, os, sys
import pyexp
import settings

LR, STEP, TICKS, args = 0.0, 0, 0, None
ROUNDS = int(os.environ.get("ROUNDS", 1))

class Namespace:
    __slots__ = ("empty",)

own = Namespace()

@pyexp.experiment(executor="inline", timestamp="t", quiet=True)
def trial(config):
    global TICKS
    TICKS += 1
    return LR, STEP, TICKS, ROUNDS, args.epochs, settings.WIDTH, own is None

def configure(width, steps):
    global STEP
    settings.WIDTH, STEP = width, steps

def main():
    global LR, args
    parser = argparse.ArgumentParser()
    for name in ("lr", "epochs", "width", "verbose"):
        parser.add_argument(f"--{name}", type=int, default=1)
    args, rest = parser.parse_known_args()
    LR = args.lr
    configure(args.width, len(rest))
    trial.run([{"name": "a"}], report=list, argv=rest)

if __name__ == "__main__":
    main()
"""


@pytest.mark.parametrize(
    ("words", "variables", "changed"),
    [
        ((), {}, ""),
        (("--verbose", "2"), {}, ""),
        (("--lr", "2"), {}, "the value of main.LR changed"),
        (("--epochs", "2"), {}, "the value of main.args.epochs changed"),
        (("--width", "2"), {}, "the value of settings.WIDTH changed"),
        (("-q",), {"ROUNDS": "2"}, "the value of main.ROUNDS changed, the value of main.STEP changed"),
    ],
)
def test_what_the_command_line_sets_beside_the_config_is_told(
    tmp_path: Path, words: tuple[str, ...], variables: dict[str, str], changed: str
) -> None:
    (tmp_path / "main.py").write_text(GIVEN)
    (tmp_path / "settings.py").write_text("WIDTH = 0\n")
    assert go(tmp_path).stderr == ""
    told = go(tmp_path, *words, **variables).stderr
    assert told.partition("made by other code: ")[2].partition(";")[0] == changed, told


def test_a_script_that_reads_does_not_know_what_the_command_line_set(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(GIVEN)
    (tmp_path / "settings.py").write_text("WIDTH = 0\n")
    go(tmp_path, "--lr", "3")
    (tmp_path / "read.py").write_text("import main\nprint(main.trial.results('t', [{'name': 'a'}])[0].value[0])\n")
    command = [sys.executable, "read.py"]
    read = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False)
    assert (read.stdout, read.stderr) == ("3\n", "")
