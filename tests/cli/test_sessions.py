"""What people type all day, and what they see: exit status, stdout, stderr, and what has run."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyexp.commandline import without_words
from pyexp.options import without_flags
from tests.cli.scripts import SCRIPT, environment, go, ran, write
from tests.look.outside import on_terminal

GOOD = [f"exp_lr0.1_seed{i}" for i in range(3)]
BAD = [f"exp_lr1.0_seed{i}" for i in range(3)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the script in it, in which nothing has run yet."""
    write(tmp_path)
    return tmp_path


@pytest.fixture
def after(folder: Path) -> Path:
    """A folder in which the script has run once: three cells are done, three have failed."""
    go(folder, "--timestamp", "first", "--executor", "inline", "-q")
    assert ran(folder) == GOOD + BAD
    return folder


def test_a_day(folder: Path) -> None:
    dry = go(folder, "-n")
    assert dry.stdout.count("(new)") == 6
    assert (dry.stderr, ran(folder), (folder / "out").exists()) == ("", [], False)

    first = go(folder, "-j", "2")
    assert first.returncode == 0
    assert sorted(ran(folder)) == GOOD + BAD
    assert first.stdout.splitlines()[0].split() == ["name", "accuracy"]
    assert first.stdout.splitlines()[-1] == "6 cells: 3 done, 3 failed"
    assert first.stdout.count("failed: ValueError: diverged") == 3

    again = go(folder, "--continue")
    assert sorted(ran(folder)) == BAD
    assert "6 cells: 3 to load, 3 to run" in again.stderr

    (folder / "main.py").write_text(SCRIPT.replace('raise ValueError("diverged")', "pass"))
    fixed = go(folder, "--lf", "--check")
    assert (fixed.returncode, sorted(ran(folder))) == (0, BAD)
    assert "failed" not in fixed.stdout

    report = go(folder, "--report")
    assert (report.stdout, ran(folder)) == (fixed.stdout, [])
    assert report.stderr.startswith("note: 3 of 6 loaded results were made by other code: main.experiment changed; ")
    assert [path.name for path in (folder / "out" / "mnist").iterdir()].__len__() == 1


def test_failures_are_told_at_once_and_at_the_end_with_the_log_and_what_to_type(folder: Path) -> None:
    told = go(folder, "--executor", "inline", "-k", "*seed0", "+note=a b").stderr
    assert told.count("ValueError: diverged (main.py:13 in experiment)") == 2
    (log,) = re.findall(r"log: (\S+)", told)
    assert "hello from exp_lr1.0_seed0" in (folder / log).read_text()
    ran(folder)
    (hint,) = re.findall(r"to run them again: (.*)", told)
    program, *arguments = shlex.split(hint)
    assert program == "python"
    subprocess.run([sys.executable, *arguments], cwd=folder, env=environment(), capture_output=True, check=True)
    assert ran(folder) == ["exp_lr1.0_seed0"]


def test_check_makes_a_failure_an_exit_status(after: Path) -> None:
    assert go(after, "--report", "--check").returncode == 1
    assert go(after, "--report").returncode == 0
    assert go(after, "--report", "--check", "-k", "*lr0.1*").returncode == 0


def test_check_is_about_what_was_wanted(folder: Path) -> None:
    """What only the failed were wanted of has not failed; what is only reported has to be there."""
    assert go(folder, "--timestamp", "t", "--executor", "inline", "-k", "*lr0.1_seed0").returncode == 0
    assert go(folder, "--timestamp", "t", "--lf", "--check").returncode == 0
    assert go(folder, "--timestamp", "t", "--report", "--check", "-k", "*lr0.1_seed0").returncode == 0
    assert go(folder, "--timestamp", "t", "--report", "--check").returncode == 1


def test_quiet_says_only_what_goes_wrong(folder: Path) -> None:
    good = go(folder, "-q", "--executor", "inline", "-k", "*lr0.1*")
    assert good.stderr == ""
    bad = go(folder, "-q", "--executor", "inline", "-k", "*lr1.0_seed0")
    assert "exp_lr1.0_seed0 failed" in bad.stderr
    assert "done" not in bad.stderr


def test_an_override_changes_every_config_and_so_what_is_cached(after: Path) -> None:
    fixed = go(after, "--timestamp", "first", "--executor", "inline", "fixed=True")
    assert (fixed.returncode, ran(after)) == (0, GOOD + BAD)
    assert "failed" not in fixed.stdout
    assert (go(after, "--timestamp", "first", "fixed=True").stdout, ran(after)) == (fixed.stdout, [])


def test_a_choice_of_cells_runs_them_and_forgets_none_of_the_others(folder: Path) -> None:
    go(folder, "--timestamp", "t", "--executor", "inline", "-k", "*_seed1")
    assert ran(folder) == [GOOD[1], BAD[1]]
    assert "6 cells: 1 done, 1 failed, 4 new" in go(folder, "--list").stdout


def test_the_list_has_every_run_with_its_age_its_shape_and_its_counts(after: Path) -> None:
    go(after, "--timestamp", "second", "--executor", "inline", "-x", "-k", "*lr1.0*")
    first, second = go(after, "--list").stdout.splitlines()
    details = r" +[\d.]+ s +[\d.]+ kB  (\w+\+?  )? *\S+ main.py --timestamp {} --executor inline "
    shown = r"{} +\d+ (s|min) ago +1×2×3 = 6 cells: {}" + details
    assert re.match(shown.format("first", "3 done, 3 failed", "first"), first)
    assert re.match(shown.format("second", "1 failed, 5 new", "second"), second)
    on_60, on_100 = (on_terminal(after, columns=n, words=[sys.executable, "main.py", "--list"]) for n in (60, 100))
    assert all(line.endswith(("3 done, 3 failed", "1 failed, 5 new")) for line in on_60.splitlines())
    assert all(len(line) <= 100 and " kB" in line for line in on_100.splitlines())


def test_without_timestamps_the_list_has_the_one_run_there_is(folder: Path) -> None:
    go(folder, "--no-timestamp", "--executor", "inline", "-q")
    assert re.match(r"\. +\d+ s ago", go(folder, "--list").stdout)


def test_the_list_needs_no_configs(after: Path) -> None:
    write(after, SCRIPT.replace("lrs = [", "raise RuntimeError; lrs = ["))
    assert "6 cells" in go(after, "--list").stdout


def test_last_failed_with_nothing_failed_says_so_and_is_no_error(folder: Path) -> None:
    go(folder, "--executor", "inline", "fixed=True", "-q")
    ran(folder)
    done = go(folder, "--lf", "fixed=True")
    assert (done.returncode, ran(folder)) == (0, [])
    assert "none of these cells has failed: nothing to run again" in done.stderr
    assert len(done.stdout.splitlines()) == 8


def test_fail_fast_starts_no_cell_after_the_first_failure(folder: Path) -> None:
    write(folder, SCRIPT.replace("(0.1, 1.0)", "(1.0, 0.1)"))
    stopped = go(folder, "-x", "--executor", "inline")
    assert ran(folder) == BAD[:1]
    assert "6 cells: 1 failed, 5 new" in stopped.stdout


def test_several_selections_are_a_union_and_resume_is_continue(folder: Path) -> None:
    words = ["--executor", "inline", "-k", "*lr0.1_seed0", "-k", "*seed1", "-k", "*seed9"]
    done = go(folder, *words)
    assert ran(folder) == ["exp_lr0.1_seed0", "exp_lr0.1_seed1", "exp_lr1.0_seed1"]
    assert "note: no cell is named '*seed9' or matches it\n" in done.stderr
    (hint,) = re.findall(r"to run them again: (.*)", done.stderr)
    assert "-k '*lr0.1_seed0' -k '*seed1'" in hint
    reported = go(folder, "--report", "-k", "*lr0.1_seed0", "-k", "*seed1")
    assert reported.stdout == done.stdout
    assert go(folder, "--as-run", "-k", "*lr0.1_seed0", "-k", "*seed1").stdout == done.stdout
    assert go(folder, "-k", "*seed9", "-k", "x").returncode == 2
    go(folder, "--resume", "--executor", "inline", "-k", "*seed1", "-k", "*seed0")
    assert ran(folder) == ["exp_lr1.0_seed0", "exp_lr1.0_seed1"]


def test_what_failed_before_and_is_not_reached_is_still_failed(after: Path) -> None:
    stopped = go(after, "--lf", "-x", "--executor", "inline")
    assert ran(after) == BAD[:1]
    assert stopped.stdout.endswith("6 cells: 3 done, 3 failed\n")
    assert stopped.stdout.count("failed: ValueError: diverged") == 3


def test_rerun_runs_what_is_finished_too(after: Path) -> None:
    go(after, "--rerun", "--continue", "--executor", "inline")
    assert ran(after) == GOOD + BAD


REFUSED = {
    "--continue": r"there is no run of 'mnist' below \S+ yet",
    "--lf": r"there is no run of 'mnist' below \S+ yet",
    "--report": r"there is no run of 'mnist' below \S+ yet",
    "--report --timestamp x": r"there is no run at \S+x",
    "--lf --timestamp x": r"there is no run at \S+x",
    "--continue --no-timestamp": r"there is no run at \S+mnist",
    "-k nothing": r"no item is named 'nothing'.*the names are 'exp_lr0.1_seed0'",
    "-k lr0.1": r"no cell is named 'lr0.1' or matches it; '\*lr0.1\*' matches 3",
    "--rerun --report": "--report and --rerun contradict each other",
    "--continue --timestamp x": "contradict each other",
    "--list --report": "contradict each other",
    "lr=3": "'lr' cannot be overridden: the configs differ in it",
    "seed=3": "'seed' cannot be overridden",
    "wiat=1": r"did you mean 'wait'",
    "name=x": "'name' identifies the cells",
    "--executor cloud": "there is no executor 'cloud'",
    "--executor cloud -n": "there is no executor 'cloud'",
    "--jobs 0": "--jobs is '0'",
    "--nothing": "unknown option '--nothing'",
    "--timestamp a/b": "holds a path separator",
}


@pytest.mark.parametrize("arguments", REFUSED)
def test_wrong_usage_is_one_line_and_status_2_and_nothing_has_happened(folder: Path, arguments: str) -> None:
    refused = go(folder, *arguments.split())
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.count("\n") == 1
    assert re.match(f"error: .*{REFUSED[arguments]}", refused.stderr)
    assert sorted(path.name for path in folder.iterdir()) == ["main.py"]


def test_a_run_of_a_newer_format_is_one_line_and_status_2(after: Path) -> None:
    told = after / "out" / "mnist" / "first" / "run.json"
    told.write_text(told.read_text().replace('"format": 2', '"format": 3'))
    refused = go(after, "--continue")
    assert (refused.returncode, refused.stderr.count("\n"), ran(after)) == (2, 1, [])
    assert "was written by a newer pyexp (its format is 3" in refused.stderr


def test_a_refusal_is_a_status_also_where_stderr_is_closed(folder: Path) -> None:
    for arguments, status in (["--nothing", 2], ["-k", 2], ["--continue", 2]):
        closed = subprocess.run(
            ["sh", "-c", f"{shlex.quote(sys.executable)} main.py {arguments} 2>&-"], cwd=folder, check=False
        )
        assert closed.returncode == status


@pytest.mark.parametrize("closing", ["2>&-", ">&- 2>&-", "2>/dev/full"])
def test_a_run_does_not_end_because_nobody_listens(folder: Path, closing: str) -> None:
    if "full" in closing and not os.path.exists("/dev/full"):
        pytest.skip("there is no /dev/full here")
    line = f"{shlex.quote(sys.executable)} main.py --executor inline {closing}"
    subprocess.run(["sh", "-c", line], cwd=folder, check=False, capture_output=True)
    assert ran(folder) == GOOD + BAD


def test_an_argv_list_is_a_command_line(tmp_path: Path) -> None:
    write(tmp_path, SCRIPT.replace("experiment.run()", "experiment.run(argv=['--continue'])"))
    refused = go(tmp_path)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    write(tmp_path, SCRIPT.replace("experiment.run()", "experiment.run(argv=[], resume=True)"))
    raised = go(tmp_path, "--nonsense")
    assert raised.returncode == 1
    assert "NoRunError: there is no run" in raised.stderr


@pytest.mark.parametrize("executor", ["subprocess", "inline"])
def test_after_ctrl_c_the_status_is_130_and_what_is_said_to_go_on_does(folder: Path, executor: str) -> None:
    command = [sys.executable, "main.py", "--executor", executor, "fixed=True", "wait=0.4"]
    started = subprocess.Popen(command, cwd=folder, env=environment(), stderr=subprocess.PIPE, text=True)
    assert started.stderr is not None
    while "[1/6]" not in started.stderr.readline():
        pass
    time.sleep(0.1)
    started.send_signal(signal.SIGINT)
    told = started.stderr.read()
    started.stderr.close()
    assert started.wait(30) == 130
    assert "Traceback" not in told
    before = ran(folder)
    assert before[0] == GOOD[0]
    (line,) = [line for line in told.splitlines() if line.startswith("interrupted by Ctrl-C")]
    _, *arguments = shlex.split(line.partition("to go on: ")[2])
    subprocess.run([sys.executable, *arguments], cwd=folder, env=environment(), capture_output=True, check=True)
    finished = 6 - int(re.search(r"; (\d) of 6 cells are left", line)[1])  # type: ignore[index]
    assert sorted(ran(folder)) == sorted((GOOD + BAD)[finished:])


OWN = """
import argparse, sys
if __name__ == "__main__":
    mode = sys.argv.pop(1)
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--note", nargs="+")
    own, rest = parser.parse_known_args()
    print(mode, own.note)
    experiment.run(argv=rest, name=mode)
"""


def test_what_is_said_to_go_on_has_the_scripts_own_words_too(tmp_path: Path) -> None:
    write(tmp_path, SCRIPT.partition("if __name__")[0] + OWN)
    words = ["a b", "--note", "it's", "$x", "--timestamp", "t", "--executor=inline", "-k", "*seed0", "wait=0"]
    done = go(tmp_path, *words)
    (hint,) = re.findall(r"to run them again: (.*)", done.stderr)
    again = subprocess.run(
        ["bash", "-c", hint.replace("python", sys.executable, 1)],
        cwd=tmp_path, env=environment(), capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert again.stdout.splitlines()[0] == done.stdout.splitlines()[0] == "a b [\"it's\", '$x']"
    assert ran(tmp_path) == ["exp_lr0.1_seed0", "exp_lr1.0_seed0", "exp_lr1.0_seed0"]
    assert hint.count("--timestamp t") == 1


def test_where_the_words_are_made_up_by_the_script_the_call_is_said(tmp_path: Path) -> None:
    write(tmp_path, SCRIPT.replace("experiment.run()", "experiment.run(argv=['-k', '*seed0', '--executor', 'inline'])"))
    told = go(tmp_path, "--anything").stderr
    assert re.search(r"to run them again: experiment\.run\(timestamp='[^']+', last_failed=True\)$", told)


@given(st.lists(st.sampled_from(["--data", "x", "-j", "2", "--", "--lf"])), st.lists(st.booleans()))
def test_words_are_taken_out_where_they_stand(words: list[str], picks: list[bool]) -> None:
    some = [word for word, is_picked in zip(words, picks, strict=False) if is_picked]
    left = without_words(words, some)
    assert left is not None
    assert sorted([*left, *some]) == sorted(words)
    assert without_words(words, [*words, "x"]) is None
    own = words[: words.index("--")] if "--" in words else words
    kept = without_flags([*words, "--timestamp", "t"], {"timestamp", "last_failed"})
    assert kept[: len(own) - own.count("--lf")] == [word for word in own if word != "--lf"]
    assert ("--timestamp" in kept) == ("--" in words)
    assert without_flags(["--timestamp=t", *words], {"timestamp"}) == words


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("sweep([{'a..b': 1}], [])", "ConfigError: a key of configs"),
        ("{}['lr']", "KeyError: 'lr'"),
        ("[{'a': object()}]", "HashError: "),
        ("5", "ConfigError: what the configs function 'configs' returned is 5"),
    ],
)
def test_an_error_of_the_configs_ends_without_frames_of_pyexp(tmp_path: Path, body: str, words: str) -> None:
    head = SCRIPT.partition("@experiment.configs")[0]
    main = "if __name__ == '__main__':\n    experiment.run()\n"
    write(tmp_path, f"{head}@experiment.configs\ndef configs():\n    return {body}\n\n{main}")
    raised = go(tmp_path, "--timestamp", "t").stderr
    frames = re.findall(r'^  File "(.*)", line .*, in (\S+)$', raised, re.M)
    assert raised.splitlines()[-1].replace("pyexp.errors.", "").startswith(words)
    assert sum("/pyexp/" in file for file, _ in frames) <= 3  # run, _job and grid, which call it
    in_configs = [name for _, name in frames][-1:] == ["configs"]
    assert in_configs == (body.startswith(("sweep", "{}")))


def test_inline_says_that_it_has_no_timeout(folder: Path) -> None:
    words = ("-k", "*lr0.1_seed0", "--executor", "inline")
    assert "note: inline has no timeout" in go(folder, *words, "--timeout", "5").stderr
    assert "timeout" not in go(folder, *words).stderr


def test_a_script_runs_where_the_working_directory_is_gone(tmp_path):
    (tmp_path / "main.py").write_text(
        "import os\nimport pyexp\n\n"
        "@pyexp.experiment(name='e')\ndef experiment(config):\n    return 1\n\n"
        "if __name__ == '__main__':\n"
        "    here = os.path.abspath('.')\n    os.mkdir('gone')\n    os.chdir('gone')\n    os.rmdir(os.getcwd())\n"
        "    experiment.run([{'name': 'a'}], output_dir=os.path.join(here, 'out'), executor='inline')\n"
    )
    ended = subprocess.run([sys.executable, "main.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout.split()) == (0, ["name", "value", "a", "1"]), ended.stderr
