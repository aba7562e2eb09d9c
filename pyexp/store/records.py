"""The run folder: what is found in it, claimed, saved and loaded.

Knows folders, files and locks; what to do about them is the plan's to say. A result's appearance under its name is the
commit; a record beside it tells people and tools what happened, and can be made again from the result.
"""

import os
import re
import stat
import time
import zlib
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import cache, partial
from importlib import import_module, util
from pathlib import Path
from typing import Any, NamedTuple

from pyexp.errors import ResultError, StoreError
from pyexp.plan import Cell, Found, Status, latest, unused
from pyexp.results import Record, Result, done, from_json, record_of, to_json
from pyexp.store import claims, files, index, pickling
from pyexp.store.claims import Claim
from pyexp.store.index import EMPTY, Entry, Index, stamp_of

RESULT = "result.pkl"
RECORD = "record.json"
LOG = "log.txt"
RUN = "run.json"
CLAIMS = ".claims"
IGNORE = ".gitignore"

#: How a new run's folder is called: the local time at its start.
TIMESTAMP = "%Y-%m-%d_%H-%M-%S"

#: Seconds that a process waits for others to describe the run they share, each of which takes milliseconds.
PATIENCE = 600.0
# A run's file names each of its cells and may be long; when the run began is said in its first lines.
_HEAD = 4096
_BEGAN = re.compile(rb'^ "started": ([0-9]{1,12}(?:\.[0-9]+)?),?$', re.MULTILINE)


class Run(NamedTuple):
    """A run's folder, by its absolute path, and whether what is saved there has to survive a power cut."""

    path: str
    durable: bool = True

    def folder(self, cell: Cell) -> str:
        """The cell's own folder."""
        return f"{self.path}{os.sep}{cell.folder}"

    def file(self, cell: Cell, name: str) -> str:
        """A file in the cell's folder."""
        return f"{self.path}{os.sep}{cell.folder}{os.sep}{name}"


class Sight(NamedTuple):
    """What was seen of a cell: its status in words for the plan, and its record, if it has ended.

    `fresh` says that the record was made anew from the result, and is not on disk yet; `stamp` is that of the result
    file, `()` where there is none; `damage` says why what is there cannot be used; `indexed`, that all of this is in
    the run's index.
    """

    found: Found
    record: Record | None = None
    fresh: bool = False
    stamp: tuple[int, ...] = ()
    damage: str = ""
    indexed: bool = False

    @property
    def version(self) -> tuple[object, ...]:
        """What tells this sight from a later one, if the cell was run meanwhile."""
        return (self.stamp, None if self.record is None else self.record.started)


#: The sight of a cell of which there is nothing.
UNSEEN = Sight(Found(Status.NEW))


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
    began = ((start_of(os.path.join(base, name)), name) for name in entries)
    return [(start, name) for start, name in began if start is not None]


def start_of(path: str) -> float | None:
    """When the run in this folder began, in seconds since 1970; None if there is no run in it."""
    head = _read(os.path.join(path, RUN), _HEAD)
    return None if head is None and not _any(path, _looks_begun) else _start(path, head)


def beginning(run: Run) -> float:
    """When the run began; of one that begins now, a time after that of all others, also if the clock has gone back."""
    head = _read(os.path.join(run.path, RUN), _HEAD)
    if head is not None or _any(run.path, _looks_like_cell):
        return _start(run.path, head)
    return max([time.time(), *(start + 0.001 for start, _ in runs(os.path.dirname(run.path)))])


def _start(path: str, head: bytes | None) -> float:
    """What the description's first lines say; if it is damaged or gone, what the folder's name or its time says."""
    said = _BEGAN.search(head or b"")
    if said is not None:
        return float(said[1])
    with suppress(ValueError, OverflowError):
        return time.mktime(time.strptime(os.path.basename(path)[:19], TIMESTAMP))
    with suppress(OSError):
        return os.stat(path).st_mtime
    return 0.0


def _any(path: str, is_sign: Callable[[os.DirEntry[str]], bool]) -> bool:
    with suppress(OSError), os.scandir(path) as entries:
        return any(map(is_sign, entries))
    return False


def _looks_begun(entry: os.DirEntry[str]) -> bool:
    """Whether this is what a run leaves in its folder, however early it was killed."""
    return entry.name == CLAIMS or files.is_temporary(entry.name) or _looks_like_cell(entry)


def _looks_like_cell(entry: os.DirEntry[str]) -> bool:
    return (
        re.search("-[0-9a-f]{12}$", entry.name) is not None
        and entry.is_dir(follow_symlinks=False)
        and any(os.path.lexists(os.path.join(entry.path, name)) for name in (RECORD, RESULT))
    )


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
        files.make_folders(top, durable=durable)
        _keep_out_of_git(top)
        files.make_folders(base, durable=durable)
        path = _new_folder(base) if timestamp is True else base if timestamp is False else os.path.join(base, timestamp)
        files.make_folders(path, durable=durable)
    except OSError as error:
        raise _unusable(base, error) from None
    return Run(path, durable)


def _keep_out_of_git(top: str) -> None:
    """Give a folder that has nothing in it yet its `.gitignore`: who removes it later does not get it back."""
    if all(map(files.is_temporary, os.listdir(top))):
        files.sweep(top)
        with suppress(OSError):  # another process that begins now has swept this one's away, and writes its own
            files.write(os.path.join(top, IGNORE), [b"*\n"], durable=False)


def _new_folder(base: str) -> str:
    """A folder of its own for a run that begins now, whoever else begins one in this second."""
    while True:
        name = unused(time.strftime(TIMESTAMP), os.listdir(base))
        with suppress(FileExistsError):
            os.mkdir(os.path.join(base, name))
            return os.path.join(base, name)


def _unusable(path: str, error: OSError) -> StoreError:
    where = "" if error.filename in (None, path) else f" ({error.filename})"
    return StoreError(f"cannot write results below {path}: {error.strerror}{where}; give another --output-dir")


def describe(run: Run, tell: Callable[[dict[str, Any]], Mapping[str, Any]]) -> None:
    """Write `run.json`: what `tell` makes of what it says so far. One process at a time, so that none loses a word.

    Raises `StoreError` if the folder cannot be written to, and what `tell` raises.
    """
    folder = os.path.join(run.path, CLAIMS)
    path = os.path.join(run.path, RUN)
    try:
        held = _patiently(folder, RUN)
        try:
            files.sweep(run.path)
            if run.durable and not os.path.lexists(path):
                _sync_above(run.path)
            files.write(path, [_json(tell(described(run)))], durable=run.durable)
        finally:
            held.release()
            with suppress(OSError):  # others have claims there
                os.rmdir(folder)
    except OSError as error:
        raise _unusable(run.path, error) from None


def _patiently(folder: str, name: str) -> Claim:
    """A claim to a name that others have for a moment. Raises `StoreError` if one of them has it for ever."""
    last = time.monotonic() + PATIENCE
    while (held := claims.claim(folder, name)) is None:
        if time.monotonic() > last:
            holder = claims.holders(folder).get(name, "(another process)")
            raise StoreError(f"{folder}/{name} has been claimed for {PATIENCE:.0f} s {holder}; has it been stopped?")
        time.sleep(0.02)
    return held


def _sync_above(path: str) -> None:
    """Sync the names of a new run's folder and of all above it: who made them may have been killed before that."""
    while path != (path := os.path.dirname(path)):
        files.sync_folder(path)


def described(run: Run) -> dict[str, Any]:
    """What `run.json` says; empty if there is none that can be read."""
    told = read_json(os.path.join(run.path, RUN))
    return told if isinstance(told, dict) else {}


@cache
def _encoder(*, ascii_only: bool) -> Callable[[Any], str]:
    import json  # a run that is finished needs none

    # A line for each item. To indent them too is left to the library's slow half, which took longer than all else that
    # is done about a small cell.
    return json.JSONEncoder(ensure_ascii=ascii_only, allow_nan=False, separators=(",\n ", ": ")).encode


def _json(data: Mapping[str, Any]) -> bytes:
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
    body = _json(data).removesuffix(b"\n}\n")
    return body + _CHECKED % zlib.crc32(body)


def read_checked(path: str) -> Any:
    """The data in a file of `checked_json`; None if there is none, or it was changed since."""
    content = _read(path) or b""
    body = content[: -len(_CHECKED % 0)]
    return _parsed(content) if content == body + _CHECKED % zlib.crc32(body) else None


def read_json(path: str) -> Any:
    """The data in a JSON file; None if there is none that can be read."""
    return _parsed(_read(path) or b"")


def _read(path: str, size: int = -1) -> bytes | None:
    try:
        return files.read(path, size)
    except OSError:
        return None


def _parsed(content: bytes) -> Any:
    import json

    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def look(run: Run, cells: Iterable[Cell], known: Index = EMPTY) -> dict[str, Sight]:
    """What is seen of the cells that have a folder, by folder, with the help of the index. Changes nothing."""
    try:
        with os.scandir(run.path) as entries:
            present = {entry.name: entry.is_dir(follow_symlinks=False) for entry in entries}
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise StoreError(f"cannot look into {run.path}: {error.strerror}") from None
    busy = claims.holders(os.path.join(run.path, CLAIMS)) if CLAIMS in present else {}
    sights = {}
    for cell in cells:
        folder = cell.folder
        if folder in busy:
            sights[folder] = Sight(Found(Status.BUSY, busy[folder]))
        elif folder in present:
            sights[folder] = _inside(run, cell, known.entries.get(folder)) if present[folder] else _NO_FOLDER
    return sights


def sight(run: Run, cell: Cell) -> Sight:
    """What is seen of one cell, whoever has claimed it."""
    try:
        facts = os.lstat(run.folder(cell))
    except OSError:
        return UNSEEN
    return _inside(run, cell) if stat.S_ISDIR(facts.st_mode) else _NO_FOLDER


def _damaged(words: str, stamp: tuple[int, ...] = ()) -> Sight:
    return Sight(Found(Status.UNFINISHED, f"({words})"), stamp=stamp, damage=words)


_NO_FOLDER = _damaged("in the place of its folder there is something else")


def _inside(run: Run, cell: Cell, entry: Entry | None = None) -> Sight:
    """What is seen in a cell's folder, of which the index has this entry."""
    if (
        entry is not None
        and index.holds(entry, run.file(cell, RESULT), run.file(cell, RECORD))
        and at_hand(entry.needs)
    ):
        record = entry.restored(cell.config)
        return Sight(Found(Status.DONE, _When(record)), record, False, entry.result, "", True)
    return _looked_into(run, cell)


def _looked_into(run: Run, cell: Cell) -> Sight:
    record = read_record(run, cell)
    path = run.file(cell, RESULT)
    try:
        facts = os.lstat(path)
    except OSError:
        return _without_result(record)
    stamp = stamp_of(facts)
    if record is not None and record.failed:  # a failure is not undone by a file of that name
        return Sight(_failure(record), record, stamp=stamp)
    if record is not None and record.stamp == stamp and files.is_trusted(facts) and at_hand(record.needs):
        return Sight(Found(Status.DONE, _When(record)), record, stamp=stamp)
    try:
        rebuilt = rebuild(path, facts, cell, record)
    except ResultError as error:
        return _damaged(f"its result is unreadable: {error}", stamp)
    return Sight(Found(Status.DONE, _When(rebuilt)), rebuilt, fresh=True, stamp=stamp)


def _without_result(record: Record | None) -> Sight:
    if record is None:
        return Sight(Found(Status.UNFINISHED))
    if not record.failed:
        return Sight(Found(Status.UNFINISHED, "(its result is gone)"))
    return Sight(_failure(record), record)


def _failure(record: Record) -> Found:
    brief = f"{record.type}: {record.message}".partition("\n")[0][:200]
    return Found(Status.FAILED, f"{_When(record)} with {brief}")


class _When(NamedTuple):
    """When a cell ended, in words: few are ever read."""

    record: Record

    def __str__(self) -> str:
        try:
            ended = time.localtime(self.record.started + self.record.seconds)
            return time.strftime("at %Y-%m-%d %H:%M:%S", ended)
        except (ValueError, OverflowError, OSError):  # no time at all
            return "at an unknown time"


def stamp(run: Run, cell: Cell) -> tuple[int, ...]:
    """The stamp of the cell's result; `()` if there is none."""
    return index.stamp(run.file(cell, RESULT))


def read_record(run: Run, cell: Cell) -> Record | None:
    """The cell's record; None if there is none that can be trusted."""
    told = read_checked(run.file(cell, RECORD))
    if not isinstance(told, dict) or told.get("hash") != cell.hash:
        return None
    try:
        return from_json(told, cell.config)
    except ResultError:
        return None


def rebuild(path: str, facts: os.stat_result, cell: Cell, record: Record | None) -> Record:
    """The record of a result that has none fitting, made by loading it. Raises `ResultError` if it cannot be loaded."""
    value, needs = load_verified(path)
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


def load_verified(path: str) -> tuple[Any, list[str]]:
    """The value in a result file, and what loading it needed.

    Raises `ResultError` saying what is wrong: no regular file of one's own, damaged, or not loadable here.
    """
    try:
        content = files.read(path, trusted=True)
        return pickling.load_noting(content, files.unsealed(content)[0])
    except KeyboardInterrupt:
        raise
    except files.DamagedError as error:
        raise ResultError(str(error)) from None
    except BaseException as error:  # a pickle is code, and can raise anything
        raise ResultError(f"{type(error).__name__}: {error}") from None


def load_value(path: str) -> Any:
    """The value in a result file. Raises `ResultError` naming the file if it cannot be loaded."""
    try:
        return load_verified(path)[0]
    except ResultError as error:
        raise ResultError(f"{path} cannot be loaded: {error}; the next run will run the cell again") from None


def at_hand(needs: Iterable[str]) -> bool:
    """Whether the classes and functions that a result needs can still be found.

    The modules beside the script are asked, as they change; an installed package is only looked for, since importing
    it would cost more than all the rest.
    """
    return all(map(_is_at_hand, needs))


@cache
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
    except KeyboardInterrupt:
        raise
    except BaseException:  # an import runs code that may raise anything, or exit
        return False
    return True


def result(run: Run, cell: Cell, record: Record) -> Result:
    """The Result that shows a record, and loads the value when it is looked at."""
    path = run.file(cell, RESULT)
    return Result(record, partial(Path, run.folder(cell)), partial(load_value, path))


def conclude(run: Run, cell: Cell, record: Record) -> Record:
    """Put the record of a cell that has ended beside its result, and return it with the result's stamp.

    Of a failure no result stays, whoever wrote one; nor does what a dead worker left half-written. Raises OSError. The
    caller has claimed the cell.
    """
    if record.failed or record.attempts:  # who has finished at once has left nothing half-written
        files.sweep(run.folder(cell))
    if record.failed:
        _remove(run.file(cell, RESULT))
    else:
        record = record.stamped(stamp_of(os.lstat(run.file(cell, RESULT))))
    _write_record(run, cell, record)
    return record


def _write_record(run: Run, cell: Cell, record: Record) -> None:
    path, content = run.file(cell, RECORD), checked_json(to_json(record))
    try:  # not synced: after a power cut it is made again from the result
        files.write(path, [content], durable=False)
    except IsADirectoryError:
        set_aside(path)
        files.write(path, [content], durable=False)


def adopt(run: Run, cell: Cell, record: Record) -> None:
    """Write down the record that was made again from a result; its writer was killed, or somebody has moved it.

    Until then it may not have come to the syncs that make a finished cell safe. Nothing, if the result is another one
    by now. Raises OSError. The caller has claimed the cell.
    """
    path = run.file(cell, RESULT)
    if stamp(run, cell) != record.stamp:
        return
    if run.durable:
        files.sync(path)
        files.sync_folder(run.folder(cell))
        files.sync_folder(run.path)
    files.sweep(run.folder(cell))
    _write_record(run, cell, record)


def prepare(run: Run, cell: Cell) -> str:
    """Make the cell's folder ready for a run: there, with the experiment's own files and none of an earlier run's.

    What stands in the place of the folder or of the result is set aside; returns its new path, or `""`. Raises OSError.
    """
    folder = run.folder(cell)
    aside = ""
    try:
        os.mkdir(folder)
        is_new = True
    except FileExistsError:
        is_new = os.path.islink(folder) or not os.path.isdir(folder)
        if is_new:
            aside = set_aside(folder)
            os.mkdir(folder)
    if run.durable:  # also if the folder was there: its maker may have been killed before this step
        files.sync_folder(run.path)
    return aside if is_new else _cleared(run, cell)


def _cleared(run: Run, cell: Cell) -> str:
    """Take what an earlier run of the cell has left out of its folder; as `prepare`."""
    aside = ""
    # The result before the record: of what failed, no file of that name may count, whenever this is interrupted.
    if os.path.lexists(run.file(cell, RESULT)):
        aside = set_aside(run.file(cell, RESULT))
    for name in (RECORD, LOG):
        _remove(run.file(cell, name))
    files.sweep(run.folder(cell))
    return aside


def discard(run: Run, cell: Cell, seen: tuple[int, ...]) -> None:
    """Remove the result that was seen with this stamp, and its record, so that no crash can bring them back.

    Not a result with another one: it was not there when it was decided to remove it. Raises OSError.
    """
    if not seen or stamp(run, cell) != seen:
        return
    _remove(run.file(cell, RESULT))
    _remove(run.file(cell, RECORD))
    if run.durable:
        files.sync_folder(run.folder(cell))


def _remove(path: str) -> None:
    """Take away what is at `path`: a file, a symlink and not its target; a folder is set aside. Raises OSError."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
    except OSError:
        if not os.path.isdir(path):
            raise
        set_aside(path)


def set_aside(path: str) -> str:
    """Give what is at `path` another name beside it, and return that. Raises OSError."""
    folder, name = os.path.split(path)
    aside = os.path.join(folder, unused(f"{name}.unreadable", os.listdir(folder)))
    os.replace(path, aside)
    return aside


def claim(run: Run, cell: Cell) -> Claim | None:
    """A claim to the cell; None if another process has it. Raises OSError."""
    return claims.claim(os.path.join(run.path, CLAIMS), cell.folder)


def is_shared(run: Run) -> bool:
    """Whether other processes are running cells of this run, while this one has no claim."""
    return bool(claims.holders(os.path.join(run.path, CLAIMS)))


def tidy(run: Run) -> None:
    """Remove the claims that dead processes left, and what they had half-written beside the cells."""
    folder = os.path.join(run.path, CLAIMS)
    with suppress(OSError):
        if any(map(files.is_temporary, os.listdir(run.path))) and (held := claims.claim(folder, RUN)) is not None:
            files.sweep(run.path)
            held.release()
    claims.tidy(folder)
