"""What cells and runs are called on disk: one portable component, whatever anybody writes."""

import os
import re
import string
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pyexp import UsageError
from pyexp.plan import LONGEST_NAME, component, folder_name, latest, unused
from pyexp.testing.strategies import names

PLAIN = st.text(string.ascii_letters + string.digits + "_.-+=", min_size=1, max_size=30)
#: What Windows keeps for devices, also with an extension.
RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?$")


@given(names())
@example("../../etc/passwd")
@example('a/b\\c:d*e?f"g<h>i|j\0k\n')
@example("nul.txt")
@example("CON")
@example("x" * 300)
@example("\U0001f600" * 90)
@example("com1" + "." * 130)
@example(".hidden")
@example("-rf")
@example("")
def test_a_folder_name_is_one_portable_component_whatever_the_name(name: str) -> None:
    made = folder_name(name)
    assert 0 < len(made.encode()) <= LONGEST_NAME
    assert made.isascii()
    assert made.isprintable()
    assert not set(made) & set('/\\:*?"<>| ')
    assert made[0] not in ".-"
    assert not RESERVED.match(f"{made}-abc")
    assert not RESERVED.match(made)
    run = Path("/runs/one")
    assert Path(os.path.normpath(run / f"{made}-abc")).parent == run


@given(PLAIN)
def test_a_plain_name_is_unchanged(name: str) -> None:
    assert folder_name(name) == name or name[0] in ".-" or RESERVED.match(name)


@given(names())
def test_a_folder_name_is_a_folder_name_already(name: str) -> None:
    assert folder_name(folder_name(name)) == folder_name(name)


@given(names())
@example("..")
@example("a\x00")
@example("\ud800")
@example("é" * 101)
def test_what_is_a_component_is_one_name_below_any_folder(text: str) -> None:
    try:
        made = component(text, "timestamp")
    except UsageError:
        return
    assert made == text
    assert Path("/runs", text).parent == Path("/runs")
    assert len(os.fsencode(text)) <= 200


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("..", "names a folder above"),
        ("../x", "holds a path separator"),
        ("a\\b", "holds a path separator"),
        ("a\nb", "holds a control character"),
        (".a", "begins with a dot"),
        ("x" * 201, "is longer than 200 bytes"),
        ("\ud800", "holds half a surrogate pair"),
    ],
)
def test_what_is_no_component_is_refused_with_the_reason(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=f"name {re.escape(repr(text))} {words}"):
        component(text, "name")


@given(st.dictionaries(PLAIN, st.floats(0, 1e9), min_size=1))
def test_the_latest_run_is_one_that_none_began_after(runs: dict[str, float]) -> None:
    name = latest((start, name) for name, start in runs.items())
    assert name is not None
    assert runs[name] == max(runs.values())


def test_of_runs_that_began_together_the_last_name_wins_by_its_number() -> None:
    assert latest([(1.0, "12-00-2"), (1.0, "12-00-10"), (1.0, "12-00-9"), (0.0, "99")]) == "12-00-10"


def test_without_runs_there_is_no_latest() -> None:
    assert latest([]) is None


@given(st.lists(st.sampled_from(["a", "a-2", "a-3", "b"])))
def test_an_unused_name_is_not_taken(taken: list[str]) -> None:
    assert unused("a", taken) not in taken
