"""The names of a run's files and folders, and the runs of an experiment.

Knows paths and when a run began. Does not know what is in a cell's files.
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

#: Begins the name of what was a cell's folder before its rerun; ends the name of what was set aside.
BEFORE, UNREADABLE = ".before-", ".unreadable"
#: Names the temporary file that an attempt elsewhere watches: it ends when that is removed.
WANTED = "wanted"

#: The name of a new run's folder: the local time of its start.
TIMESTAMP = "%Y-%m-%d_%H-%M-%S"

# Bytes to read of `run.json`, which may be long: its first lines say when the run began.
_HEAD = 4096
_BEGAN = re.compile(rb'^ "started": ([0-9]{1,12}(?:\.[0-9]+)?),?$', re.MULTILINE)
#: The names of cells' folders.
CELL = re.compile("^[^.].*-[0-9a-f]{12}$")
_MADE_BY = [re.compile(rb'^ "%b": "([^"]*)",?$' % key, re.MULTILINE) for key in (b"script", b"function", b"joined")]


class Run(NamedTuple):
    """A run's folder: its absolute path, and whether files there have to survive a power cut.

    `trust` names another user whose results to load, or is `all`.
    """

    path: str
    durable: bool = True
    trust: str = ""

    @property
    def claims(self) -> str:
        """The folder of the claims to its cells, and to `run.json`."""
        return f"{self.path}{os.sep}{CLAIMS}"

    def folder(self, cell: Cell) -> str:
        """The cell's own folder."""
        return f"{self.path}{os.sep}{cell.folder}"

    def file(self, cell: Cell, name: str) -> str:
        """A file in the cell's folder."""
        return f"{self.path}{os.sep}{cell.folder}{os.sep}{name}"


def absolute(path: str | os.PathLike[str]) -> str:
    """The absolute path. Expands `~`."""
    return os.path.abspath(os.path.expanduser(path))


def home(output_dir: str | os.PathLike[str], name: str) -> str:
    """The folder of an experiment's runs."""
    return os.path.join(absolute(output_dir), name)


class Begun(NamedTuple):
    """A run in an experiment's folder: its start (seconds since 1970), its name, the script and function that began it
    (`""` if unknown), and each `script.function` that has joined it, with slashes between them.
    """

    started: float
    name: str
    script: str = ""
    function: str = ""
    joined: str = ""


def runs(base: str) -> list[Begun]:
    """The runs in an experiment's folder. Raises `StoreError` if the folder cannot be read."""
    return [found for name in names_in(base) if (found := run_at(base, name)) is not None]


def names_in(path: str) -> list[str]:
    """The names in a folder; none if there is no folder. Raises `StoreError` if it cannot be read."""
    try:
        return os.listdir(path)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StoreError(f"cannot look into {path}: {error.strerror}") from None


def run_at(base: str, name: str) -> Begun | None:
    """The run of this name; None if it does not exist."""
    path = os.path.join(base, name)
    head = files.head(os.path.join(path, RUN), _HEAD)
    if head is None and not _any(path, _looks_begun):
        return None
    said = [found[1].decode("utf-8", "replace") if (found := each.search(head or b"")) else "" for each in _MADE_BY]
    return Begun(_start(path, head), name, *said)


def beginning(run: Run) -> float:
    """The start of the run. For a new run it is later than that of all others, even if the clock was set back."""
    head = files.head(os.path.join(run.path, RUN), _HEAD)
    if head is not None or _any(run.path, _looks_like_cell):
        return _start(run.path, head)
    return max([time.time(), *(other.started + 0.001 for other in runs(os.path.dirname(run.path)))])


def _start(path: str, head: bytes | None) -> float:
    """The start of a run from the head of its `run.json`, or else from the name or the time of its folder."""
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
    """Whether a run leaves such an entry in its folder, even if it was killed at once."""
    return entry.name == CLAIMS or files.is_temporary(entry.name) or _looks_like_cell(entry)


def _looks_like_cell(entry: os.DirEntry[str]) -> bool:
    return CELL.search(entry.name) is not None and entry.is_dir(follow_symlinks=False) and is_cell(entry.path)


def is_cell(path: str) -> bool:
    """Whether the folder at a path has what a cell leaves when it ends."""
    return any(os.path.lexists(os.path.join(path, name)) for name in (RECORD, RESULT))


def cell_folders(run: Run) -> set[str]:
    """The names of all cells' folders in a run, of any grid."""
    with suppress(OSError), os.scandir(run.path) as entries:
        return {entry.name for entry in entries if CELL.search(entry.name) and entry.is_dir(follow_symlinks=False)}
    return set()


def runs_below(folder: str, levels: int = 2) -> list[str]:
    """The absolute paths of the runs at a folder and up to so many levels below it. Raises OSError.

    An output folder has experiments and these have runs, so that is all there is below it.
    """
    folder = os.path.abspath(folder)
    is_described = os.path.lexists(os.path.join(folder, RUN))
    found, is_sign = [], is_described
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        is_cell = CELL.search(entry.name) is not None and (is_described or _looks_like_cell(entry))
        is_sign = is_sign or is_cell or entry.name == CLAIMS
        if levels and not is_cell and entry.name[0] != "." and entry.is_dir():
            with suppress(OSError):
                found += runs_below(entry.path, levels - 1)
    return [folder, *found] if is_sign else found


def latest_run(base: str, is_meant: Callable[[Begun], bool] = lambda begun: True) -> str | None:
    """The name of the last run to begin among those that `is_meant` accepts; None without any."""
    return latest((one.started, one.name) for one in runs(base) if is_meant(one))


def make_run(
    output_dir: str | os.PathLike[str], name: str, timestamp: str | bool, *,
    durable: bool, trust: str = "", like: str = "",
) -> Run:  # fmt: skip
    """Make the folder for a run, unless it exists. `timestamp` is its name, True: a new one, False: no such level.

    A new name is `like` if that is given and free.

    Raises `StoreError` if it cannot be made or written to.
    """
    above = absolute(output_dir)
    base = os.path.join(above, name)
    try:
        files.make_folders(above, durable=durable)
        if all(map(files.is_temporary, os.listdir(above))):  # an empty one, so that a user can remove what is written
            files.remove_temporary(above)
            with suppress(OSError):  # another process has removed our temporary file, and writes its own
                files.write(os.path.join(above, IGNORE), [b"*\n"], durable=False)
        files.make_folders(base, durable=durable)
        path = os.path.join(base, timestamp) if isinstance(timestamp, str) else base
        while timestamp is True and path == base:  # two runs that begin in the same second get two folders
            with suppress(FileExistsError):
                there = os.listdir(base)
                new = like if like and like not in there else unused(time.strftime(TIMESTAMP), there)
                os.mkdir(os.path.join(base, new))
                path = os.path.join(base, new)
        files.make_folders(path, durable=durable)
    except OSError as error:
        raise unusable(base, error) from None
    return Run(path, durable, trust)


def unusable(path: str, error: OSError) -> StoreError:
    where = "" if error.filename in (None, path) else f" ({error.filename})"
    return StoreError(f"cannot write results below {path}: {error.strerror}{where}; give another --output-dir")
