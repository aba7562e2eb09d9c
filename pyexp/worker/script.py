"""The script that a run was started from: its source as the parent read it, and how a worker loads it.

A worker loads the script as multiprocessing does, under the name `__mp_main__`, so that its top level runs and the
block under `if __name__ == "__main__"` does not. Three things differ: the source is what the parent read when it
decorated the experiment; loading ends when it reaches `run()`; and the modules beside the script are those that the
parent read too. So an edit during a run does not affect its cells.
"""

import linecache
import os
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import spec_from_file_location
from types import CodeType, FrameType, FunctionType, ModuleType
from typing import Any, NamedTuple

from pyexp.store.modules import is_project
from pyexp.store.pickling import MAIN

#: The largest number of wrappers around a function.
LAYERS = 20


class Script(NamedTuple):
    """A script: its file, its source, its module name under `python -m`, and the directory it was started in."""

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
    """What the experiment uses of the script.

    `values`: the digest of each global that its code names; None if it cannot be pickled. Settings in other modules of
    the project are among them, as `module:name`. `uses`: for each of these,
    the paths of the functions and classes that it refers to by name. `paths`: the fingerprint of each such path.
    """

    def __init__(self) -> None:
        self.values: dict[str, bytes | None] = {}
        self.uses: dict[str, set[str]] = {}
        self.paths: dict[str, Any] = {}


class LoadingEnds(BaseException):
    """Raised by `run()` in a worker that loads the script, to end the loading there."""


_read: dict[str, Script] = {}
_is_loading = False


def reached_run() -> None:
    """Raise `LoadingEnds` in a worker that is loading the script."""
    if _is_loading:
        raise LoadingEnds


def remember() -> None:
    """Read the source of the script that is running, once, so that workers get the code that this process runs."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        namespace = frame.f_globals
        if namespace.get("__name__") == "__main__" and isinstance(namespace.get("__file__"), str):
            break  # the innermost script: cProfile or pdb are scripts further out
        frame = frame.f_back
    if frame is not None and namespace["__file__"] not in _read and (script := _script(namespace)) is not None:
        _read[script.file] = script


def remember_modules() -> None:
    """Note the files of the user's modules that are loaded, as they are now: later these may be edited."""
    libraries = tuple({os.path.join(folder, "") for folder in (sys.prefix, sys.base_prefix)})
    for name, module in list(sys.modules.items()):
        spec = getattr(module, "__spec__", None)
        origin = getattr(spec, "origin", None) or ""
        if origin.endswith(".py") and not origin.startswith(libraries) and _loaded.get(name, (None,))[0] is not spec:
            _loaded[name] = spec, _times_of(origin)


#: For each module that was remembered its spec, which a reload replaces, and the times and size of its file then.
_loaded: dict[str, tuple[Any, tuple[int, ...]]] = {}


def _times_of(file: str) -> tuple[int, ...]:
    try:
        status = os.stat(file)
    except OSError:
        return ()
    return status.st_mtime_ns, status.st_size


def was_edited(name: str, file: str) -> bool:
    """Whether the file of a loaded module was edited since that was remembered."""
    spec, times = _loaded.get(name, (None, ()))
    is_known = spec is not None and getattr(sys.modules.get(name), "__spec__", None) is spec
    return is_known and _times_of(file) != times


def _script(namespace: Mapping[str, Any]) -> Script | None:
    """The script with this namespace; None without a source (in a notebook, at a prompt, from stdin)."""
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
        # The working directory that it was started in, which may have changed since: Python makes a relative path
        # absolute by prefixing it.
        given = sys.argv[0] if sys.argv else ""
        is_relative = given and not os.path.isabs(given) and file.endswith(f"{os.sep}{given}")
        folder = file.removesuffix(given) if is_relative else os.getcwd()
        return Script(os.path.abspath(file), source, getattr(spec, "name", None), folder)
    except OSError:
        return None


#: Names in a script that reach an experiment without naming it: they look names up, or belong to programs that do.
_REACHING = frozenset(["globals", "locals", "vars", "eval", "exec", "__all__", "__main__"])
_REACHING |= {"unittest", "doctest", "pytest", "fire", "Fire"}


def is_used(source: bytes, experiments: Collection[str]) -> bool:
    r"""Whether a script does anything with the experiments of these names, apart from defining them.

    A statement `train.run`, without a call, does nothing. Neither does the block under `if __name__ == "main"`.
    A script that looks names up, or imports a program that does so, is taken to use them.

    >>> is_used(b"@train.configs\ndef configs(): ...\ntrain.run", ["train"]), is_used(b"train.run()", ["train"])
    (False, True)
    """
    import ast  # needed only at the end of a script that runs no experiment

    pending: list[ast.AST] = [ast.parse(source)]
    while pending:
        match node := pending.pop():
            case ast.Attribute(ast.Name(), "configs" | "report" | "initializer") | ast.Expr(ast.Attribute(ast.Name())):
                continue
            case ast.If(ast.Compare(ast.Name("__name__"), [ast.Eq()], [ast.Constant(name)])) if name != "__main__":
                pending += node.orelse
            case ast.Name(name, ast.Load()) if name in experiments:
                return True
            case ast.Name(name) | ast.alias(name) if name in _REACHING:
                return True
            case ast.Attribute(ast.Name("sys"), "modules"):
                return True
            case ast.FunctionDef(name, decorator_list=[above, _, *_]) if (
                name in experiments and "xperiment" not in ast.unparse(above)
            ):
                return True  # a decorator above @experiment gets the experiment
            case _:
                pending += ast.iter_child_nodes(node)
    return False


def script_of(namespace: Mapping[str, Any]) -> Script | None:
    """The script with this namespace, as it was first read; None without a source."""
    file = namespace.get("__file__")
    if not isinstance(file, str):
        return None
    return _read.get(os.path.abspath(file)) or _script(namespace)


#: The sources from which the fingerprint of the code was taken, by module.
fingerprinted: dict[str, Source] = {}


def project_sources() -> dict[str, Source]:
    """The sources of the user's own modules that this process has imported or may import later, by name.

    For a module in the fingerprint, it is the source that was fingerprinted: the cells run the code in their record.
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
    """Finds modules with the source that the parent read. If the file is unchanged, finds them the usual way."""

    def __init__(self, sources: Mapping[str, Source]) -> None:
        self._sources = sources

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The module's spec, or None for a module that the parent had not imported."""
        source = self._sources.get(fullname)
        if source is None:
            return None
        found = PathFinder.find_spec(fullname, path, target)
        if found is not None and found.origin:
            with suppress(OSError), open(found.origin, "rb") as file:
                if file.read() == source.text:
                    return found
        _show(source.file, source.text)
        return spec_from_file_location(
            fullname,
            source.file,
            loader=_Loader(fullname, source.file, source.text),
            submodule_search_locations=[os.path.dirname(source.file)] if source.is_package else None,
        )


class _Loader(SourceFileLoader):
    """Loads a module from the source that the parent read, ignoring the file and its compiled form on disk."""

    def __init__(self, fullname: str, path: str, text: bytes) -> None:
        super().__init__(fullname, path)
        self._text = text

    def get_data(self, path: str) -> bytes:
        if path != self.path:
            raise OSError(f"{path} was not sent")
        return self._text

    def path_stats(self, path: str) -> Mapping[str, Any]:
        raise OSError(f"{path} is not read from disk")


def _show(file: str, source: bytes) -> None:
    """Make tracebacks show these lines, even if the file changes."""
    from importlib.util import decode_source

    with suppress(UnicodeDecodeError, SyntaxError):
        text = decode_source(source)
        linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)


def load(script: Script) -> None:
    """Run the script's top level in a new module, which becomes `__main__`.

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
    """Set the `__module__` of a function or class to `__main__`, as it is in the script itself.

    joblib or cloudpickle, in a cell, must not take `__mp_main__` for a module that other processes can import.
    """
    if not isinstance(thing, (FunctionType, type)) or thing.__module__ != "__mp_main__":
        return
    with suppress(AttributeError, TypeError):
        thing.__module__ = "__main__"
    for member in vars(thing).values() if isinstance(thing, type) else ():
        _rename(getattr(member, "__func__", member))


def namespace_of(fn: Callable[..., Any]) -> dict[str, Any]:
    """The namespace of the script that defines a function; of this process's `__main__` if a module defines it."""
    inner: Any = fn
    for _ in range(LAYERS):
        if isinstance(inner, FunctionType) and inner.__globals__.get("__name__") in MAIN:
            return inner.__globals__
        inner = getattr(inner, "__wrapped__", None) or getattr(inner, "func", None) or getattr(inner, "__func__", None)
    return main_namespace()


def lookup(namespace: Mapping[str, Any], path: str) -> Any:
    """The object at a dotted path in a namespace. Raises LookupError or AttributeError if it is missing."""
    first, *rest = path.split(".")
    found = namespace[first]
    for part in rest:
        found = getattr(found, part)
    return found


def place_of(key: str, namespace: dict[str, Any]) -> tuple[dict[str, Any] | None, str]:
    """The namespace and name of a global in a survey of a script with this namespace. None: its module is not loaded.

    >>> place_of("LR", {"LR": 0.1}), place_of("nowhere:LR", {})
    (({'LR': 0.1}, 'LR'), (None, 'LR'))
    """
    module, _, name = key.rpartition(":")
    return (getattr(sys.modules.get(module), "__dict__", None) if module else namespace), name


def names_in(code: CodeType) -> Iterator[str]:
    """The names of globals and attributes that a code object and those inside it look up."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from names_in(constant)


def is_namespace(value: Any) -> bool:
    """Whether a value is an `argparse.Namespace` or a `types.SimpleNamespace`: settings, by name."""
    kind = type(value)
    return (kind.__module__, kind.__name__) in (("argparse", "Namespace"), ("types", "SimpleNamespace"))


def of_main(path: str) -> Any:
    """The object at a dotted path in this process's script. Raises LookupError or AttributeError if it is missing."""
    return lookup(main_namespace(), path)


def main_namespace() -> dict[str, Any]:
    """The global names of this process's script."""
    return vars(sys.modules["__main__"])
