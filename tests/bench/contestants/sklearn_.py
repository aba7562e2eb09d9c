"""scikit-learn's ParameterGrid: a flat product of lists, of one value for what is not swept.

It gives the configs no names and cannot tell what is done: there is no plan, and none of the other works.
"""

from timing import answer, timed


def sweep_walk(count):
    from sklearn.model_selection import ParameterGrid

    base = {"name": "e", "m": {f"q{i}": i for i in range(10)}, **{f"b{i}": i for i in range(9)}}
    axes = {f"k{axis}": range(10) for axis in range(4)}
    grid = ParameterGrid({**{key: [value] for key, value in base.items()}, **axes})
    return timed(lambda: [None for _ in grid]) / count


if __name__ == "__main__":
    answer(globals())
