"""concurrent.futures: a pool of processes, and one whose workers do one task each."""

import time
from concurrent.futures import ProcessPoolExecutor

from timing import answer, timed


def cell(number, seconds=0.0):
    time.sleep(seconds)
    return {"value": number}


def nap(number):
    return cell(number, 0.25)


def _pool(fn, count, workers, **options):
    with ProcessPoolExecutor(workers, **options) as pool:
        return timed(lambda: list(pool.map(fn, range(count))))


def noop_fresh(count):
    return _pool(cell, count, 1, max_tasks_per_child=1) / count


def sleep_2(count):
    return _pool(nap, count, 2)


def sleep_8(count):
    return _pool(nap, count, 8)


if __name__ == "__main__":
    answer(globals())
