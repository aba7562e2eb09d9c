"""Each cell holds a GPU while it runs, and the next cell gets it then: no GPU waits for the slowest cell of a round.

python examples/gpus.py    # makes believe that there are two GPUs, and draws which cell had which

With `--gpus auto`, cells get the GPUs of this machine.
"""

import os
import time

import pyexp


@pyexp.experiment(gpus=[0, 1])
def gpus(config):
    began = time.time()
    time.sleep(config.seconds)  # train(torch.device("cuda:0")): a cell sees its own GPU alone, as number 0
    return {"gpu": os.environ["CUDA_VISIBLE_DEVICES"], "began": began, "ended": time.time()}


@gpus.configs
def configs():
    seconds = {"a": 1, "b": 0.2, "c": 0.3, "d": 0.2, "e": 0.1, "f": 0.2}
    return [{"name": name, "seconds": seconds[name]} for name in seconds]


@gpus.report
def report(results):
    first, last = min(r["began"] for r in results), max(r["ended"] for r in results)
    for gpu in sorted({r["gpu"] for r in results}):
        line, free_at = "", first
        for r in sorted(results[{"gpu": gpu}], key=lambda r: r["began"]):
            assert r["began"] >= free_at, "two cells had one GPU"
            free_at = r["ended"]
            columns = [round(60 * (moment - first) / (last - first)) for moment in (r["began"], r["ended"])]
            line = line.ljust(columns[0]) + r.name * (columns[1] - columns[0])
        print(f"GPU {gpu} |{line:60}| {last - first:.1f} s")


if __name__ == "__main__":
    gpus.run()
