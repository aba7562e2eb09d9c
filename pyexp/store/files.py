"""Files that appear whole or not at all, and the seal by which a result is known to be intact.

Knows bytes, names and the order of system calls; nothing of runs, cells or records. Every write of pyexp goes through
`write`, so its steps are all that a crash can come between.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from importlib import import_module
from typing import Any, NamedTuple

#: After the STOP opcode, where `pickle.load` does not look: the pickle's length, a CRC-32, the hash of the cell
#: whose result it is, and the magic. In version 1 the magic came first, and there was no cell.
MAGIC = b"\npyexp-seal-2\n"
SEAL = 8 + 4 + 12 + len(MAGIC)
_MAGIC_1 = b"\npyexp-seal-1\n"
_SEAL_1 = len(_MAGIC_1) + 8 + 4
_CELL = re.compile("-([0-9a-f]{12})$")

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


def remove_temporary(folder: str) -> None:
    """Remove the temporary files that dead writers left. Only for who knows that nobody writes here now."""
    for name in os.listdir(folder):
        if is_temporary(name):
            with suppress(OSError):
                os.unlink(os.path.join(folder, name))


def is_temporary(name: str) -> bool:
    """Whether the name is one that `write` gives to an unfinished file."""
    return name.startswith(TEMPORARY[0]) and name.endswith(TEMPORARY[1])


def size_of(path: str) -> int:
    """How many bytes there are in a file, or in all files of a folder and those below; of a symlink, its own."""
    total = 0
    with suppress(OSError):
        total += os.lstat(path).st_size if os.path.islink(path) or not os.path.isdir(path) else 0
    for above, folders, names in os.walk(path):
        for name in (*names, *(each for each in folders if os.path.islink(os.path.join(above, each)))):
            with suppress(OSError):
                total += os.lstat(os.path.join(above, name)).st_size
    return total


class Seal(NamedTuple):
    """What a result file says of its content: the pickle's length in bytes, the cell's hash, the CRC-32 of both.

    The hash is twelve characters, blank if it is not known; in version 1 there was none.
    """

    size: int
    crc: int
    cell: bytes = b""

    @property
    def words(self) -> str:
        """The seal as a record has it: another content has other words."""
        return f"{self.size}:{self.crc:08x}"

    def __bytes__(self) -> bytes:
        return self.size.to_bytes(8, "big") + self.crc.to_bytes(4, "big") + self.cell + MAGIC


def _seal_in(tail: bytes) -> tuple[Seal, int] | None:
    """The seal at the end of a file, and its length in bytes; None if there is none."""
    if tail.endswith(MAGIC) and len(tail) >= SEAL:
        told = tail[-SEAL:]
        return Seal(int.from_bytes(told[:8], "big"), int.from_bytes(told[8:12], "big"), told[12:24]), SEAL
    told = tail[-_SEAL_1:]
    if told.startswith(_MAGIC_1) and len(told) == _SEAL_1:
        return Seal(int.from_bytes(told[-12:-4], "big"), int.from_bytes(told[-4:], "big")), _SEAL_1
    return None


def trailer(path: str) -> Seal | None:
    """The seal that the file at `path` ends with, unverified; None if there is none. Raises OSError."""
    with _opened(path) as (descriptor, size):
        found = _seal_at_end(descriptor, size)
        return None if found is None else found[0]


def seal_of(path: str, trust: str = "") -> Seal | None:
    """The seal of a result file, once its content has been found to fit; None if it has none.

    The content is read piece by piece: it may be larger than memory. Raises OSError, and `DamagedError` if the content
    does not fit or the file is another user's.
    """
    with _opened(path, trust=trust) as (descriptor, size):
        found = _seal_at_end(descriptor, size)
        if found is None:
            return None
        seal, length = found
        crc, left = 0, size - length
        os.lseek(descriptor, 0, os.SEEK_SET)
        while left and (part := os.read(descriptor, min(left, _AT_ONCE))):
            crc, left = zlib.crc32(part, crc), left - len(part)
    if (size - length, zlib.crc32(seal.cell, crc)) != (seal.size, seal.crc):
        raise DamagedError("its checksum does not fit")
    return seal


def pieces(path: str) -> Iterator[bytes]:
    """The content of a regular file, piece by piece: it may be larger than memory. Raises OSError."""
    with _opened(path) as (descriptor, _):
        while part := os.read(descriptor, _AT_ONCE):
            yield part


def is_same_pickle(one: str, other: str) -> bool:
    """Whether two result files hold the same pickle, whichever cell each is sealed for. Raises OSError."""
    sizes = []
    for path in (one, other):
        with _opened(path) as (descriptor, size):
            found = _seal_at_end(descriptor, size)
            sizes.append(size - (found[1] if found else 0))
    if sizes[0] != sizes[1]:
        return False
    left = sizes[0]
    for mine, theirs in zip(pieces(one), pieces(other), strict=False):
        if mine[:left] != theirs[:left]:
            return False
        left = max(left - len(mine), 0)
    return not left


def _seal_at_end(descriptor: int, size: int) -> tuple[Seal, int] | None:
    os.lseek(descriptor, max(size - SEAL, 0), os.SEEK_SET)
    return _seal_in(os.read(descriptor, SEAL))


@contextmanager
def _opened(path: str, *, trust: str | None = None) -> Iterator[tuple[int, int]]:
    """The descriptor of a regular file and its size; never of what a symlink leads to. Raises as `read` does."""
    # Without O_NONBLOCK, opening a pipe would wait for its writer.
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | BINARY
    descriptor = os.open(path, flags)
    try:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            raise OSError(errno.EINVAL, "no regular file", path)
        if trust is not None and not is_trusted(facts, trust):
            raise DamagedError("it belongs to another user, and a result is code")
        yield descriptor, facts.st_size
    finally:
        os.close(descriptor)


def commit(path: str, payload: bytes, *, durable: bool) -> None:
    """Commit the pickle, sealed for the cell whose folder it is in. The folder is made again if somebody removed it.

    Raises what writing raises; then there is nothing at `path`.
    """
    found = _CELL.search(os.path.dirname(path))
    cell = (found[1] if found else "").encode().ljust(12)
    seal = Seal(len(payload), zlib.crc32(cell, zlib.crc32(payload)), cell)
    try:
        make_folders(os.path.dirname(path), durable=durable)
        write(path, (payload, bytes(seal)), durable=durable)
    except BaseException:  # perhaps it has its name already, and only the folder could not be synced
        with suppress(OSError):
            os.unlink(path)
        raise


def unsealed(content: bytes) -> tuple[int, bool]:
    """How many bytes of a file's content are the pickle, and whether a seal vouches for it; a plain pickle has none.

    Raises `DamagedError` if there is a seal and it does not fit.
    """
    found = _seal_in(content[-SEAL:])
    if found is None:
        return len(content), False
    seal, end = found[0], len(content) - found[1]
    if (end, zlib.crc32(seal.cell, zlib.crc32(memoryview(content)[:end]))) != (seal.size, seal.crc):
        raise DamagedError("its checksum does not fit")
    return end, True


def read(path: str, size: int = -1, *, trust: str | None = None) -> bytes:
    """The content of a regular file, its first `size` bytes; never of what a symlink leads to. Raises OSError.

    With `trust`, raises `DamagedError` for the file of a user whose code this process should not run, see `is_trusted`.
    """
    with _opened(path, trust=trust) as (descriptor, length):
        wanted = length + 1 if size < 0 else size
        if wanted <= _AT_ONCE:
            return os.read(descriptor, wanted)
        with open(descriptor, "rb", buffering=0, closefd=False) as file:
            return file.read(size)


def stamp_of(facts: os.stat_result) -> tuple[int, ...]:
    """What identifies a file that nobody has touched: its size, times and inode, as `lstat` has them."""
    return (facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino)


def stamp(path: str) -> tuple[int, ...]:
    """The stamp of the file at a path; `()` if there is none."""
    try:
        return stamp_of(os.lstat(path))
    except OSError:
        return ()


def is_trusted(facts: os.stat_result, trust: str = "") -> bool:
    """Whether a file is this user's, or the superuser's, who can do anything; `trust` names another, or is all."""
    if not hasattr(os, "geteuid") or facts.st_uid in (0, os.geteuid()) or trust == "all":
        return True
    return bool(trust) and trust in (owner_of(facts), str(facts.st_uid))


def owner_of(facts: os.stat_result) -> str:
    """The name of a file's owner, or the number where there is no name."""
    try:
        return str(import_module("pwd").getpwuid(facts.st_uid).pw_name)
    except (ImportError, KeyError):
        return str(facts.st_uid)


@cache
def _encoder(*, ascii_only: bool) -> Callable[[Any], str]:
    import json  # a run that is finished needs none

    # A line for each item. To indent them too is left to the library's slow half, which took longer than all else that
    # is done about a small cell.
    return json.JSONEncoder(ensure_ascii=ascii_only, allow_nan=False, separators=(",\n ", ": ")).encode


def json_lines(data: Mapping[str, Any]) -> bytes:
    """The data as JSON, each item on a line."""
    try:
        return f"{{\n {_encoder(ascii_only=False)(data)[1:-1]}\n}}\n".encode()
    except UnicodeEncodeError:  # half a surrogate pair, in a name
        return f"{{\n {_encoder(ascii_only=True)(data)[1:-1]}\n}}\n".encode()


_CHECKED = b',\n "checksum": "%08x"\n}\n'


def checked_json(data: Mapping[str, Any]) -> bytes:
    """The data as JSON whose last key is the CRC-32 of all that stands before it.

    A flipped bit may leave a number a number; with the checksum it is noticed.
    """
    body = json_lines(data).removesuffix(b"\n}\n")
    return body + _CHECKED % zlib.crc32(body)


_CHECKED_LINE = b',"checksum":"%08x"}'


def checked_line(data: Mapping[str, Any]) -> bytes:
    """The data as JSON on one line; its last key is the CRC-32 of all that stands before it."""
    import json

    kept = {key: value for key, value in data.items() if key != "checksum"}
    body = json.dumps(kept, separators=(",", ":")).encode().removesuffix(b"}")
    return body + _CHECKED_LINE % zlib.crc32(body)


def is_checked(content: bytes) -> bool:
    """Whether this is, to the bit, what `checked_json` or `checked_line` has made."""
    for form in (_CHECKED, _CHECKED_LINE):
        body = content[: -len(form % 0)]
        if content == body + form % zlib.crc32(body):
            return True
    return False


def read_checked(path: str) -> Any:
    """The data in a file of `checked_json`; None if there is none, or it was changed since."""
    content = head(path) or b""
    body = content[: -len(_CHECKED % 0)]
    return _parsed(content) if content == body + _CHECKED % zlib.crc32(body) else None


def read_json(path: str) -> Any:
    """The data in a JSON file; None if there is none that can be read."""
    return _parsed(head(path) or b"")


def head(path: str, size: int = -1) -> bytes | None:
    """The first `size` bytes of a file, or all; None if it cannot be read."""
    try:
        return read(path, size)
    except OSError:
        return None


def _parsed(content: bytes) -> Any:
    import json

    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None
