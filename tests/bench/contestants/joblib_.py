"""joblib: Memory as the cache, loky as the pool."""

import time

from timing import answer, python, scratch, script, timed


def import_package(count):
    return python("-c", "import joblib")


def cell(number):
    return {"value": number}


def nap(number):
    time.sleep(0.25)
    return {"value": number}


def array(number):
    import numpy

    return {"value": number, "array": numpy.zeros(1_250_000)}


SCRIPT = """
import joblib
memory = joblib.Memory({folder!r}, verbose=0)
@memory.cache
def cell(number):
    return {{"value": number}}
for number in range({count}):
    cell(number)
"""


def whole_script(count):
    with scratch() as folder:
        return script(SCRIPT.format(folder=folder, count=count), folder)


def _memory(fn, count, again=False):
    import joblib

    with scratch() as folder:
        cached = joblib.Memory(folder, verbose=0).cache(fn)
        cached(-1)
        first = timed(lambda: [cached(number) for number in range(count)])
        return timed(lambda: [cached(number)["value"] for number in range(count)]) if again else first


def noop_inline(count):
    return _memory(cell, count) / count


def all_finished(count):
    return _memory(cell, count, again=True) / count


def large_finished(count):
    return _memory(array, count, again=True)


def _loky(count, workers):
    from joblib import Parallel, delayed

    return timed(lambda: Parallel(workers)(delayed(nap)(number) for number in range(count)))


def sleep_2(count):
    return _loky(count, 2)


def sleep_8(count):
    return _loky(count, 8)


def hash_walk(count):
    import joblib

    config = {"name": "e", "m": {f"q{i}": i for i in range(10)}, **{f"b{i}": i for i in range(9)}}
    few = count // 10
    return timed(lambda: [joblib.hash({**config, "k": number}) for number in range(few)]) / few


if __name__ == "__main__":
    answer(globals())
