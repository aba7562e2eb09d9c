"""Every executor keeps the contract of `pyexp.testing`, but for what is written down there."""

import functools
import pickle

import pytest

from pyexp import Executor, ForkExecutor, InlineExecutor, SubprocessExecutor
from pyexp.errors import UsageError
from pyexp.testing import IN_THIS_PROCESS, IN_THREADS, Behaviour, check_executor, executor_behaviours


class FourLines(Executor):
    """The custom executor of the specification. What it cannot pickle, it does not name."""

    def run(self, fn, config, result_path):
        result = fn(config)
        with open(result_path, "wb") as file:
            pickle.dump(result, file)
        return result


@pytest.mark.parametrize("behaviour", executor_behaviours(), ids=str)
def test_subprocess(behaviour: Behaviour, tmp_path):
    behaviour.check(SubprocessExecutor, tmp_path)


@pytest.mark.parametrize("behaviour", executor_behaviours(), ids=str)
def test_subprocess_with_fresh_interpreters(behaviour: Behaviour, tmp_path):
    behaviour.check(functools.partial(SubprocessExecutor, fresh=True), tmp_path)


@pytest.mark.filterwarnings("ignore:forking a process with other live threads")
@pytest.mark.parametrize("behaviour", executor_behaviours(), ids=str)
def test_fork(behaviour: Behaviour, tmp_path):
    behaviour.check(ForkExecutor, tmp_path)


@pytest.mark.parametrize("behaviour", executor_behaviours(exempt=IN_THIS_PROCESS), ids=str)
def test_inline(behaviour: Behaviour, tmp_path):
    behaviour.check(InlineExecutor, tmp_path)


@pytest.mark.parametrize("behaviour", executor_behaviours(exempt=IN_THREADS), ids=str)
def test_an_executor_of_four_lines(behaviour: Behaviour, tmp_path):
    behaviour.check(FourLines, tmp_path)


class Forgetful(Executor):
    def run(self, fn, config, result_path):
        try:
            return fn(config)
        except Exception:
            return None


def test_an_executor_that_behaves_otherwise_is_told_all_it_does_otherwise():
    few = [
        behaviour.name
        for behaviour in executor_behaviours()
        if not behaviour.name.startswith(("exception_is", "artifacts", "retri"))
    ]
    with pytest.raises(AssertionError) as caught:
        check_executor(Forgetful, exempt=few)
    told = str(caught.value)
    assert "exception_is_told: An exception ends as its type" in told
    assert "retries_are_counted" in told
    assert "artifacts" not in told


def test_an_exemption_from_what_does_not_exist_is_refused():
    with pytest.raises(UsageError, match=r"did you mean 'kill_is_told'"):
        executor_behaviours(exempt=["kill_is_tould"])
