"""The command line of a script: its words, what they say, how to type them again, and the lines that answer them."""

import os
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

from pyexp.errors import UsageError
from pyexp.look.screen import say, tell
from pyexp.options import FLAGS, GROUPS, OVERRIDE_HELP, checked, default_of, spelled, unknown_flag, without_flags

if TYPE_CHECKING:
    import argparse


#: Folders of installed packages.
_INSTALLED = {"site-packages", "dist-packages"}
#: The options that choose the run and what to do with it. `-k` is not one: it is kept in the command to type again.
_WHICH = {"timestamp", "resume", "report", "rerun", "last_failed", "dry_run", "list_runs"}


def command_line(caller: FrameType) -> list[str] | None:
    """The words of the command line, if it is meant for the call of `run()` in this frame; None otherwise.

    It is meant for the script or installed entry point that was started, and for what these call. It is not meant for a
    call through a library: a test runner has its own arguments, and a library such as click has parsed them already.
    A notebook, a prompt, `python -c` and a run inside a cell have no command line either. A note says that words are
    not read.
    """
    if getattr(sys.modules.get("pyexp.worker.cell"), "in_cell", False):
        return None
    if sys.argv[:1] == ["-c"]:
        _unread("the program was started with python -c")
        return None
    if caller.f_globals.get("__name__") == "__main__":
        return sys.argv[1:] if was_started(caller.f_globals) else None
    between, frame = [], caller
    while not (frame.f_globals.get("__name__") == "__main__" and frame.f_code.co_name == "<module>"):
        between.append(frame)
        if frame.f_back is None:  # a thread, or what runs without a script
            return None
        frame = frame.f_back
    file = Path(frame.f_code.co_filename)
    is_of_python = Path(os.__file__).parent in file.parents and not _INSTALLED & set(file.parts)
    if is_of_python or not was_started(frame.f_globals):  # of Python: python -m doctest main.py
        return None
    libraries = [each for each in between if _is_library(each, _package(caller))]
    if not libraries:
        return sys.argv[1:]
    if libraries[-1] is not between[-1]:  # otherwise the program is the library's
        _unread(f"{_package(libraries[0])!r} calls run()")
    return None


def _unread(reason: str) -> None:
    """Write a note that the command line is not read, with the reason, if there are words on it."""
    if sys.argv[1:]:
        tell(
            f"note: the command line ({' '.join(sys.argv[1:])}) is not read, because {reason}; "
            "run(argv=sys.argv[1:]) reads it, and run(argv=[]) switches off this note"
        )


def typed_words(started: Sequence[str], script: str | None) -> list[str]:
    """The words after the script, in the words that started Python. With `-m cProfile main.py`, main.py is the script.

    >>> typed_words(["python", "-Wignore", "-X", "dev", "main.py", "--data", "x"], "main.py")
    ['--data', 'x']
    >>> typed_words(["python", "-Im", "package", "-j", "2"], None)
    ['-j', '2']
    """
    rest = iter(started[1:])
    for word in rest:
        if not word.startswith("-") or word == "-":
            return list(rest)
        letter = "" if word.startswith("--") else next((char for char in word[1:] if char in "XWmc"), "")
        if word == "--check-hash-based-pycs" or (letter and word.index(letter, 1) == len(word) - 1):
            next(rest, None)
        if letter in ("m", "c"):
            break
    words = list(rest)
    behind = [os.path.abspath(word) for word in words] if script else []
    at = behind.index(os.path.abspath(script)) + 1 if script and os.path.abspath(script) in behind else 0
    return words[at:]


def without_words(words: Sequence[str], some: Sequence[str]) -> list[str] | None:
    """The words without some of them, which stand there in this order. None if they do not.

    >>> without_words(["--data", "x", "-j", "2"], ["-j", "2"]), without_words(["-x"], ["-j", "2"])
    (['--data', 'x'], None)
    """
    left, wanted = [], list(some)
    for word in words:
        if wanted and word == wanted[0]:
            del wanted[0]
        else:
            left.append(word)
    return None if wanted else left


def was_started(namespace: Mapping[str, Any]) -> bool:
    """Whether this is the script that was started: the file, folder or archive in `sys.argv[0]`, or stdin."""
    started, file = Path(sys.argv[0] if sys.argv else ""), Path(namespace.get("__file__") or "<none>")
    if sys.argv and sys.argv[0] and started.name in ("", ".."):  # `python .`
        return file.name == "__main__.py"
    other = {"__main__.py": file.parent.name, "<stdin>": "-"}.get(file.name, file.name)
    return _program(started.name) in (_program(file.name), _program(other))


def _program(name: str) -> str:
    """The name without the suffix that Windows adds to an entry point."""
    return re.sub(r"(-script\.pyw?|\.exe)$", "", name)


def _package(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]


def _is_library(frame: FrameType, own: str) -> bool:
    """Whether this is the code of a library other than the caller's own package."""
    package = _package(frame)
    is_installed = _INSTALLED & set(Path(frame.f_code.co_filename).parts)
    return package != own and (bool(is_installed) or package in ("unittest", "doctest"))


def parser(prog: str | None = None) -> "argparse.ArgumentParser":
    """The parser for the table of options. It raises `UsageError` for a wrong command line."""
    import argparse  # imported only to read a command line

    class Parser(argparse.ArgumentParser):
        def error(self, message: str) -> NoReturn:
            raise UsageError(message)

        def print_help(self, file: Any = None) -> None:
            say(self.format_help().rstrip())

    made = Parser(
        prog=prog,
        usage="%(prog)s [options] [key=value ...]",
        description="Run the experiment for each of its configs, load what is finished, and report on the results.",
        epilog="The --no- form of a switch (--no-check) undoes it if the script has set it. Results are kept below "
        "DIR/NAME/TIMESTAMP. Exit status: 0, 1 (--check, and a cell failed), 2 (wrong usage), 75 (--stop-after left "
        "cells), 130 (Ctrl-C).",
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    made.add_argument("overrides", nargs="*", metavar="key=value", help=OVERRIDE_HELP)
    for title, options in GROUPS.items():
        group = made.add_argument_group(title)
        for option in options:
            if option.metavar is not None:
                words, action = option.help + default_of(option), "append" if option.repeats else "store"
                group.add_argument(*option.flags, dest=option.field, metavar=option.metavar, action=action, help=words)
                continue
            switch: dict[str, Any] = {"dest": option.field, "action": "store_const"}
            group.add_argument(*option.flags, const=option.sets, help=option.help, **switch)
            if option.off is not None:
                group.add_argument(option.off, const=not option.sets, help=argparse.SUPPRESS, **switch)
    return made


def parse(argv: Sequence[str], prog: str | None = None) -> dict[str, Any]:
    """The options on a command line, by field of `Options`. Fields that it does not name are absent.

    Raises `UsageError` for an unknown flag, naming the nearest known one, or for a wrong value. `--help` prints the
    help and exits.
    """
    if not argv:
        return {}
    found, unknown = parser(prog).parse_known_intermixed_args(list(argv))
    single = [word for word in argv if re.match("-[^-]", word) and f"-{word.partition('=')[0]}" in FLAGS]
    for argument in [*single, *unknown]:  # argparse takes -jobs for -j with the value "obs"
        raise UsageError(unknown_flag(argument.partition("=")[0]))
    said = {key: tuple(value) if isinstance(value, list) else value for key, value in vars(found).items()}
    return checked({key: value for key, value in said.items() if value != ()}, "the command line")


def command_again(typed: Mapping[str, Any], words: Sequence[str] | None) -> str:
    """The command that starts the script with the same words, except those that choose the run or its cells.

    `words` are those that were read. `""` if the command line was not read, or if the script has made them up.
    """
    main = sys.modules.get("__main__")
    path, spec = getattr(main, "__file__", None), getattr(main, "__spec__", None)
    everything = typed_words(sys.orig_argv, path if spec is None else None)
    own = None if words is None else without_words(everything, words)
    if not path or own is None:
        return ""
    name = "__main__" if spec is None else spec.name
    if spec is not None and name == "__main__":  # a folder or an archive was started
        path = os.path.dirname(path)
    with suppress(OSError, ValueError):  # the working directory is gone, or on another drive
        has_moved = bool(sys.argv[:1]) and os.path.abspath(sys.argv[0]) != os.path.abspath(path)
        is_typed = has_moved and name == "__main__" and sys.argv[0] in sys.orig_argv
        path = sys.argv[0] if is_typed else os.path.relpath(path)  # after a chdir, the terminal is where it was
    program = [path] if name == "__main__" else ["-m", name.removesuffix(".__main__")]
    kept = {key: value for key, value in typed.items() if key not in _WHICH or value is False}
    return shlex.join(["python", *program, *(without_flags(everything, _WHICH) if own else spelled(kept))])
