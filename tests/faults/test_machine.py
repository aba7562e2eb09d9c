"""Any sequence of runs, crashes, damage, second processes and full disks, against a model of what must be there.

The long form looks for minutes: `pytest -m long tests/faults/test_machine.py`.
"""

import os
import resource
import shutil
import signal
import time
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest
from effects import in_child
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from workbench import CONFIGS, Bench, performed, reported_in

import pyexp

pytestmark = [pytest.mark.faults, pytest.mark.skipif(not hasattr(os, "fork"), reason="runs in a fork")]

NAMES = [config["name"] for config in CONFIGS]
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


class Model(RuleBasedStateMachine):
    """`safe` are the cells that are known to be finished, each with the generation of its result.

    Of those in `open` nothing is known, as a crash came between; but a result of theirs is right, if there is one.
    """

    def __init__(self) -> None:
        super().__init__()
        self.place = Path(mkdtemp(dir=MEMORY))
        self.bench = Bench(self.place / "bench")
        self.bench.begin(1)
        self.safe: dict[str, int] = {}
        self.open: set[str] = set()

    def teardown(self) -> None:
        shutil.rmtree(self.place)

    def folder(self, name: str) -> Path | None:
        return next(self.bench.root.glob(f"deep/out/e/t/{name}-*"), None)

    def finish(self, results: Any, ran: list[str], rerun: bool) -> None:
        """Check a run that came to its end, and note what is finished now."""
        for result in results:
            name = result["name"]
            assert ran.count(name) <= 1
            if name in self.bench.failing and (name in ran or name not in self.safe):
                if name not in self.open:
                    assert name in ran, f"the failure of {name} was a hit"
                if name in ran:
                    assert result["type"] == "ValueError"
                    self.safe.pop(name, None)
                    continue
            assert result["blob"] == [result["config"]["x"]] * 1000
            if rerun:
                assert name in ran, f"{name} was not run again"
            elif name in self.safe:
                assert name not in ran, f"{name} was finished, and run again"
                assert result["generation"] == self.safe[name]
            elif name not in self.open:
                assert name in ran, f"{name} was not finished, and not run"
            if name in ran:
                assert result["generation"] == self.bench.now
            self.safe[name] = result["generation"]
        self.open.clear()
        assert self.bench.left_over() == []

    @rule(rerun=st.booleans())
    def run_to_the_end(self, rerun: bool) -> None:
        self.bench.begin(self.bench.now)
        results = self.bench.run(timestamp="t", rerun=rerun)
        self.finish(results, self.bench.ran, rerun)

    @rule(fatal=st.integers(0, 90), torn=st.booleans(), rerun=st.booleans())
    def crash(self, fatal: int, torn: bool, rerun: bool) -> None:
        _, told = performed(self.bench, {"timestamp": "t", "rerun": rerun}, fatal, torn)
        for name in NAMES:
            if name not in self.safe or rerun:
                self.safe.pop(name, None)
                self.open.add(name)
        for name in reported_in(told):
            self.safe[name] = self.bench.now
            self.open.discard(name)

    @rule()
    def run_twice_at_once(self) -> None:
        self.bench.begin(self.bench.now)

        def child(tell: Any) -> None:
            other = os.fork()
            shown = [dict(result) for result in self.bench.run(timestamp="t")]
            if other == 0:
                tell(shown)
                os._exit(0)
            assert os.waitpid(other, 0)[1] == 0
            tell(shown)

        status, told = in_child(child)
        assert (status, len(told)) == (0, 2)
        ran = self.bench.ran
        # A failure may be tried by both, if one had ended before the other looked.
        once = [name for name in ran if name not in self.bench.failing] + list(set(ran) & self.bench.failing)
        before = dict(self.safe), set(self.open)
        self.finish(told[0], once, rerun=False)
        self.safe, self.open = before
        self.finish(told[1], once, rerun=False)

    @rule(size=st.sampled_from([0, 50, 400, 600, 1000, 2000]))
    def run_where_files_may_not_grow(self, size: int) -> None:
        def child(tell: Any) -> None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
            try:
                tell([(result["name"], result.get("generation")) for result in self.bench.run(timestamp="t")])
            except pyexp.errors.StoreError:
                tell([])

        status, told = in_child(child)
        assert status == 0
        for name, generation in told[0]:
            self.open.discard(name)
            if generation is not None:
                assert self.safe.setdefault(name, generation) == generation
            else:
                assert name not in self.safe

    @rule(
        name=st.sampled_from(NAMES), at=st.floats(0, 1, exclude_max=True), how=st.sampled_from(["flip", "cut", "gone"])
    )
    def damage_a_result(self, name: str, at: float, how: str) -> None:
        folder = self.folder(name)
        path = None if folder is None else folder / "result.pkl"
        if path is None or name not in self.safe:  # a bit that is flipped twice is right again
            return
        time.sleep(0.01)  # within a tick of the clock that gives files their times, a change cannot be seen
        content = bytearray(path.read_bytes())
        content[int(at * len(content))] ^= 4
        if how == "gone":
            path.unlink()
        else:
            path.write_bytes(content[: int(at * len(content))] if how == "cut" else content)
        self.safe.pop(name, None)

    @rule(name=st.sampled_from(["run.json", *NAMES]), content=st.none() | st.binary(max_size=20))
    def damage_what_tells_of_it(self, name: str, content: bytes | None) -> None:
        folder = self.folder(name)
        path = self.bench.root / "deep/out/e/t/run.json" if folder is None else folder / "record.json"
        if path.is_file() and content is None:
            path.unlink()
        elif path.is_file():
            path.write_bytes(content or b"")

    @rule(name=st.sampled_from([*NAMES, "all"]))
    def delete(self, name: str) -> None:
        folder = self.bench.root / "deep" if name == "all" else self.folder(name)
        if folder is not None and folder.exists():
            shutil.rmtree(folder)
        for one in NAMES if name == "all" else [name]:
            self.safe.pop(one, None)
            self.open.discard(one)

    @rule(failing=st.sets(st.sampled_from(NAMES), max_size=2))
    def change_the_code(self, failing: set[str]) -> None:
        self.bench.failing = failing
        self.bench.now += 1

    @invariant()
    def a_report_shows_what_is_finished_and_changes_nothing(self) -> None:
        before = self.bench.everything()
        try:
            shown = {result["name"]: result for result in self.bench.run("--report", timestamp="t")}
        except SystemExit:
            assert not self.safe
            return
        for name, generation in self.safe.items():
            assert shown[name]["generation"] == generation
            assert shown[name]["blob"] == [shown[name]["config"]["x"]] * 1000
        for name in set(NAMES) - set(self.safe) - self.open:
            assert shown[name].get("__error__")
        assert self.bench.everything() == before


Model.TestCase.settings = settings(
    max_examples=15,
    stateful_step_count=12,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestAnySequence = Model.TestCase


@pytest.mark.long
class TestManySequences(Model.TestCase):
    settings = settings(
        max_examples=200, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
    )
