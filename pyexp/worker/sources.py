"""The sources of the user's own modules, as this process has loaded them or would load them, for the fingerprint.

Imports none of the user's modules: it finds one that is not loaded along the import path.
"""

import dis
import functools
import gc
import linecache
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from enum import Enum
from importlib.util import decode_source
from pathlib import PurePath
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, NoneType
from typing import Any

from pyexp.configs import FrozenConfig
from pyexp.errors import HashError
from pyexp.hashing import encode
from pyexp.leaves import NotLoaded, named_in
from pyexp.store.code import VALUE, Code, Entry, Reach, constants, defines, fingerprint, holding, may_bind
from pyexp.store.modules import is_project, is_there, spec_of
from pyexp.store.pickling import MAIN
from pyexp.worker import script
from pyexp.worker.script import Script, Source

#: Stands for the module of a function whose source is not in its module's file.
NOWHERE = "<exec>"


class Codes:
    """The fingerprints of an experiment's code: its function and initializer, and the script that is running.

    What a config names counts for the cells that have it. `is_loaded` says that the cells run what this process has
    loaded, so that a module which was edited since is no code of theirs.
    """

    def __init__(
        self, fn: Callable[..., Any], initializer: Callable[..., Any] | None = None, *, is_loaded: bool = False
    ) -> None:
        self._is_loaded = is_loaded
        roots = [*_roots(fn), *(() if initializer is None else _roots(initializer))]
        self._namespace = script.namespace_of(fn)
        self._sources = sources = Sources(self._namespace)
        self._entries = tuple(entry for thing in roots for entry in _entries(thing, sources))
        if sources.script is not None and is_project(sources.script.file):
            self._entries += (Entry(sources.main),)
        self._held = _held(roots, sources)
        self._known: dict[tuple[Entry, ...], Code | None] = {}
        self._places: dict[int, tuple[Any, Entry | None]] = {}
        self._places_called = functools.cache(self._places_of_name)
        self._reach: Reach | None = None

    def of(self, config: FrozenConfig = FrozenConfig()) -> Code | None:
        """The fingerprint of the code of the cells with this config; None if it is not known."""
        try:
            given = tuple(sorted({place for thing in named_in(config) if (place := self._place_of(thing)) is not None}))
        except Exception:  # it is not loaded, or an encoder of the user's raised
            return None
        if given not in self._known:
            self._known[given] = None
            with suppress(Exception):  # a source may hold anything, and must not fail the run
                code = self._fingerprint(given)
                self._known[given] = holding(code, self._held | self._values(code) | self._older())
        return self._known[given]

    def _older(self) -> dict[str, bytes]:
        """A part for each module that was edited since it was loaded, if the cells run what is loaded.

        The source in its file is not theirs, and no source has this part.
        """
        read = self._sources.read.items() if self._is_loaded else ()
        return {f"{name}.<before an edit>": b"" for name, source in read if script.was_edited(name, source.file)}

    def _values(self, code: Code) -> dict[str, bytes]:
        """The values of globals that the code names and whose source does not tell them, if these cannot change.

        In a notebook, a cell that only sets them has no source, and may have been typed after the one that the source
        shows. In a script, the command line or the environment may have set them.
        """
        sources, known = self._sources, self._namespace
        is_script = sources.script is not None
        text = sources[sources.main]
        asks = is_script and _asks(text)
        told = constants(text) if asks else ()
        main = sources.main.rpartition(".")[2]  # as the parts call it
        reached = {name: value for name, value in known.items() if f"{main}.{name}" in code.parts}
        found = {}
        for part in code.parts:
            module, _, name = part.rpartition(".")
            is_typed = module == main and not is_script
            if module == main:
                space, counts = known, name not in told and (asks or is_typed)
            else:  # of another script, the guard has not run here
                text = sources.get(module, "")
                space, counts = _globals(module), "__main__" not in text and (asks or _asks(text))
            if not counts or name not in space:
                continue
            setters = [
                each for each in _functions(space) if uses(each, name, "STORE_GLOBAL") and not _asks_itself(each)
            ]
            if any(uses(each, name, "LOAD_GLOBAL") for each in setters):
                continue  # it may be a count of calls, or a cache
            values = {part: space[name]}
            if script.is_namespace(space[name]):
                used = {each for function in _functions(reached) for each in script.names_in(function)}
                values = {f"{part}.{key}": value for key, value in vars(space[name]).items() if key in used}
            for key, value in values.items():
                with suppress(HashError):
                    if isinstance(value, _FIXED) and (is_typed or not isinstance(value, PurePath)):
                        found[key if is_typed else f"{VALUE}{key}"] = encode(value)
        return found

    def _place_of(self, thing: Any) -> Entry | None:
        """Where a thing that a config names is defined; None if it is not of the project.

        Raises LookupError for a thing that was not loaded and whose parts are not known.
        """
        if isinstance(thing, NotLoaded):  # one for each record, so many are alike
            places = self._places_called(thing.kind, thing.name)
            if not places:
                raise LookupError(f"it is not known what {thing!r} names")
            return places[0]
        if id(thing) not in self._places:
            self._places[id(thing)] = thing, self._place_found(thing)
        return self._places[id(thing)][1]

    def _place_found(self, thing: Any) -> Entry | None:
        """Where a function or class stands, which may be another name or module than it says."""
        said, name = thing.__module__, thing.__qualname__
        first, *inner = name.split(".")
        own = _key(said, self._sources)
        place = Entry(own, name) if own in self._sources else None
        with suppress(Exception):  # it is missing, or a `__getattr__` of the user's raised
            if functools.reduce(getattr, inner, _globals(said)[first]) is thing:
                return place
        for module in (said, *list(sys.modules)):
            key = _key(module, self._sources)
            names = [each for each, value in _globals(module).items() if value is thing] if key in self._sources else ()
            for each in names:
                if defines(self._sources[key], each):
                    return Entry(key, each)
        return place

    def _places_of_name(self, kind: str, called: str) -> list[Entry | None]:
        """What `_place_of` gives for a thing that is known by name; nothing if that is not known."""
        names, sources = called.split("."), self._sources
        splits = [(".".join(names[:i]), ".".join(names[i:])) for i in range(len(names) - 1, 0, -1)]
        for module, name in splits if kind in ("named", "enum") else ():
            text = sources.get(module)
            if text is not None and may_bind(text, name.partition(".")[0]):
                is_script = text == sources.get(sources.main)  # which has another name under `python -m`
                return [Entry(sources.main if is_script else module, name)]
            if text is None and sources.spec(module) is not None and is_there(module, name):
                return [None]
        return []

    def _fingerprint(self, given: tuple[Entry, ...]) -> Code:
        sources, key = self._sources, (self._entries, given)
        if key not in _fingerprints or not sources.agree_with(_fingerprints[key][0]):
            known = self._entries, sources, sources.packages, sources.partial
            collects = gc.isenabled()
            gc.disable()  # it would look at a growing syntax tree again and again: 40 % of the time
            try:
                if not given:
                    code = fingerprint(*known)
                else:
                    self._reach = self._reach or Reach(*known)  # kept for further configs that name something
                    code = self._reach.with_also(given).code()
                _fingerprints[key] = sources, code
            finally:
                if collects:
                    gc.enable()
        script.fingerprinted = sources.read
        return _fingerprints[key][1]


class Sources(Mapping[str, str]):
    """The sources of the user's own modules by name, each read when it is used.

    `packages`: the names of packages. `partial`: the names of modules whose source has gaps or is missing. `read`: the
    files that were read, without the script.
    """

    def __init__(self, namespace: Mapping[str, Any]) -> None:
        self.script: Script | None = script.script_of(namespace)
        self.packages: set[str] = set()
        self.partial: set[str] = set()
        self.main = "__main__"
        self.read: dict[str, Source] = {}
        self._texts: dict[str, str | None] = {}
        self.spec = functools.cache(spec_of)
        if self.script is None:
            self._texts["__main__"] = _typed(namespace)
            self.partial.add("__main__")
            return
        stem = os.path.splitext(os.path.basename(self.script.file))[0]
        self.main = self.script.name or stem
        text = _decoded(self.script.source)
        for name in (*MAIN, self.main, stem):
            spec = self.spec(name)
            if spec is None or spec.origin is None or os.path.abspath(spec.origin) == self.script.file:
                self._texts[name] = text
        self._texts[self.main] = text

    def __getitem__(self, name: str) -> str:
        if name not in self._texts:
            self._texts[name] = self._text(name)
        text = self._texts[name]
        if text is None:
            raise KeyError(name)
        return text

    def __iter__(self) -> Iterator[str]:
        return (name for name, text in self._texts.items() if text is not None)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def agree_with(self, others: "Sources") -> bool:
        """Whether all that the others have read reads the same now."""
        for name in others._texts:
            self.get(name)
        both = others._texts.keys()
        own = {name: self._texts[name] for name in both}, self.packages & both, self.partial & both
        return own == (others._texts, others.packages & both, others.partial & both)

    def _text(self, name: str) -> str | None:
        top, spec = name.partition(".")[0], self.spec(name)
        outer = self.spec(top)
        if top != name and self.get(top) is None and (outer is None or outer.origin is not None):
            return None  # the package is not of the project
        if spec is None or spec.origin is None or not spec.has_location or not is_project(os.path.abspath(spec.origin)):
            return None
        if spec.submodule_search_locations is not None:
            self.packages.add(name)
        if spec.origin.endswith((".py", ".pyw")):
            with suppress(Exception):  # a loader may be anything
                source = spec.loader.get_data(spec.origin)  # type: ignore[union-attr]
                self.read[name] = Source(os.path.abspath(spec.origin), source, name in self.packages)
                return _decoded(source)
        self.partial.add(name)  # compiled, or removed
        return ""


def _decoded(source: bytes) -> str:
    """The text of a source. Bytes that are not text give a text that the parser refuses."""
    try:
        return decode_source(source)
    except (SyntaxError, UnicodeDecodeError):
        return "these bytes are not text"


def _typed(namespace: Mapping[str, Any]) -> str:
    """The source typed into a notebook or at a prompt, as far as its functions and classes still lead to it."""
    files: dict[str, None] = {}
    for value in list(namespace.values()):
        for thing in (value, *(vars(value).values() if isinstance(value, type) else ())):
            inner = getattr(thing, "fn", thing) if _is_experiment(thing) else thing
            if isinstance(inner, FunctionType) and inner.__globals__ is namespace:
                files[inner.__code__.co_filename] = None
    return "\n".join("".join(linecache.getlines(file)) for file in files)


def _is_experiment(thing: Any) -> bool:
    return type(thing).__module__ == "pyexp.experiment"


def _roots(thing: Any, depth: int = 16) -> Iterator[Any]:
    """The functions and classes inside a callable: a partial, a bound method, a decorator's wrapper."""
    if depth == 0:
        return
    if _is_experiment(thing):
        yield from _roots(thing.fn, depth - 1)
        return
    inside: list[Any] = []
    if isinstance(thing, MethodType):
        inside += [thing.__func__, thing.__self__]
    else:
        yield thing
    if isinstance(thing, functools.partial):
        inside += [thing.func, *filter(callable, (*thing.args, *thing.keywords.values()))]
    elif not isinstance(thing, (MethodType, FunctionType, BuiltinFunctionType, type)):
        inside.append(type(thing))
    wrapped = getattr(thing, "__dict__", {}).get("__wrapped__")
    for each in (*inside, *(() if wrapped is None else [wrapped])):
        yield from _roots(each, depth - 1)


def _held(roots: Iterable[Any], sources: Sources) -> dict[str, bytes]:
    """The values that functions hold in closures, defaults and partials, and objects in attributes, encoded.

    They tell the functions of one factory apart. Only values that cannot change: a list may be a cache.
    """
    found = {}
    for thing in roots:
        fn = thing.func if isinstance(thing, functools.partial) else thing
        named: list[tuple[str, Any]] = []
        if fn is not thing:
            named += [*((f"[{i}]", value) for i, value in enumerate(thing.args)), *thing.keywords.items()]
        counters = _assigned(thing)
        for name, cell in zip(*_closure(thing), strict=True):
            with suppress(ValueError):  # it has no value yet
                if cell not in counters:
                    named.append((name, cell.cell_contents))
        named += _defaults(thing) if isinstance(thing, FunctionType) else _attributes(thing)
        module = _key(getattr(fn, "__module__", None), sources)
        home = f"{module.rpartition('.')[2]}.{getattr(fn, '__qualname__', type(fn).__qualname__)}"
        for name, value in named if module in sources else ():
            with suppress(HashError):
                if isinstance(value, _FIXED):
                    found[f"{home}.{name}"] = encode(value)
    return found


def _defaults(fn: FunctionType) -> Iterator[tuple[str, Any]]:
    """The defaults of a function that is made inside another one: these may be values of that."""
    if "<locals>" in fn.__qualname__:
        code, defaults = fn.__code__, fn.__defaults__ or ()
        yield from zip(code.co_varnames[code.co_argcount - len(defaults) : code.co_argcount], defaults, strict=True)
        yield from (fn.__kwdefaults__ or {}).items()


def _attributes(thing: Any) -> Iterator[tuple[str, Any]]:
    """The attributes of an object that only its making sets: others may be counters. A path only says where."""
    if isinstance(thing, (type, functools.partial)):
        return
    methods = [
        value for kind in type(thing).__mro__ for value in vars(kind).values() if isinstance(value, FunctionType)
    ]
    later = [each.__code__ for each in methods if each.__name__ not in ("__init__", "__new__", "__post_init__")]
    for name, value in vars(thing).items() if hasattr(thing, "__dict__") else ():
        if not isinstance(value, PurePath) and not any(uses(code, name, "STORE_ATTR") for code in later):
            yield name, value


_FIXED = (bool, int, float, complex, str, bytes, NoneType, tuple, frozenset, PurePath, Enum)


def _closure(thing: Any) -> tuple[tuple[str, ...], tuple[Any, ...]]:
    """The names and cells of what a function takes from the functions around it."""
    return (thing.__code__.co_freevars, thing.__closure__ or ()) if isinstance(thing, FunctionType) else ((), ())


def _assigned(thing: Any) -> list[Any]:
    """The cells of a closure that may hold counters: the function, or another one that it holds, assigns to them."""
    functions = [thing]
    for cell in _closure(thing)[1]:
        with suppress(ValueError):  # it has no value yet
            functions.append(cell.cell_contents)
    found = []
    for each in functions:
        found += [cell for name, cell in zip(*_closure(each), strict=True) if _assigns(each.__code__, name)]
    return found


def _assigns(code: CodeType, name: str) -> bool:
    """Whether a function assigns to a variable of the functions around it: `nonlocal`."""
    inner = [each for each in code.co_consts if isinstance(each, CodeType) and name in each.co_freevars]
    own = any(each.opname == "STORE_DEREF" and each.argval == name for each in dis.get_instructions(code))
    return own or any(_assigns(each, name) for each in inner)


#: What a source has that reads the command line or the environment.
_ASKING = ("argv", "parse_args", "parse_known_args", "environ", "getenv", "click", "typer", "docopt", "fire")


def _asks(text: str) -> bool:
    """Whether a source may read the command line or the environment."""
    return any(word in text for word in _ASKING)


def _asks_itself(code: CodeType) -> bool:
    return any(word in code.co_names for word in _ASKING)


def _functions(namespace: Mapping[str, Any]) -> list[CodeType]:
    """The code of the functions in a namespace, also of decorated ones and of methods."""
    values = [getattr(value, "__wrapped__", value) for value in namespace.values()]
    methods = [each for value in values if isinstance(value, type) for each in vars(value).values()]
    return [each.__code__ for each in (*values, *methods) if isinstance(each, FunctionType)]


def uses(code: CodeType, name: str, opcode: str) -> bool:
    """Whether a function, or one inside it, has this instruction with this name, such as STORE_GLOBAL."""
    inner = [each for each in code.co_consts if isinstance(each, CodeType)]
    own = name in code.co_names and any(
        each.opname == opcode and each.argval == name for each in dis.get_instructions(code)
    )
    return own or any(uses(each, name, opcode) for each in inner)


def _entries(thing: Any, sources: Sources) -> Iterator[Entry]:
    """Where a function or class is defined. An object made by a call is looked up by its global name."""
    module, name = getattr(thing, "__module__", None), getattr(thing, "__qualname__", "")
    is_defined = isinstance(thing, (FunctionType, type))
    if not is_defined or "<locals>" in name:
        namespace = getattr(thing, "__globals__", None) or vars(sys.modules["__main__"])
        named = [*namespace.items()]
        first = next((key for key, it in named if it is thing or (_is_experiment(it) and it.fn is thing)), None)
        if first is not None:
            yield Entry(_key(namespace.get("__name__"), sources), first)
        elif not is_defined:
            yield Entry(NOWHERE, name or type(thing).__qualname__)
    if not is_defined:
        return
    key, line = _key(module, sources), None
    if key not in sources:
        if hasattr(thing, "__wrapped__"):  # the wrapped function has an entry of its own
            return
        key = NOWHERE if module is None else key
    elif isinstance(thing, FunctionType) and key not in sources.partial:
        here = sources.script if key == sources.main else None
        file = getattr(sources.spec(key), "origin", "") if here is None else here.file
        line = thing.__code__.co_firstlineno
        if os.path.basename(thing.__code__.co_filename) != os.path.basename(file or ""):
            key = NOWHERE
    yield Entry(key, name, line)


def _globals(module: Any) -> dict[str, Any]:
    """The global names of a loaded module; none of one that is not."""
    return dict(getattr(sys.modules.get(module), "__dict__", ()))


def _key(module: Any, sources: Sources) -> str:
    return sources.main if module in MAIN else str(module)


#: The fingerprints that this process has taken, with their sources: `run()` in a loop takes each once.
_fingerprints: dict[tuple[tuple[Entry, ...], tuple[Entry, ...]], tuple[Sources, Code]] = {}
