"""What a run and its workers say to each other, and how: bytes behind their length, on a pipe or a socket."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from pyexp.worker.script import Script, Source, Survey

#: Bytes of the number that says how long a message is.
WIDTH = 8
# So much is read at a time.
_PIECE = 1 << 24


class Kit(NamedTuple):
    """What a worker gets ready with.

    `asked` is what the experiment reaches in the script; `answers` says whether the worker tells what it lacks of that,
    and `serves` whether it is to fork a child for each cell, if it is fit for that.
    """

    argv: Sequence[str]
    path: Sequence[str]
    folder: str
    script: Script | None
    sources: Mapping[str, Source]
    asked: Survey
    answers: bool = False
    serves: bool = False
    guardian: int | None = None


class Lack(NamedTuple):
    """What a worker says that it lacks, once it has loaded the script: see `naming.lacking`."""

    differ: Sequence[str] = ()
    missing: Sequence[str] = ()
    paths: Sequence[str] = ()
    failed: bool = False

    def names(self, asked: Survey) -> set[str]:
        """The globals that are to be sent: those that differ or are missing, or refer to what is missing."""
        gone = set(self.paths)
        return {*self.differ, *self.missing, *(name for name, used in asked.uses.items() if gone & used)}


class Rest(NamedTuple):
    """What a worker gets then: globals of the script, the experiment's function, and its initializer."""

    values: Mapping[str, Any]
    fn: Callable[[Any], Any]
    initializer: Callable[[], Any] | None


class Cell(NamedTuple):
    """One cell as its worker gets it: where it is kept, its config as a pickle, and what sets its process apart."""

    config: bytes
    result_path: str
    durable: bool
    log_path: str
    mark: str
    environment: dict[str, str]
    title: str


class Fork(NamedTuple):
    """What a server is asked for: a child for this cell.

    With the message come so many descriptors: the cell's claim, if it has one, and its status pipe. Children that are
    `done` are reaped before. The child says its id on its status pipe, and whether the guardian knows of it.
    """

    cell: Cell
    descriptors: int
    done: Sequence[int]


class Reap(NamedTuple):
    """What a server is asked for: the exit status of this child, None while it lives."""

    pid: int


def packed(*parts: bytes) -> bytes:
    """The parts as messages, one after the other."""
    return b"".join(len(part).to_bytes(WIDTH, "big") + part for part in parts)


def unpacked(heard: bytes) -> list[bytes]:
    """The messages in what was heard, as far as they are complete."""
    parts = []
    at = 0
    while at + WIDTH <= len(heard):
        end = at + WIDTH + int.from_bytes(heard[at : at + WIDTH], "big")
        if end > len(heard):
            break
        parts.append(heard[at + WIDTH : end])
        at = end
    return parts


def read(some: Callable[[int], bytes], heard: bytes = b"") -> bytes:
    """The next message. `some(size)` reads at most so many bytes of it; `heard` was read before.

    Raises EOFError if the other end is closed before the message is complete.
    """
    head = _whole(some, WIDTH, heard)
    return _whole(some, int.from_bytes(head, "big"))


def _whole(some: Callable[[int], bytes], size: int, heard: bytes = b"") -> bytes:
    parts = bytearray(heard)
    while len(parts) < size:
        part = some(min(size - len(parts), _PIECE))
        if not part:
            raise EOFError("the message breaks off")
        parts += part
    return bytes(parts)


def write(descriptor: int, parts: Iterable[bytes]) -> None:
    """Write the messages. Raises OSError."""
    write_all(descriptor, packed(*parts))


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of the data. Raises OSError."""
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]
