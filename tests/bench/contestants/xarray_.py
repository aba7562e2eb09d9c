"""xarray: a Dataset of all results with the grid's axes.

Left out: the results themselves, which stay where they are; a selection is arrays of scalars. What is not along an axis
is selected from the Dataset stacked into a sequence, which gives the cells that fit; `where` on the grid itself gives
all of it, with NaN in the others, and takes ten times as long.
"""

from fnmatch import translate

from timing import answer, timed


def _dataset(count):
    import numpy
    import xarray

    shape = count // 100, 100
    names = numpy.array([f"e_a{i // 100}_b{i % 100}" for i in range(count)], dtype=object)
    columns = {"name": names, "y": numpy.arange(count) % 7, "status": numpy.full(count, "done", dtype=object)}
    axes = {"a": range(shape[0]), "i": range(shape[1])}
    return xarray.Dataset({key: (("a", "i"), column.reshape(shape)) for key, column in columns.items()}, axes)


def select_query(count):
    cells = _dataset(count).stack(cell=("a", "i"))
    return timed(lambda: cells.isel(cell=cells["y"] == 3))


def select_glob(count):
    cells = _dataset(count).stack(cell=("a", "i"))
    return timed(lambda: cells.isel(cell=cells["name"].str.match(translate("*_b7"))))


def select_axis(count):
    grid = _dataset(count)
    return timed(lambda: grid.sel(i=7))


if __name__ == "__main__":
    answer(globals())
