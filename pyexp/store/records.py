"""What is on disk of each cell: the facts that are seen there, and the steps that change them.

A result's appearance under its name is the commit; the record beside it tells people and tools what happened, and can
be made again from the result. Looking imports and unpickles nothing, and does not say what the facts mean: `classify`
does.
"""

import os
import stat
import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import partial
from importlib import machinery, util
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pyexp.configs import NOTHING, FrozenConfig, leaves, lookup
from pyexp.errors import ResultError, StoreError
from pyexp.hashing import alike
from pyexp.leaves import NotLoaded
from pyexp.plan import ENDED, Cell, Facts, Step, classify, unused
from pyexp.results import Record, Result, done, from_json, missing, record_of, restored, to_json
from pyexp.store import claims, files, pickling
from pyexp.store.claims import Claim
from pyexp.store.layout import CLAIMS, LOG, RECORD, RESULT, RUN, Run
from pyexp.tables import Results
from pyexp.tensor import Tensor

if TYPE_CHECKING:
    from pyexp.store.code import Code


class Program:
    """The program that asks about results: which classes it finds, and which code it would run them with.

    Without `loads`, it need not be able to load the results: their records are of use without the script.
    """

    def __init__(
        self, code: "Code | None" = None, defaults: FrozenConfig = FrozenConfig(), *, loads: bool = True
    ) -> None:
        self.code = code
        self._defaults = defaults
        self._loads = loads
        self._findable: dict[str, bool] = {}
        self._differences: dict[str, str] = {}

    def lacks(self, record: Record) -> str:
        """The first class or function that loading the result needs and that is not there; `""` if there is none."""
        for need in record.needs if self._loads else ():
            if need not in self._findable:
                self._findable[need] = _is_there(*need.split(":", 1))
            if not self._findable[need]:
                return need.replace(":", ".")
        return ""

    def difference(self, record: Record) -> str:
        """How the code that made the result differs from this program's, in words; `""` where none is known."""
        told = record.code
        if self.code is None or not told or self.code.hash in (told["hash"], *told.get("accepted", ())):
            return ""
        from pyexp.store.code import Code, difference, same  # only where the hashes differ

        key = told["hash"]
        if key not in self._differences:
            old = Code(told["hash"], told["parts"])
            is_other = same(old, self.code) is False
            self._differences[key] = difference(old.parts, self.code.parts) if is_other else ""
        return self._differences[key]

    def changed_default(self, cell: Cell, told: Mapping[str, Any]) -> str:
        """Which default has another value in the cell than when it was run, where the record says this; `""` for none.

        A key that is missing from the record was added since, with the value that the code had before.
        """
        if not self._defaults:
            return ""
        before = restored(told["config"], told["format"])
        for path, _ in leaves(self._defaults):
            old, new = lookup(before, path, NOTHING), lookup(cell.config, path, NOTHING)
            if old is not NOTHING and not isinstance(old, NotLoaded) and not alike(old, new):
                return f"{path} was {old!r}, and is {new!r}"
        return ""


def look(run: Run, cells: Iterable[Cell], program: Program, *, exact: bool = True) -> dict[str, Facts]:
    """The facts about the cells that have a folder or are claimed, by folder. Changes nothing.

    `exact` says that the cells have the very configs that were run; without it, records bring their own. Raises
    `StoreError` if the run's folder cannot be read.
    """
    try:
        with os.scandir(run.path) as entries:
            present = {entry.name for entry in entries}
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise StoreError(f"cannot look into {run.path}: {error.strerror}") from None
    holders = claims.holders(os.path.join(run.path, CLAIMS)) if CLAIMS in present else {}
    seen = {}
    for cell in cells:
        holder = holders.get(cell.folder, "")
        if cell.folder in present or holder:
            seen[cell.folder] = facts(run, cell, program, exact=exact)._replace(holder=holder)
    return seen


def facts(run: Run, cell: Cell, program: Program, *, exact: bool = True) -> Facts:
    """The facts about one cell, also if a process has claimed it."""
    try:
        is_folder = stat.S_ISDIR(os.lstat(run.folder(cell)).st_mode)
    except OSError:
        return Facts()
    if not is_folder:
        return Facts(there="something else")
    told = _record_data(run, cell)
    record = _record_in(told, cell if exact else None)
    default = program.changed_default(cell, told) if record is not None and exact else ""
    path = run.file(cell, RESULT)
    try:
        status = os.lstat(path)
    except OSError:
        return Facts("folder", record, ended=_When.of(record), default=default)
    stamp = files.stamp_of(status)
    owner = "" if files.is_trusted(status, run.trust) else files.owner_of(status)
    if owner or default or (record is not None and record.failed):
        return Facts("folder", record, stamp, ended=_When.of(record), owner=owner, default=default)
    fits, fault = record is not None and record.stamp == stamp, ""
    if not fits:
        fits, fault = _verified(run, cell, record)
    other = ""
    if fits and record is not None:
        lost, other = program.lacks(record), program.difference(record)
        fault = f"{lost}, which loading it needs, is not there" if lost else ""
    ended = _When.of(record) if fits else _When(status.st_mtime)
    return Facts("folder", record, stamp, fits, fault, ended, difference=other)


def _verified(run: Run, cell: Cell, record: Record | None) -> tuple[bool, str]:
    """Whether the record is that of the result, which is read through; and what is wrong with the result, if anything.

    A file that was copied or moved keeps its seal, by which its record knows it.
    """
    path = run.file(cell, RESULT)
    try:
        seal = files.seal_of(path, run.trust)
    except files.DamagedError as error:
        return False, str(error)
    except OSError as error:
        return False, error.strerror or str(error)
    if seal is None:  # a custom executor's: a plain pickle
        return False, "" if pickling.is_whole(path) else "its pickle breaks off"
    if seal.cell.strip() not in (b"", cell.hash.encode()):
        return False, "it is the result of another cell"
    return record is not None and record.seal == seal.words, ""


class _When(NamedTuple):
    """When a cell ended, in seconds since 1970. It is spelled out when it is shown: few ever are."""

    seconds: float

    @classmethod
    def of(cls, record: Record | None) -> "_When | str":
        return "" if record is None else cls(record.started + record.seconds)

    def __str__(self) -> str:
        try:
            return time.strftime("at %Y-%m-%d %H:%M:%S", time.localtime(self.seconds))
        except (ValueError, OverflowError, OSError):
            return "at an unknown time"


def _is_there(module: str, name: str) -> bool:
    loaded: Any = sys.modules.get(module)
    if loaded is not None:
        for part in name.split("."):
            loaded = getattr(loaded, part, None)
        return loaded is not None
    try:
        spec = _spec(module)
        if spec is None:
            return False
        if spec.origin is None or not spec.origin.endswith(".py") or _is_installed(spec.origin):
            return True
        return _defines(Path(spec.origin).read_text("utf-8"), name.partition(".")[0])
    except (OSError, ValueError, SyntaxError, ImportError):
        return False


def _defines(source: str, name: str) -> bool:
    """Whether a module's top level gives this name a value, as far as its source shows."""
    import ast

    waiting: list[ast.AST] = [ast.parse(source)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            if node.name in (name, "__getattr__"):
                return True
        elif isinstance(node, ast.alias):
            if node.name == "*" or (node.asname or node.name.partition(".")[0]) == name:
                return True
        elif isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Store):
            return True
        else:
            waiting += ast.iter_child_nodes(node)
    return False


def _spec(module: str) -> machinery.ModuleSpec | None:
    """Where a module would be loaded from. A package's parts are looked for without importing the package."""
    top, *parts = module.split(".")
    spec = util.find_spec(top)
    for part in parts:
        if spec is None or spec.submodule_search_locations is None:
            return None
        spec = machinery.PathFinder.find_spec(f"{spec.name}.{part}", spec.submodule_search_locations)
    return spec


def _is_installed(path: str) -> bool:
    return "site-packages" in path or path.startswith(os.path.dirname(os.__file__))


def _record_data(run: Run, cell: Cell) -> dict[str, Any]:
    """What the cell's record says; empty if there is none that can be trusted."""
    data = files.read_checked(run.file(cell, RECORD))
    return data if isinstance(data, dict) and data.get("hash") == cell.hash else {}


def _record_in(told: Mapping[str, Any], cell: Cell | None) -> Record | None:
    """The record that says this, of the cell if that is known; None if it is not one."""
    try:
        return from_json(told, None if cell is None else cell.config) if told else None
    except (ResultError, ValueError, OverflowError, RecursionError):
        return None


def record_for(run: Run, cell: Cell, seen: Facts) -> Record:
    """The record of a cell that is done or failed; made again by loading the result where none fits.

    Raises `ResultError` if the result cannot be loaded.
    """
    path = run.file(cell, RESULT)
    known = seen.record
    if known is not None and (known.failed or seen.fits):
        return known if known.failed else known._replace(stamp=seen.stamp)
    status = os.lstat(path)
    value, needs = load_verified(path, run.trust)
    remade = record_of(
        cell.name,
        cell.config,
        cell.hash,
        done(value, needs),
        started=status.st_mtime if known is None else known.started,
        seconds=0.0 if known is None else known.seconds,
        attempts=() if known is None else known.attempts,
        host="" if known is None else known.host,
        executor="" if known is None else known.executor,
    )
    return _stamped(remade, path)


def _stamped(record: Record, path: str) -> Record:
    """The record with what identifies its result: the file by its stamp, the content by its seal."""
    seal = files.trailer(path)
    return record._replace(stamp=files.stamp_of(os.lstat(path)), seal="" if seal is None else seal.words)


def load_verified(path: str, trust: str = "") -> tuple[Any, list[str]]:
    """The value in a result file, and what loading it needed.

    Raises `ResultError` saying what is wrong: no regular file of one's own, damaged, or not loadable here.
    """
    try:
        content = files.read(path, trust=trust)
        return pickling.load_noting(content, files.unsealed(content)[0])
    except KeyboardInterrupt:
        raise
    except files.DamagedError as error:
        raise ResultError(str(error)) from None
    except BaseException as error:  # a pickle is code, and can raise anything
        raise ResultError(f"{type(error).__name__}: {error}") from None


def _load(path: str, name: str, trust: str) -> Any:
    try:
        return load_verified(path, trust)[0]
    except ResultError as error:
        raise ResultError(f"the result of {name!r} cannot be loaded again: {error}; it is in {path}") from None


def results(run: Run, steps: Tensor[Step], records: Mapping[str, Record]) -> Results:
    """A result for each step, in the grid's shape: by its record, or else one that says why it is missing."""

    def result(step: Step) -> Result:
        cell = step.cell
        record = records.get(cell.folder) or missing(cell.name, cell.config, cell.hash, step.reason)
        return Result(
            record, partial(Path, run.folder(cell)), partial(_load, run.file(cell, RESULT), cell.name, run.trust)
        )

    return Results.of(steps.map(result))


def reported(run: Run, steps: Tensor[Step], seen: Mapping[str, Facts]) -> Results:
    """The results that are there, and for every other cell one that says why it is missing. Changes nothing."""
    records = {}
    for step in steps:
        here = seen.get(step.cell.folder)
        if here is not None and classify(here).status in ENDED:
            try:
                records[step.cell.folder] = record_for(run, step.cell, here)
            except (ResultError, OSError) as error:
                words = f"its result is unreadable: {error}"
                records[step.cell.folder] = missing(step.cell.name, step.cell.config, step.cell.hash, words)
    return results(run, steps, records)


def commit(run: Run, cell: Cell, record: Record) -> Record:
    """Put the record of a cell that has ended beside its result, and return it with what identifies the result.

    Of a failure no result stays, whoever wrote one; nor does what a dead worker left half-written. Raises OSError. The
    caller has claimed the cell.
    """
    if record.failed or record.attempts:  # a cell that finished at once has left nothing half-written
        with suppress(FileNotFoundError):
            files.remove_temporary(run.folder(cell))
    if record.failed:
        _remove(run.file(cell, RESULT))
    else:
        record = _stamped(record, run.file(cell, RESULT))
    _write_record(run, cell, record)
    if not record.failed:
        _remove_tree(_apart(run, cell))
    return record


def _write_record(run: Run, cell: Cell, record: Record) -> None:
    path, content = run.file(cell, RECORD), files.checked_json(to_json(record))
    try:  # not synced: after a power cut it is made again from the result
        files.write(path, [content], durable=False)
    except FileNotFoundError:  # somebody has removed the folder
        files.make_folders(run.folder(cell), durable=run.durable)
        files.write(path, [content], durable=False)
    except IsADirectoryError:
        set_aside(path)
        files.write(path, [content], durable=False)


def repair(run: Run, cell: Cell, record: Record) -> None:
    """Write down the record that was made again from a result; its writer was killed, or somebody has moved it.

    Until then it may not have come to the syncs that make a finished cell safe. Nothing, if the result is another one
    by now. Raises OSError. The caller has claimed the cell.
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
    """Make the cell's folder ready for a run: there, with the experiment's own files and none of an earlier run's.

    What stands in the place of the folder or of the result is set aside; returns its new path, or `""`. The log of an
    earlier attempt is kept beside the next one's. Raises OSError.
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
    _remove(run.file(cell, RECORD))
    keep_log(run.file(cell, LOG))
    files.remove_temporary(run.folder(cell))
    return aside


def keep_log(path: str) -> None:
    """Give the log at `path` the next free name of `log-1.txt`, `log-2.txt`, …; an empty one is removed."""
    folder, name = os.path.split(path)
    try:
        if os.lstat(path).st_size and not os.path.islink(path) and os.path.isfile(path):
            stem, end = os.path.splitext(name)
            os.replace(path, os.path.join(folder, unused(f"{stem}-1{end}", os.listdir(folder), f"{stem}-{{}}{end}")))
        else:
            _remove(path)
    except FileNotFoundError:
        return


def set_apart(run: Run, cell: Cell, seen: tuple[int, ...]) -> None:
    """Take the folder of a cell that is to run again out of the way, until its new result is committed.

    So it begins in an empty folder, and no crash can bring the old result back. Nothing, if the result is not the one
    that was `seen` with this stamp: it was not there when it was decided to run the cell again. Raises OSError.
    """
    if files.stamp(run.file(cell, RESULT)) != seen or not os.path.isdir(run.folder(cell)):
        return
    files.remove_temporary(run.folder(cell))
    apart = _apart(run, cell)
    if os.path.lexists(apart) and not seen:  # the last one that finished is there already
        _remove_tree(run.folder(cell))
    else:
        _remove_tree(apart)
        os.replace(run.folder(cell), apart)
    if run.durable:
        files.sync_folder(run.path)


def _remove_tree(path: str) -> None:
    if os.path.lexists(path):
        import shutil

        shutil.rmtree(path, ignore_errors=True)


def keep_apart(run: Run, cell: Cell) -> None:
    """Keep what a cell was with another default in a folder of its own, which is not one of the run. Raises OSError."""
    name, _, digest = cell.folder.rpartition("-")
    kept = unused(f"{name}_before-{digest}", os.listdir(run.path), f"{name}_before{{}}-{digest}")
    os.replace(run.folder(cell), os.path.join(run.path, kept))


def _apart(run: Run, cell: Cell) -> str:
    return os.path.join(run.path, f".before-{cell.folder}")


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
            files.remove_temporary(run.path)
            held.release()
    claims.tidy(folder)
