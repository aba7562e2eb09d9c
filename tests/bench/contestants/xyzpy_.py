"""xyzpy: a harvester, one file for all results."""

from timing import answer, python, scratch, timed


def import_package(count):
    return python("-c", "import xyzpy")


def cell(i):
    return i * 0.5


def all_finished(count):
    import xyzpy

    with scratch() as folder:
        runner = xyzpy.Runner(cell, var_names=["value"])
        harvester = xyzpy.Harvester(runner, data_name=f"{folder}/all.h5", engine="joblib")
        harvester.harvest_combos({"i": list(range(count))}, verbosity=0)

        def read():
            again = xyzpy.Harvester(runner, data_name=f"{folder}/all.h5", engine="joblib")
            return again.full_ds["value"].values.sum()

        return timed(read) / count


if __name__ == "__main__":
    answer(globals())
