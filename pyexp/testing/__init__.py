"""The kit for people who extend pyexp, or test code that uses it.

- `executor_behaviours`, `check_executor`: what every executor has to do.
- `check_encoder`: what every registered encoder has to do.
- `configs`, `variations`, `sweeps`, `tensors`, `values`, `names`, `confusable`: Hypothesis strategies, and the tables
  `CONFUSABLE` and `SAME`. They are loaded when they are first used, and only they need Hypothesis and NumPy.

`docs/reference/testing.md` has an example of each.
"""

import sys
from typing import TYPE_CHECKING

from pyexp.errors import ExtraError
from pyexp.testing.encoders import check_encoder
from pyexp.testing.executors import (
    CARRIED,
    IN_THIS_PROCESS,
    IN_THREADS,
    ON_AN_ENGINE,
    Behaviour,
    Lab,
    Trial,
    check_executor,
    executor_behaviours,
)

if TYPE_CHECKING:
    from pyexp.testing.strategies import (
        CONFUSABLE,
        SAME,
        configs,
        confusable,
        names,
        sweeps,
        tensors,
        values,
        variations,
    )

_STRATEGIES = {"CONFUSABLE", "SAME", "configs", "confusable", "names", "sweeps", "tensors", "values", "variations"}

# Written out, as type checkers do not run code.
__all__ = [
    "CARRIED", "CONFUSABLE", "IN_THIS_PROCESS", "IN_THREADS", "ON_AN_ENGINE", "SAME", "Behaviour", "Lab", "Trial",
    "check_encoder", "check_executor", "configs", "confusable", "executor_behaviours", "names", "sweeps", "tensors",
    "values", "variations",
]  # fmt: skip


def __getattr__(name: str) -> object:
    """The strategy, loaded when it is first used (PEP 562)."""
    if name not in _STRATEGIES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        __import__(f"{__name__}.strategies")
    except ImportError as error:
        words = f"{__name__}.{name} needs Hypothesis and NumPy: pip install hypothesis numpy ({error})"
        raise ExtraError(words) from None
    value = getattr(sys.modules[f"{__name__}.strategies"], name)
    globals()[name] = value
    return value
