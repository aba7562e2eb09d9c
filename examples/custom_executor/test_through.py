"""The executor keeps pyexp's contract, and has one cell at a time on each place."""

import time

import pytest
from through import Through

from pyexp.executors.base import RunSettings
from pyexp.testing import CARRIED, Lab, executor_behaviours

NICE = ["nice", "-n", "5"]


@pytest.mark.parametrize("behaviour", executor_behaviours(exempt=CARRIED), ids=str)
def test_the_contract(behaviour, tmp_path):
    behaviour.check(lambda: Through([NICE] * 3), tmp_path)


def test_through_a_place_that_is_down_the_cell_fails_and_says_why(tmp_path):
    lab = Lab(lambda: Through([["sh", "-c", "echo no route to host >&2; exit 255"]]), tmp_path)
    lab.run(lambda config: 1).failed("ConnectionError", "ended with status 255: no route to host")


def test_through_each_place_goes_one_cell_at_a_time(tmp_path):
    def span(config):
        began = time.time()
        time.sleep(0.1)
        return began, time.time()

    trials = Lab(lambda: Through([NICE]), tmp_path).run_all([(span, {})] * 2, RunSettings(jobs=2, durable=False))
    (_, first_ended), (second_began, _) = sorted(trial.value for trial in trials)
    assert first_ended <= second_began


def test_through_the_command_a_crash_is_named(tmp_path):
    def crash(config):
        import os
        import signal

        os.kill(os.getpid(), signal.SIGSEGV)

    Lab(lambda: Through([NICE]), tmp_path).run(crash).failed("Killed", "SIGSEGV")
