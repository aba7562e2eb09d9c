"""`python -m pyexp`: the commands that look at an output folder, and look after it, without the script.

A command is a row of the table: its words, and the function that does it, which is imported when it is called. The
functions take the arguments and the screen, and return the exit status.
"""
# PYTHON_ARGCOMPLETE_OK

import argparse
import os
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any, NamedTuple, NoReturn, TypeAlias

from pyexp import __version__
from pyexp.errors import PyexpError, UsageError
from pyexp.look.screen import Screen, own_screen, tell

#: An argument of a command: its name or flags, and its other arguments for argparse.
Argument: TypeAlias = tuple[tuple[str, ...], Mapping[str, Any]]


class Command(NamedTuple):
    """A row of the table. `does` is where its function is below `pyexp.look`, as `module:function`."""

    name: str
    help: str
    does: str
    arguments: tuple[Argument, ...] = ()


def _argument(*names: str, **told: Any) -> Argument:
    return names, told


_FOLDER = _argument(
    "folder", metavar="FOLDER", nargs="?", default="out", help="an output folder, an experiment's, or a run (out)"
)
_RUN = _argument("run", metavar="RUN", help="a run's folder, or an experiment's for its latest run")
_YES = _argument("--yes", action="store_true", help="remove them; without it, only list them")

COMMANDS = (
    Command("ls", "list the experiments and runs below a folder", "runs:ls", (_FOLDER,)),
    Command("show", "show a run, or one of its cells: config, outputs, traceback, log", "runs:show", (
        _RUN,
        _argument("cell", metavar="CELL", nargs="?", help="a cell's name, hash or folder, or a glob of one cell"),
        _argument("-f", "--follow", action="store_true", help="go on while cells are running"),
    )),
    Command("diff", "how two cells or two runs differ; exit status 1 if they do", "differences:diff", (
        _argument("a", metavar="A", help="the folder of a cell or a run"),
        _argument("b", metavar="B", help="another one of the same kind"),
    )),
    Command("best", "the cells with the largest (or least) values of an output", "runs:best", (
        _RUN,
        _argument("metric", metavar="METRIC", help="a scalar output that is a number"),
        _argument("--max", dest="largest", action="store_true", default=True, help="the largest (the default)"),
        _argument("--min", dest="largest", action="store_false", help="the least"),
        _argument("--mean", metavar="AXIS", action="append",
                  help="rank the means along AXIS, such as seed; may be repeated"),
        _argument("-n", dest="number", metavar="N", type=int, default=10, help="the number of cells to show (10)"),
    )),
    Command("csv", "the records of a run as CSV on stdout", "runs:csv", (_RUN,)),
    Command("html", "write the page of a run, and print its path", "runs:html", (_RUN,)),
    Command("verify", "check every seal and checksum; exit status 1 if anything is damaged", "upkeep:verify",
            (_FOLDER,)),
    Command("gc", "remove what no run needs", "upkeep:gc", (_FOLDER, _YES)),
    Command("rm", "remove runs; never the newest complete run of an experiment, nor one that is running", "upkeep:rm", (
        _argument("runs", metavar="RUN", nargs="+", help="a run's folder"),
        _YES,
    )),
    Command("merge", "add the runs and cells of output folder B to A; exit status 1 if some could not be added",
            "upkeep:merge", (
        _argument("a", metavar="A", help="the folder to add to"),
        _argument("b", metavar="B", help="the folder to read"),
        _argument("--no-durable", dest="durable", action="store_false", help="do not wait for the disk: faster"),
    )),
)  # fmt: skip


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see {self.prog} --help")


def parser() -> argparse.ArgumentParser:
    """The parser that the table describes; what it refuses is a `UsageError`."""
    made = _Parser(
        prog="pyexp",
        description="Look at the results below an output folder, and look after them. Nothing is unpickled.",
        epilog="Exit status: 0, 1 (see the command), 2 (wrong usage or folder), 130 (Ctrl-C).",
        allow_abbrev=False,
    )
    made.add_argument("--version", action="version", version=f"pyexp {__version__}")
    rows = made.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for command in COMMANDS:
        row = rows.add_parser(command.name, help=command.help, description=command.help, allow_abbrev=False)
        for names, told in command.arguments:
            row.add_argument(*names, **told)
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the words say (those of the command line), and return the exit status."""
    if "_ARGCOMPLETE" in os.environ:  # a shell asks what a word may become
        from pyexp.look import completion, runs

        completion.complete(parser(), runs.COMPLETIONS)
    screen = own_screen()
    try:
        said = parser().parse_args(argv)
        if said.command is None:
            screen.write(parser().format_help())
            return 0
        module, _, name = next(row.does for row in COMMANDS if row.name == said.command).partition(":")
        does: Callable[[argparse.Namespace, Screen], int] = getattr(import_module(f"pyexp.look.{module}"), name)
        return does(said, screen)
    except KeyboardInterrupt:
        return 130
    except (PyexpError, OSError) as error:
        message = str(error)
        if isinstance(error, OSError):
            message = f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}"
        tell(f"pyexp: {' '.join(message.splitlines())}")
        return 2
    finally:
        screen.flush()
