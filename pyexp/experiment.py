"""`Experiment` and the decorator that makes one.

It settles the options (command line over `run()` over decorator), and calls the shell.
"""

import atexit
import contextlib
import functools
import inspect
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Generic, Literal, TypedDict, TypeVar, Unpack, get_args, overload
from weakref import WeakSet

from pyexp import shell
from pyexp.configs import Config, FrozenConfig, filled, freeze_config, thaw
from pyexp.errors import (
    ConfigError,
    ExecutorError,
    ExtraError,
    HashError,
    NoRunError,
    SelectionError,
    StoreError,
    UsageError,
    called,
)
from pyexp.executors import validate_executor
from pyexp.hashing import encode
from pyexp.leaves import script_name
from pyexp.look.folding import for_stdout, plan_for_stdout
from pyexp.look.screen import own_screen
from pyexp.options import Options, UnknownKeyError, keys_of, settle, spelled, without_flags
from pyexp.plan import Mode, Plan, component
from pyexp.results import records_of
from pyexp.runner import Interrupted, Job
from pyexp.shell import Heard, command_line, parse, say, tell
from pyexp.store import history, layout
from pyexp.tables import Results
from pyexp.worker import script

if TYPE_CHECKING:  # a run that is finished loads no executor
    from pyexp.executors import Executor, ExecutorName
    from pyexp.store.code import Code

F = TypeVar("F", bound=Callable[..., Any])
R = TypeVar("R")
T = TypeVar("T")

#: Mistakes on the command line, or in what it names; not in the script.
_MISTAKES = (UsageError, NoRunError, StoreError, SelectionError, ExecutorError, ExtraError)


#: The experiments that have not run in this process. `_taken` is filled once one has run with the command line.
_not_run: "WeakSet[Experiment[Any]]" = WeakSet()
_taken: set[bool] = set()
#: All experiments of this process.
_made: "WeakSet[Experiment[Any]]" = WeakSet()


class RunOptions(TypedDict, total=False):
    """The options as keywords of `run()` and the decorator, for type checkers.

    They are the options of the command line: `--fail-fast` is `fail_fast=True`. None means "not given".

    >>> quick: RunOptions = {"executor": "inline", "quiet": True}
    """

    name: str | None
    executor: "ExecutorName | Executor | None"
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
        self.options = _said(options)
        self._configs: Any = None
        self._report: Callable[[Results], Any] | None = None
        self._initializer: Callable[[], Any] | None = None
        self.__name__: str = getattr(fn, "__name__", type(fn).__name__)
        self.__doc__ = fn.__doc__
        self.__module__ = fn.__module__
        self.__wrapped__ = fn
        settle(self.options, {}, {})  # a wrong option is an error where it is written
        script.remember()
        _not_run.add(self)
        _made.add(self)
        if self.__module__ == "__main__" and shell.was_started(main := vars(sys.modules.get("__main__", script))):
            atexit.unregister(_tell_unused)
            atexit.register(_tell_unused, script.script_of(main))

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
        _validate_call(fn, (), "configs", "without arguments: def configs()")
        self._configs = fn
        return fn

    @called("write @experiment.report without parentheses, above the function")
    def report(self, fn: F) -> F:
        """Register the function that gets the Results when a run has ended. A decorator.

        `run()` returns what it returns. An error in it keeps its traceback, and loses no result.

        Raises `ConfigError` if the function does not take one argument.
        """
        _validate_call(fn, (None,), "report", "with one argument, the Results: def report(results)")
        self._report = fn
        return fn

    @called("write @experiment.initializer without parentheses, above the function")
    def initializer(self, fn: F) -> F:
        """Register a function to call once in each process that prepares cells, after it has loaded the script.

        That process is the server that cells are forked from, or each fresh interpreter. With `fork` and `inline` it is
        this process, before the first cell. A decorator.

        Raises `ConfigError` if the function takes an argument.
        """
        _validate_call(fn, (), "initializer", "without arguments: def initialize()")
        self._initializer = fn
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
        _validate_run(report, argv)
        script.reached_run()
        self._complete_if_asked(configs)
        heard = command_line(sys._getframe(1)) if argv is None else Heard(list(argv) or None)
        commanded = heard.words
        if heard.notice:
            tell(heard.notice)
        _not_run.discard(self)
        said = _said(options) | ({"report": report} if isinstance(report, bool) else {})
        validate_executor(settle(self.options, said, {}).executor)  # a mistake in the script keeps its traceback
        with _exit_on_error(commanded is not None):
            typed = parse(commanded or [], os.path.basename(sys.argv[0]))
            settled = settle(self.options, said, typed)
            validate_executor(settled.executor)
            if settled.list_runs:
                self._list(settled)
                return None
            if settled.html or settled.plot:
                shell.refuse_without_page()
        words = commanded if argv is None else list(argv)
        job = self._job(settled, configs, _command(typed, words))
        with _exit_on_error(commanded is not None):
            try:
                if settled.dry_run:
                    self._dry_run(job, settled)
                    return None
                done, safe = shell.perform(job, settled)
            except (SelectionError, UnknownKeyError) as error:
                if argv is not None or not _is_for_another(typed):
                    raise
                tell(f"note: nothing of {job.name!r} is run, as the command line is for another experiment: {error}")
                return Results([])
            if commanded and argv is None:
                _taken.add(True)
        value = self._reported(done, report, settled, commanded is not None)
        if settled.check:
            self._check(not safe or _has_failed(done, settled), bool(commanded) and argv is None)
        return value

    def _reported(self, done: Results, report: Any, options: Options, by_command_line: bool) -> Any:
        """What the report on the results returns. Write the page and the chart that the options ask for."""
        written = shell.write_page(done) if options.html else ""
        given = report if callable(report) else self._report
        value = (given or functools.partial(_default_report, options=options))(done)
        if written:
            say(written)
        if options.plot:
            with _exit_on_error(by_command_line):
                say(shell.write_plot(done, options.plot))
        return value

    def _check(self, failed: bool, by_command_line: bool) -> None:
        """Exit with status 1 if a cell failed. On the command line, wait for all experiments of the script."""
        if by_command_line and any(other.__module__ == self.__module__ for other in _not_run):
            if failed and not _failed:
                _failed.append(True)
                atexit.register(_exit_failed)
        elif failed or _failed:
            atexit.unregister(_exit_failed)
            raise SystemExit(1)

    def _dry_run(self, job: Job, options: Options) -> None:
        """Print the plan."""
        snapshot = shell.look(job, options)
        for note in snapshot.notes:
            tell(note)
        say(plan_for_stdout(snapshot.plan, "-v shows all", whole=options.verbose))

    def plan(self, configs: Any = None, **options: Unpack[RunOptions]) -> Plan:
        """The plan: what `run` with these options would do with each cell, and why. Runs and changes nothing.

        The steps have the shape of the grid. Raises as `run` does.

        >>> Experiment(lambda config: config.x, name="square").plan([{"x": 1}, {"x": 2}]).summary()
        '2 cells: 2 to run'
        """
        settled = settle(self.options, _said(options), {})
        validate_executor(settled.executor)
        return shell.look(self._job(settled, configs), settled).plan

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
        where = {"timestamp": timestamp, "name": name, "output_dir": output_dir}
        which = {"select": select, "overrides": overrides, "as_run": as_run, "trust": trust}
        settled = settle(self.options, {**_said({**where, **which}), "report": True}, {})
        return shell.perform(self._job(settled, configs), settled).results

    def _job(self, options: Options, configs: Any, command: str = "") -> Job:
        given = self._configs if configs is None else configs
        # A report on a run needs no configs.
        made = None if given is None and options.mode is Mode.REPORT else shell.grid(given)
        return Job(
            self._folder(options),
            self.fn,
            made,
            command,
            self._initializer,
            _script(self.fn),
            _function(self),
            frozenset(_function(other) for other in _made if other.__module__ == self.__module__) - {_function(self)},
            self._code(),
            self.defaults,
        )

    def _code(self) -> "Code | None":
        """The fingerprint of the code; None if it cannot be taken."""
        from pyexp.worker.sources import code_of  # imported only by a run

        try:
            return code_of(self.fn, self._initializer)
        except Exception:  # a source may hold anything, and must not fail the run
            return None

    def _takes(self, typed: Mapping[str, Any]) -> bool:
        """Whether the command line selects cells of this experiment. True if that is unknown before `run`."""
        if self._configs is None:
            return True
        try:
            settled = settle(self.options, {}, typed)
            shell.cells_of_job(self._job(settled, None), settled)
        except (SelectionError, UnknownKeyError):
            return False
        except Exception:  # its own run reports the error
            return True
        return True

    def _folder(self, options: Options) -> str:
        return component(options.name or self.__name__, "the experiment's name")

    def _complete_if_asked(self, configs: Any) -> None:
        """Answer a shell that asks what a word may become, and end the process."""
        if "_ARGCOMPLETE" not in os.environ:
            return
        from pyexp import executors
        from pyexp.look.completion import complete

        def base(said: Any) -> str:
            typed = {key: getattr(said, key) for key in ("name", "output_dir") if getattr(said, key, None)}
            settled = settle(self.options, {}, typed)
            return layout.home(settled.output_dir, self._folder(settled))

        grid = functools.cache(lambda: shell.grid(self._configs if configs is None else configs))
        complete(
            shell.parser(),
            {
                "timestamp": lambda said: [run.name for run in layout.runs(base(said))],
                "select": lambda said: [name for config in grid() if (name := config.get("name"))],
                "overrides": lambda said: dict.fromkeys(f"{key}=" for config in grid() for key in keys_of(config)),
                "executor": lambda said: get_args(executors.ExecutorName),
            },
        )

    def _list(self, options: Options) -> None:
        from pyexp.look import runs  # imported only for the list

        base = layout.home(options.output_dir, self._folder(options))
        found = history.kept(base)
        lines = runs.overview(found, own_screen().width) if found else []
        say("\n".join(lines) or f"there is no run of {self._folder(options)!r} below {base} yet")


def _validate_run(report: Any, argv: Any) -> None:
    if isinstance(argv, str):
        raise UsageError(f"argv is {argv!r}; it takes a list of words: {argv.split()}")
    if not (report is None or callable(report) or isinstance(report, bool)):
        raise UsageError(f"report is {report!r}; it takes a function of the Results, or True to only report")


def _is_for_another(typed: Mapping[str, Any]) -> bool:
    """Whether cells or keys that an experiment lacks may belong to another experiment of the script."""
    chooses = bool(typed.get("select") or typed.get("overrides"))
    return chooses and (bool(_taken) or any(experiment._takes(typed) for experiment in list(_not_run)))


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


def _script(fn: Any) -> str:
    """The module name of the script that defines the experiment; `""` if it has no file."""
    module = getattr(fn, "__module__", None) or "__main__"
    name = script_name(sys.modules.get("__main__")) if module in ("__main__", "__mp_main__") else str(module)
    return "" if name == "__main__" else name.rpartition(".")[2]


def _function(experiment: Experiment[Any]) -> str:
    """The name of the experiment's function in its module."""
    return str(getattr(experiment.fn, "__qualname__", type(experiment.fn).__qualname__))


def _said(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that were given, without those that are None."""
    return {key: value for key, value in options.items() if value is not None}


def _command(typed: Mapping[str, Any], words: Sequence[str] | None) -> str:
    """The command that starts the script with the same words, except those that choose the run or its cells.

    `words` are those that were read. `""` if the command line was not read, or if the script has made them up.
    """
    main = sys.modules.get("__main__")
    path, spec = getattr(main, "__file__", None), getattr(main, "__spec__", None)
    everything = shell.typed_words(sys.orig_argv, path if spec is None else None)
    own = None if words is None else shell.without_words(everything, words)
    if not path or own is None:
        return ""
    with suppress(OSError, ValueError):  # the working directory is gone, or on another drive
        path = os.path.relpath(path)
    program = ["-m", spec.name.removesuffix(".__main__")] if spec is not None else [path]
    is_kept = {key: key not in _WHICH or value is False for key, value in typed.items()}
    kept = spelled({key: value for key, value in typed.items() if is_kept[key]})
    return shlex.join(["python", *program, *(without_flags(everything, _WHICH) if own else kept)])


_WHICH = {"timestamp", "resume", "report", "rerun", "last_failed", "dry_run", "list_runs"}


@contextmanager
def _exit_on_error(wanted: bool) -> Iterator[None]:
    """If a command line was given, turn a mistake on it, or a signal, into one line and an exit status.

    The user's own functions do not run inside, so that their errors keep their tracebacks.
    """
    try:
        yield
    except _MISTAKES as error:
        if not wanted:
            raise
        tell(f"error: {error}")
        raise SystemExit(2) from error
    except Interrupted as error:
        if not wanted:
            raise
        tell(str(error))
        raise SystemExit(error.status) from None


#: Filled once an experiment fails under `--check` while others of the script have yet to run.
_failed: list[bool] = []


def _exit_failed() -> None:
    """End the process with status 1: an exit handler cannot set Python's exit status otherwise."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(1)


def _tell_unused(started: script.Script | None) -> None:
    """At the end of a script that defines experiments and uses none of them, say so: a slip may hide the call."""
    main = getattr(sys.modules.get("__main__"), "__dict__", {})
    mine = {name: value for name, value in main.items() if isinstance(value, Experiment)}
    is_cut_short = sys.flags.interactive or hasattr(sys, "last_value")
    # An experiment of another module may be this script again, imported by what it calls.
    is_alone = bool(mine) and {*mine.values()} == {*_made} and _not_run.issuperset(_made)
    if started is not None and is_alone and not is_cut_short and not script.is_used(started.source, mine):
        name, first = next(iter(mine.items()))
        file = os.path.basename(started.file)
        tell(f"note: {file} defines the experiment {first.name!r} and never runs it; call {name}.run()")


def _has_failed(results: Results, options: Options) -> bool:
    """Whether a cell has failed, or has no result for a report."""
    records = records_of(results)
    return any(record.failed if options.report else record.status == "failed" for record in records)


def _default_report(results: Results, options: Options) -> Results:
    rest = "all are on the page" if options.html else "-v shows all"
    say(for_stdout(results, rest, whole=options.verbose))
    return results


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
    (
        inspect.iscoroutinefunction,
        "an async function, and calling it runs nothing",
        "decorate a plain function that runs it: return asyncio.run(work(config))",
    ),
    (
        inspect.isasyncgenfunction,
        "an async generator function, and calling it runs nothing",
        "decorate a plain function that runs it, and return what it yields as a list",
    ),
    (
        inspect.isgeneratorfunction,
        "a generator function, and calling it runs nothing",
        "use return in place of yield",
    ),
    (
        lambda fn: isinstance(fn, functools._lru_cache_wrapper),
        "cached by functools, which cannot take a config: a dict has no hash",
        "leave out that cache: pyexp keeps each result on disk",
    ),
)


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
    body = _called(fn)
    for is_kind, kind, remedy in _FRUITLESS:
        if is_kind(body):
            raise ConfigError(f"the experiment {name!r} is {kind}; {remedy}")
    _validate_signature(name, fn)


def _validate_signature(name: str, fn: Any) -> None:
    while (inner := _behind(fn)) is not None:
        fn = inner
    try:
        signature = inspect.signature(fn, follow_wrapped=False)  # a wrapper may fill in what its function takes
        parameters = list(signature.parameters.values())
    except Exception:  # it is written in C, or hides what it takes
        return
    try:
        signature.bind(None)
    except TypeError as error:
        remedy = (
            "give it a parameter: def experiment(config)" if not parameters else
            "decorate a function, or make one of a bound method: pyexp.experiment(Class().method)"
            if parameters[0].name == "self" else
            "give it one parameter, the config, and take the rest from there, or bind the rest by functools.partial"
        )  # fmt: skip
        raise ConfigError(
            f"the experiment {name!r} is called with one config, and takes {signature}: {error}; {remedy}"
        ) from None


def _validate_call(fn: Any, arguments: tuple[Any, ...], role: str, how: str) -> None:
    """Raise `ConfigError` for a function that clearly cannot be called with these arguments and do its work."""
    if not callable(fn):  # configs may be a list
        return
    body, name = _called(fn), getattr(fn, "__name__", type(fn).__name__)
    is_lazy = inspect.isgeneratorfunction(body) and role != "configs"  # whose configs are listed
    if is_lazy or inspect.iscoroutinefunction(body) or inspect.isasyncgenfunction(body):
        kind = "a generator function" if is_lazy else "async"
        raise ConfigError(f"the {role} function {name!r} is {kind}, and calling it runs nothing; use a plain function")
    try:
        signature = inspect.signature(fn)
    except Exception:  # it is written in C, or hides what it takes
        return
    try:
        signature.bind(*arguments)
    except TypeError as error:
        raise ConfigError(f"the {role} function {name!r} takes {signature}, and is called {how} ({error})") from None


def _called(fn: Any) -> Any:
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
