"""Cells on a Ray cluster: each in a process of its own on one of the nodes, with its files brought home.

Knows tasks of Ray, what the nodes have, and how a node's death looks from here. What happens on the node is in
`node`, how files travel in `files`, how Ray is joined in `connection`.
"""

import math
import os
import pickle
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any

from pyexp.configs import Config, thaw
from pyexp.errors import ExecutorError, UsageError
from pyexp.executors.base import Function, Running, RunSettings, Session, SessionExecutor, StopRequest, Task
from pyexp.executors.logs import Echo
from pyexp.executors.processes import import_path, interpreter_flags, rest_for_others
from pyexp.executors.ray import files as ray_files
from pyexp.executors.ray.connection import Connection, brief
from pyexp.executors.ray.marks import NOWHERE
from pyexp.results import Outcome
from pyexp.store import files
from pyexp.store.pickling import dumps
from pyexp.worker.naming import Shipment
from pyexp.worker.outcome import failed, failure

#: Cells handed to Ray for each one that can run: enough that no slot waits for us, few enough to cost nothing.
WINDOW = 3
#: Seconds after which a cell on a node that is gone, or which no node can take any more, is given up.
PATIENCE = 30.0

Demand = Mapping[str, Any]


class RayCell(Running):
    """A cell that Ray has. It begins when its node says so: until then it has no deadline."""

    def __init__(self, task: Task, demand: Demand) -> None:
        super().__init__(task)
        self.began = math.inf
        self.demand = demand
        self.hopeless: float | None = None
        self.handed_over = math.inf
        self.ref: Any = None
        self.mark = ""
        self.doubted = False

    def handed_to_ray(self, ref: Any, mark: str) -> None:
        """From now on Ray has it under this reference and mark, which no node has begun it under."""
        self.handed_over = time.monotonic()
        self.ref = ref
        self.mark = mark
        self.doubted = False

    def lasted(self, seconds: float) -> None:
        """It ended now, having run for so long."""
        self.began = time.monotonic() - seconds
        self.started = time.time() - seconds


class RayExecutor(SessionExecutor):
    """Runs each cell on a Ray cluster.

    `address` is that of the cluster (`"auto"`, `"host:6379"`, `"ray://host:10001"`); without it, RAY_ADDRESS.
    By default, Ray is started on this machine for the run. A Ray that the program has initialised is used as it is, and
    left running.
    `num_cpus`, `num_gpus`, `memory` (bytes) and `resources` are what each cell gets; `per_cell`, called with a config,
    returns those that differ for it. `wait=True` waits for nodes that can take a cell instead of refusing it, for a
    cluster that grows. `shared_disk=False` brings files home through Ray also where a node sees the run's folder.
    """

    def __init__(  # noqa: PLR0917  # as the specification has them
        self,
        address: str | None = None,
        runtime_env: Mapping[str, Any] | None = None,
        num_cpus: float = 1,
        num_gpus: float | None = None,
        resources: Mapping[str, float] | None = None,
        memory: float | None = None,
        *,
        wait: bool = False,
        per_cell: Callable[[Config], Demand] | None = None,
        shared_disk: bool | None = None,
    ) -> None:
        self.address = address
        self.runtime_env = runtime_env
        self.demand = checked({"num_cpus": num_cpus, "num_gpus": num_gpus, "resources": resources, "memory": memory})
        self.waits = wait
        self.per_cell = per_cell
        self.shared_disk = shared_disk

    def session(self, fn: Function, settings: RunSettings, stop: StopRequest) -> "RaySession":
        if os.name != "posix":
            raise ExecutorError("RayExecutor needs a POSIX system; use executor='inline'")
        return RaySession(self, fn, settings, stop)

    def auto_jobs(self) -> int:
        """What the cluster has, as if `-j` were not given."""
        return 1


class RaySession(Session):
    """A run's cells on the cluster."""

    def __init__(self, executor: RayExecutor, fn: Function, settings: RunSettings, stop: StopRequest) -> None:
        from pyexp.executors.ray import node as ray_node

        super().__init__(settings, stop)
        self._executor = executor
        shipment = Shipment(fn, settings.initializer, own_path())
        kit = ray_node.Kit(
            pickle.dumps(shipment.kit),
            rest_for_others(shipment, settings),
            interpreter_flags(),
            RunSettings(timeout=settings.timeout, durable=settings.durable, grace=settings.grace),
        )
        self._fault: ExecutorError | None = None
        self._token: str | None = None
        self._handed = 0
        self._room = Room(executor.demand)
        self._sights: set[bool] = set()
        exclude = (settings.results,) if settings.results else ()
        self._connection = Connection(executor.address, executor.runtime_env, exclude)
        self._ray = self._connection.ray
        self._watch = self._connection.watch
        self._watch.marks = f"{os.urandom(8).hex()}:"
        self._lost = len(self._watch.gone)
        try:
            self._supervise = self._ray.remote(max_retries=0)(ray_node.supervise)
            self._kit = self._ray.put(kit)
            if executor.per_cell is None and not self._is_feasible(executor.demand):
                raise ExecutorError(infeasible(executor.demand, self._watch.alive()))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        if self._token is not None:
            with suppress(OSError):
                os.unlink(self._token)
        self._connection.close()

    def slots(self) -> int:
        """The cells to hand to Ray: what `-j` says if it says more than one; by default some for each that fits."""
        if self.settings.jobs > 1:
            return self.settings.jobs
        return WINDOW * max(self._room.among(self._watch.nodes), 1)

    def start(self, task: Task) -> RayCell:
        demand = self._executor.demand
        if self._executor.per_cell is not None:
            demand = checked({**demand, **self._executor.per_cell(task.private_config())})
            if not self._is_feasible(demand):
                raise ExecutorError(infeasible(demand, self._watch.alive()))
        running = RayCell(task, demand)
        self._hand_over(running)
        return running

    def _hand_over(self, one: RayCell) -> None:
        from pyexp.executors.ray.node import Order, supervise

        # Tasks of one function wait for one another's places, also for those that a lost node never gave.
        if self._lost != len(self._watch.gone):
            self._lost = len(self._watch.gone)
            self._supervise = self._ray.remote(max_retries=0)(supervise)
        task = one.task
        self._handed += 1
        mark = f"{self._watch.marks}{self._handed}"
        # What an earlier attempt left is there for the next one, wherever that runs; mostly it is nothing. It need not
        # travel where all nodes that were heard of see it.
        left = [] if self._sights == {True} else ray_files.pack(task.folder, self._ray.put)
        config = dumps(thaw(task.config), "config")
        order = Order(config, task.folder, self._token_beside(task.folder), mark, left)
        options = {**one.demand, "name": f"pyexp {task.label}", "scheduling_strategy": "SPREAD"}
        if self._connection.task_env is not None:
            options["runtime_env"] = self._connection.task_env
        one.handed_to_ray(self._supervise.options(**options).remote([self._kit], order), mark)

    def _token_beside(self, folder: str) -> str | None:
        """A file with a random name in the run's folder: a node that sees it there sees the folder."""
        if self._executor.shared_disk is False:
            return None
        if self._token is None:
            name = f"{files.TEMPORARY[0]}shared.{os.urandom(8).hex()}{files.TEMPORARY[1]}"
            self._token = os.path.join(os.path.dirname(folder), name)
            files.write(self._token, [], durable=False)
        return self._token

    def _is_feasible(self, demand: Demand) -> bool:
        """Whether a node can take such a cell, now or, if the cluster grows, later."""
        return self._executor.waits or any(fitting(node["Resources"], demand) for node in self._watch.alive())

    def wait(self, running: Collection[RayCell], seconds: float) -> list[tuple[RayCell, Outcome]]:
        if self._fault is not None:  # the run is over; nobody waits for what is left of it
            return [(one, failure("ExecutorError", str(self._fault))) for one in running]
        if self._watch.is_silent():
            raise self._broken("the head of the Ray cluster does not answer any more; what has finished is kept")
        lost = [(one, outcome) for one in running if (outcome := self._given_up(one)) is not None]
        if lost:
            return lost
        if not running:
            time.sleep(seconds)
            return []
        return [(one, self._outcome(one)) for one in self._ready(running, seconds)]

    def _ready(self, running: Collection[RayCell], seconds: float) -> list[RayCell]:
        """The cells that Ray has something to say of, waiting for the first."""
        by_ref = {one.ref: one for one in running}
        refs = list(by_ref)
        try:
            ready, _ = self._ray.wait(refs, num_returns=1, timeout=seconds, fetch_local=False)
            if ready and len(refs) > 1:
                ready, _ = self._ray.wait(refs, num_returns=len(refs), timeout=0, fetch_local=False)
        except Exception as error:
            raise self._disconnected(error) from error
        return [by_ref[ref] for ref in ready]

    def _disconnected(self, error: Exception) -> ExecutorError:
        return self._broken(f"the connection to Ray is lost ({brief(error)}); what has finished is kept")

    def _broken(self, words: str) -> ExecutorError:
        """The error that ends the run, after which Ray is not asked any more."""
        self._fault = ExecutorError(words)
        return self._fault

    def _outcome(self, one: RayCell) -> Outcome:
        """How a cell ended that Ray is done with; its files are written down."""
        one.lasted(time.monotonic() - one.handed_over)  # unless the node tells
        self._watch.over(one.mark)
        try:
            answer = self._get(one.ref)
            one.lasted(answer.seconds)
            self._sights.add(answer.items is None)
            if answer.items is not None:
                ray_files.unpack(one.task.folder, answer.items, self._get, durable=self.settings.durable)
        except self._ray.exceptions.RayError as error:
            return self._ray_outcome(one, error)
        except ConnectionError as error:
            raise self._disconnected(error) from error
        except Exception as error:  # the disk is full, or a name is refused
            return failed(error)
        self._echo(one.task)
        return {**answer.outcome, "host": answer.host}

    def _get(self, ref: Any) -> Any:
        return self._ray.get(ref, timeout=PATIENCE)

    def _ray_outcome(self, one: RayCell, error: Exception) -> Outcome:
        """The outcome of a cell if Ray says only that it failed. Raises `ExecutorError` if all would."""
        kind = type(error).__name__
        told = brief(error)
        if kind == "LocalRayletDiedError":
            raise self._broken("Ray's process on this machine has died; what has finished is kept") from error
        if kind == "RuntimeEnvSetupError":
            raise self._broken(f"a node cannot set up the runtime_env: {last_line(error)}") from error
        if "No module named" in told and "RayTaskError" in kind:
            raise self._broken(f"a node lacks pyexp or what it needs; install it there: {told}") from error
        if isinstance(error, self._ray.exceptions.OutOfMemoryError):
            return failure("OutOfMemoryError", f"Ray killed the cell, as its node ran out of memory: {told}")
        if is_lost(self._ray.exceptions, error) or self._watch.where.get(one.mark) in self._watch.gone:
            return failure("NodeDiedError", f"the node that had the cell is gone: {told.partition(' This can')[0]}")
        return failure(kind, str(error))

    def _given_up(self, one: RayCell) -> Outcome | None:
        """The outcome of a cell that will not end by itself: Ray does not notice that a node has fallen silent.

        A cell that has not begun there is handed over once more.
        """
        node = self._watch.where.get(one.mark)
        if node == NOWHERE:
            return self._hand_over_again(one)
        since = self._watch.lost_since(one.handed_over) if node is None else self._watch.gone.get(node, math.inf)
        if time.monotonic() - since > PATIENCE:
            if node is not None:
                self._forsake(one)
                words = f"the node {node[:12]} that ran the cell has been gone for {PATIENCE:g} s"
                return failure("NodeDiedError", words)
            self._doubt(one)
        if self._watch.gone and self._has_no_place(one):
            self._forsake(one)
            return failure("ExecutorError", infeasible(one.demand, self._watch.alive()))
        return None

    def _hand_over_again(self, one: RayCell) -> Outcome | None:
        """Give it to Ray under a new mark; its outcome, if even that cannot be done."""
        self._cancel(one, force=True)
        try:
            self._hand_over(one)
        except Exception as error:  # as with a cell that could not be started at all
            one.lasted(0.0)
            return failed(error)
        return None

    def _doubt(self, one: RayCell) -> None:
        """It may wait on a node that was lost, or for a place on one that is there: see to it that it does neither."""
        if not one.doubted:
            one.doubted = True
            self._watch.doubt(one.mark)

    def _has_no_place(self, one: RayCell) -> bool:
        """Whether no node could have taken the cell for a while."""
        if self._is_feasible(one.demand):
            one.hopeless = None
            return False
        one.hopeless = one.hopeless or time.monotonic()
        return time.monotonic() - one.hopeless > PATIENCE

    def _forsake(self, one: RayCell) -> None:
        one.lasted(time.monotonic() - one.handed_over)
        self.kill(one)

    def kill(self, running: RayCell) -> Outcome | None:
        self._cancel(running, force=True)
        self._watch.over(running.mark)
        return None

    def ask_to_stop(self, running: RayCell) -> None:
        self._cancel(running, force=False)

    def _cancel(self, running: RayCell, *, force: bool) -> None:
        if self._fault is None:
            with suppress(Exception):  # it may be over, or Ray may
                self._ray.cancel(running.ref, force=force)

    def _echo(self, task: Task) -> None:
        """Show what the cell wrote, on stderr, if the run is not to capture it; at its end, as it was elsewhere."""
        if not self.settings.capture:
            Echo(task).show(several=True, rest=True)


class Room:
    """How many cells with this demand the nodes can have at a time: counted once for each list of nodes."""

    def __init__(self, demand: Demand) -> None:
        self._demand = demand
        self._nodes: Sequence[Mapping[str, Any]] = ()
        self._cells = 0

    def among(self, nodes: Sequence[Mapping[str, Any]]) -> int:
        """The cells that fit these nodes; only living nodes count."""
        if nodes is not self._nodes:
            self._nodes = nodes
            self._cells = sum(fitting(node["Resources"], self._demand) for node in nodes if node["Alive"])
        return self._cells


def last_line(error: Exception) -> str:
    """The end of a long message, where pip and tracebacks say what is wrong."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def checked(demand: Mapping[str, Any]) -> dict[str, Any]:
    """What a cell asks for, without what it leaves open. Raises `UsageError` for what is not an amount."""
    known = ("num_cpus", "num_gpus", "memory", "resources")
    for key, value in demand.items():
        amounts = value.values() if key == "resources" and isinstance(value, Mapping) else (value,)
        if key not in known:
            raise UsageError(f"a cell on Ray has no {key!r}; it can ask for {', '.join(known)}")
        if any(not isinstance(amount, (int, float, type(None))) or (amount or 0) < 0 for amount in amounts):
            raise UsageError(f"{key} is {value!r}; a cell on Ray asks for amounts from 0")
    return {key: dict(value) if key == "resources" else value for key, value in demand.items() if value is not None}


def wanted(demand: Demand) -> dict[str, float]:
    """The demand, by the names that nodes use for what they have.

    >>> wanted({"num_cpus": 2, "resources": {"tpu": 1}})
    {'CPU': 2, 'tpu': 1}
    """
    names = {"num_cpus": "CPU", "num_gpus": "GPU", "memory": "memory"}
    plain = {names[key]: value for key, value in demand.items() if key in names}
    return {name: value for name, value in {**plain, **demand.get("resources", {})}.items() if value}


def fitting(has: Mapping[str, float], demand: Demand) -> int:
    """How many such cells a node with these resources can have at a time.

    >>> fitting({"CPU": 8.0, "GPU": 2.0}, {"num_cpus": 2, "num_gpus": 1}), fitting({"CPU": 8.0}, {"num_cpus": 0})
    (2, 8)
    """
    amounts = wanted(demand) or {"CPU": 1.0}
    return min(math.floor(has.get(name, 0.0) / amount + 1e-9) for name, amount in amounts.items())


def infeasible(demand: Demand, nodes: Sequence[Mapping[str, Any]]) -> str:
    """The message for a demand that no node can meet, with what they have."""
    hidden = ("object_store_memory", "node:")
    offers = [
        f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']}) has "
        + amounts({name: value for name, value in node["Resources"].items() if not name.startswith(hidden)})
        for node in nodes
    ]
    has = "; ".join(offers) or "there is none"
    return (
        f"no node of the Ray cluster can give a cell {amounts(wanted(demand))}: {has}. "
        "Ask for less, or pass RayExecutor(wait=True) if the cluster will grow"
    )


def amounts(resources: Mapping[str, float]) -> str:
    """Resources in words.

    >>> amounts({"memory": 2 << 30, "CPU": 4.0})
    '4 CPU, 2 GiB memory'
    """
    shown = {
        name: f"{value / (1 << 30):.3g} GiB" if name == "memory" else f"{value:g}" for name, value in resources.items()
    }
    return ", ".join(f"{shown[name]} {name}" for name in sorted(shown))


def is_lost(exceptions: Any, error: Exception) -> bool:
    """Whether Ray says with this error that a node, or what was on it, has gone."""
    return isinstance(error, (exceptions.NodeDiedError, exceptions.ObjectLostError, exceptions.GetTimeoutError))


def own_path() -> list[str]:
    """Where this process finds modules, without what belongs to its interpreter: that, a node has its own of."""
    import site
    import sysconfig

    homes = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    homes |= {*site.getsitepackages(), site.getusersitepackages()}
    return [
        entry
        for entry in import_path()
        if not entry.endswith(".zip") and not any(f"{entry}/".startswith(f"{home}/") for home in homes)
    ]
