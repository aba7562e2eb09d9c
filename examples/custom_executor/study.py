"""A study through the executor beside it: four cells, on two places that each take one at a time.

python examples/custom_executor/study.py
python -m pytest -p no:cacheprovider examples/custom_executor -k 'not contract'  # its tests, but for the long one
"""

import math
import os

from through import Through

import pyexp

#: Here a place is this machine with a low priority; yours may be `["ssh", "-o", "BatchMode=yes", "workstation1"]`.
PLACES = [["nice", "-n", "5"], ["nice", "-n", "10"]]


@pyexp.experiment
def integral(config):
    """The integral of exp(-x²) by the midpoint rule."""
    step = 20 / config.steps
    points = (-10 + (i + 0.5) * step for i in range(config.steps))
    found = step * math.fsum(math.exp(-(x**2)) for x in points)
    return {"error": abs(found - math.sqrt(math.pi)), "priority": os.nice(0)}


@integral.configs
def configs():
    return [{"name": f"n{steps}", "steps": steps} for steps in (10, 20, 40, 80)]


if __name__ == "__main__":
    integral.run(executor=Through(PLACES), jobs=len(PLACES))
