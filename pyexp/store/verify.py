"""What is damaged in a run: reads every file that has a seal or a checksum. Changes and unpickles nothing.

Logs, patches and the experiments' own files have no checksum. Neither has the description of a run that an earlier
pyexp wrote: only its form is checked.
"""

import os
import stat
from collections.abc import Iterator
from typing import NamedTuple

from pyexp.errors import ResultError
from pyexp.results import FORMAT, from_json
from pyexp.store import claims, files, pickling
from pyexp.store.layout import BEFORE, HISTORY, RECORD, RESULT, RUN, Run, cell_folders

#: What can be wrong, from bad to harmless: only the first two are damage.
DAMAGED, MISSING, UNKNOWN = "damaged", "missing", "unverified"


class Finding(NamedTuple):
    """A file that was found wrong or could not be verified: how bad that is, and why, in words."""

    path: str
    kind: str
    words: str

    @property
    def is_damage(self) -> bool:
        return self.kind != UNKNOWN


class Verified(NamedTuple):
    """What was read: how many files are sound, and the findings."""

    sound: int
    findings: tuple[Finding, ...]


def verified(run: Run) -> Verified:
    """What is found in a run: its description, its history, and each cell's result and record. Raises OSError."""
    busy = claims.holders(run.claims)
    # Also the folders that were set apart for a rerun.
    earlier = (name for name in os.listdir(run.path) if name.startswith(BEFORE))
    folders = sorted({*cell_folders(run), *(each for each in earlier if os.path.isdir(os.path.join(run.path, each)))})
    found = [*_descriptions(run, bool(folders))]
    for folder in folders:
        if folder in busy:  # its files may be half written
            found.append(Finding(os.path.join(run.path, folder), UNKNOWN, f"it is running {busy[folder]}"))
        else:
            found += _cell(os.path.join(run.path, folder), folder.rpartition("-")[2])
    return Verified(found.count(None), tuple(each for each in found if each is not None))


def _descriptions(run: Run, has_cells: bool) -> Iterator[Finding | None]:
    """What is found of the run's description and its history; None for each sound part."""
    for name in (RUN, HISTORY):
        path = os.path.join(run.path, name)
        try:
            content = files.read(path)
        except FileNotFoundError:
            if name == RUN and has_cells:
                yield Finding(path, MISSING, "the grid is lost")
        except OSError as error:
            yield Finding(path, DAMAGED, files.why(error))
        else:
            if name == RUN:
                yield _part(path, "", content)
            for number, line in enumerate(content.split(b"\n") if name == HISTORY else (), 1):
                if line:
                    yield _part(path, f"line {number}: ", line)


def _part(path: str, where: str, content: bytes) -> Finding | None:
    """What is wrong with a part of a run's description; None if it is sound.

    An earlier pyexp's ends with a list, a present one with its checksum. No flipped bit turns one end into the other.
    """
    is_old = content.removesuffix(b"\n").endswith((b"]\n}", b"]}"))
    if not (is_old or files.is_checked(content)):
        return Finding(path, DAMAGED, f"{where}its checksum does not fit")
    told = files.parsed(content)
    if not isinstance(told, dict):
        return Finding(path, DAMAGED, f"{where}it is not the JSON that was written")
    version = told.get("format", FORMAT)
    if not isinstance(version, int):
        return Finding(path, DAMAGED, f"{where}its format is {version!r}")
    if version > FORMAT:
        return Finding(path, UNKNOWN, f"{where}a newer pyexp wrote it, in format {version}")
    return Finding(path, UNKNOWN, f"{where}an earlier pyexp wrote it, without a checksum") if is_old else None


def _cell(folder: str, digest: str) -> Iterator[Finding | None]:
    """What is found of a cell's record and result; None for each sound file."""
    record, result = os.path.join(folder, RECORD), os.path.join(folder, RESULT)
    has_record, has_result = os.path.lexists(record), os.path.lexists(result)
    seal, status = "", ""
    if has_record:
        data = files.read_checked(record)
        if not isinstance(data, dict):
            is_read = files.head(record) is not None
            yield Finding(record, DAMAGED, "its checksum does not fit" if is_read else "it cannot be read")
        elif data.get("hash") != digest:
            yield Finding(record, DAMAGED, f"it is the record of another cell, {data.get('hash')}")
        else:
            seal, status = str(data.get("seal", "")), str(data.get("status", ""))
            try:
                from_json(data)
                yield None
            except ResultError as error:
                yield Finding(record, UNKNOWN, str(error))
    if has_result and status != "failed":  # a failed cell has no result: a file of that name does not count
        yield _result(result, digest, seal)
    elif status == "done":
        yield Finding(result, MISSING, "its record says that it was there")
    if has_result and not has_record:
        yield Finding(record, UNKNOWN, "there is none; the next run of the cell makes it from the result")


def _result(path: str, digest: str, expected: str) -> Finding | None:
    """What is wrong with a result; None if it is sound. `expected` is its seal in the record, if it has one."""
    try:
        if not stat.S_ISREG(os.lstat(path).st_mode):
            return Finding(path, DAMAGED, "it is not a regular file")
        seal = files.seal_of(path, digest, "all")
    except (files.DamagedError, OSError) as error:
        return Finding(path, DAMAGED, files.why(error))
    if seal is None:
        if expected:
            return Finding(path, DAMAGED, "its seal is gone")
        if not pickling.is_whole(path):
            return Finding(path, DAMAGED, "it has no seal, and is not a whole pickle")
        return Finding(path, UNKNOWN, "an executor of the user's wrote it, without a seal")
    if expected and expected != seal.words:
        return Finding(path, DAMAGED, "its record is that of another result")
    return None
