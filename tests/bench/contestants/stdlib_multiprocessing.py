"""multiprocessing, one process for each cell, whose result is written to a file."""

import multiprocessing
import os
import pickle
import time

from timing import answer, scratch, timed


def cell(path, seconds=0.0):
    time.sleep(seconds)
    with open(path, "wb") as file:
        pickle.dump({"value": path}, file)


def _one_by_one(count, method, seconds=0.0):
    context = multiprocessing.get_context(method)
    with scratch() as folder:

        def run():
            for number in range(count):
                process = context.Process(target=cell, args=(os.path.join(folder, str(number)), seconds))
                process.start()
                process.join()

        return timed(run) / count


def noop_fork(count):
    return _one_by_one(count, "fork")


def noop_fresh(count):
    return _one_by_one(count, "spawn")


def overhead_100ms(count):
    return _one_by_one(count, "spawn", 0.1) - 0.1


if __name__ == "__main__":
    answer(globals())
