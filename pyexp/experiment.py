"""`Experiment` and the decorator that makes one.

It settles decorator < `run()` < command line, and hands on to the shell.
"""

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, overload

from pyexp import shell
from pyexp.cli import Options, parse, settle
from pyexp.configs import freeze, thaw
from pyexp.dotted import Config
from pyexp.errors import ConfigError, NoRunError, SelectionError, StoreError, UsageError
from pyexp.plan import Plan, component
from pyexp.results import Result
from pyexp.tensor import Tensor

F = TypeVar("F", bound=Callable[..., Any])

#: What is wrong with a command line, or with the world it names, and not with the script.
_REFUSED = (UsageError, NoRunError, StoreError, SelectionError)


class Experiment:
    """A function of a config, with the configs it is to be run for and the report on the results.

    Called with a dict, it is the plain function. Its options are those of the command line; `run` overrides them, and
    the command line overrides both.
    """

    def __init__(self, fn: Callable[[Config], Any], **options: Any) -> None:
        if not callable(fn):
            raise ConfigError(f"an experiment is a function of a config, not {fn!r}")
        self.fn = fn
        self.options = options
        self._configs: Any = None
        self._report: Callable[[Tensor[Result]], Any] | None = None
        self.__name__: str = getattr(fn, "__name__", type(fn).__name__)
        self.__doc__ = fn.__doc__
        self.__module__ = fn.__module__
        self.__wrapped__ = fn
        settle(options, {}, {})  # a wrong option is an error where it is written

    def __call__(self, config: Mapping[str, Any]) -> Any:
        """What the function returns for this config, here and now: nothing is isolated or kept."""
        return self.fn(thaw(freeze(config)))

    def __repr__(self) -> str:
        return f"<Experiment {self.name!r}>"

    @property
    def name(self) -> str:
        """What the experiment's folder is called, unless `run` or the command line says otherwise."""
        return str(self.options.get("name") or self.__name__)

    def configs(self, fn: F) -> F:
        """Register the function that returns the configs: a list of dicts, or what `sweep` returns. A decorator."""
        self._configs = fn
        return fn

    def report(self, fn: F) -> F:
        """Register the function that gets the Tensor of results. A decorator."""
        self._report = fn
        return fn

    def run(
        self,
        configs: Any = None,
        report: Callable[[Tensor[Result]], Any] | None = None,
        *,
        argv: Sequence[str] | None = None,
        **options: Any,
    ) -> Any:
        """Run what is to be run, and return what the report returns; without one, print a table, return the Tensor.

        The command line is read if this is called by the program that was started as a script; `argv` gives another
        one, and `argv=[]` none. Options: those of the command line by their names (`pyexp.cli.Options`).

        Raises `PyexpError` for what is wrong with configs or options, before anything has run; KeyboardInterrupt after
        a signal. Where the command line is read, what is wrong with it is a line on stderr and exit status 2.
        """
        script = _script_argv(sys._getframe(1).f_globals) if argv is None else None
        with _refusing(script is not None or argv is not None):
            settled = self._settled(options, script or argv or [])
        job = self._job(settled, configs)
        with _refusing(script is not None):
            if settled.dry_run:
                made = shell.look(job, settled).plan
                print(made)
                return made
            results = shell.perform(job, settled)
        told = (report or self._report or _default_report)(results)
        if settled.check and any(result.record.failed for result in results):
            raise SystemExit(1)
        return told

    def _settled(self, options: Mapping[str, Any], argv: Sequence[str]) -> Options:
        given = {key: value for key, value in options.items() if value is not None}
        return settle(self.options, given, parse(argv, os.path.basename(sys.argv[0])))

    def _job(self, options: Options, configs: Any) -> shell.Job:
        name = component(options.name or self.__name__, "the experiment's name")
        main = getattr(sys.modules.get("__main__"), "__file__", None)
        command = f"python {os.path.relpath(main)}" if main else "experiment.run"
        return shell.Job(name, self.fn, shell.grid(self._configs if configs is None else configs), command)

    def plan(self, configs: Any = None, **options: Any) -> Plan:
        """What `run` with these options would do with each cell, and why. Nothing is run or changed."""
        settled = self._settled(options, [])
        return shell.look(self._job(settled, configs), settled).plan

    def results(self, timestamp: str | None = None, configs: Any = None, **options: Any) -> Tensor[Result]:
        """The results of a run that is there, by default the latest, without running anything.

        Raises `NoRunError` if there is no such run, or none of its cells has ended.
        """
        settled = self._settled({**options, "report": True, "timestamp": timestamp}, [])
        return shell.perform(self._job(settled, configs), settled)


@contextmanager
def _refusing(wanted: bool) -> Iterator[None]:
    """Where a command line was given: turn what is wrong with it, and a signal, into a line and an exit status.

    The code of the user's own functions does not run in here: their errors keep their tracebacks.
    """
    try:
        yield
    except _REFUSED as error:
        if not wanted:
            raise
        sys.stderr.write(f"error: {error}\n")
        raise SystemExit(2) from error
    except shell.Interrupted as error:
        if not wanted:
            raise
        sys.stderr.write(f"{error}\n")
        raise SystemExit(error.status) from None


def _default_report(results: Tensor[Result]) -> Tensor[Result]:
    print(shell.table(results))
    return results


def _script_argv(caller: Mapping[str, Any]) -> list[str] | None:
    """The command line, if the caller is the script that the program was started as; else None.

    A notebook, a prompt and `python -c` have no file; under a test runner the program is another one.
    """
    main = getattr(sys.modules.get("__main__"), "__dict__", {})
    started = Path(sys.argv[0]).name if sys.argv else ""
    if caller is main and main.get("__file__") and Path(main["__file__"]).name == started:
        return sys.argv[1:]
    return None


@overload
def experiment(fn: Callable[[Config], Any], /) -> Experiment: ...
@overload
def experiment(**options: Any) -> Callable[[Callable[[Config], Any]], Experiment]: ...
def experiment(fn: Any = None, /, **options: Any) -> Any:
    """Make a function of a config an `Experiment`: `@experiment`, or `@experiment(name=…, executor=…, timestamp=…)`.

    Raises `UsageError` for an option that is unknown or has a wrong value.
    """
    if fn is not None:
        return Experiment(fn)
    return lambda wrapped: Experiment(wrapped, **options)
