"""Where a cell failed, read from its traceback's text: the last frame of the user's own code."""

import json
import traceback
from collections.abc import Callable

import pytest

from pyexp import Config
from pyexp.results import LOG_ENDS, place
from pyexp.worker.outcome import failed

LIBRARY = "/venv/lib/python3.11/site-packages/fitting.py"


def plain() -> None:
    raise ValueError("line one\nline two")


def in_library() -> None:
    json.loads("no JSON")


def in_config() -> None:
    Config(learning_rate=1).lerning_rate


def in_import() -> None:
    __import__("there_is_no_such_module")


def in_source() -> None:
    compile("a b", "elsewhere.py", "exec")


def caused() -> None:
    try:
        plain()
    except ValueError as error:
        raise RuntimeError("fit") from error


def while_handled() -> None:
    try:
        in_library()
    except ValueError:
        {}["missing"]


def group() -> None:
    members: list[Exception] = []
    for fail in (plain, caused):
        try:
            fail()
        except Exception as error:
            members.append(error)
    raise ExceptionGroup("several", [*members, ExceptionGroup("inner", members)])


def caused_by_group() -> None:
    try:
        group()
    except ExceptionGroup as error:
        raise RuntimeError("all") from error


def group_caused() -> None:
    try:
        plain()
    except ValueError as error:
        raise ExceptionGroup("several", [error]) from error


RAISING = [
    plain,
    in_library,
    in_config,
    in_import,
    in_source,
    caused,
    while_handled,
    group,
    caused_by_group,
    group_caused,
]


@pytest.mark.parametrize("fail", RAISING, ids=lambda fail: fail.__name__)
def test_it_is_the_last_frame_of_the_users_code(fail: Callable[[], None]) -> None:
    with pytest.raises(Exception) as caught:
        fail()
    frames = traceback.extract_tb(caught.value.__traceback__)
    (line,) = [frame.lineno for frame in frames if frame.name == fail.__name__]
    assert place(failed(caught.value)["traceback"]) == f"test_place.py:{line} in {fail.__name__}"


def text(*files: str) -> str:
    frames = [f'  File "{file}", line {line}, in call\n    go()\n' for line, file in enumerate(files, 1)]
    return "".join(["Traceback (most recent call last):\n", *frames, "ValueError: x\n"])


@pytest.mark.parametrize(
    "library",
    [
        LIBRARY,
        "/usr/lib/python3/dist-packages/numpy/core.py",
        "/usr/lib/python3.13/json/decoder.py",
        r"C:\Python\Lib\json\decoder.py",
        r"C:\venv\Lib\site-packages\numpy.py",
        "<frozen importlib._bootstrap>",
    ],
)
def test_frames_of_libraries_are_passed_over_while_there_are_others(library: str) -> None:
    assert place(text("/home/me/my lib/main.py", library, library)) == "main.py:1 in call"
    assert place(text(r"C:\me\main.py", library)) == "main.py:1 in call"
    assert place(text("<stdin>", library)) == "<stdin>:1 in call"
    assert place(text(LIBRARY, library)).endswith(":2 in call")


@pytest.mark.parametrize(
    "nowhere",
    ["", "ValueError: x", "Traceback (most recent call last):\nValueError: x\n", f"{LOG_ENDS}\n{text('/main.py')}"],
)
def test_where_there_is_no_frame_there_is_no_place(nowhere: str) -> None:
    assert place(nowhere) == ""
