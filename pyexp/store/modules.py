"""Which modules are the user's own, and where each would be loaded from. Imports none of them."""

import os
import sys
from contextlib import suppress
from functools import cache
from importlib.machinery import ModuleSpec
from typing import Any


@cache
def _installed() -> tuple[str, ...]:
    """The folders of installed code: the standard library, packages, programs, and pyexp itself."""
    import site
    import sysconfig

    kinds = ("stdlib", "platstdlib", "purelib", "platlib", "scripts")
    folders = {*map(sysconfig.get_path, kinds), os.path.dirname(os.path.dirname(os.path.abspath(__file__)))}
    with suppress(AttributeError):  # an old virtualenv's site has none
        folders |= {*site.getsitepackages(), site.getusersitepackages()}
    return tuple(os.path.join(each, "") for each in {*folders, *map(os.path.realpath, folders)})


def is_project(file: str) -> bool:
    """Whether a file is the user's own code, not the standard library's or that of an installed package or program."""
    is_package = any(f"{os.sep}{kind}-packages{os.sep}" in file for kind in ("site", "dist"))  # of any interpreter
    return not is_package and not file.startswith(_installed())


def spec_of(name: str) -> ModuleSpec | None:
    """The spec from which the module was, or would be, loaded. Finds a submodule without importing its package."""
    module = sys.modules.get(name)
    if module is not None:
        spec = getattr(module, "__spec__", None)
        return spec if isinstance(spec, ModuleSpec) else None
    package, _, last = name.rpartition(".")
    places: list[str] | None = None
    if package:
        outer = spec_of(package)
        if outer is None or outer.submodule_search_locations is None:
            return None
        places = [*outer.submodule_search_locations]
    for finder in sys.meta_path:
        with suppress(Exception):  # a finder may be anything
            spec = finder.find_spec(name, places, None)
            if spec is not None:
                return spec
    # A folder without `__init__.py` is not found in a package that is not loaded.
    folders = [folder for place in places or () if os.path.isdir(folder := os.path.join(place, last))]
    spec = ModuleSpec(name, None, is_package=True)
    spec.submodule_search_locations = folders
    return spec if folders else None


def public(module: str) -> str:
    """The name of the public module that a private one is part of, where another version may keep its classes.

    >>> public("pathlib._local"), public("pathlib")
    ('pathlib', 'pathlib')
    """
    return ".".join(part for part in module.split(".") if not part.startswith("_")) or module


def is_there(module: str, name: str) -> bool:
    """Whether a class or function can be imported, as far as that can be told without importing anything.

    Of a private module, the public one that it is part of will do.
    """
    return _is_in(module, name) or (public(module) != module and _is_in(public(module), name))


def _is_in(module: str, name: str) -> bool:
    loaded: Any = sys.modules.get(module)
    if loaded is not None:
        for part in name.split("."):
            loaded = getattr(loaded, part, None)
        return loaded is not None
    spec = spec_of(module)
    if spec is None:
        return False
    origin = spec.origin or ""
    if not origin.endswith(".py") or not is_project(origin):
        return True
    from importlib.util import decode_source  # needed only where a result's module is not loaded

    from pyexp.store.code import may_bind

    try:
        with open(origin, "rb") as file:
            return may_bind(decode_source(file.read()), name.partition(".")[0])
    except (OSError, SyntaxError, UnicodeDecodeError):
        return False
