"""sacred: each cell a run of the experiment, kept by a FileStorageObserver, with sacred's settings as they come.

So each cell has two `tee` for what it prints, a thread, and a look at the host. It does not skip what is finished:
no whole script, no plan, no results.
"""

from timing import answer, python, scratch, timed


def import_package(count):
    return python("-c", "import sacred")


def cell(i):
    return {"value": i}


def noop_inline(count):
    import sacred
    from sacred.observers import FileStorageObserver

    experiment = sacred.Experiment("m")
    experiment.main(cell)
    experiment.add_config(i=0)
    quiet = {"--loglevel": "ERROR"}
    with scratch() as folder:
        experiment.observers.append(FileStorageObserver(folder))
        return timed(lambda: [experiment.run(config_updates={"i": i}, options=quiet) for i in range(count)]) / count


if __name__ == "__main__":
    answer(globals())
