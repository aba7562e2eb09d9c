"""Files that appear whole or not at all, and the seal by which a result is known to be intact.

Knows bytes, names and the order of system calls; nothing of runs, cells or records. Every write of pyexp goes through
`write`, so its steps are all that a crash can come between.
"""

from __future__ import annotations

import errno
import os
import stat
import zlib
from collections.abc import Iterable
from contextlib import suppress

#: After the pickle's STOP opcode, where `pickle.load` does not look: the magic, the pickle's length, its CRC-32.
MAGIC = b"\npyexp-seal-1\n"
SEAL = len(MAGIC) + 8 + 4

#: Without it, Windows writes a carriage return before each newline.
BINARY = getattr(os, "O_BINARY", 0)

# A file system that cannot sync a folder says one of these, or does not let it be opened.
_NO_FOLDER_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF, errno.EACCES, errno.EPERM, errno.EISDIR)

# So much of a file is read by one call; a record is, and there is one for each cell of a run.
_AT_ONCE = 1 << 20

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
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | BINARY, 0o666)
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
    """Put the folder's names on the disk. Where the system has no such step (Windows, some network disks): nothing."""
    try:
        sync(folder)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise


def sync(path: str) -> None:
    """Put what a file or folder holds on the disk. Raises OSError."""
    try:
        _sync(path, os.O_RDONLY)
    except OSError as error:
        if error.errno != errno.EBADF:
            raise
        _sync(path, os.O_RDWR)  # Windows syncs no file that is open for reading only


def _sync(path: str, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folders(path: str, *, durable: bool) -> None:
    """Make the folder, and those above it that are missing.

    With `durable` each new name is on the disk on return: a folder's own name is kept by the folder above it, and what
    is synced inside a folder that is lost is lost with it.
    """
    if os.path.isdir(path):
        return
    above = os.path.dirname(path)
    make_folders(above, durable=durable)
    try:
        os.mkdir(path)
    except FileExistsError:  # another process was first, or it is no folder
        if not os.path.isdir(path):
            raise
    if durable:
        sync_folder(above)


def sweep(folder: str) -> None:
    """Remove the temporary files that dead writers left. Only for who knows that nobody writes here now."""
    for name in os.listdir(folder):
        if is_temporary(name):
            with suppress(OSError):
                os.unlink(os.path.join(folder, name))


def is_temporary(name: str) -> bool:
    """Whether the name is one that `write` gives to an unfinished file."""
    return name.startswith(TEMPORARY[0]) and name.endswith(TEMPORARY[1])


def seal(payload: bytes | memoryview) -> bytes:
    """What is appended to a pickle so that damage to it is noticed."""
    return MAGIC + len(payload).to_bytes(8, "big") + zlib.crc32(payload).to_bytes(4, "big")


def commit(path: str, payload: bytes, *, durable: bool) -> None:
    """Commit the pickle, sealed. Raises what writing raises; then there is nothing at `path`."""
    try:
        write(path, (payload, seal(payload)), durable=durable)
    except BaseException:  # perhaps it has its name already, and only the folder could not be synced
        with suppress(OSError):
            os.unlink(path)
        raise


def unsealed(content: bytes) -> tuple[int, bool]:
    """How many bytes of a file's content are the pickle, and whether a seal vouches for it; a plain pickle has none.

    Raises `DamagedError` if there is a seal and it does not fit.
    """
    end = len(content) - SEAL
    if end < 0 or content[end : end + len(MAGIC)] != MAGIC:
        return len(content), False
    if content[end:] != seal(memoryview(content)[:end]):
        raise DamagedError("its checksum does not fit")
    return end, True


def read(path: str, size: int = -1, *, trusted: bool = False) -> bytes:
    """The content of a regular file, its first `size` bytes; never of what a symlink leads to. Raises OSError.

    With `trusted`, raises `DamagedError` for the file of a user whose code this process should not run.
    """
    # Without O_NONBLOCK, opening a pipe would wait for its writer.
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | BINARY
    descriptor = os.open(path, flags)
    try:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            raise OSError(errno.EINVAL, "no regular file", path)
        if trusted and not is_trusted(facts):
            raise DamagedError("it belongs to another user, and a result is code")
        wanted = facts.st_size + 1 if size < 0 else size
        if wanted <= _AT_ONCE:
            return os.read(descriptor, wanted)
        with open(descriptor, "rb", buffering=0, closefd=False) as file:
            return file.read(size)
    finally:
        os.close(descriptor)


def is_trusted(facts: os.stat_result) -> bool:
    """Whether a file is this user's, or the superuser's, who can do anything anyway."""
    return not hasattr(os, "geteuid") or facts.st_uid in (0, os.geteuid())
