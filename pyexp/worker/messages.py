"""The messages between a run and its workers: bytes behind their length, on a pipe or a socket."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from pyexp.store import files
from pyexp.worker.script import Script, Source, Survey

#: Bytes of a message's length.
WIDTH = 8
# Bytes to read at a time.
_PIECE = 1 << 24


class Kit(NamedTuple):
    """What a worker needs to get ready.

    `asked`: what the experiment uses of the script. `answers`: the worker answers with what it lacks of that. `serves`:
    the worker forks a child for each cell, if it is fit for that.
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
    """What a worker lacks after it has loaded the script: see `naming.lacking`."""

    differ: Sequence[str] = ()
    missing: Sequence[str] = ()
    paths: Sequence[str] = ()
    failed: bool = False

    def names(self, asked: Survey) -> set[str]:
        """The globals to send: those that differ, are missing, or refer to something missing."""
        gone = set(self.paths)
        return {*self.differ, *self.missing, *(name for name, used in asked.uses.items() if gone & used)}


class Rest(NamedTuple):
    """What a worker gets next: globals of the script, the experiment's function, and its initializer."""

    values: Mapping[str, Any]
    fn: Callable[[Any], Any]
    initializer: Callable[[], Any] | None


class Cell(NamedTuple):
    """One cell for a worker: its pickled config, its files, and the mark, environment and title of its process."""

    config: bytes
    result_path: str
    durable: bool
    log_path: str
    mark: str
    environment: dict[str, str]
    title: str


class Fork(NamedTuple):
    """A request to a server: fork a child for this cell.

    The message carries `descriptors` descriptors: the cell's claim, if it has one, and its status pipe. The server
    first reaps the children that are `done`. The child sends its process id to its status pipe, and whether the
    guardian knows it.
    """

    cell: Cell
    descriptors: int
    done: Sequence[int]


class Reap(NamedTuple):
    """A request to a server: the exit status of this child, None while it lives."""

    pid: int


def packed(*parts: bytes) -> bytes:
    """The parts as messages, one after the other."""
    return b"".join(len(part).to_bytes(WIDTH, "big") + part for part in parts)


def unpacked(heard: bytes) -> list[bytes]:
    """The complete messages in the bytes that were read."""
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
    """The next message. `some(size)` reads at most `size` bytes; `heard` are bytes that were read before.

    Raises EOFError if the other end is closed before the message is complete.
    """
    head = _whole(some, WIDTH, heard)
    return _whole(some, int.from_bytes(head, "big"))


def _whole(some: Callable[[int], bytes], size: int, heard: bytes = b"") -> bytes:
    parts = bytearray(heard)
    while len(parts) < size:
        part = some(min(size - len(parts), _PIECE))
        if not part:
            raise EOFError("the message is incomplete")
        parts += part
    return bytes(parts)


def write(descriptor: int, parts: Iterable[bytes]) -> None:
    """Write the messages. Raises OSError."""
    files.write_all(descriptor, packed(*parts))
