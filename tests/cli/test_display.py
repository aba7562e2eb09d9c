"""What a person sees of a run: live on a terminal, plain lines elsewhere, all of it on stderr."""

import io
import os
import pty
import re
import select
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyrsistent import pmap

from pyexp.look.folding import MOST_KINDS, failure_lines
from pyexp.look.progress import MOST_FAILURES, Progress, pace, span
from pyexp.results import Record, done, record_of
from pyexp.text import printable
from pyexp.worker.outcome import failed
from tests.cli.scripts import SCRIPT, environment, go, ran, write

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


def on_terminal(folder: Path, *arguments: str, **changes: str) -> tuple[str, str]:
    """What `python main.py …` writes to a terminal on stderr, as it came, and what to stdout, a pipe."""
    leader, follower = pty.openpty()
    variables = environment(**{"TERM": "xterm-256color", "COLUMNS": "100", "LINES": "24", **changes})
    command = [sys.executable, "main.py", *arguments]
    started = subprocess.Popen(command, cwd=folder, env=variables, stdout=subprocess.PIPE, stderr=follower)
    os.close(follower)
    written = b""
    with suppress(OSError):  # how a terminal says that nobody is at the other end any more
        while True:
            ready, _, _ = select.select([leader], [], [], 60)
            part = os.read(leader, 1 << 16) if ready else b""
            if not part:
                break
            written += part
    os.close(leader)
    out, _ = started.communicate(timeout=60)
    return written.decode(), out.decode()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path)
    return tmp_path


def is_live(written: str) -> bool:
    """Whether lines were taken back: the mark of a live display."""
    return "\x1b[1A" in written or "\x1b[2K" in written


def test_on_a_terminal_the_display_is_live_and_stdout_is_the_reports_alone(folder: Path) -> None:
    written, out = on_terminal(folder, "wait=0.3", "-j", "2")
    assert is_live(written)
    seen = ESCAPE.sub("", written)
    assert re.search(r"0/6  6 left \([12] running\)", seen)
    assert {int(number) for number in re.findall(r"(\d+) running", seen)} <= {1, 2}
    assert re.search(r"\d\.\d s  exp_lr0\.1_seed0", seen)
    assert re.search(r"[1-5]/6  [1-5] done, .*cells/s, \d\.\d s to go", seen)
    failed = r"\[[3-6]/6\] exp_lr1\.0_seed\d failed after [\d.]+ s: ValueError: diverged"
    assert len(re.findall(failed + r" \(main\.py:13 in experiment\)\r?\n", seen)) == 3
    assert seen.count("  3 × ValueError: diverged\r\n      main.py:13 in experiment, first in exp_lr1.0_seed") == 1
    assert "done in" not in seen
    assert out.startswith("name")
    assert "\x1b" not in out
    assert len(ran(folder)) == 6


def test_no_color_means_no_colour(folder: Path) -> None:
    written, _ = on_terminal(folder, "wait=0.2", "-k", "*seed0", NO_COLOR="1")
    assert is_live(written)
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]([;m]|8;)", written)


@pytest.mark.parametrize("changes", [{"CI": "true"}, {"TERM": "dumb"}, {"TERM": ""}])
def test_where_a_live_display_is_unwelcome_there_are_lines(folder: Path, changes: dict[str, str]) -> None:
    written, _ = on_terminal(folder, "-k", "*seed0", **changes)
    assert "\x1b" not in written
    assert "[1/2] exp_lr0.1_seed0 done in" in written


@pytest.mark.parametrize("arguments", [["--executor", "inline"], ["-s"]])
def test_what_cells_write_to_the_terminal_is_not_overdrawn(folder: Path, arguments: list[str]) -> None:
    written, _ = on_terminal(folder, "-k", "*seed0", *arguments)
    assert not is_live(written)
    assert "[1/2]" in written


def test_quiet_on_a_terminal_is_quiet(folder: Path) -> None:
    written, _ = on_terminal(folder, "-q", "-k", "*lr0.1*")
    assert written == ""


def test_elsewhere_there_is_a_line_for_each_cell(folder: Path) -> None:
    lines = go(folder, "-k", "*seed0").stderr.splitlines()
    assert re.fullmatch(r"out/mnist/\S+: 2 cells: 2 to run", lines[0])
    assert re.fullmatch(r"\[1/2\] exp_lr0\.1_seed0 done in \d+\.\d s", lines[1])
    reason = r"ValueError: diverged \(main\.py:13 in experiment\)"
    assert re.fullmatch(r"\[2/2\] exp_lr1\.0_seed0 failed after [\d.]+ s: " + reason, lines[2])
    assert re.fullmatch(r"ran 2 cells in \d+\.\d s: 1 done, 1 failed", lines[3])
    assert re.fullmatch("  exp_lr1.0_seed0: " + reason, lines[5])
    assert re.fullmatch(r"      log: out/mnist/\S+/log\.txt", lines[6])


def test_without_a_log_there_is_no_line_that_leads_to_one(tmp_path: Path) -> None:
    threads = "class Mine(pyexp.Executor):\n    def run(self, fn, config, result_path):\n        return fn(config)\n\n"
    write(tmp_path, SCRIPT.replace("@pyexp", f"{threads}@pyexp").replace("run()", "run(executor=Mine())"))
    told = go(tmp_path, "-k", "*seed0").stderr
    assert told.count("ValueError: diverged (main.py:17 in experiment)") == 2
    assert "log:" not in told
    assert "log:" not in go(tmp_path, "-k", "*seed0", "-s", "--executor", "inline").stderr


def test_with_nothing_to_run_there_is_one_line(folder: Path) -> None:
    go(folder, "--timestamp", "t", "--executor", "inline", "fixed=True")
    again = go(folder, "--timestamp", "t", "fixed=True")
    assert again.stderr == "out/mnist/t: 6 cells: 6 to load\n"


def test_a_name_cannot_move_the_cursor(tmp_path: Path) -> None:
    stream = io.StringIO()
    told = Progress(1, stream=stream)
    told.cell("folder", record_of("a\x1b[2J\nb", pmap(), "abc", failed(ValueError("x\x1b[31m"))), "/log.txt")
    told.summary([], "")
    assert "\x1b" not in stream.getvalue()
    assert "a\\x1b[2J\\nb" in stream.getvalue()


def record(name: str, outcome: dict[str, object]) -> Record:
    return record_of(name, pmap(), f"hash of {name}", outcome, seconds=1.0)


@given(st.lists(st.sampled_from([ValueError("a"), ValueError("b"), KeyError("a")]), max_size=100), st.booleans())
def test_failures_are_told_one_by_one_up_to_ten_and_then_counted(errors: list[Exception], verbose: bool) -> None:
    stream = io.StringIO()
    told = Progress(1000, stream=stream, quiet=not verbose, verbose=verbose)
    failures = [(record(f"c{i}", failed(error)), f"/{i}.txt") for i, error in enumerate(errors)]
    for failure in failures:
        told.cell("folder", *failure)
    lines = stream.getvalue().splitlines()
    singly = len(errors) if verbose else MOST_FAILURES
    for i, error in enumerate(errors[:singly]):
        assert lines[i] == f"[{i + 1}/1000] c{i} failed after 1.0 s: {type(error).__name__}: {error}"
    counted = [number for number in (20, 40, 80) if number <= len(errors) and not verbose]
    assert [re.findall(r" (\d+) cells have failed;", line) for line in lines[singly:]] == [[str(n)] for n in counted]


@given(st.lists(st.integers(0, 2 * MOST_KINDS), max_size=100))
def test_the_summary_has_the_failures_by_kind_and_counts_each_once(kinds: list[int]) -> None:
    stream = io.StringIO()
    failures = [(record(f"c{i}", failed(ValueError(f"kind {kind}"))), f"/{i}.txt") for i, kind in enumerate(kinds)]
    Progress(1000, stream=stream, quiet=True).summary(failures, "type this")
    text = stream.getvalue()
    counted = [int(number) for number in re.findall(r"^  (?:… and )?(\d+) (?:×|more)", text, re.M)]
    assert sum(counted) + len(re.findall(r"^  c\d+: ", text, re.M)) == len(kinds)
    for kind in set(kinds) if len(set(kinds)) <= MOST_KINDS else ():
        first = f"c{kinds.index(kind)}"
        assert re.search(rf"{first}: ValueError: kind {kind}\n|× ValueError: kind {kind}\n +first in {first}\n", text)
        assert text.count(f"ValueError: kind {kind}\n") == 1
        assert f"      log: /{kinds.index(kind)}.txt\n" in text
    assert text.endswith("type this\n" if kinds else "")


@given(st.lists(st.sampled_from(["loss is nan at step 4", "loss is nan at step 8", ""]), min_size=2, max_size=4))
def test_a_group_shows_a_message_as_the_first_unless_all_have_it(messages: list[str]) -> None:
    records = []
    for message in messages:
        try:
            raise ValueError(*([message] if message else []))
        except ValueError as error:
            records.append(record("c", failed(error)))
    whole = f"ValueError: {messages[0]}" if messages[0] else "ValueError"
    told = whole if len(set(messages)) == 1 else f"ValueError, first: {messages[0] or 'no message'}"
    assert failure_lines(records, {}, {})[0] == f"{len(messages)} × {told}"


def test_an_error_without_a_message_is_its_type() -> None:
    stream = io.StringIO()
    Progress(1, stream=stream).summary([(record("a", failed(AssertionError())), "")], "type this")
    assert "  a: AssertionError\n" in stream.getvalue()


def test_waiting_for_others_is_said_once() -> None:
    stream = io.StringIO()
    told = Progress(2, stream=stream)
    told.waiting(2)
    told.waiting(1)
    assert stream.getvalue() == "waiting for 2 cells that other processes have claimed\n"


def test_a_closed_stream_is_no_error() -> None:
    stream = io.StringIO()
    stream.close()
    told = Progress(1, stream=stream)
    told.began("/out", "1 cell")
    told.cell("folder", record("a", done(1, [])), "/log.txt")
    told.summary([], "")
    told.close()
    assert told.done == 1


@given(st.floats(0, 1e7))
def test_a_time_span_is_read_back_within_its_precision(seconds: float) -> None:
    told = span(seconds)
    days, _, clock = told.rpartition(" d ")
    if told.endswith(" s"):
        assert abs(float(told[:-2]) - seconds) <= 0.05 + 1e-9
        return
    parts = [int(part) for part in clock.split(":")]
    whole = sum(part * 60**i for i, part in enumerate(reversed(parts))) + 86400 * int(days or 0)
    assert abs(whole - seconds) <= 0.5


@given(st.integers(1, 1000), st.integers(0, 1000), st.floats(0.001, 1e6))
def test_the_pace_is_told_once_a_cell_has_ended(total: int, ended: int, seconds: float) -> None:
    told = pace(min(ended, total), total, seconds)
    assert (told == "") == (ended == 0)
    assert pace(ended, total, 0.0) == ""


@given(st.text())
def test_what_is_printed_of_a_name_can_be_printed(text: str) -> None:
    assert printable(text).isprintable()
