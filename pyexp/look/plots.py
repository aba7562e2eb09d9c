"""One chart of a run's page as a picture: `write` puts it into the run's folder."""

import json
import os
from collections.abc import Sequence
from importlib import import_module

from pyexp import tables
from pyexp.errors import ResultError, UsageError, listing, nearest
from pyexp.look import charts
from pyexp.look.page import require, run_folder
from pyexp.plan import folder_name
from pyexp.store import files
from pyexp.tables import Results


def write(results: Results, wanted: str) -> str:
    """Write the chart that is `wanted` (`OUTPUT`, `OUTPUT:AXIS` or `OUTPUT:AXIS,AXIS`) as PNG; return its path.

    Raises `UsageError` for an output or axis that is not there, `ResultError` if the results are not all from one run,
    `ExtraError` without vl-convert, OSError if the file cannot be written.
    """
    require()
    folder = run_folder(results)
    if folder is None:
        raise ResultError("the results are not all from one run, so there is no folder for their plot")
    rows, axes = results.to_records(), tables.coord_labels(results)
    outputs = charts.numeric(rows, tables.output_labels(results)) if rows else []
    known = charts.dimensions(rows, axes)
    output, of = asked(wanted, outputs, known)
    made = charts.chart(rows, output, of, known)
    path = os.path.join(folder, f"{folder_name('-'.join(['plot', output, *(each.name for each in of)]))}.png")
    spec = {"width": 400, "height": 300, "background": "white", **made.spec}
    files.write(path, [import_module("vl_convert").vegalite_to_png(json.dumps(spec), scale=2)], durable=False)
    return path


def asked(wanted: str, outputs: Sequence[str], known: Sequence[charts.Dimension]) -> tuple[str, list[charts.Dimension]]:
    """The output that is wanted, and the one or two axes: those named, or the first that do not repeat the experiment.

    Raises `UsageError` for what is not there.
    """
    output, _, rest = (wanted, "", "") if wanted in outputs or ":" not in wanted else wanted.rpartition(":")
    if output not in outputs:
        raise UsageError(
            f"--plot is {wanted!r}, and no output that is a number is called {output!r}; {nearest(output, outputs)}"
        )
    if not known:
        raise UsageError(f"--plot is {wanted!r}, and there is no axis to draw it over: a plot needs two cells or more")
    drawn = [each for each in known if not each.repeats] or list(known)
    names = rest.split(",") if rest else [each.name for each in drawn[:2]]
    by_name = {each.name: each for each in known}
    for name in names:
        if name not in by_name:
            raise UsageError(f"--plot is {wanted!r}, and no axis is called {name!r}; {nearest(name, by_name)}")
    if not 1 <= len(dict.fromkeys(names)) == len(names) <= 2:
        raise UsageError(f"--plot is {wanted!r}; it takes one or two axes of {listing(by_name)}")
    return output, [by_name[name] for name in names]
