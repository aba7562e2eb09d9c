"""Files that appear whole or not at all, and the seal that shows whether a result is intact.

Knows bytes, names and the order of system calls. Does not know runs, cells or records. Every write of pyexp goes
through `write`, so a crash can only come between its steps.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from importlib import import_module
from itertools import count
from typing import Any, NamedTuple

#: The seal comes after the STOP opcode, where `pickle.load` stops reading: the pickle's length, a CRC-32, the hash of
#: the cell, the short identity of the code, and the magic. Version 2 had no code. Version 1 had no hash either, and the
#: magic came first.
_MAGIC = b"\npyexp-seal-%d\n"
_FIELDS = {3: struct.Struct(">QI12s16s"), 2: struct.Struct(">QI12s"), 1: struct.Struct(">QI")}
SEAL = _FIELDS[3].size + len(_MAGIC % 3)
_CELL = re.compile("-([0-9a-f]{12})$")

#: Without it, Windows writes a carriage return before each newline.
BINARY = getattr(os, "O_BINARY", 0)
#: Opens a file itself, not the target of a symlink, without waiting if it is a pipe. Only some systems have each flag.
PLAIN = BINARY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)

# The errors of a file system that cannot sync or open a folder.
_NO_FOLDER_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF, errno.EACCES, errno.EPERM, errno.EISDIR)

# Bytes to read in one call.
_AT_ONCE = 1 << 20

#: The beginning and end of a temporary file's name. It is a hidden sibling of the file that it becomes.
TEMPORARY = (".", ".pyexp-tmp")


class DamagedError(Exception):
    """The bytes are not what was written. The message says why."""


def why(error: Exception) -> str:
    """What an OSError or a `DamagedError` says, without the path."""
    return getattr(error, "strerror", None) or str(error)


def write(path: str, parts: Iterable[bytes], *, durable: bool) -> None:
    """Write the parts to the file at `path`: all of them or, if anything fails, none.

    A file that is there is replaced; so is a symlink, but not its target. With `durable`, sync the file before it gets
    its name, and the folder after, so that it is on the disk on return. Clean up and raise OSError if that fails.
    """
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, temporary_name(name))
    # The mode of any new file, from which the umask takes away.
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | BINARY, 0o666)
    try:
        try:
            for part in parts:
                write_all(descriptor, part)
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


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of the data. Raises OSError."""
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]


def sync_folder(folder: str) -> None:
    """Sync the folder's names to the disk. Do nothing on a system that cannot (Windows, some network disks)."""
    try:
        sync(folder)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise


def sync(path: str, flags: int = os.O_RDONLY) -> None:
    """Sync a file or folder to the disk. Raises OSError."""
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EBADF or flags != os.O_RDONLY:
            raise
        sync(path, os.O_RDWR)  # Windows does not sync a file that is open for reading only
    finally:
        os.close(descriptor)


def make_folders(path: str, *, durable: bool) -> None:
    """Make the folder, and missing folders above it.

    With `durable`, sync each new name: the folder above holds it, and if it is lost, all inside it is lost too.
    """
    if os.path.isdir(path):
        return
    above = os.path.dirname(path)
    make_folders(above, durable=durable)
    try:
        os.mkdir(path)
    except FileExistsError:  # another process was first, or a file is in the way
        if not os.path.isdir(path):
            raise
    if durable:
        sync_folder(above)


def remove_temporary(folder: str) -> None:
    """Remove the temporary files that dead writers left. The caller has to know that no process writes here now."""
    for name in os.listdir(folder):
        if is_temporary(name):
            with suppress(OSError):
                os.unlink(os.path.join(folder, name))


def temporary_name(name: str) -> str:
    """A new name for an unfinished file that will have this name."""
    return f"{TEMPORARY[0]}{name}.{os.urandom(8).hex()}{TEMPORARY[1]}"


def is_temporary(name: str, of: str = "") -> bool:
    """Whether it is a name for an unfinished file, that will have the name `of` if that is given."""
    return name.startswith(f"{TEMPORARY[0]}{of and f'{of}.'}") and name.endswith(TEMPORARY[1])


def size_of(path: str) -> int:
    """How many bytes there are in a file, or in all files of a folder and those below; of a symlink, its own."""
    paths = [path]
    for above, folders, names in os.walk(path):
        paths += [os.path.join(above, name) for name in (*folders, *names)]
    total = 0
    for each in paths:
        with suppress(OSError):
            facts = os.lstat(each)
            total += 0 if stat.S_ISDIR(facts.st_mode) else facts.st_size
    return total


class Seal(NamedTuple):
    """The seal of a result file: the pickle's length in bytes, a CRC-32, the cell's hash, and the code.

    The CRC-32 is that of the pickle, the hash and the code. Hash and code have 12 and 16 characters, blank if unknown.
    Version 2 had no code, version 1 no hash either.
    """

    size: int
    crc: int
    cell: bytes = b""
    code: bytes = b""

    @property
    def words(self) -> str:
        """The seal as text for a record. Different content gives different text."""
        return f"{self.size}:{self.crc:08x}"

    @property
    def length(self) -> int:
        """Its own length in the file, in bytes."""
        version = 3 if self.code else 2 if self.cell else 1
        return _FIELDS[version].size + len(_MAGIC % version)

    def __bytes__(self) -> bytes:
        return _FIELDS[3].pack(*self) + _MAGIC % 3

    def validate(self, size: int, crc: int) -> None:
        """Raise `DamagedError` unless the content before the seal has this length and CRC-32."""
        if (size, zlib.crc32(self.cell + self.code, crc)) != (self.size, self.crc):
            raise DamagedError("its checksum is wrong")


def _seal_in(tail: bytes) -> Seal | None:
    """The seal at the end of a file; None if there is none."""
    for version, fields in _FIELDS.items():
        magic = _MAGIC % version
        end = tail[-fields.size - len(magic) :]
        body = end.removeprefix(magic) if version == 1 else end.removesuffix(magic)
        if len(body) == fields.size < len(end):
            return Seal(*fields.unpack(body))
    return None


def trailer(path: str) -> Seal | None:
    """The seal that the file at `path` ends with, unverified; None if there is none. Raises OSError."""
    with _opened(path) as (descriptor, size):
        return _seal_at_end(descriptor, size)


def seal_of(path: str, cell: str = "", trust: str = "") -> Seal | None:
    """The verified seal of a result file; None if it has no seal.

    Reads the content piece by piece, as it may be larger than memory. Raises OSError, and `DamagedError` if the content
    does not match the seal, the seal is not for the `cell` with this hash, or the file is of a user you do not trust.
    """
    with _opened(path, trust=trust) as (descriptor, size):
        seal = _seal_at_end(descriptor, size)
        if seal is None:
            return None
        crc, end = 0, size - seal.length
        for part in _pieces(descriptor, end):
            crc = zlib.crc32(part, crc)
    seal.validate(end, crc)
    if cell and seal.cell.strip() not in (b"", cell.encode()):
        raise DamagedError("it is the result of another cell")
    return seal


def pieces(path: str) -> Iterator[bytes]:
    """The content of a regular file, piece by piece: it may be larger than memory. Raises OSError."""
    with _opened(path) as opened:
        yield from _pieces(*opened)


def _pieces(descriptor: int, left: int) -> Iterator[bytes]:
    os.lseek(descriptor, 0, os.SEEK_SET)
    while left and (part := os.read(descriptor, min(left, _AT_ONCE))):
        left -= len(part)
        yield part


def is_same_pickle(one: str, other: str) -> bool:
    """Whether two result files hold the same pickle, whichever cell each is sealed for. Raises OSError."""
    with _opened(one) as mine, _opened(other) as theirs:
        sizes = [size - (seal.length if (seal := _seal_at_end(at, size)) else 0) for at, size in (mine, theirs)]
        contents = [_pieces(at, sizes[0]) for at, _ in (mine, theirs)]
        return sizes[0] == sizes[1] and all(left == right for left, right in zip(*contents, strict=False))


def _seal_at_end(descriptor: int, size: int) -> Seal | None:
    os.lseek(descriptor, max(size - SEAL, 0), os.SEEK_SET)
    return _seal_in(os.read(descriptor, SEAL))


@contextmanager
def _opened(path: str, *, trust: str | None = None) -> Iterator[tuple[int, int]]:
    """The descriptor of a regular file, and its size. Does not follow a symlink. Raises as `read` does."""
    descriptor = os.open(path, os.O_RDONLY | PLAIN)
    try:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", path)
        if trust is not None and not is_trusted(facts, trust):
            raise DamagedError("it belongs to another user, and loading it runs code")
        yield descriptor, facts.st_size
    finally:
        os.close(descriptor)


def commit(path: str, payload: bytes, *, durable: bool, code: str = "") -> None:
    """Commit the pickle, with the seal of the cell whose folder it is in. Make the folder again if it was removed.

    `code` is the short identity of the code that made it: only the seal has it until the record is written.

    Raises OSError if writing fails; then nothing is at `path`.
    """
    found = _CELL.search(os.path.dirname(path))
    cell, author = (found[1] if found else "").encode().ljust(12), code.encode().ljust(16)
    seal = Seal(len(payload), zlib.crc32(cell + author, zlib.crc32(payload)), cell, author)
    try:
        make_folders(os.path.dirname(path), durable=durable)
        write(path, (payload, bytes(seal)), durable=durable)
    except BaseException:  # it may have its name already, if syncing the folder failed
        with suppress(OSError):
            os.unlink(path)
        raise


def keep_unsealed(path: str) -> None:
    """Rename what an experiment has put where its result is to be, so that the commit does not replace it."""
    if os.path.lexists(path):
        with suppress(OSError, DamagedError):  # a folder
            if trailer(path) is not None:
                return
        make_way(path)


def make_way(path: str) -> None:
    """Rename the file or folder at `path` to the next free name of `name-1.end`, `name-2.end`, … Raises OSError."""
    stem, end = os.path.splitext(path)
    os.replace(path, next(new for number in count(1) if not os.path.lexists(new := f"{stem}-{number}{end}")))


def unsealed(content: bytes) -> tuple[int, Seal | None]:
    """The length of the pickle in a file's content, in bytes, and its seal. A plain pickle has none.

    Raises `DamagedError` if the content does not match its seal.
    """
    seal = _seal_in(content[-SEAL:])
    if seal is None:
        return len(content), None
    end = len(content) - seal.length
    seal.validate(end, zlib.crc32(memoryview(content)[:end]))
    return end, seal


def read(path: str, size: int = -1, *, trust: str | None = None) -> bytes:
    """The content of a regular file, or its first `size` bytes. Does not follow a symlink. Raises OSError.

    With `trust`, raises `DamagedError` for the file of a user you do not trust, see `is_trusted`.
    """
    with _opened(path, trust=trust) as (descriptor, _), open(descriptor, "rb", buffering=0, closefd=False) as file:
        return file.read(size)


def stamp_of(facts: os.stat_result) -> tuple[int, ...]:
    """The stamp of a file: its size, times and inode from `lstat`. It changes whenever the file does."""
    return (facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino)


def stamp(path: str) -> tuple[int, ...]:
    """The stamp of the file at a path; `()` if there is none."""
    try:
        return stamp_of(os.lstat(path))
    except OSError:
        return ()


def is_trusted(facts: os.stat_result, trust: str = "") -> bool:
    """Whether a file belongs to this user, to the superuser, or to the user that `trust` names (`all`: any)."""
    if not hasattr(os, "geteuid") or facts.st_uid in (0, os.geteuid()) or trust == "all":
        return True
    return bool(trust) and trust in (owner_of(facts), str(facts.st_uid))


def owner_of(facts: os.stat_result) -> str:
    """The name of a file's owner; the number if the name is unknown."""
    try:
        return str(import_module("pwd").getpwuid(facts.st_uid).pw_name)
    except (ImportError, KeyError):
        return str(facts.st_uid)


_CHECKED, _CHECKED_LINE = b',\n "checksum": "%08x"\n}\n', b',"checksum":"%08x"}'


def checked_json(data: Mapping[str, Any]) -> bytes:
    """The data as JSON, each item on a line of its own. The last key is the CRC-32 of everything before it.

    A flipped bit can turn a number into another number; the checksum shows it.
    """
    import json  # a cell's process needs none

    # Not by indentation, which would use the slow, pure-Python half of the library: that took longer than everything
    # else about a small cell.
    encoded = partial(json.dumps, data, allow_nan=False, separators=(",\n ", ": "))
    try:
        items = encoded(ensure_ascii=False).encode()
    except UnicodeEncodeError:  # half a surrogate pair, in a name
        items = encoded().encode()
    body = b"{\n " + items[1:-1]
    return body + _CHECKED % zlib.crc32(body)


def checked_line(data: Mapping[str, Any]) -> bytes:
    """The data as JSON on a line of its own, even after a line that was cut off. Its last key is a CRC-32 as above."""
    import json

    kept = {key: value for key, value in data.items() if key != "checksum"}
    body = json.dumps(kept, separators=(",", ":")).encode().removesuffix(b"}")
    return b"\n" + body + _CHECKED_LINE % zlib.crc32(body) + b"\n"


def is_checked(content: bytes) -> bool:
    """Whether this is, to the bit, what `checked_json` has made, or a line of `checked_line`."""
    for form in (_CHECKED, _CHECKED_LINE):
        body = content[: -len(form % 0)]
        if content == body + form % zlib.crc32(body):
            return True
    return False


def read_checked(path: str) -> Any:
    """The data in a file of `checked_json`; None if the file is missing or was changed."""
    content = head(path) or b""
    return parsed(content) if is_checked(content) else None


def head(path: str, size: int = -1) -> bytes | None:
    """The first `size` bytes of a file, or all of it; None if it cannot be read."""
    try:
        return read(path, size)
    except OSError:
        return None


def parsed(content: bytes) -> Any:
    """The data in JSON; None if it is not JSON."""
    import json

    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None
