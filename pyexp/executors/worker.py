"""The child's side of a cell: what a fresh interpreter or a fork does, from its payload to its last word.

The last word is an outcome on the status pipe; the parent believes nothing else. It imports as little as it can,
because every cell pays for it.
"""

import marshal
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from pyexp import files
from pyexp.outcome import Outcome, attempt, failure

#: Bytes of the number that says how long a part of a message is.
WIDTH = 8
#: Exit statuses of a worker that could not say its word: its pipe was closed, or it was never told what to do.
MUTE, UNTOLD = 86, 87


def main() -> None:
    """Run the one cell that the payload on descriptor 0 describes, and never return.

    Descriptor 1 is the status pipe and 2 the log. Before the experiment's code runs, 0 is empty and 1 the log too.
    """
    payload = _read_all(0)
    status = _out_of_the_way(1)
    os.dup2(2, 1)
    _empty_stdin()
    try:
        header, fn, config = unpacked(payload)
        terms = marshal.loads(header)
    except (EOFError, ValueError, TypeError):  # the parent died before it had said everything
        os._exit(UNTOLD)
    del payload
    sys.argv[:] = terms["argv"]
    if terms["main"]:  # so that the names of the script's own classes and functions are resolved as in the parent
        sys.modules["__main__"].__file__ = terms["main"]
    sys.stdout, sys.stderr = unbuffered(1), unbuffered(2)
    live(lambda: _call(fn, config), terms["result_path"], terms["durable"], status)


def _call(fn: bytes, config: bytes) -> Any:
    import pickle

    return pickle.loads(fn)(pickle.loads(config))


def live(call: Callable[[], Any], result_path: str, durable: bool, status: int) -> None:
    """Make the call, commit its result, say the outcome on the status pipe, and end this process."""
    outcome = attempt(call, lambda value: files.save(result_path, value, durable=durable))
    for stream in (sys.stdout, sys.stderr):
        with suppress(BaseException):  # the experiment may have closed it, or put anything in its place
            stream.flush()
    told = tell(status, outcome)
    with suppress(BaseException):
        import atexit

        atexit._run_exitfuncs()  # what the experiment left for the end, such as a logger that uploads
    # Not by the usual way out: that would wait for the experiment's threads, and in a fork run the parent's own code.
    os._exit(0 if told else MUTE)


def tell(status: int, outcome: Outcome) -> bool:
    """Write the outcome to the status pipe; whether that could be done."""
    try:
        message = marshal.dumps(outcome)
    except ValueError:  # an integer or string of a kind that marshal does not know
        message = marshal.dumps(failure("TypeError", "the outcome could not be written to the status pipe"))
    try:
        write_all(status, packed(message))
    except OSError:
        return False
    return True


def packed(*parts: bytes) -> bytes:
    """The parts as one message, each with its length before it."""
    return b"".join(len(part).to_bytes(WIDTH, "big") + part for part in parts)


def unpacked(message: bytes) -> list[bytes]:
    """The parts of a message. Raises EOFError if it breaks off."""
    parts = []
    at = 0
    while at < len(message):
        size = int.from_bytes(message[at : at + WIDTH], "big")
        at += WIDTH + size
        if at > len(message):
            raise EOFError("the message breaks off")
        parts.append(message[at - size : at])
    return parts


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of the data. Raises OSError."""
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]


def unbuffered(descriptor: int) -> Any:
    """A text stream that writes at once, whatever the text, to a descriptor that it does not close."""
    from io import FileIO, TextIOWrapper

    raw: Any = FileIO(descriptor, "w", closefd=False)
    return TextIOWrapper(raw, encoding="utf-8", errors="backslashreplace", write_through=True)


def _read_all(descriptor: int) -> bytes:
    parts = []
    while part := os.read(descriptor, 1 << 20):
        parts.append(part)
    return b"".join(parts)


def _out_of_the_way(descriptor: int) -> int:
    """The pipe under a high number, which an experiment that opens and closes descriptors does not meet by chance."""
    try:
        from fcntl import F_DUPFD_CLOEXEC, fcntl

        return fcntl(descriptor, F_DUPFD_CLOEXEC, 500)
    except (ImportError, OSError):  # not on this system, or no number that high
        return os.dup(descriptor)


def _empty_stdin() -> None:
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
