"""Automatic caching: what is finished is loaded, what failed or is left is run.

python examples/caching.py                     # a new run: all three cells run, and one of them fails
python examples/caching.py --continue          # the same run: only the failed cell runs again
python examples/caching.py --continue -n       # what the next run would do and why; nothing is run
python examples/caching.py --report            # the report of the latest run, from what is on disk
python examples/caching.py --continue --rerun  # the same run, every cell again, in empty folders
"""

import pyexp


@pyexp.experiment
def caching(config):
    tries = config.out / "tries.txt"  # the folder of a failed cell is kept
    number = len(tries.read_text()) + 1 if tries.exists() else 1
    tries.write_text("x" * number)
    if config.x == 3 and number == 1:
        raise ValueError("the first try at 3 fails")
    return {"square": config.x**2, "tries": number}


@caching.configs
def configs():
    return [{"name": f"x{x}", "x": x} for x in (1, 2, 3)]


@caching.report
def report(results):
    for r in results:
        print(r.name, r["message"] if r.get("__error__") else f"{r['square']} (try {r['tries']})")


if __name__ == "__main__":
    caching.run()
