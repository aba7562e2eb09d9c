"""`Experiment` and the decorator that makes one: a function, what is registered for it, and its options.

A script that only declares experiments loads this and the pure modules. What a call of `run()` does is in `shell`,
which is imported then: the processes of cells never load it.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import inspect
import sys
from typing import TYPE_CHECKING, Any, Generic, Literal, TypedDict, TypeVar, overload
from weakref import WeakSet

from pyexp.configs import Config, FrozenConfig, filled, freeze_config, thaw
from pyexp.errors import ConfigError, HashError, UsageError, called
from pyexp.hashing import encode
from pyexp.options import settle
from pyexp.worker import script

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping, Sequence
    from typing import Unpack

    from pyexp.executors import Executor, ExecutorName
    from pyexp.plan import Plan
    from pyexp.shell import Call
    from pyexp.tables import Results

F = TypeVar("F", bound="Callable[..., Any]")
R = TypeVar("R")
T = TypeVar("T")

#: All experiments of this process.
_made: WeakSet[Experiment[Any]] = WeakSet()


class RunOptions(TypedDict, total=False):
    """The options as keywords of `run()` and the decorator, for type checkers.

    They are the options of the command line: `--fail-fast` is `fail_fast=True`. None means "not given".

    >>> quick: RunOptions = {"executor": "inline", "quiet": True}
    """

    name: str | None
    executor: ExecutorName | Executor | None
    output_dir: str | os.PathLike[str] | None
    timestamp: str | bool | None
    resume: bool | None
    rerun: bool | None
    last_failed: bool | None
    select: str | tuple[str, ...] | None
    dry_run: bool | None
    list_runs: bool | None
    jobs: int | Literal["auto"] | None
    gpus: str | Sequence[str | int] | None
    timeout: float | None
    grace: float | None
    stop_after: float | None
    retries: int | None
    fail_fast: bool | None
    pdb: bool | None
    capture: bool | None
    durable: bool | None
    check: bool | None
    quiet: bool | None
    verbose: bool | None
    overrides: Mapping[str, Any] | Sequence[str] | None
    extend: bool | None
    as_run: bool | None
    rerun_changed: bool | None
    accept_code: bool | None
    trust: str | None
    html: bool | None
    plot: str | None


class Experiment(Generic[R]):
    """A function of a config, with the configs to run it for and a report on the results.

    Call it with a dict to call the plain function.

    `defaults` are values for keys that a config lacks. A key that equals its default is not part of the hash. So a new
    parameter keeps the finished results, if its default is the value that the code used before. The other arguments are
    the options of the command line. `run()` overrides them, and the command line overrides both.

    >>> square = Experiment(lambda config: config.x**2, name="square", executor="inline")
    >>> square({"x": 3}), square
    (9, <Experiment 'square'>)

    Raises as `experiment` does.
    """

    @called("decorate a function of a config with @pyexp.experiment")
    def __init__(
        self, fn: Callable[[Config], R], *, defaults: Mapping[str, Any] | None = None, **options: Unpack[RunOptions]
    ) -> None:
        validate_function(fn)
        self.defaults = _defaults(defaults)
        self.fn = fn
        self.options = {key: value for key, value in options.items() if value is not None}
        #: The functions under the decorators below, by the name of the decorator.
        self.registered: dict[str, Any] = {}
        self.has_run = False
        self.__name__: str = getattr(fn, "__name__", type(fn).__name__)
        self.__doc__ = fn.__doc__
        self.__module__ = fn.__module__
        self.__wrapped__ = fn
        settle(self.options, {}, {})  # a wrong option is an error where it is written
        script.remember()
        script.remember_modules()
        _made.add(self)
        if self.__module__ == "__main__":
            atexit.unregister(_tell_unused)
            atexit.register(_tell_unused, script.script_of(vars(sys.modules["__main__"])))

    def __setattr__(self, name: str, value: Any) -> None:
        if not name.startswith("_") and callable(getattr(Experiment, name, None)):  # it would never be called
            raise UsageError(f"{name} is a method, and cannot be set; call it: experiment.{name}(…)")
        super().__setattr__(name, value)

    @called("give it one config: experiment({'key': value})")
    def __call__(self, config: Mapping[str, Any]) -> R:
        """Call the plain function in this process. Nothing is isolated or kept."""
        return self.fn(thaw(filled(freeze_config(config), self.defaults)))

    def __repr__(self) -> str:
        return f"<Experiment {self.name!r}>"

    @property
    def name(self) -> str:
        """The name of the experiment's folder, unless `run` or the command line gives another."""
        return str(self.options.get("name") or self.__name__)

    @called("write @experiment.configs without parentheses, above the function")
    def configs(self, fn: F) -> F:
        """Register the function that returns the configs: a list of dicts, or what `sweep` returns. A decorator.

        The function takes no argument. Each run calls it once.

        Raises `ConfigError` if the function takes an argument.
        """
        return self._register("configs", fn, (), "without arguments: def configs()")

    @called("write @experiment.report without parentheses, above the function")
    def report(self, fn: F) -> F:
        """Register the function that gets the Results when a run has ended. A decorator.

        `run()` returns what it returns. An error in it keeps its traceback, and loses no result.

        Raises `ConfigError` if the function does not take one argument.
        """
        return self._register("report", fn, (None,), "with one argument, the Results: def report(results)")

    @called("write @experiment.initializer without parentheses, above the function")
    def initializer(self, fn: F) -> F:
        """Register a function to call once in each process that prepares cells, after it has loaded the script.

        That process is the server that cells are forked from, or each fresh interpreter. With `fork` and `inline` it is
        this process, before the first cell. A decorator.

        Raises `ConfigError` if the function takes an argument.
        """
        return self._register("initializer", fn, (), "without arguments: def initialize()")

    def _register(self, role: str, fn: F, arguments: tuple[Any, ...], how: str) -> F:
        """Register the function, unless it clearly cannot be called with these arguments and do its work."""
        body, name = _innermost(fn), getattr(fn, "__name__", type(fn).__name__)
        is_lazy = inspect.isgeneratorfunction(body) and role != "configs"  # whose configs are listed
        if is_lazy or inspect.iscoroutinefunction(body) or inspect.isasyncgenfunction(body):
            kind = "a generator function" if is_lazy else "async"
            raise ConfigError(
                f"the {role} function {name!r} is {kind}, and calling it runs nothing; use a plain function"
            )
        if callable(fn) and (misfit := _misfit(fn, *arguments)):  # configs may be a list
            raise ConfigError(f"the {role} function {name!r} takes {misfit[0]}, and is called {how} ({misfit[1]})")
        self.registered[role] = fn
        return fn

    @overload
    def run(
        self,
        configs: Any = None,
        *,
        report: Callable[[Results], T],
        argv: Sequence[str] | None = None,
        **options: Unpack[RunOptions],
    ) -> T: ...
    @overload
    def run(
        self,
        configs: Any,
        report: Callable[[Results], T],
        *,
        argv: Sequence[str] | None = None,
        **options: Unpack[RunOptions],
    ) -> T: ...
    @overload
    def run(
        self,
        configs: Any = None,
        report: bool | None = None,
        *,
        argv: Sequence[str] | None = None,
        **options: Unpack[RunOptions],
    ) -> Any: ...
    def run(
        self,
        configs: Any = None,
        report: Callable[[Results], Any] | bool | None = None,
        *,
        argv: Sequence[str] | None = None,
        **options: Unpack[RunOptions],
    ) -> Any:
        """Run the cells that have no result yet, and return what the report returns.

        By default this begins a new run, in which all cells run; `resume=True` (`--continue`) continues the latest one.

        `configs` replaces what the function under `@experiment.configs` returns.

        `report` replaces the function under `@experiment.report`. It is a function of the Results, or True to run
        nothing and only report. Without a report, print a table and return the Results. The report gets the cells of
        the grid in its shape. With `select` (`-k`), it gets only the matching cells; the other cells neither run nor
        reach the report. A cell that failed or has no result is a Result with `__error__`.

        `argv` replaces the command line; `argv=[]` means none. Without it, the command line is read if the script or
        entry point that was started calls this. If it selects cells or keys that only another experiment of the script
        has, nothing runs and the Results are empty.

        The other options are those of the command line, named as in `RunOptions`. With `dry_run` or `list_runs`, print
        the plan or the list of runs and return None; `plan()` returns the plan.

        >>> square = Experiment(lambda config: config.x**2, name="square", executor="inline", quiet=True)
        >>> square.run([{"x": 3}], report=lambda results: results[0].value, argv=[], output_dir=folder)
        9

        Raises `PyexpError` for mistakes in configs or options, before anything runs. Raises KeyboardInterrupt after a
        signal, or if `stop_after` left cells. A mistake on the command line is one line on stderr and exit status 2.
        """
        if isinstance(argv, str):
            raise UsageError(f"argv is {argv!r}; it takes a list of words: {argv.split()}")
        if argv is not None and not all(isinstance(word, str) for word in argv):
            raise UsageError(f"argv is {argv!r}; its words are strings: {[*map(str, argv)]}")
        if not (report is None or callable(report) or isinstance(report, bool)):
            raise UsageError(f"report is {report!r}; it takes a function of the Results, or True to only report")
        script.reached_run()
        from pyexp import shell

        said = {**options, "report": report} if isinstance(report, bool) else options
        return shell.run(self._call(configs, said), report, argv, sys._getframe(1))

    def plan(self, configs: Any = None, **options: Unpack[RunOptions]) -> Plan:
        """The plan: what `run` with these options would do with each cell, and why. Runs and changes nothing.

        The steps have the shape of the grid. Raises as `run` does.

        >>> Experiment(lambda config: config.x, name="square").plan([{"x": 1}, {"x": 2}]).summary()
        '2 cells: 2 to run'
        """
        from pyexp import shell

        return shell.plan_of(self._call(configs, options))

    def results(
        self,
        timestamp: str | None = None,
        configs: Any = None,
        *,
        name: str | None = None,
        output_dir: str | os.PathLike[str] | None = None,
        select: str | tuple[str, ...] | None = None,
        overrides: Mapping[str, Any] | Sequence[str] | None = None,
        as_run: bool | None = None,
        trust: str | None = None,
    ) -> Results:
        """The results of a run, by default the latest, without running anything.

        They have the shape of the present grid: what `configs` or the function under `@experiment.configs` returns.
        With `as_run`, or without configs, they have the shape of the grid that was run. `select` is a glob, as `-k`.
        `trust` names another user whose results to load too, or is `all`. `pyexp.load` does the same from a path,
        without the script.

        Raises `NoRunError` if the run does not exist, or if none of its cells has ended.
        """
        from pyexp import shell

        where = {"timestamp": timestamp, "name": name, "output_dir": output_dir}
        which = {"select": select, "overrides": overrides, "as_run": as_run, "trust": trust, "report": True}
        return shell.results_of(self._call(configs, {**where, **which}))

    def _call(self, configs: Any, options: Mapping[str, Any]) -> Call:
        """A call of one of its methods, with the registered configs if it gives none."""
        from pyexp.shell import Call

        given = self.registered.get("configs") if configs is None else configs
        return Call(self, list(_made), given, options)


def _defaults(given: Mapping[str, Any] | None) -> FrozenConfig:
    """The defaults, frozen. Raises `ConfigError` or `HashError` if they cannot be defaults."""
    frozen = freeze_config({} if given is None else given, "defaults")
    for key in ("name", "out"):
        if key in frozen:
            raise ConfigError(f"defaults has the key {key!r}, which cannot have a default; each config has its own")
    try:
        encode(frozen)
    except HashError as error:
        raise HashError(f"in defaults, {error}") from None
    return frozen


def _tell_unused(started: script.Script | None) -> None:
    """At the end of a script that defines experiments and uses none of them, say so: a slip may hide the call."""
    main = getattr(sys.modules.get("__main__"), "__dict__", {})
    mine = {name: value for name, value in main.items() if isinstance(value, Experiment)}
    # An experiment of another module may be this script again, imported by what it calls.
    is_alone = bool(mine) and {*mine.values()} == {*_made} and not any(each.has_run for each in _made)
    if started is None or not is_alone or sys.flags.interactive or hasattr(sys, "last_value"):
        return
    from pyexp.commandline import was_started
    from pyexp.look.screen import tell

    if was_started({"__file__": started.file}) and not script.is_used(started.source, mine):
        name, first = next(iter(mine.items()))
        file = started.file.replace("\\", "/").rpartition("/")[2]
        tell(f"note: {file} defines the experiment {first.name!r} and never runs it; call {name}.run()")


@overload
def experiment(
    fn: Callable[[Config], R], /, *, defaults: Mapping[str, Any] | None = None, **options: Unpack[RunOptions]
) -> Experiment[R]: ...
@overload
def experiment(
    *, defaults: Mapping[str, Any] | None = None, **options: Unpack[RunOptions]
) -> Callable[[Callable[[Config], R]], Experiment[R]]: ...
def experiment(fn: Any = None, /, **options: Any) -> Any:
    """Make a function of a config an `Experiment`: `@experiment`, or `@experiment(name=…, executor=…, timestamp=…)`.

    >>> @experiment(name="square", defaults={"power": 2})
    ... def power(config):
    ...     return {"y": config.x**config.power}
    >>> power.name, power({"x": 3}), power({"x": 3, "power": 3})
    ('square', {'y': 9}, {'y': 27})

    Raises `ConfigError` for a function that cannot be called with one config and return a result, and `UsageError` for
    an unknown option or a wrong value.
    """
    if fn is not None:
        return Experiment(fn, **options)
    return lambda wrapped: Experiment(wrapped, **options)


#: Functions whose call returns no result: what they are, and what to do about it.
_FRUITLESS: tuple[tuple[Callable[[Any], bool], str, str], ...] = (
    (inspect.iscoroutinefunction, "an async function, and calling it runs nothing",
     "decorate a plain function that runs it: return asyncio.run(work(config))"),
    (inspect.isasyncgenfunction, "an async generator function, and calling it runs nothing",
     "decorate a plain function that runs it, and return what it yields as a list"),
    (inspect.isgeneratorfunction, "a generator function, and calling it runs nothing", "use return in place of yield"),
    (lambda fn: isinstance(fn, functools._lru_cache_wrapper),
     "cached by functools, which cannot take a config: a dict has no hash",
     "leave out that cache: pyexp keeps each result on disk"),
)  # fmt: skip


def validate_function(fn: Any) -> None:
    """Raise `ConfigError` for a function that clearly cannot be called with one config and return a result.

    >>> validate_function(lambda config, verbose=False: config)
    """
    if isinstance(fn, type):
        raise ConfigError(
            f"an experiment is a function of a config, and {fn.__name__!r} is a class; "
            f"decorate a function that makes one and returns its result: def experiment(config): {fn.__name__}(config)…"
        )
    if isinstance(fn, str):
        raise ConfigError(f"an experiment is a function of a config, not {fn!r}; to name it: @experiment(name={fn!r})")
    if not callable(fn):
        raise ConfigError(f"an experiment is a function of a config, not {fn!r}")
    name = getattr(fn, "__name__", type(fn).__name__)
    body = _innermost(fn)
    for is_kind, kind, remedy in _FRUITLESS:
        if is_kind(body):
            raise ConfigError(f"the experiment {name!r} is {kind}; {remedy}")
    while (inner := _behind(fn)) is not None:
        fn = inner
    misfit = _misfit(fn, None, follow_wrapped=False)  # a wrapper may fill in what its function takes
    if misfit is not None:
        signature, error = misfit
        parameters = list(signature.parameters)
        remedy = (
            "give it a parameter: def experiment(config)" if not parameters else
            "decorate a function, or make one of a bound method: pyexp.experiment(Class().method)"
            if parameters[0] == "self" else
            "give it one parameter, the config, and take the rest from there, or bind the rest by functools.partial"
        )  # fmt: skip
        raise ConfigError(
            f"the experiment {name!r} is called with one config, and takes {signature}: {error}; {remedy}"
        )


def _misfit(fn: Any, *arguments: Any, follow_wrapped: bool = True) -> tuple[inspect.Signature, TypeError] | None:
    """What a function takes that clearly cannot be called with these arguments, and why; None for any other."""
    try:
        signature = inspect.signature(fn, follow_wrapped=follow_wrapped)
    except Exception:  # it is written in C, or hides what it takes
        return None
    try:
        signature.bind(*arguments)
    except TypeError as error:
        return signature, error
    return None


def _innermost(fn: Any) -> Any:
    """The function whose body a call runs."""
    while True:
        if isinstance(fn, functools.partial):
            fn = fn.func
        elif inspect.ismethod(fn):
            fn = fn.__func__
        elif (inner := _behind(fn)) is not None:
            fn = inner
        elif inspect.isfunction(call := getattr(type(fn), "__call__", None)):  # noqa: B004  # of an object's class
            fn = call
        else:
            return fn


def _behind(fn: Any) -> Any:
    """The function inside a wrapper of the standard library that passes all arguments on; None for anything else."""
    if isinstance(fn, staticmethod):
        return fn.__func__
    return getattr(fn, "__wrapped__", None) if getattr(fn, "__globals__", None) is vars(contextlib) else None
