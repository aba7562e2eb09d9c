"""A run as one HTML file, which opens from a disk without a network: `page` makes it of Results, `write` puts it down.

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
from typing import Any
from urllib.parse import quote

from pyexp import tables
from pyexp.errors import ExtraError, ResultError
from pyexp.look import charts
from pyexp.results import Record, cells_in_words, clipped, place, records_of
from pyexp.store import files, history
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
    """Raise `ExtraError` (an ImportError) if a library is missing that a page and a plot are made with."""
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
    whole = os.path.abspath(os.path.expanduser(os.path.join(folder or "", PAGE) if path is None else path))
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
    records = records_of(results)
    told = history.history(Run(folder)) if folder else history.History((), ())
    name = Path(folder).parent.name if folder else "results"
    title = f"{name} · {Path(folder).name}" if folder else name
    rows = results.to_records()
    script = (_HERE / "page.js").read_text()
    data = json.dumps(content(results, rows, base), allow_nan=False, separators=(",", ":"))
    columns = list(rows[0]) if rows else []
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy(script)}">
<title>{escape(title)}</title>
<style>{(_HERE / "page.css").read_text()}</style>
</head>
<body>
<header>
<h1>{escape(name)}</h1>
<p>{escape(Path(folder).name if folder else "")}</p>
<p id="counts">{escape(tables.counts([record.status for record in records]))}</p>
{identity(told.commands)}
</header>
<noscript><p>The table and the charts need JavaScript.</p></noscript>
<p id="broken" hidden></p>
{failures(results, base)}
<section id="cells">
<h2>Cells</h2>
<div class="tools">
<input id="search" type="search" placeholder="search all columns" aria-label="search all columns">
<details id="columns"><summary>columns</summary><div></div></details>
<span class="hint">below a column's title: a text, or a comparison such as <code>&gt;0.9</code>, <code>&lt;=3</code>,
<code>=adam</code></span>
</div>
<table id="table"><thead><tr>{"".join(f"<th>{escape(column)}</th>" for column in columns)}</tr></thead></table>
</section>
<section id="parallel" hidden>
<h2>Parallel coordinates</h2>
<p class="hint"></p>
<div class="chart"></div>
</section>
<section id="charts" hidden>
<h2>Outputs</h2>
<p class="hint"></p>
<div class="charts"></div>
</section>
{blob("data", data)}
{blob("datatables", _datatables())}
{blob("datatables-style", _datatables(".css"))}
{_vega()}
<script type="module">{script}</script>
</body>
</html>
"""


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


def _datatables(end: str = ".js") -> str:
    options = import_module("itables.options")
    return Path(options.dt_bundle).with_suffix(end).read_text("utf-8")


def content(results: Results, rows: Sequence[Mapping[str, Any]], base: str) -> dict[str, Any]:
    """What the page's script shows: the columns of the table, its charts, and where each cell's files are."""
    axes = tables.coord_labels(results)
    outputs = tables.output_labels(results)
    columns = [column(key, [row[key] for row in rows]) for key in (rows[0] if rows else ())]
    known = {*tables.FIRST, *axes, *outputs, *tables.LAST}
    for each in columns:
        # What is the same in all cells, or only repeats the names, is not worth a column; nor is a key that is an axis.
        name, values = each["name"], each["values"]
        is_same = len(rows) > 1 and len(set(values)) == 1 and name not in (*tables.FIRST, *outputs, "status")
        is_name = name not in tables.FIRST and values == columns[0]["values"]
        each["hidden"] = is_same or is_name or (name not in known and name.removeprefix("config.") in axes)
    drawn = charts.charts(rows, axes, outputs)
    return {
        "columns": columns,
        "links": [
            # What has ended has a folder; whether other cells have one is worth a look.
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
    texts = ["" if value is None else clipped_whole(charts.text_of(value)) for value in known]
    return {"name": name, "is_number": bool(kinds) and kinds <= {int, float}, "values": texts}


def clipped_whole(text: str) -> str:
    """The text, cut off where it is very long; its lines are kept."""
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def _link(out: Any, base: str) -> str:
    """The address of a cell's folder, from the folder of the page; `""` if it has none."""
    if out is None:
        return ""
    try:
        return quote(os.path.relpath(out, base).replace(os.sep, "/")) + "/"
    except ValueError:  # on another drive
        return Path(out).as_uri() + "/"


def failures(results: Results, base: str) -> str:
    """The failures by type and place, the most frequent first: a count, a traceback, and the cells with their logs."""
    groups: dict[tuple[str, str], list[tuple[Record, Any]]] = {}
    missing: Counter[str] = Counter()
    for result, record in zip(results, records_of(results), strict=True):
        if record.status == "failed":
            groups.setdefault((record.type, place(record.traceback)), []).append((record, result.out))
        elif record.failed:
            missing[record.message or record.type] += 1
    parts: list[str] = []
    for (kind, where), found in sorted(groups.items(), key=lambda item: -len(item[1])):
        first = found[0][0]
        head = f"<b>{escape(kind)}</b> {f'in <code>{escape(where)}</code>' if where else ''}"
        links = [_failed_cell(record, out, base) for record, out in found[:MOST_LINKS]]
        more = f", and {len(found) - MOST_LINKS} more in the table" if len(found) > MOST_LINKS else ""
        cells, told = f"<p>{', '.join(links)}{more}</p>", ""
        if len({record.message for record, _ in found}) > 1:
            each = zip(links, found, strict=False)
            rows = "".join(f"<li>{link}: {escape(clipped(record.message))}</li>" for link, (record, _) in each)
            cells, told = f"<ul>{rows}</ul>{f'<p>{more[2:]}</p>' if more else ''}", "first: "
        parts.append(
            f"<details class='failure' {'open' if not parts else ''}><summary>{len(found)} × {head}: "
            f"{told}{escape(clipped(first.message))}</summary>{cells}"
            f"<pre>{escape(first.traceback or first.message)}</pre></details>"
        )
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
    """What is known of a command, as pairs of texts. Whatever part of it is damaged is left out or shown as it is."""
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
    started, ended = command.get("started"), command.get("ended")
    try:
        begun = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(started))
        if not isinstance(ended, (int, float)):
            return f"{begun}, not ended when this page was made"
        return f"{begun}, for {history.age(ended - (started or 0))}, {command.get('status')}"
    except (TypeError, ValueError, OverflowError, OSError):
        return f"{started} to {ended}"
