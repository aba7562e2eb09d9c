"""The tokens of GPUs: how they are written, what the environment leaves, and that none is lost or held twice."""

from collections import Counter
from collections.abc import Collection
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyexp import UsageError, devices
from pyexp.configs import freeze
from pyexp.devices import Seen
from pyexp.executors.base import Running, RunSettings, Session, StopRequest, Task
from pyexp.executors.loop import schedule
from pyexp.results import Outcome, done
from pyexp.worker.outcome import failure


def tokens() -> st.SearchStrategy[list[str]]:
    """Tokens that share GPUs, as often as not: those of one or two of three GPUs, some of them twice."""
    gpus = st.lists(st.sampled_from("012"), min_size=1, max_size=2, unique=True)
    return st.lists(gpus.map("+".join), min_size=1, max_size=5)


# How they are written


@given(tokens())
def test_tokens_are_read_as_they_are_written(those: list[str]) -> None:
    assert devices.tokens_of(",".join(those)) == devices.tokens_of(those) == tuple(those)
    assert devices.tokens_of(" , ".join(token.replace("+", " + ") for token in those)) == tuple(those)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("", "'' is no GPU"),
        ("0,", "'' is no GPU"),
        ("0,auto", "'auto' is no GPU"),
        ("-1", "'-1' is no GPU"),
        ("1.0", "'1.0' is no GPU"),
        ("0+", "'' is no GPU"),
        ("٣", "is no GPU"),
        ("0+0", "gives one cell a GPU twice"),
        ("0+00", "gives one cell a GPU twice"),
        ("0,GPU-5d5b", "by number and some by name"),
        (2, "the GPU called 2 is '2'"),
        ([], "an empty list"),
        ([True], "True is no GPU"),
        ([1.0], "1.0 is no GPU"),
        (True, "it takes 'auto'"),
        ({"0": 1}, "it takes 'auto'"),
    ],
)
def test_what_is_no_token_is_refused(given: Any, words: str) -> None:
    with pytest.raises(UsageError, match="gpus is") as caught:
        devices.tokens_of(given)
    assert words in str(caught.value)


# What the environment leaves


@pytest.mark.parametrize(
    ("environ", "names"),
    [
        ({"CUDA_VISIBLE_DEVICES": "5,7"}, ("5", "7")),
        ({"CUDA_VISIBLE_DEVICES": " 5 , 07,5"}, ("5", "7")),
        ({"CUDA_VISIBLE_DEVICES": ""}, ()),
        ({"CUDA_VISIBLE_DEVICES": "-1"}, ()),
        ({"CUDA_VISIBLE_DEVICES": "NoDevFiles"}, ()),
        ({"CUDA_VISIBLE_DEVICES": "1,-1,2"}, ("1",)),
        ({"CUDA_VISIBLE_DEVICES": "GPU-5d5b,GPU-77aa"}, ("GPU-5d5b", "GPU-77aa")),
        ({"CUDA_VISIBLE_DEVICES": "MIG-GPU-5d5b/1/0"}, ("MIG-GPU-5d5b/1/0",)),
        ({"CUDA_VISIBLE_DEVICES": "5", "ROCR_VISIBLE_DEVICES": "6"}, ("5",)),
        ({"ROCR_VISIBLE_DEVICES": "5,7"}, ("5", "7")),
        ({"HIP_VISIBLE_DEVICES": "1"}, ("1",)),
        ({"ROCR_VISIBLE_DEVICES": "5,7", "HIP_VISIBLE_DEVICES": "1"}, ("7",)),
        ({"ROCR_VISIBLE_DEVICES": "5,7", "HIP_VISIBLE_DEVICES": "1,2,0"}, ("7",)),
        ({"ROCR_VISIBLE_DEVICES": "GPU-a,GPU-b", "HIP_VISIBLE_DEVICES": "GPU-b,0"}, ("GPU-b", "GPU-a")),
    ],
)
def test_the_environment_leaves_what_the_libraries_would_see(environ: dict[str, str], names: tuple[str, ...]) -> None:
    seen = devices.inherited(environ)
    assert seen is not None
    assert seen.names == names
    assert devices.tokens_within("auto", seen) == names
    first, told = next(iter(environ.items()))
    assert f"{first}={told}" in seen.source


def test_an_environment_that_hides_nothing_leaves_all() -> None:
    assert devices.inherited({"PATH": "/"}) is None
    assert devices.tokens_within("auto", None) == ()
    assert devices.tokens_within("9", None) == ("9",)


def test_a_list_has_to_lie_within_what_the_environment_leaves() -> None:
    seen = Seen(("5", "7"), "CUDA_VISIBLE_DEVICES=5,7")
    assert devices.tokens_within("7,5+7", seen) == ("7", "5+7")
    with pytest.raises(UsageError, match="no GPU 0 here: CUDA_VISIBLE_DEVICES=5,7 leaves 5, 7"):
        devices.tokens_within("5,0", seen)
    with pytest.raises(UsageError, match="leaves no GPU"):
        devices.tokens_within("0", Seen((), "CUDA_VISIBLE_DEVICES="))
    with pytest.raises(UsageError, match="no GPU GPU-5"):
        devices.tokens_within("GPU-5", seen)


def test_the_name_of_a_gpu_may_be_cut_short_and_a_number_may_not() -> None:
    whole = Seen(("GPU-5d5b-11", "GPU-77aa-22"), "here")
    assert devices.tokens_within("GPU-5D5B,GPU-77aa-22-33", whole) == ("GPU-5D5B", "GPU-77aa-22-33")
    with pytest.raises(UsageError):
        devices.tokens_within("GPU-88", whole)
    with pytest.raises(UsageError):
        devices.tokens_within("1", Seen(("10",), "here"))


@given(tokens())
def test_a_cell_sees_its_gpus_and_no_others(those: list[str]) -> None:
    """Read back as the libraries read it, the environment leaves the token's GPUs; so a run in a cell shares none."""
    for token in those:
        told = devices.environment(token)
        for left_out in ((), ("CUDA_VISIBLE_DEVICES",)):
            seen = devices.inherited({name: value for name, value in told.items() if name not in left_out})
            assert seen is not None
            assert "+".join(seen.names) == token


def test_programs_that_list_gpus_are_understood() -> None:
    whole = "GPU 0: NVIDIA A100 (UUID: GPU-5d5b)\nGPU 1: NVIDIA A100 (UUID: GPU-77aa)\n"
    assert devices.listed_by_nvidia(whole) == ("0", "1")
    parts = "  MIG 3g.20gb     Device  0: (UUID: MIG-aa)\n  MIG 3g.20gb     Device  1: (UUID: MIG-bb)\n"
    assert devices.listed_by_nvidia(parts + whole) == ("0", "1")
    assert devices.listed_by_nvidia(whole + parts) == ("GPU-5d5b", "MIG-aa", "MIG-bb")
    assert devices.listed_by_nvidia("No devices found.\n") == ()
    rocm = "=== ROCm ===\nGPU[0]\t\t: Device Name: MI250X\nGPU[0]\t\t: GUID: 1\nGPU[2]\t\t: Device Name: MI250X\n"
    assert devices.listed_by_amd(rocm) == ("0", "1")
    assert devices.listed_by_amd("nothing") == ()


def test_a_run_says_that_it_runs_fewer_cells_than_it_was_asked_to() -> None:
    assert devices.in_words(("0", "1"), "as given", 2) == "GPUs as given: 0, 1, each for one cell at a time"
    assert devices.in_words(("0",), "by nvidia-smi", 2).endswith("at a time, so 1 at a time and not 2")


# Who gets which


@given(tokens(), st.data())
def test_what_is_granted_is_free_and_granted_once(those: list[str], data: st.DataObject) -> None:
    held = data.draw(
        st.lists(st.sampled_from(those), max_size=len(those)).filter(lambda h: not Counter(h) - Counter(those))
    )
    waiting = data.draw(st.lists(st.integers(), max_size=6))
    unheld = devices.free(those, held)
    granted = devices.grant(unheld, waiting, held)
    assert Counter(unheld) + Counter(held) == Counter(those)
    assert [one for one, _ in granted] == waiting[: len(unheld)]  # first come, first served, as many as there are
    assert not Counter(token for _, token in granted) - Counter(unheld)


def test_no_two_cells_share_a_gpu_while_another_one_is_idle() -> None:
    for held in (["0"], ["0", "0"]):
        ((_, token),) = devices.grant(devices.free(["0", "0", "1", "1"], held), ["cell"], held)
        assert token == "1"


# A run on a clock of its own


class Simulated(Session):
    """Cells that end after a number of waits, in a way that was drawn; it counts who holds what."""

    def __init__(self, settings: RunSettings, ends: dict[str, list[tuple[str, int]]]) -> None:
        super().__init__(settings, StopRequest())
        self.ends = ends
        self.holders: dict[Running, str] = {}
        self.left: dict[Running, tuple[str, int]] = {}
        self.begun: list[str] = []

    def start(self, task: Task) -> Running:
        how, ticks = self.ends[task.label][len(task.failures)]
        if len(task.failures) == 0:
            self.begun.append(task.label)
        if how == "unstartable":
            raise RuntimeError("no process")
        running = Running(task)
        if how == "overdue":
            running.began = float("-inf")
        self.holders[running] = task.gpu
        self.left[running] = how, ticks
        assert not Counter(self.holders.values()) - Counter(self.settings.gpus), "a token has two holders"
        return running

    def wait(self, running: Collection[Running], seconds: float) -> list[tuple[Running, Outcome]]:
        assert set(running) == set(self.holders)
        self.left = {one: (how, ticks - 1) for one, (how, ticks) in self.left.items()}
        ended = [one for one, (how, ticks) in self.left.items() if ticks <= 0 and how != "overdue"]
        return [(one, self._end(one)) for one in ended]

    def _end(self, one: Running) -> Outcome:
        how, _ = self.left.pop(one)
        del self.holders[one]
        return done(1, []) if how == "done" else failure(how, "")

    def kill(self, running: Running) -> Outcome | None:
        self._end(running)
        return None


@given(tokens(), st.data())
def test_no_token_is_held_twice_or_lost_and_every_cell_runs(those: list[str], data: st.DataObject) -> None:
    """By any end of a cell, by a timeout, in a retry, or where no process can be started."""
    retries = data.draw(st.integers(0, 2))
    how = st.tuples(st.sampled_from(["done", "Killed", "overdue", "unstartable"]), st.integers(0, 3))
    number = data.draw(st.integers(1, 12))
    ends = {str(i): data.draw(st.lists(how, min_size=retries + 1, max_size=retries + 1)) for i in range(number)}
    jobs = data.draw(st.integers(1, 6))
    session = Simulated(RunSettings(gpus=tuple(those), jobs=jobs, retries=retries, timeout=1e9), ends)
    cells = iter([Task(label, lambda config: None, freeze({}), "/nowhere") for label in ends])
    ended = [one.task.label for one in schedule(session, cells)]
    assert sorted(ended) == sorted(ends)
    assert session.begun == list(ends)  # nobody is overtaken
    assert session.holders == {}
