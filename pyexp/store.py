"""The run folder: what is found in it, claimed, saved and loaded.

Knows folders, files and locks; what to do about them is the plan's to say. A result's appearance under its name is the
commit; a record beside it tells people and tools what happened, and can be made again from the result.
"""

import errno
import json
import os
import socket
import stat
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module, util
from pathlib import Path
from typing import Any

from pyexp import files
from pyexp.errors import ResultError, StoreError
from pyexp.outcome import done
from pyexp.plan import Cell, Found, Status, latest, unused
from pyexp.results import Record, Result, from_json, record_of, to_json

RESULT = "result.pkl"
RECORD = "record.json"
RUN = "run.json"
CLAIMS = ".claims"

#: How a new run's folder is called: the local time at its start.
TIMESTAMP = "%Y-%m-%d_%H-%M-%S"


@dataclass(frozen=True, slots=True)
class Run:
    """A run's folder, by its absolute path, and whether what is saved there has to survive a power cut."""

    path: str
    durable: bool = True

    def folder(self, cell: Cell) -> str:
        """The cell's own folder."""
        return os.path.join(self.path, cell.folder)

    def file(self, cell: Cell, name: str) -> str:
        """A file in the cell's folder."""
        return os.path.join(self.path, cell.folder, name)


@dataclass(frozen=True, slots=True)
class Sight:
    """What was seen of a cell: its status in words for the plan, and its record, if it has ended.

    `fresh` says that the record was made anew from the result, and is not on disk yet.
    """

    found: Found
    record: Record | None = None
    fresh: bool = False


def home(output_dir: str | os.PathLike[str], name: str) -> str:
    """The folder of an experiment's runs."""
    return os.path.join(os.path.abspath(output_dir), name)


def runs(base: str) -> list[tuple[float, str]]:
    """The runs in an experiment's folder: when each began, and its name."""
    try:
        entries = [entry.name for entry in os.scandir(base) if entry.is_dir()]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StoreError(f"cannot look into {base}: {error.strerror}") from None
    found = []
    for name in entries:
        told = read_json(os.path.join(base, name, RUN))
        if isinstance(told, dict) and isinstance(told.get("started"), (int, float)):
            found.append((float(told["started"]), name))
    return found


def latest_run(base: str) -> str | None:
    """The name of the run that began last, None where there is none."""
    return latest(runs(base))


def make_run(output_dir: str | os.PathLike[str], name: str, timestamp: str | bool, *, durable: bool) -> Run:
    """The folder for a run, made if need be: `timestamp` names it, True stands for a new one, False for no such level.

    Raises `StoreError` if it cannot be made or written to.
    """
    top = os.path.abspath(output_dir)
    base = os.path.join(top, name)
    try:
        if not os.path.isdir(top):
            os.makedirs(top)
            files.write(os.path.join(top, ".gitignore"), [b"*\n"], durable=False)
        os.makedirs(base, exist_ok=True)
        if timestamp is True:
            return Run(_new_folder(base), durable)
        path = base if timestamp is False else os.path.join(base, timestamp)
        os.makedirs(path, exist_ok=True)
        return Run(path, durable)
    except OSError as error:
        raise _unusable(base, error) from None


def _new_folder(base: str) -> str:
    """A folder of its own for a run that begins now, whoever else begins one in this second."""
    while True:
        name = unused(time.strftime(TIMESTAMP), os.listdir(base))
        with suppress(FileExistsError):
            os.mkdir(os.path.join(base, name))
            return os.path.join(base, name)


def _unusable(path: str, error: OSError) -> StoreError:
    return StoreError(f"cannot write results below {path}: {error.strerror or error}; give another --output-dir")


def describe(run: Run, told: Mapping[str, Any]) -> None:
    """Write `run.json`: what is known of the run as a whole. Raises `StoreError` if the folder cannot be written to."""
    try:
        files.write(os.path.join(run.path, RUN), [_json(told)], durable=run.durable)
    except OSError as error:
        raise _unusable(run.path, error) from None


def described(run: Run) -> dict[str, Any]:
    """What `run.json` says; empty if there is none that can be read."""
    told = read_json(os.path.join(run.path, RUN))
    return told if isinstance(told, dict) else {}


def _json(data: Mapping[str, Any]) -> bytes:
    return (json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def read_json(path: str) -> Any:
    """The data in a JSON file; None if there is none that can be read."""
    try:
        return json.loads(files.read(path))
    except (OSError, ValueError, RecursionError):
        return None


def look(run: Run, cells: Iterable[Cell]) -> dict[str, Sight]:
    """What is seen of the cells that have a folder, by folder. Changes nothing."""
    try:
        present = {entry.name for entry in os.scandir(run.path)}
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise StoreError(f"cannot look into {run.path}: {error.strerror}") from None
    busy = claimed(run) if CLAIMS in present else {}
    return {cell.folder: sight(run, cell, busy) for cell in cells if cell.folder in present or cell.folder in busy}


def sight(run: Run, cell: Cell, busy: Mapping[str, str] | None = None) -> Sight:
    """What is seen of one cell. `busy` says by folder who has claimed it."""
    if busy and cell.folder in busy:
        return Sight(Found(Status.BUSY, busy[cell.folder]))
    record = read_record(run, cell)
    path = run.file(cell, RESULT)
    try:
        facts = os.lstat(path)
    except OSError:
        return _without_result(record)
    if record is not None and not record.failed and record.stamp == stamp_of(facts) and at_hand(record.needs):
        return Sight(Found(Status.DONE, _when(record)), record)
    try:
        rebuilt = rebuild(path, facts, cell, record)
    except ResultError as error:
        return Sight(Found(Status.UNFINISHED, f"(its result is unreadable: {error})"))
    return Sight(Found(Status.DONE, _when(rebuilt)), rebuilt, fresh=True)


def _without_result(record: Record | None) -> Sight:
    if record is None:
        return Sight(Found(Status.UNFINISHED))
    if not record.failed:
        return Sight(Found(Status.UNFINISHED, "(its result is gone)"))
    brief = f"{record.type}: {record.message}".partition("\n")[0][:200]
    return Sight(Found(Status.FAILED, f"{_when(record)} with {brief}"), record)


def _when(record: Record) -> str:
    ended = time.localtime(record.started + record.seconds)
    return f"at {time.strftime('%Y-%m-%d %H:%M:%S', ended)}"


def stamp_of(facts: os.stat_result) -> tuple[int, ...]:
    """What identifies a file that nobody has touched: a result with its record's stamp was verified before."""
    return (facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino)


def read_record(run: Run, cell: Cell) -> Record | None:
    """The cell's record; None if there is none that can be read."""
    told = read_json(run.file(cell, RECORD))
    if not isinstance(told, dict):
        return None
    try:
        return from_json(told, cell.config)
    except ResultError:
        return None


def rebuild(path: str, facts: os.stat_result, cell: Cell, record: Record | None) -> Record:
    """The record of a result that has none fitting, made by loading it. Raises `ResultError` if it cannot be loaded."""
    value, needs = load_verified(path, facts)
    known = record if record is not None and not record.failed else None
    remade = record_of(
        cell.name,
        cell.config,
        cell.hash,
        done(value, needs),
        started=known.started if known else facts.st_mtime,
        seconds=known.seconds if known else 0.0,
        attempts=known.attempts if known else (),
        host=known.host if known else "",
        executor=known.executor if known else "",
    )
    return remade.stamped(stamp_of(facts))


def load_verified(path: str, facts: os.stat_result | None = None) -> tuple[Any, list[str]]:
    """The value in a result file, and what loading it needed.

    Raises `ResultError` saying what is wrong: no regular file of one's own, damaged, or not loadable here.
    """
    try:
        facts = os.lstat(path) if facts is None else facts
        if not stat.S_ISREG(facts.st_mode):
            raise ResultError("it is no regular file")
        if hasattr(os, "geteuid") and facts.st_uid != os.geteuid():
            raise ResultError("it belongs to another user, and a result is code")
        payload, _ = files.unsealed(files.read(path))
        return files.load_noting(payload)
    except ResultError:
        raise
    except Exception as error:  # a pickle can raise anything
        raise ResultError(f"{type(error).__name__}: {error}") from None


def load_value(path: str) -> Any:
    """The value in a result file. Raises `ResultError` naming the file if it cannot be loaded."""
    try:
        return load_verified(path)[0]
    except ResultError as error:
        raise ResultError(f"{path} cannot be loaded: {error}; the next run will run the cell again") from None


_at_hand: dict[str, bool] = {}


def at_hand(needs: Iterable[str]) -> bool:
    """Whether the classes and functions that a result needs can still be found.

    The modules beside the script are asked, as they change; an installed package is only looked for, since importing
    it would cost more than all the rest.
    """
    for need in needs:
        if need not in _at_hand:
            _at_hand[need] = _is_at_hand(need)
    return all(_at_hand[need] for need in needs)


def _is_at_hand(need: str) -> bool:
    module, _, name = need.partition(":")
    try:
        spec = util.find_spec(module.partition(".")[0])
        if spec is None:
            return False
        if (
            spec.origin is None
            or "site-packages" in spec.origin
            or spec.origin.startswith(os.path.dirname(os.__file__))
        ):
            return True
        found: Any = import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except Exception:  # an import runs code that may raise anything
        return False
    return True


def result(run: Run, cell: Cell, record: Record) -> Result:
    """The Result that shows a record, and loads the value when it is looked at."""
    path = run.file(cell, RESULT)
    return Result(record, Path(run.folder(cell)), lambda: load_value(path))


def save_record(run: Run, cell: Cell, record: Record) -> Record:
    """Write the record beside its result, with the result's stamp, and return it so. Raises OSError."""
    if not record.failed:
        record = record.stamped(stamp_of(os.lstat(run.file(cell, RESULT))))
    # Not synced: after a power cut it is made again from the result.
    files.write(run.file(cell, RECORD), [_json(to_json(record))], durable=False)
    return record


def prepare(run: Run, cell: Cell) -> None:
    """Make the cell's folder ready for a run: there, and without what an earlier one left half-done. Raises OSError."""
    folder = run.folder(cell)
    if os.path.islink(folder) or (os.path.exists(folder) and not os.path.isdir(folder)):
        set_aside(folder)
    os.makedirs(folder, exist_ok=True)
    for name in os.listdir(folder):
        if files.is_temporary(name):
            os.unlink(os.path.join(folder, name))
    if os.path.lexists(run.file(cell, RESULT)):
        set_aside(run.file(cell, RESULT))


def discard(run: Run, cell: Cell) -> None:
    """Remove the cell's result and record, so that no crash can bring them back. Raises OSError."""
    for name in (RESULT, RECORD):
        with suppress(FileNotFoundError):
            os.unlink(run.file(cell, name))


def set_aside(path: str) -> str:
    """Give what is at `path` another name beside it, and return that."""
    folder, name = os.path.split(path)
    aside = os.path.join(folder, unused(f"{name}.unreadable", os.listdir(folder)))
    os.replace(path, aside)
    return aside


@dataclass(frozen=True, slots=True)
class Claim:
    """A cell taken: an advisory lock on a file of its own, which dies with the last process that holds it."""

    descriptor: int
    path: str

    def release(self) -> None:
        """Give the cell back. The name goes first: whoever locked it meanwhile finds it gone, and takes a new one."""
        with suppress(OSError):
            os.unlink(self.path)
        os.close(self.descriptor)


def claim(run: Run, cell: Cell) -> Claim | None:
    """A claim to the cell; None if another process has it. Raises OSError."""
    folder = os.path.join(run.path, CLAIMS)
    path = os.path.join(folder, cell.folder)
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except FileNotFoundError:
            os.makedirs(folder, exist_ok=True)
            continue
        if not _lock(descriptor):
            os.close(descriptor)
            return None
        if _is_named(descriptor, path):
            _sign(descriptor)
            return Claim(descriptor, path)
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    """Take the lock on an open file without waiting; whether it was free."""
    try:
        import fcntl
    except ImportError:  # Windows: there a run folder is for one process at a time
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        if error.errno in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
            return True  # a file system without locks: the commit protocol alone has to do
        raise
    return True


def _is_named(descriptor: int, path: str) -> bool:
    """Whether the open file still bears the name: another process may have taken it away with its own claim."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _sign(descriptor: int) -> None:
    with suppress(OSError):  # only for people to read
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)


def claimed(run: Run) -> dict[str, str]:
    """The folders of the cells that a living process has claimed, and who it is in words."""
    folder = os.path.join(run.path, CLAIMS)
    return {name: words for name in _names(folder) if (words := _holder(os.path.join(folder, name))) is not None}


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _holder(path: str) -> str | None:
    """Who holds the lock on a claim's file; None if nobody does."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        if _lock(descriptor):
            return None
        return f"({os.pread(descriptor, 200, 0).decode('utf-8', 'replace')})"
    finally:
        os.close(descriptor)


def tidy(run: Run) -> None:
    """Remove the claims that dead processes left, and their folder if none is left."""
    folder = os.path.join(run.path, CLAIMS)
    for name in _names(folder):
        for abandoned in _taken(os.path.join(folder, name)):
            abandoned.release()
    with suppress(OSError):
        os.rmdir(folder)


def _taken(path: str) -> Iterator[Claim]:
    """A claim to an existing file, if nobody else has it."""
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        if _lock(descriptor) and _is_named(descriptor, path):
            yield Claim(descriptor, path)
        else:
            os.close(descriptor)
