"""joblib: Memory as the cache, loky as the pool."""

import os
import time

from timing import answer, python, scratch, script, synced, timed


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


def noop_inline_durable(count):
    """Memory syncs nothing: here each output is synced, its folder, and the one above; its metadata is not."""
    import joblib

    with scratch() as folder:
        cached = joblib.Memory(folder, verbose=0).cache(cell)

        def kept(number):
            result = cached.call_and_shelve(number)
            above = os.path.join(result.store_backend.location, result.func_id)
            own = os.path.join(above, result.args_id)
            synced(os.path.join(own, "output.pkl"), own, above)

        kept(-1)
        return timed(lambda: [kept(number) for number in range(count)]) / count


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


def plan_new(count):
    """Each config is hashed and looked for in an empty cache; Memory gives neither names nor a plan as a value."""
    import joblib

    base = {"name": "e", **{f"b{i}": i for i in range(20)}}
    with scratch() as folder:
        cached = joblib.Memory(folder, verbose=0).cache(cell)
        return timed(lambda: [cached.check_call_in_cache({**base, "k": i}) for i in range(count)])


if __name__ == "__main__":
    answer(globals())
