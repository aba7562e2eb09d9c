"""Settings of the whole suite.

How hard Hypothesis looks, by HYPOTHESIS_PROFILE, or `ci` where CI is set; and which tests go to one worker of xdist.
"""

import os
import signal
from typing import Any

import pytest
from hypothesis import Phase, settings

# Explaining a failure traces every line, and takes minutes where finding it took a second.
PHASES = [phase for phase in Phase if phase is not Phase.explain]

settings.register_profile("dev", max_examples=50, deadline=None, phases=PHASES)
for profile, examples in {"ci": 100, "short": 25}.items():
    settings.register_profile(
        profile, max_examples=examples, deadline=None, phases=PHASES, derandomize=True, print_blob=True
    )
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "dev"))

# Whoever starts the tests in the background may ignore these signals; what the tests start must not inherit that.
for name, handler in {
    "SIGINT": signal.default_int_handler,
    "SIGTERM": signal.SIG_DFL,
    "SIGHUP": signal.SIG_DFL,
}.items():
    number = getattr(signal, name, None)
    if number is not None and signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, handler)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Every test goes to the worker that has time for it, but those of Ray go together: they share a cluster.

    (xdist has groups for that, which pytest 9.2 has broken.)
    """
    from xdist.scheduler import LoadScopeScheduling

    class TogetherOnRay(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "ray" if nodeid.startswith("tests/on_ray/") or "with_ray" in nodeid else nodeid

    return TogetherOnRay(config, log)
