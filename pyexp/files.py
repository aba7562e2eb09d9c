"""Files that appear whole or not at all, and the seal by which a result is known to be intact.

Knows bytes, names and the order of system calls; nothing of runs, cells or records. Every write of pyexp goes through
`write`, so its steps are all that a crash can come between.
"""

import os
import pickle
import zlib
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

#: After the pickle's STOP opcode, where `pickle.load` does not look: the magic, the pickle's length, its CRC-32.
MAGIC = b"\npyexp-seal-1\n"
SEAL = len(MAGIC) + 8 + 4

#: A temporary file's name begins and ends so: a hidden sibling of the file that it becomes.
TEMPORARY = (".", ".pyexp-tmp")


class DamagedError(Exception):
    """The bytes are not what was written; the message says in what way."""


def write(path: str, parts: Iterable[bytes], *, durable: bool) -> None:
    """Make the file at `path` hold the parts: whole, or not at all, whatever happens meanwhile.

    What stood there is replaced, a symlink itself and not its target. With `durable` it is on the disk on return:
    the file is synced before it gets its name, and the folder after. Raises OSError, having cleaned up.
    """
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, f"{TEMPORARY[0]}{name}.{os.urandom(8).hex()}{TEMPORARY[1]}")
    # The mode is the one that any new file of the user's would have: the umask takes from it.
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), 0o666)
    try:
        try:
            for part in parts:
                _write_all(descriptor, part)
            if durable:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
    if durable:
        sync_folder(folder)


def _write_all(descriptor: int, part: bytes) -> None:
    left = memoryview(part)
    while left:
        left = left[os.write(descriptor, left) :]


def sync_folder(folder: str) -> None:
    """Put the folder's names on the disk. Where a folder cannot be opened (Windows), there is no such step."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_temporary(name: str) -> bool:
    """Whether the name is one that `write` gives to an unfinished file."""
    return name.startswith(TEMPORARY[0]) and name.endswith(TEMPORARY[1])


def seal(payload: bytes) -> bytes:
    """What is appended to a pickle so that damage to it is noticed."""
    return MAGIC + len(payload).to_bytes(8, "big") + zlib.crc32(payload).to_bytes(4, "big")


def save(path: str, value: Any, *, durable: bool) -> list[str]:
    """Commit `value` as the sealed pickle at `path`, and return what loading it needs, as `module:name`.

    It is loaded once before it is committed (where anything but plain data is in it), so that what cannot be loaded
    is an error here and now. Raises what pickling, loading or writing raises.
    """
    payload = dumps(value)
    needs = needed(payload)
    write(path, (payload, seal(payload)), durable=durable)
    return needs


def dumps(value: Any, what: str = "the result") -> bytes:
    """The value as a pickle; by value where it is of the script's own `__main__`, which another process lacks.

    Raises TypeError naming the part of the value that cannot be pickled.
    """
    try:
        payload = pickle.dumps(value, protocol=5)
    except Exception:  # perhaps cloudpickle can: a lambda, a class from inside a function
        payload = b"__main__"
    if b"__main__" not in payload:
        return payload
    from pyexp.byvalue import dumps_by_value, unpicklable_part  # only what the plain pickle cannot carry pays for it

    try:
        return dumps_by_value(value)
    except Exception as error:
        part, path = unpicklable_part(value, what)
        kind = f"{type(part).__module__}.{type(part).__qualname__}"
        raise TypeError(f"{path} is a {kind}, which cannot be pickled: {error}") from error


class _Witness(pickle.Unpickler):
    """An unpickler that notes the classes and functions it was sent for."""

    def __init__(self, file: Any) -> None:
        super().__init__(file)
        self.needs: dict[str, None] = {}

    def find_class(self, module: str, name: str) -> Any:
        if module != "builtins":
            self.needs[f"{module}:{name}"] = None
        return super().find_class(module, name)


def needed(payload: bytes) -> list[str]:
    """What loading the pickle needs, found by loading it; at once nothing where it holds plain data only.

    Raises whatever loading raises.
    """
    if b"\x93" not in payload:  # STACK_GLOBAL: without it, protocol 5 looks no name up
        return []
    return load_noting(payload)[1]


def load_noting(payload: bytes) -> tuple[Any, list[str]]:
    """The value in a pickle, and what loading it needed. Raises `DamagedError` if bytes follow the pickle."""
    from io import BytesIO

    stream = BytesIO(payload)
    witness = _Witness(stream)
    value = witness.load()
    if stream.tell() != len(payload):
        raise DamagedError(f"{len(payload) - stream.tell()} bytes follow the pickle")
    return value, list(witness.needs)


def unsealed(content: bytes) -> tuple[bytes, bool]:
    """The pickle in a file's content, and whether a seal vouches for it; a plain pickle has none.

    Raises `DamagedError` if there is a seal and it does not fit.
    """
    end = len(content) - SEAL
    if end < 0 or content[end : end + len(MAGIC)] != MAGIC:
        return content, False
    payload = content[:end]
    if content[end:] != seal(payload):
        raise DamagedError("its checksum does not fit")
    return payload, True


def read(path: str) -> bytes:
    """The content of a regular file. Raises OSError."""
    with open(path, "rb") as file:
        return file.read()
