"""The index of a run: what was verified of its finished cells, in one file, so that a warm start opens no other.

The folders are the truth. An entry counts for as long as the cell's result and record are the very files that they were
when it was made; the index can be removed at any time, and is then made again from the records.
"""

import marshal
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from pyexp.configs import FrozenConfig
from pyexp.results import Attempt, Record
from pyexp.store import files

NAME = ".index"

#: What identifies a file that nobody has touched: its size, times and inode. `()` where there is none.
Stamp = tuple[int, ...]

# Another Python may write other marshalled data; then the records are read.
_FORMAT = f"pyexp-index-1 {sys.implementation.cache_tag}"


class Entry(NamedTuple):
    """What is known of a finished cell: the stamps of its result and its record, and what the record says."""

    result: Stamp
    record: Stamp
    said: tuple[Any, ...]

    @property
    def needs(self) -> tuple[str, ...]:
        """The classes and functions that loading the result needs."""
        return self.said[5]  # type: ignore[no-any-return]

    def restored(self, config: FrozenConfig) -> Record:
        """The record, of the cell with this config."""
        name, digest, outputs, kinds, spread, needs, started, seconds, attempts, host, executor = self.said
        tries = tuple(map(Attempt._make, attempts))
        # By position: with their names, so many fields take three times as long.
        return Record(
            name, config, digest, "done", outputs, kinds, spread, needs, "", "", "", started, seconds, tries, host,
            executor, self.result,
        )  # fmt: skip


class Index(NamedTuple):
    """The entries by folder; and which grid `run.json` had, when that was the file with the stamp `run`."""

    entries: Mapping[str, Entry]
    grid: str = ""
    run: Stamp = ()


EMPTY = Index({})


def stamp_of(facts: os.stat_result) -> Stamp:
    """The stamp of a file of which `lstat` says this."""
    return (facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino)


def stamp(path: str) -> Stamp:
    """The stamp of the file at a path."""
    try:
        return stamp_of(os.lstat(path))
    except OSError:
        return ()


def holds(known: Entry, result: str, record: str) -> bool:
    """Whether the files at these paths are those that the entry was made for. Who gives one away changes its stamp."""
    return stamp(result) == known.result and stamp(record) == known.record


def entry(record: Record, path: str) -> Entry | None:
    """The entry for a finished cell, whose record is the file at `path`; None if it has not finished, or has none."""
    written = stamp(path)
    if record.failed or not record.stamp or not written:
        return None
    attempts = tuple((each.type, each.message, each.started, each.seconds) for each in record.attempts)
    said = (
        record.name, record.hash, dict(record.outputs), record.kinds, record.spread, record.needs,
        record.started, record.seconds, attempts, record.host, record.executor,
    )  # fmt: skip
    return Entry(record.stamp, written, said)


def read(folder: str) -> Index:
    """The index in a run's folder; empty if there is none that can be used."""
    try:
        content = files.read(os.path.join(folder, NAME), trusted=True)
        size, sealed = files.unsealed(content)
        version, entries, grid, run = marshal.loads(memoryview(content)[:size] if sealed else b"")
        return Index({name: Entry(*row) for name, row in entries.items()}, grid, run) if version == _FORMAT else EMPTY
    except (OSError, files.DamagedError, EOFError, ValueError, TypeError, AttributeError):
        return EMPTY


def write(folder: str, index: Index) -> None:
    """Write the index into a run's folder, if that can be written to: it only saves time."""
    rows = {name: tuple(each) for name, each in index.entries.items()}
    with suppress(OSError, ValueError):
        payload = marshal.dumps((_FORMAT, rows, index.grid, index.run))
        files.write(os.path.join(folder, NAME), (payload, files.seal(payload)), durable=False)
