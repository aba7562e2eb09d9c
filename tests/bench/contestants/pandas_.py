"""pandas: one table of all results, in which an axis is a column like any other.

Left out: the results themselves, which stay where they are; a selection is a table of scalars, and has no axes.
"""

from fnmatch import translate

from timing import answer, timed


def _table(count):
    import pandas

    rows = ((f"e_a{i // 100}_b{i % 100}", i // 100, i % 100, i % 7, "done") for i in range(count))
    return pandas.DataFrame(rows, columns=["name", "a", "i", "y", "status"])


def select_query(count):
    table = _table(count)
    return timed(lambda: table[table["y"] == 3])


def select_glob(count):
    table = _table(count)
    return timed(lambda: table[table["name"].str.match(translate("*_b7"))])


def select_axis(count):
    table = _table(count)
    return timed(lambda: table[table["i"] == 7])


if __name__ == "__main__":
    answer(globals())
