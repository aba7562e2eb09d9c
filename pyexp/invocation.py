"""How the program was started, and whether its command line is meant for a call of `run()`.

Knows `sys.argv` and the stack; not what the words mean.
"""

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple


class Heard(NamedTuple):
    """The words to be read (None: there are none for this call), and what to say of words that are not read."""

    words: list[str] | None
    notice: str = ""


def command_line(caller: FrameType) -> Heard:
    """The command line for the call of `run()` in this frame.

    It is for the script that was started, or the program that an installed entry point starts, and for all that these
    call. It is not if a library is in between: a test runner has words of its own, and a library such as click has
    read them. A notebook, a prompt and `python -c` have no file. A run in a cell is not what was asked for.
    """
    if getattr(sys.modules.get("pyexp.worker.cell"), "in_cell", False):
        return Heard(None)
    if caller.f_globals.get("__name__") == "__main__":
        return Heard(sys.argv[1:] if _was_started(caller.f_globals) else None)
    between, frame = [], caller
    while not (frame.f_globals.get("__name__") == "__main__" and frame.f_code.co_name == "<module>"):
        between.append(frame)
        if frame.f_back is None:  # a thread, or what runs without a script
            return Heard(None)
        frame = frame.f_back
    if not _was_started(frame.f_globals):
        return Heard(None)
    libraries = [each for each in between if _is_library(each, _package(caller))]
    if not libraries:
        return Heard(sys.argv[1:])
    if libraries[-1] is between[-1] or not sys.argv[1:]:  # the program is the library's
        return Heard(None)
    words = " ".join(sys.argv[1:])
    return Heard(
        None,
        f"note: the command line ({words}) is not read, as run() is called from inside of {_package(libraries[0])!r}; "
        "run(argv=sys.argv[1:]) reads it, and run(argv=[]) leaves out this note",
    )


def _was_started(namespace: Mapping[str, Any]) -> bool:
    """Whether this is the file, or the folder or archive, that `sys.argv` begins with, or is read from stdin."""
    started, file = Path(sys.argv[0] if sys.argv else ""), Path(namespace.get("__file__") or "<none>")
    other = {"__main__.py": file.parent.name, "<stdin>": "-"}.get(file.name, file.name)
    return _program(started.name) in (_program(file.name), _program(other))


def _program(name: str) -> str:
    """The name without what Windows adds to that of an entry point."""
    return re.sub(r"(-script\.pyw?|\.exe)$", "", name)


def _package(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]


def _is_library(frame: FrameType, own: str) -> bool:
    """Whether this is the code of somebody else, who calls it for a reason of their own."""
    package = _package(frame)
    is_installed = {"site-packages", "dist-packages"} & set(Path(frame.f_code.co_filename).parts)
    return package != own and (bool(is_installed) or package in ("unittest", "doctest"))
