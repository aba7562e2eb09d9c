"""The script that a run was started from: its source as the parent read it, and how a worker loads it.

A worker loads the script as multiprocessing does, under the name `__mp_main__`, so that its top level holds and a
guard `if __name__ == "__main__"` does not. Three things differ: the source is the one that the parent read when the
experiment was decorated; `run()` ends the loading when it is reached; and modules beside the script come as the parent
read them too, so that an edit during a run reaches no cell.
"""

import linecache
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import spec_from_file_location
from types import FunctionType, ModuleType
from typing import Any, NamedTuple

from pyexp.store.pickling import MAIN


class Script(NamedTuple):
    """A script: its file, its source, its name as `python -m` knows it, and the directory it was started in."""

    file: str
    source: bytes
    name: str | None
    folder: str


class Source(NamedTuple):
    """A module's file and source, and whether it is a package."""

    file: str
    text: bytes
    is_package: bool


class Survey:
    """What the experiment reaches in the script.

    `values` has the digest of each global that its code names, None for what cannot be pickled; `uses` the paths of
    what each of them refers to by name; `paths` the fingerprint of all that goes by name.
    """

    def __init__(self) -> None:
        self.values: dict[str, bytes | None] = {}
        self.uses: dict[str, set[str]] = {}
        self.paths: dict[str, Any] = {}


class LoadingEnds(BaseException):
    """Raised by `run()` in a worker that loads the script: what comes after it is not for the worker."""


_read: dict[str, Script] = {}
_is_loading = False


def reached_run() -> None:
    """Raise `LoadingEnds` in a worker that is loading the script."""
    if _is_loading:
        raise LoadingEnds


def remember() -> None:
    """Read the source of the script that is running, once, so that workers get the code that this process runs."""
    namespace = _running()
    if namespace is not None and namespace["__file__"] not in _read:
        script = _script(namespace)
        if script is not None:
            _read[script.file] = script


def _running() -> dict[str, Any] | None:
    """The namespace of the innermost script that is being run: under cProfile or pdb, theirs is further out."""
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_globals.get("__name__") == "__main__" and isinstance(frame.f_globals.get("__file__"), str):
            return frame.f_globals
        frame = frame.f_back  # type: ignore[assignment]
    return None


def _script(namespace: Mapping[str, Any]) -> Script | None:
    """The script whose namespace this is; None where there is no source (a notebook, a prompt, stdin)."""
    file = namespace.get("__file__")
    if not isinstance(file, str) or (not file.endswith((".py", ".pyw")) and os.path.splitext(file)[1]):
        return None
    spec = namespace.get("__spec__")
    loader: Any = namespace.get("__loader__")
    try:
        if hasattr(loader, "get_data"):  # an archive has its own
            source = loader.get_data(file)
        else:
            with open(file, "rb") as opened:
                source = opened.read()
        return Script(os.path.abspath(file), source, getattr(spec, "name", None), _started_in(file))
    except OSError:
        return None


def _started_in(file: str) -> str:
    """The working directory that the script was started in, as far as that shows: it may have changed since.

    Python makes a relative path absolute by putting the working directory before it.
    """
    given = sys.argv[0] if sys.argv else ""
    if given and not os.path.isabs(given) and file.endswith(f"{os.sep}{given}"):
        return file.removesuffix(given)
    return os.getcwd()


def script_of(namespace: Mapping[str, Any]) -> Script | None:
    """The script whose namespace this is, as it was read first; None where it has no source."""
    file = namespace.get("__file__")
    if not isinstance(file, str):
        return None
    return _read.get(os.path.abspath(file)) or _script(namespace)


@cache
def _installed() -> tuple[str, ...]:
    """The folders of what is installed: the standard library, packages, programs, and pyexp itself."""
    import site
    import sysconfig

    kinds = ("stdlib", "platstdlib", "purelib", "platlib", "scripts")
    folders = {*map(sysconfig.get_path, kinds), os.path.dirname(os.path.dirname(os.path.abspath(__file__)))}
    with suppress(AttributeError):  # an old virtualenv's site has none
        folders |= {*site.getsitepackages(), site.getusersitepackages()}
    return tuple(os.path.join(each, "") for each in {*folders, *map(os.path.realpath, folders)})


def is_project(file: str) -> bool:
    """Whether a file is the user's own: neither of the standard library nor of an installed package or program."""
    return not file.startswith(_installed())


#: The sources of the user's own modules that the fingerprint of the code was taken of, by their names.
fingerprinted: dict[str, Source] = {}


def project_sources() -> dict[str, Source]:
    """The sources of the user's own modules that this process has imported or may import later, by their names.

    Where the fingerprint was taken of a module, it is the very source of that: the cells run what the record says.
    """
    sources = dict(fingerprinted)
    for name, module in list(sys.modules.items()):
        try:
            spec = module.__spec__
            if name in sources or name in MAIN or spec is None or type(spec.loader) not in (SourceFileLoader, _Loader):
                continue
            file = os.path.abspath(spec.origin or "")
            if is_project(file):
                text = spec.loader.get_data(file)  # type: ignore[union-attr]
                sources[name] = Source(file, text, spec.submodule_search_locations is not None)
        except Exception:  # what stands in sys.modules may be anything
            continue
    return sources


class Finder:
    """Finds modules as the parent read them; where the file says the same, the usual way."""

    def __init__(self, sources: Mapping[str, Source]) -> None:
        self._sources = sources

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The module's spec, or None for one that the parent had not imported."""
        source = self._sources.get(fullname)
        if source is None:
            return None
        found = PathFinder.find_spec(fullname, path, target)
        if found is not None and found.origin and _content(found.origin) == source.text:
            return found
        _show(source.file, source.text)
        return spec_from_file_location(
            fullname,
            source.file,
            loader=_Loader(fullname, source.file, source.text),
            submodule_search_locations=[os.path.dirname(source.file)] if source.is_package else None,
        )


class _Loader(SourceFileLoader):
    """Loads a module from the source that the parent read, past the disk and its compiled form there."""

    def __init__(self, fullname: str, path: str, text: bytes) -> None:
        super().__init__(fullname, path)
        self._text = text

    def get_data(self, path: str) -> bytes:
        if path != self.path:
            raise OSError(f"{path} is not what was sent")
        return self._text

    def path_stats(self, path: str) -> Mapping[str, Any]:
        raise OSError(f"{path} is not looked at")


def _content(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return None


def _show(file: str, source: bytes) -> None:
    """Let tracebacks show these lines, whatever is in the file by then."""
    from importlib.util import decode_source

    with suppress(UnicodeDecodeError, SyntaxError):
        text = decode_source(source)
        linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)


def load(script: Script) -> None:
    """Run the script's top level in a module of its own, which then stands for `__main__`.

    Raises whatever the script raises.
    """
    global _is_loading
    module = ModuleType("__mp_main__")
    module.__file__ = script.file
    if script.name is not None:
        module.__spec__ = ModuleSpec(script.name, None, origin=script.file)
        module.__package__ = module.__spec__.parent
    sys.modules["__main__"] = sys.modules["__mp_main__"] = module
    _show(script.file, script.source)
    _read[script.file] = script  # a run within a cell sends the same
    _is_loading = True
    try:
        exec(compile(script.source, script.file, "exec", dont_inherit=True), vars(module))
    except LoadingEnds:
        pass
    finally:
        _is_loading = False
        for value in list(vars(module).values()):
            _rename(value)


def _rename(thing: Any) -> None:
    """Let a function or class say that it is of `__main__`, as it would in the script itself.

    What pickles it in a cell (joblib, cloudpickle) must not take `__mp_main__` for a module that others can import.
    """
    if not isinstance(thing, (FunctionType, type)) or thing.__module__ != "__mp_main__":
        return
    with suppress(AttributeError, TypeError):
        thing.__module__ = "__main__"
    for member in vars(thing).values() if isinstance(thing, type) else ():
        _rename(getattr(member, "__func__", member))


def lookup(namespace: Mapping[str, Any], path: str) -> Any:
    """What is found in the script under a dotted path. Raises LookupError or AttributeError if there is nothing."""
    first, *rest = path.split(".")
    found = namespace[first]
    for part in rest:
        found = getattr(found, part)
    return found


def of_main(path: str) -> Any:
    """What this process's script has under a dotted path. Raises LookupError or AttributeError."""
    return lookup(vars(sys.modules["__main__"]), path)


def main_namespace() -> dict[str, Any]:
    """The global names of this process's script."""
    return vars(sys.modules["__main__"])
