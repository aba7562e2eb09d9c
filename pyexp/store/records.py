"""The cells on disk: gathers facts about them, and makes the steps that change them.

A result is committed when it appears under its name. The record beside it tells people and tools what happened, and can
be made again from the result. Gathering facts imports and unpickles nothing. `classify` says what the facts mean.
"""

import os
import shutil
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyexp.configs import NOTHING, FrozenConfig, is_map, leaves, lookup, thaw
from pyexp.errors import ResultError
from pyexp.hashing import alike
from pyexp.leaves import NotLoaded
from pyexp.plan import ENDED, Cell, Facts, Status, Step, classify, unused
from pyexp.results import Record, Result, done, from_json, is_library, missing, record_of, restored, to_json
from pyexp.store import claims, files, modules, pickling
from pyexp.store.claims import Claim
from pyexp.store.layout import BEFORE, CLAIMS, LOG, RECORD, RESULT, RUN, UNREADABLE, WANTED, Run, names_in
from pyexp.tables import Results
from pyexp.tensor import Tensor

if TYPE_CHECKING:
    from pyexp.store.code import Code


class Program:
    """The present program: which classes it can import, and the fingerprint of its code for a config, if it is known.

    `loads=False` skips the check for classes: a record is useful without them.
    """

    def __init__(
        self,
        code_for: "Callable[[FrozenConfig], Code | None]" = lambda config: None,
        defaults: FrozenConfig = FrozenConfig(),
        *,
        loads: bool = True,
    ) -> None:
        self.code_for = code_for
        self._defaults = defaults
        self._loads = loads
        self._is_there = cache(modules.is_there)
        self._differences: dict[tuple[str, str, bool], str] = {}

    def lacks(self, record: Record) -> str:
        """The first class or function that loading the result needs and that is missing here; `""` if none is."""
        for need in record.needs if self._loads else ():
            if not self._is_there(*need.split(":", 1)):
                return need.replace(":", ".")
        return ""

    def sealed_by(self, config: FrozenConfig, short: str) -> Mapping[str, Any]:
        """The code in a seal, as a record has it, from its short identity. Without parts, unless it is this code."""
        if not short:
            return {}
        from pyexp.store.code import as_data, short_identity

        code = self.code_for(config)
        return as_data(code) if short_identity(code) == short else {"hash": short, "parts": {}}

    def difference(self, config: FrozenConfig, made_by: Mapping[str, Any]) -> str:
        """How the code that made a result differs from this program's, in words; `""` if no difference is known."""
        code = self.code_for(config) if made_by else None
        if code is None:
            return ""
        from pyexp.store.code import Code, change, identity  # loaded with the code of this program

        old = Code(made_by["hash"], made_by["parts"])
        key = identity(old), identity(code), bool(old.parts)
        if key[1] in made_by.get("accepted", ()):
            return ""
        if key not in self._differences:
            self._differences[key] = change(old, code)
        return self._differences[key]

    def changed_default(self, cell: Cell, data: Mapping[str, Any]) -> str:
        """A default that has changed or is gone since the cell was run, in words; `""` if none has.

        A key that the record lacks was added since, with the value that the code used before.
        """
        for path, value in _gone(data["config"], cell.config):
            return f"{path} was {thaw(restored(value, data['format']))!r}, and has no default any more"
        if not self._defaults:
            return ""
        before = restored(data["config"], data["format"])
        for path, _ in leaves(self._defaults):
            old, new = lookup(before, path, NOTHING), lookup(cell.config, path, NOTHING)
            if old is not NOTHING and not isinstance(old, NotLoaded) and not alike(old, new):
                return f"{path} was {old!r}, and is {new!r}"
        return ""


def _gone(before: Mapping[str, Any], config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The keys of a config, as JSON data, that another one lacks, with their values.

    Compares no values: the configs have one hash, so they differ in defaults only.
    """
    for key, value in (before["value"] if "!" in before else before).items():
        if key not in config:
            yield key, value
        elif isinstance(value, dict) and value.get("!", "map") == "map" and is_map(config[key]):
            yield from ((f"{key}.{path}", inner) for path, inner in _gone(value, config[key]))


def look(run: Run, cells: Iterable[Cell], program: Program, *, exact: bool = True) -> dict[str, Facts]:
    """The facts about the cells that have a folder or are claimed, by folder. Changes nothing.

    `exact` says that the cells have the configs that were run; otherwise the configs are read from the records. Raises
    `StoreError` if the run's folder cannot be read.
    """
    present = {*names_in(run.path)}
    holders = claims.holders(run.claims) if CLAIMS in present else {}
    seen = {}
    for cell in cells:
        holder = holders.get(cell.folder, "")
        if cell.folder in present or holder:
            seen[cell.folder] = facts(run, cell, program, exact=exact)._replace(holder=holder)
    return seen


def facts(run: Run, cell: Cell, program: Program, *, exact: bool = True) -> Facts:
    """The facts about one cell, without its claim."""
    try:
        is_folder = stat.S_ISDIR(os.lstat(run.folder(cell)).st_mode)
    except OSError:
        return Facts()
    if not is_folder:
        return Facts(there="something else")
    data, record, ended = files.read_checked(run.file(cell, RECORD)), None, ""
    if isinstance(data, dict) and data.get("hash") == cell.hash:
        with suppress(ResultError, ValueError, OverflowError, RecursionError):  # what it holds is not a record
            record = from_json(data, cell.config if exact else None)
            ended = _when(record.started + record.seconds)
    default = program.changed_default(cell, data) if record is not None and exact else ""
    path = run.file(cell, RESULT)
    try:
        status = os.lstat(path)
    except OSError:
        return Facts("folder", record, ended=ended, default=default)
    stamp = files.stamp_of(status)
    owner = "" if files.is_trusted(status, run.trust) else files.owner_of(status)
    if owner or default or (record is not None and record.failed):
        return Facts("folder", record, stamp, ended=ended, owner=owner, default=default)
    fits, fault, code = record is not None and record.stamp == stamp, "", ""
    if not fits:
        fits, fault, code = _verified(run, cell, record)
    if fits and record is not None:
        lost, other = program.lacks(record), program.difference(cell.config, record.code)
        fault = f"loading it needs {lost}, which is missing" if lost else ""
    else:
        ended, other = _when(status.st_mtime), program.difference(cell.config, program.sealed_by(cell.config, code))
    return Facts("folder", record, stamp, fits, fault, ended, code=code, difference=other)


def _verified(run: Run, cell: Cell, record: Record | None) -> tuple[bool, str, str]:
    """Whether the record belongs to the result, what is wrong with the result, and the short identity of its code.

    Reads the whole file.

    A file that was copied or moved keeps its seal, which its record names.
    """
    path = run.file(cell, RESULT)
    try:
        seal = files.seal_of(path, cell.hash, run.trust)
    except (files.DamagedError, OSError) as error:
        return False, files.why(error), ""
    if seal is None:  # a custom executor's: a plain pickle
        return False, "" if pickling.is_whole(path) else "its pickle is incomplete", ""
    return record is not None and record.seal == seal.words, "", seal.code.decode("ascii", "replace").strip()


def _when(seconds: float) -> str:
    try:
        return time.strftime("at %Y-%m-%d %H:%M:%S", time.localtime(seconds))
    except (ValueError, OverflowError, OSError):
        return "at an unknown time"


def record_for(run: Run, cell: Cell, seen: Facts, program: Program, *, unpickles: bool = True) -> Record:
    """The record of a cell that has ended. If it is missing or does not fit, load the result and make it again.

    Raises `ResultError` if the result cannot be loaded, or is not to be, without `unpickles`.
    """
    path = run.file(cell, RESULT)
    known = seen.record
    if known is not None and (known.failed or seen.fits):
        return known if known.failed else known._replace(stamp=seen.stamp)
    if not unpickles:
        raise ResultError("its record is lost; pyexp.load makes it again")
    status = os.lstat(path)
    value, needs = load_verified(path, run.trust)
    about: dict[str, Any] = {"started": status.st_mtime}
    if known is not None:
        about = {each: getattr(known, each) for each in ("started", "seconds", "attempts", "host", "executor")}
    made = record_of(
        cell.name, cell.config, cell.hash, done(value, needs), code=program.sealed_by(cell.config, seen.code), **about
    )
    return _stamped(made, path)


def _stamped(record: Record, path: str) -> Record:
    """The record with the stamp and the seal of its result file."""
    seal = files.trailer(path)
    return record._replace(stamp=files.stamp_of(os.lstat(path)), seal="" if seal is None else seal.words)


def load_verified(path: str, trust: str = "", words: str = "") -> tuple[Any, list[str]]:
    """The value in a result file, and the classes and functions that loading it needed.

    Raises `ResultError` if it is not a regular file of a trusted user, is damaged, cannot be loaded here, or has
    another seal than the one with these words.
    """
    try:
        content = files.read(path, trust=trust)
        size, seal = files.unsealed(content)
        if words and seal is not None and seal.words != words:
            raise files.DamagedError("the cell has been run again since; take its new result")
        return pickling.load_noting(content, size)
    except KeyboardInterrupt:
        raise
    except files.DamagedError as error:
        raise ResultError(str(error)) from None
    except BaseException as error:  # a pickle is code, and can raise anything
        raise ResultError(f"{type(error).__name__}: {error}{_raised_in(error)}") from None


def _raised_in(error: BaseException) -> str:
    """The method of the user's class that raised, in brackets; `""` if no code of the user's did."""
    trace: Any = error.__traceback__
    while trace.tb_next is not None:
        trace = trace.tb_next
    code = trace.tb_frame.f_code
    return "" if is_library(code.co_filename) else f" (in {trace.tb_frame.f_globals['__name__']}.{code.co_qualname})"


def _load(path: str, name: str, trust: str, words: str) -> Any:
    try:
        return load_verified(path, trust, words)[0]
    except ResultError as error:
        raise ResultError(f"the result of {name!r} cannot be loaded again: {error}; it is in {path}") from None


def results(run: Run, steps: Tensor[Step], records: Mapping[str, Record]) -> Results:
    """A result for each step, in the grid's shape. A cell without a record gets one with its status, and why."""

    def result(step: Step) -> Result:
        cell = step.cell
        record = records.get(cell.folder)
        if record is None:  # what had ended was set apart to be rerun: the cell is new
            status = Status.NEW if step.status in ENDED else step.status
            record = missing(cell.name, cell.config, cell.hash, step.reason, status.value)
        load = partial(_load, run.file(cell, RESULT), cell.name, run.trust, record.seal)
        return Result(record, partial(Path, run.folder(cell)), load)

    return Results.of(steps.map(result))


def reported(run: Run, steps: Tensor[Step], seen: Mapping[str, Facts], *, unpickles: bool = True) -> Results:
    """A result for each step, in the grid's shape, from the facts on disk. Changes nothing.

    Without `unpickles`, a finished cell whose record is lost counts as unfinished.
    """
    records = {}
    for cell in (step.cell for step in steps):
        here = seen.get(cell.folder)
        if here is not None and classify(here).status in ENDED:
            try:
                records[cell.folder] = record_for(run, cell, here, Program(), unpickles=unpickles)
            except (ResultError, OSError) as error:
                words = f"its result is unreadable: {error}"
                records[cell.folder] = missing(cell.name, cell.config, cell.hash, words, Status.UNFINISHED.value)
    return results(run, steps, records)


def commit(run: Run, cell: Cell, record: Record) -> Record:
    """Write the record of a cell that has ended beside its result, and return it with the result's stamp and seal.

    Remove the result of a failed cell, and temporary files of dead workers. Keep what the experiment wrote under the
    record's name. The caller has claimed the cell. Raises OSError.
    """
    with suppress(FileNotFoundError):
        files.remove_temporary(run.folder(cell))
    if record.failed:
        _remove(run.file(cell, RESULT))
    else:
        record = _stamped(record, run.file(cell, RESULT))
        if run.durable:  # the name of the cell's folder, which no executor has synced
            files.sync_folder(run.path)
    written = run.file(cell, RECORD)
    if os.path.isfile(written) and files.read_checked(written) is None:  # by the experiment
        files.make_way(written)
    _write_record(run, cell, record)
    if not record.failed:
        shutil.rmtree(_apart(run, cell), ignore_errors=True)
    return record


def _write_record(run: Run, cell: Cell, record: Record) -> None:
    path, content = run.file(cell, RECORD), files.checked_json(to_json(record))
    try:  # not synced: the record can be made again from the result
        files.write(path, [content], durable=False)
    except (FileNotFoundError, IsADirectoryError):  # somebody has removed the cell's folder, or put one in the way
        files.make_folders(run.folder(cell), durable=run.durable)
        _remove(path)
        files.write(path, [content], durable=False)


def repair(run: Run, cell: Cell, record: Record) -> None:
    """Write the record that was made again from a result whose writer was killed, or that was moved.

    Sync the result first: its writer may have been killed before that. Do nothing if the result has changed meanwhile.
    The caller has claimed the cell. Raises OSError.
    """
    path = run.file(cell, RESULT)
    if files.stamp(path) != record.stamp:
        return
    if run.durable:
        files.sync(path)
        files.sync_folder(run.folder(cell))
        files.sync_folder(run.path)
    files.remove_temporary(run.folder(cell))
    _write_record(run, cell, record)


def prepare(run: Run, cell: Cell) -> str:
    """Prepare the cell's folder for a run. Keep the experiment's own files, remove pyexp's.

    Anything in the place of the folder, and an old result, are set aside; return the new path, or `""`. Keep the log of
    an earlier attempt beside the next one. Raises OSError.
    """
    folder, aside = run.folder(cell), ""
    try:
        os.mkdir(folder)
    except FileExistsError:
        if os.path.islink(folder) or not os.path.isdir(folder):
            aside = set_aside(folder)
            os.mkdir(folder)
        else:
            # First the result, then the record: otherwise, after an interruption, that of a failed cell could count.
            if os.path.lexists(run.file(cell, RESULT)):
                aside = set_aside(run.file(cell, RESULT))
            _remove(run.file(cell, RECORD))
            end_attempts(folder)
            keep_log(run.file(cell, LOG))
            files.remove_temporary(folder)
    return aside


def end_attempts(folder: str) -> None:
    """End attempts at the cell that a run which was killed has left on an engine: the next one has the same folder."""
    claims.end_holders(os.path.join(folder, name) for name in os.listdir(folder) if files.is_temporary(name, WANTED))


def keep_log(path: str) -> None:
    """Rename the log at `path` to the next free name of `log-1.txt`, `log-2.txt`, …; remove an empty one."""
    with suppress(FileNotFoundError):
        if os.lstat(path).st_size and not os.path.islink(path) and os.path.isfile(path):
            stem, end = os.path.splitext(os.path.basename(path))
            _renamed(path, f"{stem}-1{end}", f"{stem}-{{}}{end}")
        else:
            _remove(path)


def set_apart(run: Run, cell: Cell, seen: tuple[int, ...]) -> None:
    """Rename the folder of a cell to rerun to `.before-…`, until its new result is committed.

    So the cell begins in an empty folder, and a crash cannot bring the old result back. Do nothing if the result's
    stamp is not the one that was `seen`: another process has made a new result since the plan. Raises OSError.
    """
    if files.stamp(run.file(cell, RESULT)) != seen or not os.path.isdir(run.folder(cell)):
        return
    end_attempts(run.folder(cell))
    files.remove_temporary(run.folder(cell))
    apart = _apart(run, cell)
    if os.path.lexists(apart) and not seen:  # the last finished result is set apart already
        shutil.rmtree(run.folder(cell), ignore_errors=True)
    else:
        shutil.rmtree(apart, ignore_errors=True)
        os.replace(run.folder(cell), apart)
    if run.durable:
        files.sync_folder(run.path)


def keep_apart(run: Run, cell: Cell) -> None:
    """Rename the folder of a cell that was run with another default, so that it is kept but no cell. Raises OSError."""
    name, _, digest = cell.folder.rpartition("-")
    _renamed(run.folder(cell), f"{name}_before-{digest}", f"{name}_before{{}}-{digest}")


def _apart(run: Run, cell: Cell) -> str:
    return os.path.join(run.path, f"{BEFORE}{cell.folder}")


def _remove(path: str) -> None:
    """Remove the file or symlink at `path`; set a folder aside. Raises OSError."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
    except OSError:
        if not os.path.isdir(path):
            raise
        set_aside(path)


def set_aside(path: str) -> str:
    """Rename what is at `path` to `….unreadable`, and return the new path. Raises OSError."""
    return _renamed(path, f"{os.path.basename(path)}{UNREADABLE}")


def _renamed(path: str, name: str, form: str = "") -> str:
    """Rename what is at `path` to this name, or to the next free one, and return the new path. Raises OSError."""
    folder = os.path.dirname(path)
    new = os.path.join(folder, unused(name, os.listdir(folder), form))
    os.replace(path, new)
    return new


def claim(run: Run, cell: Cell) -> Claim | None:
    """A claim to the cell; None if another process has it. Raises OSError."""
    return claims.claim(run.claims, cell.folder)


def is_shared(run: Run) -> bool:
    """Whether other processes are running cells of this run. This process must hold no claim."""
    return bool(claims.holders(run.claims))


def tidy(run: Run) -> None:
    """Remove the claims and temporary files that dead processes left in the run's folder."""
    folder = run.claims
    with suppress(OSError):
        if any(map(files.is_temporary, os.listdir(run.path))) and (held := claims.claim(folder, RUN)) is not None:
            files.remove_temporary(run.path)
            held.release()
    claims.tidy(folder)
