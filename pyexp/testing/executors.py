"""What every executor has to do, as checks that run real cells and look at how they ended."""

import functools
import mmap
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from pyexp.configs import Config, freeze
from pyexp.errors import UsageError, nearest
from pyexp.executors.base import Executor, RunSettings, StopRequest, Task
from pyexp.executors.loop import Ended, schedule
from pyexp.results import Outcome
from pyexp.worker import guardian

Function = Callable[[Config], Any]

#: Seconds within which a cell of a behaviour ends by itself; one that hangs is killed, and its outcome says so.
PATIENCE = 60.0

_ONE_PROCESS = "the cell is this process, or shares it"
_AT_THE_END = "this process is to end later, and Python sees to that then"
#: The behaviours that an executor in this process cannot have, such as `inline`, and why.
IN_THIS_PROCESS: Mapping[str, str] = {
    "exit_without_a_result_is_a_failure": _ONE_PROCESS,
    "exit_status_is_told": _ONE_PROCESS,
    "segfault_is_told_with_the_end_of_the_log": _ONE_PROCESS,
    "kill_is_told": _ONE_PROCESS,
    "timeout_kills": "nothing but a process can be killed",
    "timeout_kills_what_is_stopped": _ONE_PROCESS,
    "timeout_kills_what_descends_from_the_cell": "nothing but a process can be killed",
    "closed_streams_are_the_cells_own": _ONE_PROCESS,
    "closed_descriptors_are_the_cells_own": _ONE_PROCESS,
    "grandchildren_end_with_the_cell": "the group of a cell is the run's own",
    "grandchildren_in_sessions_of_their_own_end_with_the_cell": "the group of a cell is the run's own",
    "stdin_is_empty": "a debugger needs it",
    "working_directory_is_the_cells_own": _ONE_PROCESS,
    "umask_is_the_cells_own": _ONE_PROCESS,
    "environment_is_the_cells_own": _ONE_PROCESS,
    "modules_are_the_cells_own": _ONE_PROCESS,
    "exit_handlers_run": _AT_THE_END,
    "exit_handlers_run_after_threads": _AT_THE_END,
    "files_left_open_are_whole": _AT_THE_END,
    "temporary_folders_left_open_are_removed": _AT_THE_END,
    "shared_memory_goes_with_the_cell": _AT_THE_END,
    "process_pools_left_open_do_not_hold_up_the_run": _AT_THE_END,
    "threads_of_pools_are_waited_for": _AT_THE_END,
    "threads_are_waited_for_within_the_timeout": _AT_THE_END,
    "daemon_threads_do_not_hold_up_the_run": "they are threads of this process, and end with it",
    "timeout_leaves_the_stacks_in_the_log": "nothing but a process can be killed",
    "stale_result_is_no_success": _ONE_PROCESS,
    "halt_ends_what_runs": "the cell is interrupted where it stands, by KeyboardInterrupt",
}
#: The same for an executor that subclasses `Executor` and calls the function itself: it has no log either.
IN_THREADS: Mapping[str, str] = {
    **IN_THIS_PROCESS,
    "threads_are_waited_for": _AT_THE_END,
    "output_is_logged_below_python": "what threads of one process write cannot be told apart",
    "output_of_any_size_takes_no_memory": "what threads of one process write cannot be told apart",
    "bytes_are_logged_as_they_are": "what threads of one process write cannot be told apart",
    "log_of_a_failure_ends_with_its_traceback": "there is no log",
    "unpicklable_result_is_named": "one that pickles results by itself does not say which part of them is to blame",
}
#: What `FuturesExecutor` cannot promise, whatever its engine is.
ON_AN_ENGINE: Mapping[str, str] = {
    "environment_is_the_cells_own": "a cell has the environment of the engine's process, as that was started",
}
#: The same for executors that subclass `Executor` alone, and carry `pyexp.attempt` to another place.
CARRIED: Mapping[str, str] = {
    **ON_AN_ENGINE,
    "timeout_leaves_the_stacks_in_the_log": "only the timeout that is given to `attempt` writes them",
}


@dataclass(frozen=True, slots=True)
class Trial:
    """A cell that has run: its outcome, its earlier attempts, and its folder."""

    outcome: Outcome
    folder: Path
    attempts: int

    @property
    def value(self) -> Any:
        """The result that was committed."""
        return pickle.loads((self.folder / "result.pkl").read_bytes())

    @property
    def log(self) -> bytes:
        """The log of the cell."""
        return (self.folder / "log.txt").read_bytes()

    def failed(self, kind: str, *words: str) -> None:
        """Check that it failed with an error of this type, with these words in the message."""
        told = self.outcome
        assert told["status"] == "failed", f"the cell failed with {kind}, but the outcome is {told}"
        assert told["type"] == kind, told
        for word in words:
            assert word in told["message"], told

    def done(self, value: Any) -> None:
        """Check that it returned this value, and that this value was committed."""
        assert self.outcome["status"] == "done", self.outcome
        assert self.value == value


@dataclass(frozen=True, slots=True)
class Lab:
    """A place to run cells in one executor."""

    make_executor: Callable[[], Executor]
    top: Path

    def run(self, fn: Function, *, name: str = "cell", **config: Any) -> Trial:
        """Run one cell of `fn` to its end."""
        return self.run_all([(fn, config)], names=[name])[0]

    def run_all(
        self,
        cells: Iterable[tuple[Function, Mapping[str, Any]]],
        settings: RunSettings | None = None,
        *,
        names: Iterable[str] = (),
        stop: StopRequest | None = None,
    ) -> list[Trial]:
        """Run the cells together to their ends. Return them in order, without those that were stopped."""
        settings = settings or RunSettings(timeout=PATIENCE, durable=False)
        given = list(cells)
        labels = [*names] or [f"cell{i}" for i in range(len(given))]
        choice = dict(zip(labels, (fn for fn, _ in given), strict=True))
        fn = functools.partial(_chosen, choice) if len(given) > 1 else given[0][0]
        with self.make_executor().session(fn, settings, stop or StopRequest()) as session:
            tasks = self._tasks(labels, [config for _, config in given], choice)
            ended = {one.task.label: one for one in schedule(session, tasks)}
        return [_trial(ended[label]) for label in labels if label in ended]

    def _tasks(
        self, labels: list[str], configs: list[Mapping[str, Any]], choice: dict[str, Function]
    ) -> Iterator[Task]:
        for label, config in zip(labels, configs, strict=True):
            folder = self.top / label
            folder.mkdir(exist_ok=True)
            fn = functools.partial(_chosen, choice) if len(labels) > 1 else choice[label]
            yield Task(label, fn, freeze({"name": label, **config}), str(folder))


def _chosen(choice: Mapping[str, Function], config: Config) -> Any:
    return choice[config["name"]](config)


def _trial(ended: Ended) -> Trial:
    return Trial(ended.outcome, Path(ended.task.folder), len(ended.task.failures))


@dataclass(frozen=True, slots=True)
class Behaviour:
    """Something that every executor has to do, with a check."""

    name: str
    promise: str
    _check: Callable[[Lab], None]

    def check(self, make_executor: Callable[[], Executor], folder: Path | str) -> None:
        """Run the check in the folder. Raises AssertionError if the executor behaves otherwise."""
        self._check(Lab(make_executor, Path(folder).absolute()))

    def __str__(self) -> str:
        return self.name


_BEHAVIOURS: dict[str, Behaviour] = {}


def _behaviour(check: Callable[[Lab], None]) -> Callable[[Lab], None]:
    _BEHAVIOURS[check.__name__] = Behaviour(check.__name__, (check.__doc__ or "").strip(), check)
    return check


def executor_behaviours(exempt: Iterable[str] = ()) -> list[Behaviour]:
    """All behaviours except the exempt ones. Raises `UsageError` for an unknown name."""
    left_out = set(exempt)
    for name in left_out - set(_BEHAVIOURS):
        raise UsageError(f"there is no behaviour {name!r} to be exempt from; {nearest(name, _BEHAVIOURS)}")
    return [behaviour for name, behaviour in _BEHAVIOURS.items() if name not in left_out]


def check_executor(make_executor: Callable[[], Executor], exempt: Iterable[str] = ()) -> None:
    """Check every behaviour that is not exempt. Raises AssertionError naming all that the executor lacks.

    `make_executor` is called once for each behaviour.
    """
    import traceback

    wrong = []
    for behaviour in executor_behaviours(exempt):
        with tempfile.TemporaryDirectory(prefix="pyexp-") as folder:
            try:
                behaviour.check(make_executor, folder)
            except Exception:  # whatever goes wrong, the others are checked too
                wrong.append(f"{behaviour}: {behaviour.promise}\n{traceback.format_exc()}")
    if wrong:
        raise AssertionError(f"{len(wrong)} of {len(_BEHAVIOURS)} behaviours differ:\n\n" + "\n".join(wrong))


# What comes back


@_behaviour
def returned_value_is_the_result(lab: Lab) -> None:
    """The returned value is committed unchanged, whatever its type."""
    for i, value in enumerate(({"loss": 0.5, "w": [1, (2,)]}, None, 3, "text", [1.5, {"a": b"\0"}], {1: 2})):
        lab.run(lambda config, value=value: value, name=f"value{i}").done(value)  # type: ignore[misc]


@_behaviour
def result_file_is_a_pickle(lab: Lab) -> None:
    """The result is a file that plain `pickle` reads."""
    trial = lab.run(lambda config: {"twice": config.n * 2}, n=21)
    assert pickle.loads((trial.folder / "result.pkl").read_bytes()) == {"twice": 42}
    assert trial.outcome["outputs"] == {"twice": 42}


@_behaviour
def config_comes_as_it_was_written(lab: Lab) -> None:
    """The function gets a Config with its folder as `out`, its own to change."""

    def fn(config: Config) -> Any:
        seen = [type(config).__name__, config.a.b, config.c[:], str(config.out), config.out.is_dir()]
        config.a.b = "changed"
        config.c.append(3)
        return seen

    for name in ("first", "second"):
        trial = lab.run(fn, name=name, a={"b": 1}, c=[1, 2])
        trial.done(["Config", 1, [1, 2], str(lab.top / name), True])


@_behaviour
def closures_and_objects_are_functions_too(lab: Lab) -> None:
    """A lambda, a closure, a partial and a callable object run like any function."""
    captured = {"n": 40}

    class Adder:
        def __call__(self, config: Config) -> int:
            return int(config.n) + 2

    functions: list[Function] = [lambda config: captured["n"] + config.n - 38, functools.partial(_plus, 2), Adder()]
    for i, fn in enumerate(functions):
        lab.run(fn, name=f"fn{i}", n=40).done(42)


def _plus(n: int, config: Config) -> int:
    return int(config.n) + n


@_behaviour
def each_cell_has_its_own_result(lab: Lab) -> None:
    """Many cells at a time each end with their own result in their own folder."""
    cells = [(lambda config: config.n**2, {"n": n}) for n in range(12)]
    trials = lab.run_all(cells, RunSettings(jobs=4, timeout=PATIENCE, durable=False))
    assert [trial.value for trial in trials] == [n**2 for n in range(12)]


@_behaviour
def large_result_comes_back(lab: Lab) -> None:
    """A result of many megabytes is committed whole."""
    trial = lab.run(lambda config: bytes(config.size), size=64 << 20)
    assert trial.outcome["status"] == "done", trial.outcome
    assert len(trial.value) == 64 << 20


@_behaviour
def large_config_arrives(lab: Lab) -> None:
    """A config that is larger than a pipe's buffer arrives whole."""
    lab.run(lambda config: len(config.blob), blob=b"x" * (8 << 20)).done(8 << 20)


# What is raised


@_behaviour
def exception_is_told(lab: Lab) -> None:
    """An exception ends as its type, its message and the traceback from the experiment's own code on."""

    def fn(config: Config) -> None:
        raise ValueError("no convergence at step 7")

    trial = lab.run(fn)
    trial.failed("ValueError", "no convergence at step 7")
    assert "in fn" in trial.outcome["traceback"]


@_behaviour
def traceback_has_the_lines_of_closures_and_classes(lab: Lab) -> None:
    """A traceback names the file and shows the line of each frame, also in closures and in classes within functions."""
    words = "no convergence"

    class Model:
        def fit(self) -> None:
            raise ValueError(words)  # in the class

    def fn(config: Config) -> None:
        Model().fit()  # in the closure

    told = lab.run(fn).outcome["traceback"]
    for code, line in (
        (fn.__code__, "Model().fit()  # in the closure"),
        (Model.fit.__code__, "raise ValueError(words)"),
    ):
        assert f'File "{__file__}", line {code.co_firstlineno + 1}, in {code.co_name}\n    {line}' in told, told


@_behaviour
def log_of_a_failure_ends_with_its_traceback(lab: Lab) -> None:
    """The log of a failed cell has its output, and then the traceback of its error."""

    def fn(config: Config) -> None:
        print("step 7")
        raise ValueError("no convergence")

    trial = lab.run(fn)
    trial.failed("ValueError")
    assert trial.log.decode() == "step 7\n" + trial.outcome["traceback"]
    assert trial.log.endswith(b"\nValueError: no convergence\n")


@_behaviour
def exceptions_that_end_a_program_end_the_cell_alone(lab: Lab) -> None:
    """SystemExit with any status, KeyboardInterrupt and GeneratorExit each fail their cell only."""

    class Own(BaseException):
        pass

    def fn(config: Config) -> None:
        raise {
            "exit0": SystemExit(0), "exit3": SystemExit(3), "exit": SystemExit(), "key": KeyboardInterrupt(),
            "generator": GeneratorExit(), "own": Own("mine"), "recursion": RecursionError("deep"),
        }[config.name]  # fmt: skip

    kinds = ["SystemExit"] * 3 + ["KeyboardInterrupt", "GeneratorExit", "Own", "RecursionError"]
    names = ["exit0", "exit3", "exit", "key", "generator", "own", "recursion"]
    for name, kind in zip(names, kinds, strict=True):
        lab.run(fn, name=name).failed(kind)


@_behaviour
def exceptions_of_every_make_are_told(lab: Lab) -> None:
    """Exceptions that need arguments, hold a lock, or have failing methods are recorded like any other."""

    class Demanding(Exception):
        def __init__(self, code: int, *, reason: str) -> None:
            super().__init__(f"{reason} ({code})")

    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no words")

    class Holding(Exception):
        def __init__(self) -> None:
            super().__init__("holds a lock")
            self.lock = threading.Lock()

    class Surrogate(Exception):
        def __str__(self) -> str:
            return "lone \ud800"

    def fn(config: Config) -> None:
        raise [Demanding(7, reason="why"), Mute(), Holding(), Surrogate()][config.which]

    told = [("Demanding", "why (7)"), ("Mute", "RuntimeError"), ("Holding", "holds a lock"), ("Surrogate", "lone")]
    for i, (kind, words) in enumerate(told):
        lab.run(fn, name=kind, which=i).failed(kind, words)


@_behaviour
def unpicklable_result_is_named(lab: Lab) -> None:
    """A result that cannot be pickled fails the cell. The message names the part that cannot be pickled."""

    def fn(config: Config) -> Any:
        return {"loss": 0.5, "nested": [1, {"here": threading.Lock()}]}

    lab.run(fn).failed("TypeError", "['nested'][1]['here']", "lock")


@_behaviour
def unloadable_result_is_a_failure(lab: Lab) -> None:
    """A result that can be pickled but not loaded again is never committed."""

    class Trap:
        def __reduce__(self) -> Any:
            return (int, ("not a number",))

    trial = lab.run(lambda config: Trap())
    trial.failed("ValueError", "not a number", "the result is a", "Trap, which was pickled and cannot be loaded again")
    assert not (trial.folder / "result.pkl").exists()


@_behaviour
def endless_recursion_is_a_failure(lab: Lab) -> None:
    """An endless recursion is an exception like others. So is a result nested too deep to be pickled."""

    def endless(config: Config) -> Any:
        return endless(config)

    def nested(config: Config) -> Any:
        value: list[Any] = []
        for _ in range(100_000):
            value = [value]
        return value

    lab.run(endless, name="endless").failed("RecursionError")
    assert lab.run(nested, name="nested").outcome["status"] == "failed"


@_behaviour
def artifacts_of_a_failure_are_kept(lab: Lab) -> None:
    """Files that a cell wrote before it failed are kept."""

    def fn(config: Config) -> None:
        (config.out / "half.txt").write_text("so far")
        raise RuntimeError

    assert (lab.run(fn).folder / "half.txt").read_text() == "so far"


# How a process ends


@_behaviour
def exit_without_a_result_is_a_failure(lab: Lab) -> None:
    """A cell that calls `os._exit(0)` fails."""
    lab.run(lambda config: os._exit(0)).failed("Exited", "exited with status 0")


@_behaviour
def exit_status_is_told(lab: Lab) -> None:
    """The outcome of a cell that calls `os._exit` has its exit status, and the end of its log."""

    def fn(config: Config) -> None:
        print("the last line", flush=True)
        os._exit(3)

    trial = lab.run(fn)
    trial.failed("Exited", "exited with status 3")
    assert "the last line" in trial.outcome["traceback"]


@_behaviour
def segfault_is_told_with_the_end_of_the_log(lab: Lab) -> None:
    """The outcome of a crash has its signal, and the end of the log."""

    def fn(config: Config) -> None:
        print("just before")
        os.kill(os.getpid(), signal.SIGSEGV)
        time.sleep(PATIENCE)

    trial = lab.run(fn)
    trial.failed("Killed", "killed by signal 11 (SIGSEGV)")
    assert "just before" in trial.outcome["traceback"]


@_behaviour
def kill_is_told(lab: Lab) -> None:
    """If the system kills a cell, for example out of memory, the outcome has the signal. The others go on."""

    def fn(config: Config) -> str:
        if config.doomed:
            os.kill(os.getpid(), _KILL)
            time.sleep(PATIENCE)
        return "fine"

    trials = lab.run_all([(fn, {"doomed": i == 1}) for i in range(3)])
    assert [trial.outcome["status"] for trial in trials] == ["done", "failed", "done"]
    trials[1].failed("Killed", "killed by signal 9 (SIGKILL)")


@_behaviour
def stale_result_is_no_success(lab: Lab) -> None:
    """An old result does not turn a crash into a success."""
    (lab.top / "cell").mkdir()
    (lab.top / "cell" / "result.pkl").write_bytes(pickle.dumps("old"))
    lab.run(lambda config: os._exit(0)).failed("Exited")


@_behaviour
def timeout_kills(lab: Lab) -> None:
    """A cell that exceeds the timeout is killed, even if it ignores signals, and its outcome says so."""

    def fn(config: Config) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, _HANGUP):
            signal.signal(number, signal.SIG_IGN)
        (config.out / "pid").write_text(str(os.getpid()))
        time.sleep(PATIENCE)

    (trial,) = lab.run_all([(fn, {})], RunSettings(timeout=_SHORT, durable=False))
    trial.failed("TimeoutError", "ran for longer than")
    _gone(trial.folder / "pid")


@_behaviour
def timeout_kills_what_is_stopped(lab: Lab) -> None:
    """A cell that is suspended by a signal is killed at its timeout too."""

    def fn(config: Config) -> None:
        os.kill(os.getpid(), _STOP)

    (trial,) = lab.run_all([(fn, {})], RunSettings(timeout=_SHORT, durable=False))
    trial.failed("TimeoutError")


@_behaviour
def timeout_kills_what_descends_from_the_cell(lab: Lab) -> None:
    """A timeout also kills all descendants of the cell, even those in a session of their own."""

    def fn(config: Config) -> None:
        _start_sleepers(config.out)
        time.sleep(PATIENCE)

    (trial,) = lab.run_all([(fn, {})], RunSettings(timeout=_SHORT + 1, durable=False))
    trial.failed("TimeoutError")
    for kind in _SLEEPERS:
        _gone(trial.folder / kind)


@_behaviour
def timeout_leaves_the_stacks_in_the_log(lab: Lab) -> None:
    """The log of a cell that exceeded the timeout ends with the stacks of its threads, where the system can do that."""
    if not hasattr(signal, "SIGRTMAX"):
        return

    def waiting() -> None:
        time.sleep(PATIENCE)

    def fn(config: Config) -> None:
        threading.Thread(target=waiting, daemon=True).start()
        print("step 7")
        time.sleep(PATIENCE)

    (trial,) = lab.run_all([(fn, {})], RunSettings(timeout=_SHORT, durable=False))
    trial.failed("TimeoutError")
    assert trial.log.startswith(b"step 7\n")
    for code, line in ((waiting.__code__, 1), (fn.__code__, 3)):
        assert f'File "{__file__}", line {code.co_firstlineno + line} in {code.co_name}\n' in trial.log.decode()


@_behaviour
def retries_are_counted(lab: Lab) -> None:
    """A failed cell runs again, up to `retries` times. Each attempt is kept, with its log."""

    def fn(config: Config) -> int:
        with (config.out / "tries").open("a") as file:
            file.write("x")
        tries: int = (config.out / "tries").stat().st_size
        if tries < 3:
            raise ValueError(f"try {tries}")
        return tries

    (trial,) = lab.run_all([(fn, {})], RunSettings(retries=3, timeout=PATIENCE, durable=False))
    trial.done(3)
    assert trial.attempts == 2


@_behaviour
def halt_ends_what_runs(lab: Lab) -> None:
    """After a signal, no cell begins, and running cells are killed with all their descendants."""
    stop = StopRequest()

    def fn(config: Config) -> None:
        _start_sleepers(config.out)
        (config.out / "pid").write_text(str(os.getpid()))
        (config.out / "ready").touch()
        time.sleep(PATIENCE)

    def press() -> None:
        deadline = time.monotonic() + PATIENCE
        while not (lab.top / "cell0" / "ready").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        stop.signal, stop.count = signal.SIGINT, 1

    thread = threading.Thread(target=press)
    starter = threading.Timer(0.3, thread.start)  # after a fork, in which no other thread should be alive
    starter.start()
    try:
        assert lab.run_all([(fn, {}), (fn, {})], stop=stop) == []
    finally:
        starter.join()
        thread.join()
    assert not (lab.top / "cell1").exists()
    for kind in ("pid", *_SLEEPERS):
        _gone(lab.top / "cell0" / kind)


# What a cell does to its surroundings


@_behaviour
def output_is_logged_below_python(lab: Lab) -> None:
    """The log has, in order, what the cell, its libraries and its children write to stdout and stderr."""

    def fn(config: Config) -> None:
        print("printed")
        os.write(2, b"written\n")
        subprocess.run([sys.executable, "-S", "-c", "print('child')"], check=True)
        print("after", file=sys.stderr)

    assert lab.run(fn).log.split() == [b"printed", b"written", b"child", b"after"]


@_behaviour
def bytes_are_logged_as_they_are(lab: Lab) -> None:
    """Bytes that are not UTF-8, and text that cannot be encoded, reach the log and do no harm."""

    def fn(config: Config) -> str:
        os.write(1, b"\xff\xfe\0")
        print("\ud800")
        return "fine"

    trial = lab.run(fn)
    trial.done("fine")
    assert trial.log == b"\xff\xfe\0\\ud800\n"


@_behaviour
def output_of_any_size_takes_no_memory(lab: Lab) -> None:
    """A hundred megabytes of output are in the log, and not in this process."""

    def fn(config: Config) -> None:
        for _ in range(1600):
            os.write(1, b"x" * 65535 + b"\n")

    before = _memory()
    trial = lab.run(fn)
    assert len(trial.log) == 1600 * 65536
    assert _memory() - before < 50 << 20 or before == 0


@_behaviour
def closed_streams_are_the_cells_own(lab: Lab) -> None:
    """A cell that closes or replaces its streams succeeds."""

    def fn(config: Config) -> str:
        if config.how == "close":
            for stream in (sys.stdin, sys.stdout, sys.stderr):
                stream.close()
            for descriptor in (0, 1, 2):
                os.close(descriptor)
        else:
            sys.stdout = sys.stderr = None
        return "fine"

    lab.run(fn, name="closed", how="close").done("fine")
    lab.run(fn, name="none", how="none").done("fine")
    print("", end="", flush=True)


@_behaviour
def closed_descriptors_are_the_cells_own(lab: Lab) -> None:
    """A cell that closes all descriptors, also those it does not know, ends with its result where the system can."""

    def fn(config: Config) -> str:
        os.closerange(0, 4096)
        return "fine"

    trial = lab.run(fn)
    if os.path.isdir("/proc/self/fd"):
        trial.done("fine")
    else:
        trial.failed("Exited", "closed its worker's status pipe")


@_behaviour
def grandchildren_end_with_the_cell(lab: Lab) -> None:
    """A child that outlives the cell and holds its pipes does not delay the run, and is killed."""

    def fn(config: Config) -> str:
        _start_sleeper(config.out / "pid")
        return "fine"

    trial = lab.run(fn)
    trial.done("fine")
    _gone(trial.folder / "pid")


@_behaviour
def grandchildren_in_sessions_of_their_own_end_with_the_cell(lab: Lab) -> None:
    """Detached processes end with the cell: in a session of their own, after a double fork, as a daemon."""

    def fn(config: Config) -> str:
        _start_sleepers(config.out)
        if config.how == "killed":
            os.kill(os.getpid(), _KILL)
        return "fine"

    for how in ("returned", "killed"):
        trial = lab.run(fn, name=how, how=how)
        assert trial.outcome["status"] == ("done" if how == "returned" else "failed")
        if how == "killed":  # by nothing is this one known any more
            os.kill(int((trial.folder / "without_environment").read_text()), _KILL)
        for kind in _SLEEPERS:
            _gone(trial.folder / kind)


@_behaviour
def stdin_is_empty(lab: Lab) -> None:
    """Reading stdin returns its end at once."""

    def fn(config: Config) -> Any:
        read = os.read(0, 10)
        try:
            input()
        except EOFError:
            return [read, sys.stdin.read(), "EOFError"]

    lab.run(fn).done([b"", "", "EOFError"])


@_behaviour
def working_directory_is_the_cells_own(lab: Lab) -> None:
    """A cell that changes its working directory affects neither other cells nor its own result."""

    def fn(config: Config) -> str:
        here = os.getcwd()
        os.chdir(config.out)
        return here

    before = os.getcwd()
    for trial in lab.run_all([(fn, {}), (fn, {})]):
        trial.done(before)
    assert os.getcwd() == before


@_behaviour
def umask_is_the_cells_own(lab: Lab) -> None:
    """A cell that changes its umask changes it for itself only."""
    before = os.umask(0o022)
    try:
        for trial in lab.run_all([(lambda config: os.umask(0o077), {})] * 2):
            trial.done(0o022)
    finally:
        assert os.umask(before) == 0o022


@_behaviour
def environment_is_the_cells_own(lab: Lab) -> None:
    """A cell has the environment of this process, and changes it for itself only."""

    def fn(config: Config) -> Any:
        seen = [os.environ.get("PYEXP_TEST"), os.environ.get("PYEXP_TEST_NEW")]
        os.environ["PYEXP_TEST"] = os.environ["PYEXP_TEST_NEW"] = "changed"
        return seen

    os.environ["PYEXP_TEST"] = "as it was"
    try:
        for trial in lab.run_all([(fn, {}), (fn, {})]):
            trial.done(["as it was", None])
        assert os.environ["PYEXP_TEST"] == "as it was"
    finally:
        del os.environ["PYEXP_TEST"]


@_behaviour
def modules_are_the_cells_own(lab: Lab) -> None:
    """A cell that changes a module (seeds a generator, patches a function) changes it for itself only."""

    def fn(config: Config) -> Any:
        import string

        seen = string.digits
        string.digits = "changed"  # type: ignore[misc]
        return seen

    for trial in lab.run_all([(fn, {}), (fn, {})]):
        trial.done("0123456789")


@_behaviour
def random_numbers_differ_between_cells(lab: Lab) -> None:
    """The global generators of Python and NumPy differ between cells, unless the cells seed them."""
    import random

    modules: list[Any] = [random]
    with suppress(ImportError):
        modules.append(import_module("numpy.random"))

    def fn(config: Config) -> list[float]:
        return [float(module.random()) for module in modules]

    trials = lab.run_all([(fn, {})] * 3)
    assert len({number for trial in trials for number in trial.value}) == 3 * len(modules)


# How a cell comes to its end: as any Python process does


@_behaviour
def threads_are_waited_for(lab: Lab) -> None:
    """A cell, even a failed one, ends after the threads that it started, so their files are complete."""

    def fn(config: Config) -> None:
        threading.Thread(target=_write_slowly, args=(config.out / "thread",)).start()
        if config.fails:
            raise ValueError

    for fails in (False, True):
        trial = lab.run(fn, name=f"cell{fails}", fails=fails)
        assert (trial.folder / "thread").read_text() == "begun, ended"


@_behaviour
def threads_of_pools_are_waited_for(lab: Lab) -> None:
    """A cell ends after the work of a pool of threads that it left open."""

    def fn(config: Config) -> None:
        from concurrent.futures import ThreadPoolExecutor

        pool = ThreadPoolExecutor(1)
        _kept.append(pool)
        for name in ("first", "second"):
            pool.submit(_write_slowly, config.out / name)

    trial = lab.run(fn)
    trial.done(None)
    assert [(trial.folder / name).read_text() for name in ("first", "second")] == ["begun, ended"] * 2


@_behaviour
def threads_are_waited_for_within_the_timeout(lab: Lab) -> None:
    """A cell whose thread does not end exceeds its timeout, although its function has returned."""

    def fn(config: Config) -> str:
        threading.Thread(target=time.sleep, args=(2 * PATIENCE,)).start()
        return "fine"

    (trial,) = lab.run_all([(fn, {})], RunSettings(timeout=_SHORT, durable=False))
    trial.failed("TimeoutError")


@_behaviour
def daemon_threads_do_not_hold_up_the_run(lab: Lab) -> None:
    """A daemon thread that is still running ends with the cell."""

    def fn(config: Config) -> str:
        threading.Thread(target=time.sleep, args=(2 * PATIENCE,), daemon=True).start()
        return "fine"

    lab.run(fn).done("fine")


@_behaviour
def process_pools_left_open_do_not_hold_up_the_run(lab: Lab) -> None:
    """A pool of processes that the cell left open ends with the cell, at once."""

    def fn(config: Config) -> int:
        from concurrent.futures import ProcessPoolExecutor

        pool = ProcessPoolExecutor(1)
        _kept.append(pool)
        return pool.submit(abs, -3).result()

    (trial,) = lab.run_all([(fn, {})], RunSettings(timeout=PATIENCE / 6, durable=False))
    trial.done(3)


@_behaviour
def exit_handlers_run(lab: Lab) -> None:
    """The exit handlers that the cell registered run, and no others; also if the cell fails."""

    def fn(config: Config) -> None:
        import atexit

        atexit.register((config.out / "said").write_text, "goodbye")
        if config.fails:
            raise ValueError

    for fails in (False, True):
        assert (lab.run(fn, name=f"cell{fails}", fails=fails).folder / "said").read_text() == "goodbye"


@_behaviour
def exit_handlers_run_after_threads(lab: Lab) -> None:
    """Exit handlers run after the cell's threads, and their files are complete."""

    def fn(config: Config) -> None:
        import atexit

        def write() -> None:
            time.sleep(0.3)
            said.write("thread, ")

        said = (config.out / "said").open("w")
        _kept.append(said)
        atexit.register(said.write, "handler")
        threading.Thread(target=write).start()

    assert (lab.run(fn).folder / "said").read_text() == "thread, handler"


@_behaviour
def files_left_open_are_whole(lab: Lab) -> None:
    """A file that is still open when the cell ends is complete; also if the cell fails."""

    import gzip

    def fn(config: Config) -> None:
        opened = (
            (config.out / "text").open("w"),
            (config.out / "bytes").open("wb"),
            gzip.open(config.out / "packed", "wb"),  # noqa: SIM115  # it is left open
        )
        _kept.append(opened)
        opened[0].write("whole")
        opened[1].write(b"whole")
        opened[2].write(b"whole")
        if config.fails:
            raise ValueError

    for fails in (False, True):
        folder = lab.run(fn, name=f"cell{fails}", fails=fails).folder
        assert [(folder / name).read_bytes() for name in ("text", "bytes")] == [b"whole"] * 2
        assert gzip.decompress((folder / "packed").read_bytes()) == b"whole"


@_behaviour
def temporary_folders_left_open_are_removed(lab: Lab) -> None:
    """A temporary folder that the cell left is removed at its end."""

    def fn(config: Config) -> str:
        _kept.append(tempfile.TemporaryDirectory())
        return str(_kept[-1].name)

    assert not Path(lab.run(fn).value).exists()


@_behaviour
def shared_memory_goes_with_the_cell(lab: Lab) -> None:
    """Shared memory that the cell left is removed at its end, however it ends."""
    if not os.path.isdir("/dev/shm"):
        return

    def fn(config: Config) -> None:
        from multiprocessing.shared_memory import SharedMemory

        _kept.append(SharedMemory(create=True, size=1024))
        (config.out / "name").write_text(_kept[-1].name)
        if config.name == "raised":
            raise ValueError
        if config.name == "killed":
            os.kill(os.getpid(), 9)
        if config.name == "overdue":
            time.sleep(PATIENCE)

    names = ("returned", "raised", "killed", "overdue")
    trials = lab.run_all([(fn, {})] * 4, RunSettings(timeout=_SHORT, durable=False), names=names)
    assert [trial.outcome["status"] for trial in trials] == ["done", "failed", "failed", "failed"]
    for trial in trials:
        assert not Path("/dev/shm", (trial.folder / "name").read_text()).exists(), trial.folder.name


@_behaviour
def nothing_is_left_in_this_process(lab: Lab) -> None:
    """After many cells, this process has no more descriptors, threads and children than before."""

    def fn(config: Config) -> int:
        if config.n % 3 == 1:
            raise ValueError
        return int(config.n)

    for _ in range(4):  # a pool may start its processes one by one, as it is asked: what a leak adds, each round adds
        before = _possessions()
        lab.run_all([(fn, {"n": n}) for n in range(12)], RunSettings(jobs=3, timeout=PATIENCE, durable=False))
        deadline = time.monotonic() + 5
        while _possessions() != before and time.monotonic() < deadline:
            time.sleep(0.05)  # a thread that has nothing left to do may take a moment
        if _possessions() == before:
            return
    raise AssertionError(f"each round left more: {before} and then {_possessions()}")


# Tools of the behaviours

#: Objects that a cell leaves open, so that only the end of its process ends them.
_kept: list[Any] = []
#: A timeout within which an interpreter starts, even on a busy machine.
_SHORT = 2.0
#: Seconds that a thread runs after its cell has returned.
_SLOW = 0.3
#: What a system without these signals and calls (Windows) has in their place.
_KILL, _HANGUP, _STOP = (getattr(signal, name, signal.SIGTERM) for name in ("SIGKILL", "SIGHUP", "SIGSTOP"))
_fork, _setsid = getattr(os, "fork", None), getattr(os, "setsid", None)
_FORKED = ("twice_forked", "bare_fork") if _fork and _setsid else ()
_SLEEPERS = ("in_the_group", "in_a_session", "without_environment", *_FORKED)


def _write_slowly(path: Path) -> None:
    with path.open("w") as file:
        file.write("begun, ")
        time.sleep(_SLOW)
        file.write("ended")


def _start_sleeper(note: Path, **options: Any) -> None:
    """Start a process that sleeps, and write its id to a file."""
    sleep = [sys.executable, "-I", "-S", "-c", f"import time; time.sleep({5 * PATIENCE})"]
    sleeper = subprocess.Popen(sleep, **options)
    note.write_text(str(sleeper.pid))
    sleeper.returncode = 0  # so that nobody complains that it is still alive


def _start_sleepers(folder: Path) -> None:
    """Start processes that sleep, detached from their parent in every possible way. Write their ids to a file."""
    _start_sleeper(folder / "in_the_group")
    _start_sleeper(folder / "in_a_session", start_new_session=True)
    _start_sleeper(folder / "without_environment", start_new_session=True, env={})
    if not _fork or not _setsid:
        return
    twice = (
        "import os, subprocess, sys\nif os.fork(): os._exit(0)\nos.setsid()\n"
        f"p = subprocess.Popen(['sleep', '{5 * PATIENCE}'], start_new_session=True)\n"
        "open(sys.argv[1], 'w').write(str(p.pid)); os._exit(0)"
    )
    subprocess.run([sys.executable, "-S", "-c", twice, str(folder / "twice_forked")], check=True)
    if (middle := _fork()) == 0:
        _setsid()
        if (sleeper := _fork()) == 0:
            time.sleep(5 * PATIENCE)
        else:
            (folder / "bare_fork").write_text(str(sleeper))
        os._exit(0)
    os.waitpid(middle, 0)
    while not (folder / "twice_forked").exists() or not (folder / "twice_forked").read_text():
        time.sleep(0.01)


def _gone(note: Path) -> None:
    """Check that the process whose id is in the file has ended, or ends within a moment."""
    pid = int(note.read_text())
    deadline = time.monotonic() + 10
    while guardian.facts_of(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not guardian.facts_of(pid), f"process {pid} ({note.name}) is still alive"


def _possessions() -> tuple[int, int, list[str]]:
    """The numbers of descriptors and threads of this process, and its children."""
    descriptors = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    children = []
    for task in Path("/proc/self/task").glob("*/children"):
        children += task.read_text().split()
    return descriptors, threading.active_count(), children


def _memory() -> int:
    """The memory of this process in bytes; 0 if it cannot be known."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE
    except OSError:
        return 0
