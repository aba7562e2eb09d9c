"""A run as one HTML file, which opens from a disk without a network: `page` makes it of Results, `write` saves it.

Only records are read. The table is DataTables', from itables; the charts are Vega-Lite's, from vl-convert. Their code
and the data stand in the file compressed. What comes from a run is text everywhere: in the HTML it is escaped, in the
data it never meets an HTML parser, and the page's policy lets no script run but its own, nor anything be fetched.
"""

import errno
import json
import os
import time
import zlib
from base64 import b64encode
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from hashlib import sha256
from html import escape
from importlib import import_module
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import quote

from pyexp import tables
from pyexp.errors import ExtraError, ResultError
from pyexp.look import charts
from pyexp.look.folding import groups
from pyexp.results import Record, cells_in_words, clipped, place, records_of, spelled
from pyexp.store import files, history, layout
from pyexp.store.layout import LOG, RUN, Run
from pyexp.tables import Results

#: What a run's page is called, in the run's folder.
PAGE = "report.html"

#: Cells of one group of failures that are named with a link; the table has them all.
MOST_LINKS = 20
#: Characters of a value in the table.
LONGEST = 1000

_HERE = Path(__file__).parent


def require() -> None:
    """Raise `ExtraError` (an ImportError) if a library is missing that pages and plots need."""
    for name in ("itables", "vl_convert"):
        try:
            import_module(name)
        except ImportError as error:
            raise ExtraError(
                f"a page or a plot needs {name}: pip install itables vl-convert-python ({error})"
            ) from None


def write(results: Results, path: str | os.PathLike[str] | None = None) -> str:
    """Write the page of these results to a file, and return its absolute path.

    Without a path it is `report.html` in the folder of their run. Raises `ResultError` if they are from several runs,
    `ExtraError` without itables or vl-convert, and OSError if the file cannot be written.
    """
    require()
    folder = run_folder(results)
    if path is None and folder is None:
        raise ResultError("the results are not all from one run, so there is no folder for their page; give a path")
    whole = layout.absolute(os.path.join(folder or "", PAGE) if path is None else path)
    if not os.path.isdir(os.path.dirname(whole)):
        raise FileNotFoundError(errno.ENOENT, "there is no folder for the page", os.path.dirname(whole))
    files.write(whole, [page(results, folder, os.path.dirname(whole)).encode("utf-8", "replace")], durable=False)
    return whole


def run_folder(results: Results) -> str | None:
    """The folder of the run that all results are from; None if they are from several runs."""
    folders = {os.path.dirname(out) for out in (result.out for result in results) if out is not None}
    folder = folders.pop() if len(folders) == 1 else None
    return folder if folder and os.path.exists(os.path.join(folder, RUN)) else None


def page(results: Results, folder: str | None, base: str) -> str:
    """The text of the page, with links from the folder `base`."""
    rows = results.to_records()
    name, run = (Path(folder).parent.name, Path(folder).name) if folder else ("results", "")
    style, script, frame = ((_HERE / f"page.{end}").read_text() for end in ("css", "js", "html"))
    data = json.dumps(content(results, rows, base), allow_nan=False, separators=(",", ":"))
    blobs = {"data": data, "datatables": _datatables(".js"), "datatables-style": _datatables(".css")}
    return Template(frame).substitute(
        policy=policy(script),
        title=escape(f"{name} · {run}" if run else name),
        style=style,
        name=escape(name),
        run=escape(run),
        counts=escape(tables.counts([record.status for record in records_of(results)])),
        identity=identity(history.history(Run(folder)).commands if folder else ()),
        failures=failures(results, base),
        columns="".join(f"<th>{escape(column)}</th>" for column in (rows[0] if rows else ())),
        blobs="\n".join([*(blob(key, text) for key, text in blobs.items()), _vega()]),
        script=script,
    )


def policy(script: str) -> str:
    """What the page lets a browser do: run this script and what it unpacks, draw, and fetch nothing."""
    digest = b64encode(sha256(script.encode()).digest()).decode()
    # Vega compiles its expressions, and Vega and DataTables set styles.
    return (
        f"default-src 'none'; script-src 'sha256-{digest}' 'unsafe-eval' blob:; style-src 'unsafe-inline'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )


def blob(name: str, text: str) -> str:
    """An element that holds a text compressed, in characters that mean nothing to HTML."""
    packed = b64encode(zlib.compress(text.encode("utf-8", "replace"), 9)).decode()
    return f'<script type="text/plain" id="{name}">{packed}</script>'


@cache  # it takes a second to make
def _vega() -> str:
    return blob("vega", import_module("vl_convert").javascript_bundle())


def _datatables(end: str) -> str:
    options = import_module("itables.options")
    return Path(options.dt_bundle).with_suffix(end).read_text("utf-8")


def content(results: Results, rows: Sequence[Mapping[str, Any]], base: str) -> dict[str, Any]:
    """The data for the page's script: the columns of the table, the charts, and a link to each cell's files."""
    axes = tables.coord_labels(results)
    outputs = tables.output_labels(results)
    columns = [column(key, [row[key] for row in rows]) for key in (rows[0] if rows else ())]
    known = {*tables.FIRST, *axes, *outputs, *tables.LAST}
    for each in columns:
        # Hide a column that is the same in all cells or repeats the names, and a key that is an axis.
        name, values = each["name"], each["values"]
        is_same = len(rows) > 1 and len(set(values)) == 1 and name not in (*tables.FIRST, *outputs, "status")
        is_name = name not in tables.FIRST and values == columns[0]["values"]
        each["hidden"] = is_same or is_name or (name not in known and name.removeprefix("config.") in axes)
    drawn = charts.charts(rows, axes, outputs)
    return {
        "columns": columns,
        "links": [
            # A cell that is done has a folder. Any other may have none.
            _link(out, base) if out is not None and (not record.failed or os.path.isdir(out)) else ""
            for out, record in zip((result.out for result in results), records_of(results), strict=True)
        ],
        "charts": [{"spec": each.spec, "note": each.note} for each in drawn[: charts.MOST]],
        "left": len(drawn) - len(drawn[: charts.MOST]),
        "parallel": charts.parallel(rows, axes, outputs),
    }


def column(name: str, values: Iterable[Any]) -> dict[str, Any]:
    """A column of the table: its values as text, `""` where there is none, and whether they are numbers."""
    known = list(values)
    kinds = {type(value) for value in known if value is not None}
    texts = ["" if value is None else spelled(value) for value in known]
    texts = [text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…" for text in texts]
    return {"name": name, "is_number": bool(kinds) and kinds <= {int, float}, "values": texts}


def _link(out: Any, base: str) -> str:
    """The address of a cell's folder, from the folder of the page."""
    try:
        return quote(os.path.relpath(out, base).replace(os.sep, "/")) + "/"
    except ValueError:  # on another drive
        return Path(out).as_uri() + "/"


def failures(results: Results, base: str) -> str:
    """The failures by type and place, the most frequent first: a count, a traceback, and the cells with their logs."""
    records = records_of(results)
    outs = {id(record): result.out for record, result in zip(records, results, strict=True)}
    parts: list[str] = []
    for kind in groups(records):
        first, where = kind[0], place(kind[0].traceback)
        head = f"<b>{escape(first.type)}</b> {f'in <code>{escape(where)}</code>' if where else ''}"
        links = [_failed_cell(record, outs[id(record)], base) for record in kind[:MOST_LINKS]]
        more = f", and {len(kind) - MOST_LINKS} more in the table" if len(kind) > MOST_LINKS else ""
        cells, told = f"<p>{', '.join(links)}{more}</p>", ""
        if len({record.message for record in kind}) > 1:
            each = zip(links, kind, strict=False)
            rows = "".join(f"<li>{link}: {escape(clipped(record.message))}</li>" for link, record in each)
            cells, told = f"<ul>{rows}</ul>{f'<p>{more[2:]}</p>' if more else ''}", "first: "
        parts.append(
            f"<details class='failure' {'open' if not parts else ''}><summary>{len(kind)} × {head}: "
            f"{told}{escape(clipped(first.message))}</summary>{cells}"
            f"<pre>{escape(first.traceback or first.message)}</pre></details>"
        )
    missing = Counter(record.message or record.type for record in records if not record.has_run)
    if missing:
        common = missing.most_common(10)
        told = "".join(f"<li>{cells_in_words(number)}: {escape(clipped(why))}</li>" for why, number in common)
        parts.append(f"<h3>No result yet</h3><ul>{told}</ul>")
    return f'<section id="failures"><h2>Failures</h2>{"".join(parts)}</section>' if parts else ""


def _failed_cell(record: Record, out: Any, base: str) -> str:
    name = escape(record.name or record.hash)
    if out is None or not os.path.exists(os.path.join(out, LOG)):
        return name
    return f'<a href="{escape(_link(out, base) + LOG)}">{name}</a>'


def identity(commands: Sequence[Mapping[str, Any]]) -> str:
    """What ran: the latest command, its code, host and times; the earlier ones in a line each."""
    if not commands:
        return ""
    *earlier, latest = commands
    told = "".join(f"<dt>{key}</dt><dd>{escape(value)}</dd>" for key, value in about(latest))
    before = "".join(f"<li><code>{escape(str(one.get('command')))}</code> {escape(_when(one))}</li>" for one in earlier)
    more = f"<details><summary>{len(earlier)} earlier</summary><ol>{before}</ol></details>" if before else ""
    return f'<dl id="identity">{told}</dl>{more}'


def about(command: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What is known of a command, as pairs of texts. A damaged part is left out, or shown as it is."""
    git = command.get("git")
    git = git if isinstance(git, dict) else {}
    yield "command", str(command.get("command", "unknown"))
    if git.get("commit"):
        patch = f", with the changes in {command['patch']}" if command.get("patch") else ""
        yield "code", f"{git['commit']} ({git.get('state')}{patch})"
    yield "ran", _when(command)
    yield "host", f"{command.get('host')}, process {command.get('process')}"
    yield "python", f"{command.get('python')}, pyexp {command.get('pyexp')}"
    libraries = command.get("libraries")
    if isinstance(libraries, dict) and libraries:
        yield "libraries", ", ".join(f"{name} {version}" for name, version in libraries.items())


def _when(command: Mapping[str, Any]) -> str:
    started: Any = command.get("started")
    ended = command.get("ended")
    try:
        begun = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(0 + started))  # None would be now
        if not isinstance(ended, (int, float)):
            return f"{begun}, not ended when this page was made"
        return f"{begun}, for {history.age(ended - started)}, {command.get('status')}"
    except (TypeError, ValueError, OverflowError, OSError):
        return f"{started} to {ended}"
