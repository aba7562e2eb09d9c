"""multiprocessing, one process for each cell, whose result is written to a file."""

import multiprocessing
import os
import pickle

from timing import answer, scratch, timed


def cell(path):
    with open(path, "wb") as file:
        pickle.dump({"value": path}, file)


def _one_by_one(count, method):
    context = multiprocessing.get_context(method)
    with scratch() as folder:

        def run():
            for number in range(count):
                process = context.Process(target=cell, args=(os.path.join(folder, str(number)),))
                process.start()
                process.join()

        return timed(run) / count


def noop_fork(count):
    return _one_by_one(count, "fork")


def noop_fresh(count):
    return _one_by_one(count, "spawn")


if __name__ == "__main__":
    answer(globals())
