"""Cells on a Ray cluster: each in a process of its own on one of the nodes, with its files brought home.

Knows actors of Ray, what nodes have, and how a node's death looks from here; not what goes on there (`node`).
"""

import math
import os
import re
import site
import sysconfig
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass
from functools import partial
from typing import Any

from pyexp.configs import Config, thaw
from pyexp.errors import ExecutorError, UsageError
from pyexp.executors.attempts import packed
from pyexp.executors.base import Function, Running, RunSettings, Session, SessionExecutor, StopRequest, Task
from pyexp.executors.logs import Echo
from pyexp.executors.processes import import_path
from pyexp.executors.ray import files as ray_files
from pyexp.executors.ray.connection import Connection, brief
from pyexp.executors.ray.node import Order, Supervisor
from pyexp.results import Outcome
from pyexp.store import claims, files
from pyexp.store.layout import WANTED
from pyexp.store.pickling import dumps
from pyexp.worker.outcome import failed, failure

#: Cells handed to Ray for each one that can run, where the cluster is to grow: it does so for what waits.
WAITING = 3
#: Seconds after which a cell on a node that is gone, which has ended by then, or that no node can take, is given up.
PATIENCE = 30.0
#: Seconds after which a cell is given up whose node cannot be reached: Ray calls it dead within that, or never.
SILENT = 90.0
#: Supervisors that a cell may lose before it has begun.
TRIES = 3
#: What a cell can ask for.
AMOUNTS = ("num_cpus", "num_gpus", "memory", "resources")

Demand = Mapping[str, Any]


@dataclass(eq=False)
class Place:
    """A supervisor, which has so much for the cell it runs; `node` is where Ray has made it, once it lives."""

    actor: Any
    demand: Demand
    node: str = ""


class RayCell(Running):
    """A cell that has a place, or waits for one. Its node keeps its deadline.

    `ref` is what is waited for: on which node the place is, then how the cell ended; None if `error` came instead.
    """

    place: Place
    ref: Any = None
    error: Exception | None = None
    has_begun, tries = False, 0
    wanted = ""  # the file that a node which sees the cell's folder watches
    handed_over = hopeless = lost = math.inf  # since when it is so

    def __init__(self, task: Task, demand: Demand) -> None:
        super().__init__(task)
        self.began = math.inf
        self.demand = demand

    def lasted(self, seconds: float) -> None:
        """It ended now, having run for so long."""
        self.began = time.monotonic() - seconds
        self.started = time.time() - seconds


@dataclass(eq=False)
class RayExecutor(SessionExecutor):
    """Run each cell on a Ray cluster.

    - `address`: the cluster (`"auto"`, `"host:6379"`, `"ray://host:10001"`); by default `RAY_ADDRESS`, or a Ray that is
      started on this machine for the run. If the program has called `ray.init`, that Ray is used and left running.
    - `runtime_env`: as in Ray.
    - `num_cpus`, `num_gpus`, `memory` (bytes), `resources`: what each cell gets. `per_cell` is a function of the config
      that returns a dict of those that differ for it.
    - `wait=True`: wait for nodes that can take a cell, for a cluster that grows. By default such a cell is refused.
    - `shared_disk=False`: send files home through Ray, even if a node sees the run's folder.
    """

    address: str | None = None
    runtime_env: Mapping[str, Any] | None = None
    num_cpus: float = 1
    num_gpus: float | None = None
    resources: Mapping[str, float] | None = None
    memory: float | None = None
    _: KW_ONLY
    wait: bool = False
    per_cell: Callable[[Config], Demand] | None = None
    shared_disk: bool | None = None

    def __post_init__(self) -> None:
        self.demand = checked({name: getattr(self, name) for name in AMOUNTS})

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
        super().__init__(settings, stop)
        self._executor = executor
        luggage = packed(fn, settings, own_path())
        self._fault: ExecutorError | None = None
        self._patience = claims.PATIENCE
        self._seeing: set[str] = set()  # the nodes that have seen the run's folder
        self._places: list[Place] = []
        self._idle: list[Place] = []
        self._connection = Connection(executor.address, executor.runtime_env, settings.results)
        self._ray = self._connection.ray
        self._get = partial(self._ray.get, timeout=PATIENCE)
        self._watch = self._connection.watch
        try:
            # One thread for the cell, and one in which it is asked to stop.
            self._supervisor = self._ray.remote(max_restarts=0, max_concurrency=2)(Supervisor)
            self._luggage = self._ray.put(luggage)
            if executor.per_cell is None and (words := self._no_place(executor.demand)):
                raise ExecutorError(words)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        for place in self._places:
            self._leave(place)
        self._connection.close()

    def slots(self) -> int:
        """The number of cells that have a place or wait for one: `-j` if that is more than 1, or what fits."""
        room = sum(fitting(node["Resources"], self._executor.demand) for node in self._watch.alive())
        return self.settings.jobs if self.settings.jobs > 1 else max(room, 1) * (WAITING if self._executor.wait else 1)

    def start(self, task: Task) -> RayCell:
        demand = self._executor.demand
        if self._executor.per_cell is not None:
            demand = checked({**demand, **self._executor.per_cell(task.private_config())})
            if words := self._no_place(demand):
                raise ExecutorError(words)
        running = RayCell(task, demand)
        places = (place for place in self._idle if place.demand == demand and place.node not in self._watch.gone)
        if (place := next(places, None)) is not None:
            self._begin(running, place)
        else:
            self._ask_for_place(running)
        return running

    def _ask_for_place(self, one: RayCell) -> None:
        options = {**one.demand, **self._connection.options, "scheduling_strategy": "SPREAD"}
        one.place = Place(self._supervisor.options(**options).remote(self._luggage), one.demand)
        self._places.append(one.place)
        one.tries, one.ref = one.tries + 1, one.place.actor.node.remote()

    def _begin(self, one: RayCell, place: Place) -> None:
        """Run the cell at a place which is there and has none."""
        # What an earlier attempt left is there for the next one, wherever that runs; mostly it is nothing.
        left = [] if place.node in self._seeing else ray_files.pack(one.task.folder, self._ray.put)
        config = dumps(thaw(one.task.config), "config")
        one.wanted = self._wanted(one.task.folder)
        order = Order(config, one.task.folder, one.wanted, left, one.task.code)
        self._idle = [other for other in self._idle if other is not place]
        one.place, one.handed_over, one.has_begun = place, time.monotonic(), True
        one.ref = place.actor.run.remote(order)

    def _leave(self, place: Place) -> None:
        """End the supervisor, and all that it runs."""
        self._places = [other for other in self._places if other is not place]
        self._idle = [other for other in self._idle if other is not place]
        if self._fault is None:
            with suppress(Exception):  # it may be gone, or Ray may
                self._ray.kill(place.actor)

    def _wanted(self, folder: str) -> str:
        """A new file with a random name in the cell's folder: a node that sees it there sees the folder."""
        if self._executor.shared_disk is False:
            return ""
        path = os.path.join(folder, files.temporary_name(WANTED))
        files.write(path, [b"1"], durable=False)
        return path

    def _no_place(self, demand: Demand) -> str:
        """Why no node can take such a cell, now or, if the cluster grows, later; `""` if one can."""
        nodes = self._watch.alive()
        fits = self._executor.wait or any(fitting(node["Resources"], demand) for node in nodes)
        return "" if fits else infeasible(demand, nodes)

    def wait(self, running: Collection[RayCell], seconds: float) -> list[tuple[RayCell, Outcome]]:
        if self._fault is not None:  # the run is over; nobody waits for what is left of it
            return [(one, failure("ExecutorError", str(self._fault))) for one in running]
        if self._watch.is_silent():
            raise self._broken("the head of the Ray cluster does not answer any more")
        self._use_idle(running)
        over = [(one, outcome) for one in running if (outcome := self._given_up(one)) is not None]
        waiting = [one for one in running if one.ref is not None]
        if over or not waiting:
            time.sleep(0.0 if over else seconds)
            return over
        return [(one, outcome) for one in self._ready(waiting, seconds) if (outcome := self._heard(one)) is not None]

    def _use_idle(self, running: Collection[RayCell]) -> None:
        """Give a place without a cell to one that waits for another of the kind; if there is none, let it go."""
        idle, self._idle = self._idle, []
        for place in idle:
            waits = (one for one in running if not one.has_begun and one.ref and one.demand == place.demand)
            one = None if place.node in self._watch.gone else next(waits, None)
            self._leave(place if one is None else one.place)
            if one is not None:
                one.place, one.ref = place, place.actor.node.remote()

    def _ready(self, running: Collection[RayCell], seconds: float) -> list[RayCell]:
        """The cells that Ray has something to say of, waiting for the first."""
        by_ref = {one.ref: one for one in running}
        try:
            ready, _ = self._ray.wait(list(by_ref), timeout=seconds, fetch_local=False)
            if ready and len(by_ref) > 1:
                ready, _ = self._ray.wait(list(by_ref), num_returns=len(by_ref), timeout=0, fetch_local=False)
        except Exception as error:
            raise self._broken(f"the connection to Ray is lost ({brief(error)})") from error
        return [by_ref[ref] for ref in ready]

    def _broken(self, words: str) -> ExecutorError:
        """The error that ends the run, after which Ray is not asked any more."""
        self._fault = ExecutorError(f"{words}; what has finished is kept")
        return self._fault

    def _heard(self, one: RayCell) -> Outcome | None:
        """Take in what Ray has of the cell. Return how it ended, if it has."""
        try:
            told = self._get(one.ref)
            if one.has_begun:
                return self._outcome(one, told)
            one.place.node = told
            self._begin(one, one.place)
            return None
        except self._ray.exceptions.RayError as error:
            return self._ray_outcome(one, error)
        except ConnectionError as error:
            raise self._broken(f"the connection to Ray is lost ({brief(error)})") from error
        except Exception as error:  # the disk is full, or a name is refused
            return self._forsaken(one, failed(error))

    def _outcome(self, one: RayCell, answer: Any) -> Outcome:
        """How a cell ended; its files are written down, and its place is free."""
        one.lasted(answer.seconds)
        self._withdraw(one)
        if answer.items is None:
            self._seeing.add(one.place.node)
        else:
            ray_files.unpack(one.task.folder, answer.items, self._get, durable=self.settings.durable)
        self._idle.append(one.place)
        if not self.settings.capture:  # shown at its end, as it was elsewhere
            Echo(one.task).show(several=True, rest=True)
        return {**answer.outcome, "host": answer.host}

    def _ray_outcome(self, one: RayCell, error: Exception) -> Outcome | None:
        """The outcome of a cell that Ray could not run, None if it is not known yet. Raises if no cell can run."""
        kinds, told = self._ray.exceptions, brief(error)
        if isinstance(error, kinds.LocalRayletDiedError):
            raise self._broken("Ray's process on this machine has died") from error
        if isinstance(error, kinds.RuntimeEnvSetupError):
            raise self._broken(f"a node cannot set up the runtime_env: {told[-300:]}") from error
        if not one.has_begun and (lack := re.search("No module named .*", str(error))):
            raise self._broken(f"a node lacks pyexp or what it needs; install it there: {lack[0]}") from error
        if isinstance(error, kinds.OutOfMemoryError):
            words = "Ray killed the cell, as its node ran out of memory"
            return self._forsaken(one, failure("OutOfMemoryError", f"{words}: {told}"))
        if not one.has_begun and one.tries < TRIES:
            self._leave(one.place)
            self._ask_for_place(one)
            return None
        if isinstance(error, (kinds.RayActorError, kinds.ObjectLostError, kinds.GetTimeoutError)):
            one.error, one.lost, one.ref = error, time.monotonic(), None
            return None
        return self._forsaken(one, failure(type(error).__name__, str(error)))

    def _given_up(self, one: RayCell) -> Outcome | None:
        """The outcome of a cell that cannot go on: the node or the supervisor is gone, or no node can take it."""
        now, gone = time.monotonic(), self._watch.gone.get(one.place.node)
        if gone is not None:
            if now - gone > PATIENCE:
                return self._forsaken(one, failure("NodeDiedError", f"the node {one.place.node[:12]} is gone"))
        elif one.error is not None:
            if isinstance(one.error, self._ray.exceptions.ActorDiedError) and self._watch.looked > one.lost:
                words = f"Ray's process that ran the cell died, and its node did not: {brief(one.error)}"
                return self._forsaken(one, failure("WorkerCrashedError", words))
            if now - one.lost > SILENT:
                words = f"its node has not been heard of for {SILENT:g} s: {brief(one.error)}"
                return self._forsaken(one, failure("NodeDiedError", words))
        elif self._watch.gone and not one.has_begun:
            words = self._no_place(one.demand)
            one.hopeless = min(one.hopeless, now) if words else math.inf
            if now - one.hopeless > PATIENCE:
                return self._forsaken(one, failure("ExecutorError", words))
        return None

    def _forsaken(self, one: RayCell, outcome: Outcome) -> Outcome:
        """The outcome, of a cell that ended without an answer; nothing of it goes on."""
        one.lasted(min(time.monotonic(), one.lost) - one.handed_over if one.has_begun else 0.0)
        self._leave(one.place)
        self._withdraw(one)
        return outcome

    def _withdraw(self, one: RayCell) -> None:
        """Make the cell end where it sees its folder, and wait a while for that: a retry has the same one."""
        if one.wanted and not claims.end_holders([one.wanted], self._patience):
            self._patience = 0.0  # nobody there hears of it

    def kill(self, running: RayCell) -> Outcome | None:
        self._leave(running.place)
        self._withdraw(running)
        return None

    def ask_to_stop(self, running: RayCell) -> None:
        if not running.has_begun:  # Ray answers at once for what it kills
            running.tries = TRIES
            self._leave(running.place)
        elif self._fault is None:
            running.place.actor.stop.remote()


def checked(demand: Mapping[str, Any]) -> dict[str, Any]:
    """What a cell asks for, without what it leaves open. Raises `UsageError` for what is not an amount."""
    for key, value in demand.items():
        amounts = value.values() if key == "resources" and isinstance(value, Mapping) else (value,)
        if key not in AMOUNTS:
            raise UsageError(f"a cell on Ray has no {key!r}; it can ask for {', '.join(AMOUNTS)}")
        if any(not isinstance(amount, (int, float, type(None))) or (amount or 0) < 0 for amount in amounts):
            raise UsageError(f"{key} is {value!r}; a cell on Ray asks for amounts from 0")
    return {key: dict(value) if key == "resources" else value for key, value in demand.items() if value is not None}


def wanted(demand: Demand) -> dict[str, float]:
    """The demand, by the names that nodes use for what they have.

    >>> wanted({"num_cpus": 2, "resources": {"tpu": 1}})
    {'CPU': 2, 'tpu': 1}
    """
    names = {"num_cpus": "CPU", "num_gpus": "GPU", "memory": "memory"}
    named = {names[key]: value for key, value in demand.items() if key in names} | demand.get("resources", {})
    return {name: value for name, value in named.items() if value}


def fitting(has: Mapping[str, float], demand: Demand) -> int:
    """How many such cells a node with these resources can have at a time.

    >>> fitting({"CPU": 8.0, "GPU": 2.0}, {"num_cpus": 2, "num_gpus": 1}), fitting({"CPU": 8.0}, {"num_cpus": 0})
    (2, 8)
    """
    amounts = wanted(demand) or {"CPU": 1.0}
    return min(math.floor(has.get(name, 0.0) / amount + 1e-9) for name, amount in amounts.items())


def infeasible(demand: Demand, nodes: Sequence[Mapping[str, Any]]) -> str:
    """The message for a demand that no node can meet, with what they have."""
    offers = [f"{n['NodeManagerHostname']} ({n['NodeManagerAddress']}) has {amounts(n['Resources'])}" for n in nodes]
    has = "; ".join(offers) or "there is none"
    words = f"no node of the Ray cluster can give a cell {amounts(wanted(demand))}: {has}"
    return f"{words}. Ask for less, or pass RayExecutor(wait=True) if the cluster will grow"


def amounts(resources: Mapping[str, float]) -> str:
    """Resources in words.

    >>> amounts({"memory": 2 << 30, "CPU": 4.0})
    '4 CPU, 2 GiB memory'
    """
    memory = {"memory": f"{resources.get('memory', 0.0) / (1 << 30):.3g} GiB"}
    shown = sorted(name for name in resources if not name.startswith(("object_store_memory", "node:")))  # Ray's own
    return ", ".join(f"{memory.get(name) or f'{resources[name]:g}'} {name}" for name in shown)


def own_path() -> list[str]:
    """Where this process finds modules, without what belongs to its interpreter: that, a node has its own of."""
    homes = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    homes |= {*site.getsitepackages(), site.getusersitepackages()}
    path = [entry for entry in import_path() if not entry.endswith(".zip")]
    return [entry for entry in path if not any(f"{entry}/".startswith(f"{home}/") for home in homes)]
