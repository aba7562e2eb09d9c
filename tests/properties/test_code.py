"""The fingerprint of code: what changes it, and what does not."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyexp.code import Code, Entry, difference, fingerprint, same
from tests.properties.edits import CHANGES, NEUTRAL, PACKAGES, PAIRS, PROJECT

ENTRIES = [Entry("main", "experiment"), Entry("main", "prepare")]


def code(project: dict[str, str]) -> Code:
    """The fingerprint of the project's experiment and initializer."""
    return fingerprint(ENTRIES, project, PACKAGES)


def edited(module: str, old: str, new: str) -> dict[str, str]:
    """The project after an edit, which there must be."""
    assert old in PROJECT[module]
    return PROJECT | {module: PROJECT[module].replace(old, new)}


@pytest.mark.parametrize(("module", "old", "new"), [row[1:] for row in NEUTRAL], ids=[row[0] for row in NEUTRAL])
def test_a_neutral_edit_changes_nothing(module: str, old: str, new: str) -> None:
    before, after = code(PROJECT), code(edited(module, old, new))
    assert difference(before.parts, after.parts) == ""
    assert same(before, after) is True
    assert before == after


@pytest.mark.parametrize(("module", "old", "new", "words"), [row[1:] for row in CHANGES], ids=[row[0] for row in CHANGES])
def test_an_edit_that_matters_is_named(module: str, old: str, new: str, words: str) -> None:
    before, after = code(PROJECT), code(edited(module, old, new))
    assert difference(before.parts, after.parts) == words
    assert same(before, after) is False
    assert before.hash != after.hash


@pytest.mark.parametrize(("before", "after", "words"), [row[1:] for row in PAIRS], ids=[row[0] for row in PAIRS])
def test_a_pair_differs_by_what_it_says(before: dict[str, str], after: dict[str, str], words: str) -> None:
    old, new = (fingerprint([Entry("main", "f")], each, {"h"} & {*each}) for each in (before, after))
    assert difference(old.parts, new.parts) == words
    assert same(old, new) is not bool(words)
