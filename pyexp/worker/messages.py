"""Messages between a run and its workers: bytes behind their length, on a pipe or a socket.

Knows descriptors. What a message says is its sender's and its reader's matter.
"""

import os
from collections.abc import Callable, Iterable

#: Bytes of the number that says how long a message is.
WIDTH = 8
# So much is read at a time.
_PIECE = 1 << 24


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
    """The next message, of which `some(size)` reads so many bytes at most; `heard` is what was read of it before.

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
