"""Where everything of a run lies: the names of its files and folders, and the runs of an experiment.

Knows paths and when a run began; not what is in a cell's files.
"""

import os
import re
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from pyexp.errors import StoreError
from pyexp.plan import Cell, latest, unused
from pyexp.store import files

RESULT = "result.pkl"
RECORD = "record.json"
LOG = "log.txt"
RUN = "run.json"
HISTORY = "history.jsonl"
CODE = "code"
CLAIMS = ".claims"
IGNORE = ".gitignore"

#: How a new run's folder is called: the local time at its start.
TIMESTAMP = "%Y-%m-%d_%H-%M-%S"

# A run's file names each of its cells and may be long; when the run began is said in its first lines.
_HEAD = 4096
_BEGAN = re.compile(rb'^ "started": ([0-9]{1,12}(?:\.[0-9]+)?),?$', re.MULTILINE)
_CELL = re.compile("^[^.].*-[0-9a-f]{12}$")
_SCRIPT = re.compile(rb'^ "script": "([^"]*)",?$', re.MULTILINE)
_FUNCTION = re.compile(rb'^ "function": "([^"]*)",?$', re.MULTILINE)


class Run(NamedTuple):
    """A run's folder, by its absolute path, and whether what is saved there has to survive a power cut.

    `trust` names a user whose results are loaded too, or is `all`.
    """

    path: str
    durable: bool = True
    trust: str = ""

    def folder(self, cell: Cell) -> str:
        """The cell's own folder."""
        return f"{self.path}{os.sep}{cell.folder}"

    def file(self, cell: Cell, name: str) -> str:
        """A file in the cell's folder."""
        return f"{self.path}{os.sep}{cell.folder}{os.sep}{name}"


def top(output_dir: str | os.PathLike[str]) -> str:
    """The absolute path of the folder that all results are kept in; `~` is the home folder."""
    return os.path.abspath(os.path.expanduser(output_dir))


def home(output_dir: str | os.PathLike[str], name: str) -> str:
    """The folder of an experiment's runs."""
    return os.path.join(top(output_dir), name)


class Begun(NamedTuple):
    """A run in an experiment's folder: when it began, in seconds since 1970, its name, and the script and the function
    that it was begun with, `""` where nobody knows.
    """

    started: float
    name: str
    script: str = ""
    function: str = ""


def runs(base: str) -> list[Begun]:
    """The runs in an experiment's folder. Raises `StoreError` if it cannot be read."""
    try:
        entries = [entry.name for entry in os.scandir(base) if entry.is_dir()]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StoreError(f"cannot look into {base}: {error.strerror}") from None
    return [found for name in entries if (found := run_at(base, name)) is not None]


def run_at(base: str, name: str) -> Begun | None:
    """The run of that name; None if there is none."""
    path = os.path.join(base, name)
    head = files.head(os.path.join(path, RUN), _HEAD)
    if head is None and not _any(path, _looks_begun):
        return None
    script, function = (
        "" if found is None else found[1].decode("utf-8", "replace")
        for found in (_SCRIPT.search(head or b""), _FUNCTION.search(head or b""))
    )
    return Begun(_start(path, head), name, script, function)


def beginning(run: Run) -> float:
    """When the run began; of one that begins now, a time after that of all others, also if the clock has gone back."""
    head = files.head(os.path.join(run.path, RUN), _HEAD)
    if head is not None or _any(run.path, _looks_like_cell):
        return _start(run.path, head)
    return max([time.time(), *(other.started + 0.001 for other in runs(os.path.dirname(run.path)))])


def _start(path: str, head: bytes | None) -> float:
    """What the description's first lines say; if it is damaged or gone, what the folder's name or its time says."""
    said = _BEGAN.search(head or b"")
    if said is not None:
        return float(said[1])
    with suppress(ValueError, OverflowError):
        return time.mktime(time.strptime(os.path.basename(path)[:19], TIMESTAMP))
    with suppress(OSError):
        return os.stat(path).st_mtime
    return 0.0


def _any(path: str, is_sign: Callable[[os.DirEntry[str]], bool]) -> bool:
    with suppress(OSError), os.scandir(path) as entries:
        return any(map(is_sign, entries))
    return False


def _looks_begun(entry: os.DirEntry[str]) -> bool:
    """Whether this is what a run leaves in its folder, however early it was killed."""
    return entry.name == CLAIMS or files.is_temporary(entry.name) or _looks_like_cell(entry)


def _looks_like_cell(entry: os.DirEntry[str]) -> bool:
    return (
        _CELL.search(entry.name) is not None
        and entry.is_dir(follow_symlinks=False)
        and any(os.path.lexists(os.path.join(entry.path, name)) for name in (RECORD, RESULT))
    )


def cell_folders(run: Run) -> set[str]:
    """The names of the folders of cells that are there, of whatever grid."""
    with suppress(OSError), os.scandir(run.path) as entries:
        return {entry.name for entry in entries if _CELL.search(entry.name) and entry.is_dir(follow_symlinks=False)}
    return set()


def latest_run(base: str, is_meant: Callable[[Begun], bool] = lambda begun: True) -> str | None:
    """The name of the run that began last, of those that are meant; None where there is none."""
    return latest((one.started, one.name) for one in runs(base) if is_meant(one))


def make_run(
    output_dir: str | os.PathLike[str], name: str, timestamp: str | bool, *, durable: bool, trust: str = ""
) -> Run:
    """The folder for a run, made if need be: `timestamp` names it, True stands for a new one, False for no such level.

    Raises `StoreError` if it cannot be made or written to.
    """
    above = top(output_dir)
    base = os.path.join(above, name)
    try:
        files.make_folders(above, durable=durable)
        _keep_out_of_git(above)
        files.make_folders(base, durable=durable)
        path = _new_folder(base) if timestamp is True else base if timestamp is False else os.path.join(base, timestamp)
        files.make_folders(path, durable=durable)
    except OSError as error:
        raise unusable(base, error) from None
    return Run(path, durable, trust)


def _keep_out_of_git(top: str) -> None:
    """Give a folder that has nothing in it yet its `.gitignore`: who removes it later does not get it back."""
    if all(map(files.is_temporary, os.listdir(top))):
        files.remove_temporary(top)
        with suppress(OSError):  # another process that begins now has swept this one's away, and writes its own
            files.write(os.path.join(top, IGNORE), [b"*\n"], durable=False)


def _new_folder(base: str) -> str:
    """A folder of its own for a run that begins now, whoever else begins one in this second."""
    while True:
        name = unused(time.strftime(TIMESTAMP), os.listdir(base))
        with suppress(FileExistsError):
            os.mkdir(os.path.join(base, name))
            return os.path.join(base, name)


def unusable(path: str, error: OSError) -> StoreError:
    where = "" if error.filename in (None, path) else f" ({error.filename})"
    return StoreError(f"cannot write results below {path}: {error.strerror}{where}; give another --output-dir")
