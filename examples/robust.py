"""Robust execution: a cell may raise, exit or crash, and the others go on.

python examples/robust.py
"""

import os
import signal
import sys

import pyexp


@pyexp.experiment
def robust(config):
    match config.ending:
        case "raises":
            raise ValueError("the loss is not a number")
        case "exits":
            sys.exit(3)
        case "crashes":
            os.kill(os.getpid(), signal.SIGSEGV)  # as a fault in a C library would
    return {"accuracy": 0.95}


@robust.configs
def configs():
    return [{"name": ending, "ending": ending} for ending in ("returns", "raises", "exits", "crashes")]


@robust.report
def report(results):
    for r in results:
        if r.get("__error__"):
            print(f"{r['name']} failed: {r['type']}: {r['message']}")
        else:
            print(f"{r['name']}: {r['accuracy']}")


if __name__ == "__main__":
    robust.run()
