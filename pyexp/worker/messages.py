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


class Assignment(NamedTuple):
    """One cell for a worker: its pickled config, its files, and the mark, environment and title of its process.

    `code` is the short identity of the code, for the seal of its result.

    A child of a server gets the descriptor of the cell's claim with it, if the cell is `claimed`.
    """

    config: bytes
    result_path: str
    durable: bool
    code: str
    log_path: str
    mark: str
    environment: dict[str, str]
    title: str
    claimed: bool


class Fork(NamedTuple):
    """A request to a server: fork a child with this mark, which waits for a cell.

    The message carries two descriptors: the child's status pipe, and the socket that its cell comes through. The server
    first reaps the children that are `done`. The answer comes through the status pipe: the child's process id and
    whether the guardian knows it, or the error of the fork.
    """

    mark: str
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


def send(link: Any, message: bytes, descriptors: Sequence[int] = ()) -> None:
    """Send a message with descriptors through a Unix socket. Raises OSError."""
    import socket  # only a server and its run have one

    unix_socket: Any = socket
    content = packed(message)
    sent = unix_socket.send_fds(link, [content[:WIDTH]], descriptors)
    link.sendall(content[sent:])


def receive(link: Any) -> tuple[bytes, list[int]]:
    """The next message of `send`, and up to two descriptors. Raises EOFError and OSError."""
    import socket

    unix_socket: Any = socket
    head, descriptors, _, _ = unix_socket.recv_fds(link, WIDTH, 2)
    return read(link.recv, head), list(descriptors)


def write(descriptor: int, parts: Iterable[bytes]) -> None:
    """Write the messages. Raises OSError."""
    files.write_all(descriptor, packed(*parts))
