"""What the workers of a run are sent: what they get ready with, and then what they lack of it.

Knows the experiment's function, its script, and this process's world; not how a worker is started.
"""

import os
import sys
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from pyexp.errors import ConfigError
from pyexp.worker.main import Kit, Lack, Rest
from pyexp.worker.naming import comes_back, namespace_of, shipped, survey
from pyexp.worker.script import Survey, is_project, project_sources, script_of

T = TypeVar("T")


class Shipment:
    """What the workers of one run are sent: the kit, then the rest.

    Raises `ConfigError` for a function that cannot be sent.
    """

    def __init__(self, fn: Callable[..., Any], initializer: Callable[[], Any] | None, path: list[str]) -> None:
        self._rest = Rest({}, fn, initializer)
        self._namespace = namespace_of(fn)
        self.asked = Survey()
        script = script_of(self._namespace)
        if script is not None:
            self.asked = self._packed(lambda: survey([fn, initializer], self._namespace))
            if not (self.asked.paths or self.asked.values or is_project(script.file)):
                script = None  # an installed program, such as a test runner or a kernel, and no script of the user's
        self.kit = Kit(
            argv=[str(each) for each in sys.argv],
            path=path,
            folder=_working_directory(),
            script=script,
            sources=project_sources(),
            asked=self.asked,
        )
        if script is None:
            self.rest(Lack())

    def rest(self, lack: Lack) -> bytes:
        """What is sent to a worker that lacks this. Raises `ConfigError` for what it lacks and cannot be sent.

        Where loading failed, nobody knows what that is: all that can be sent is, and each worker takes what it lacks.
        """
        if lack.failed:
            lack = Lack(differ=[name for name, digest in self.asked.values.items() if digest is not None])
        for name in lack.missing:
            if self.asked.values.get(name) is None:
                self._refuse(name)
        is_loaded = self.kit.script is not None
        without = frozenset(lack.paths)
        values = {}
        for name in sorted(lack.names(self.asked)):
            if self.asked.values.get(name) is None:
                continue
            value = self._namespace[name]
            trial = partial(comes_back, value, self._namespace, is_loaded=is_loaded, without=without)
            if self._packed(trial):
                values[name] = value
            elif name in lack.missing:
                self._refuse(name)
        rest = self._rest._replace(values=values)
        return self._packed(lambda: shipped(tuple(rest), self._namespace, is_loaded=is_loaded, without=without))

    def _refuse(self, name: str) -> None:
        value = self._namespace[name]
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        raise ConfigError(
            f"the experiment {self._label()} uses {name}, a {kind}, which cannot be sent to another process and is not "
            f"made at the top level of the script; make {name} there, outside of any guard, or inside the function, or "
            "run it with executor='inline'"
        )

    def _packed(self, pack: Callable[[], T]) -> T:
        try:
            return pack()
        except Exception as error:
            raise ConfigError(
                f"the experiment {self._label()} cannot be sent to another process: {error}; "
                "make what it uses inside the function, or run it with executor='inline'"
            ) from error

    def _label(self) -> str:
        return repr(getattr(self._rest.fn, "__name__", self._rest.fn))


def _working_directory() -> str:
    try:
        return os.getcwd()
    except OSError:  # it was removed
        return os.path.abspath(os.sep)
