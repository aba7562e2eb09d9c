"""The bare limit of each work: what nobody who does the job can go below."""

import hashlib
import itertools
import json
import os
import pickle
import re
from fnmatch import translate

from timing import answer, python, scratch, timed


def import_package(count):
    return python("-c", "pass")


def whole_script(count):
    return import_package(count)


def _write(folder, number, sync=False):
    descriptor = os.open(f"{folder}/{number}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    os.write(descriptor, pickle.dumps({"value": number}))
    if sync:
        os.fsync(descriptor)
    os.close(descriptor)


def noop_inline(count):
    with scratch() as folder:
        return timed(lambda: [_write(folder, number) for number in range(count)]) / count


def noop_inline_durable(count):
    with scratch() as folder:
        return timed(lambda: [_write(folder, number, sync=True) for number in range(count)]) / count


def _fork(folder, number):
    pid = os.fork()
    if pid == 0:
        _write(folder, number)
        os._exit(0)
    return pid


def noop_fork(count):
    with scratch() as folder:
        return timed(lambda: [os.waitpid(_fork(folder, number), 0) for number in range(count)]) / count


def noop_fresh(count):
    return sum(python("-c", "pass") for _ in range(count)) / count


def sleep_2(count):
    return count * 0.25 / 2


def sleep_8(count):
    return count * 0.25 / 8


def all_finished(count):
    with scratch() as folder:
        for number in range(count):
            _write(folder, number)

        def load():
            for entry in os.scandir(folder):
                with open(entry.path, "rb") as file:
                    pickle.load(file)

        return timed(load) / count


def large_finished(count):
    with scratch() as folder:
        for number in range(count):
            _write(folder, number)
        return timed(lambda: [entry.stat() for entry in os.scandir(folder)])


def _product():
    base = {"name": "e", "m": {f"q{i}": i for i in range(10)}, **{f"b{i}": i for i in range(9)}}
    axes = [[{f"k{axis}": i} for i in range(10)] for axis in range(4)]
    for changes in itertools.product(*axes):
        config = dict(base)
        for change in changes:
            config.update(change)
        yield config


def sweep_walk(count):
    return timed(lambda: [None for _ in _product()]) / count


def config_hash(count):
    config = {"name": "e", "opt": {"name": "adam", "betas": [0.9, 0.99]}, **{f"b{i}": i / 7 for i in range(18)}}
    return timed(lambda: [_hashed(json.dumps(config, sort_keys=True)) for _ in range(count)]) / count


def _hashed(text):
    return hashlib.sha256(text.encode()).hexdigest()


def hash_walk(count):
    encoded = [repr(config).encode() for config in _product()]
    return timed(lambda: [hashlib.sha256(text).hexdigest() for text in encoded]) / count


def _rows(count):
    return [{"name": f"e_a{i // 100}_b{i % 100}", "i": i % 100, "y": i % 7} for i in range(count)]


def select_query(count):
    rows = _rows(count)
    return timed(lambda: [row for row in rows if row["y"] == 3])


def select_glob(count):
    rows = _rows(count)
    fits = re.compile(translate("*_b7")).match
    return timed(lambda: [row for row in rows if fits(row["name"])])


def select_axis(count):
    rows = _rows(count)
    return timed(lambda: rows[7::100])


def plan_new(count):
    base = {f"b{i}": i for i in range(20)}
    return timed(lambda: [hashlib.sha256(repr({**base, "k": i}).encode()).hexdigest() for i in range(count)])


if __name__ == "__main__":
    answer(globals())
