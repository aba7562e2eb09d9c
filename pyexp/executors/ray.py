"""Cells on a Ray cluster."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

from pyexp.dotted import Config
from pyexp.errors import ExecutorError
from pyexp.executors.base import Pool, Running, Task, Terms
from pyexp.outcome import Outcome


class RayExecutor(Pool):
    """Runs each cell on a Ray cluster. Not built yet: `open` refuses."""

    def __init__(
        self, address: str | None = None, runtime_env: Mapping[str, Any] | None = None, **options: Any
    ) -> None:
        self.address = address
        self.runtime_env = runtime_env
        self.options = options

    def open(self, fn: Callable[[Config], Any], terms: Terms) -> None:
        raise ExecutorError("the ray executor is not built yet; use executor='subprocess' with -j")

    def start(self, task: Task) -> Running:
        raise NotImplementedError

    def wait(self, running: Collection[Any], seconds: float) -> list[tuple[Any, Outcome]]:
        raise NotImplementedError

    def kill(self, running: Any) -> None:
        raise NotImplementedError
