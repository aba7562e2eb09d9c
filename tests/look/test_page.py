"""The page of a run, in a real browser without a network: what is in it, what clicks do, and that all stays text."""

import json
import os
import re
import subprocess
import zlib
from base64 import b64decode
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import browser
import pytest
from browser import Tab
from hypothesis import given, settings
from hypothesis import strategies as st

import pyexp
from pyexp import Experiment, ExtraError, Result, ResultError, Results, replicate, sweep
from pyexp.configs import frozen_map
from pyexp.look import page
from pyexp.results import record_of
from pyexp.testing.strategies import names as names_of_configs
from tests.cli.scripts import go, write

pytest.importorskip("itables", reason="needs the extra [html]")
pytest.importorskip("vl_convert", reason="needs the extra [html]")

in_chromium = pytest.mark.skipif(
    browser.executable() is None, reason="there is no Chromium: apt-get install chromium, or set PYEXP_CHROMIUM"
)

#: Names that are markup, and would set `stung` if any of it were taken for that.
HOSTILE = [
    "</script><img src=x onerror=stung=1>",
    "<svg/onload=stung=1>&amp;&lt;",
    "\"'><script>stung=1</script>",
    "&lt;img src=x onerror=stung=1&gt;",
    "${stung=1}{{stung=1}}datum.x]]>",
    "<!-- '\\\"\n\u2028\0",
    "javascript:stung=1",
]


class Parsed(HTMLParser):
    """The tags and the visible text of a page, and the scripts in it by their id."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: dict[str, str] = {}
        self.words = ""
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = dict(attrs).get("id") or "" if tag == "script" else tag

    def handle_data(self, data: str) -> None:
        if self.lasttag == "script":
            self.scripts[self._inside] = self.scripts.get(self._inside, "") + data
        else:
            self.words += data


def content(path: Path) -> Any:
    """The data that a page holds."""
    return json.loads(zlib.decompress(b64decode(Parsed(path.read_text()).scripts["data"])))


def work(config: Any) -> dict[str, Any]:
    if config.get("lr") == 1.0:
        raise ValueError(f"diverged at {config.name}")
    return {"accuracy": config.lr + config.seed % 7, "steps": 10**18 + 1, "ok": config.lr > 0.05}


def ran(folder: Path, configs: Any, fn: Any = work, **options: Any) -> Results:
    made: Results = Experiment(
        fn, output_dir=folder, executor="inline", quiet=True, durable=False, name="page", **options
    ).run(configs, argv=[], report=lambda results: results)
    return made


def study(replicates: int = 3) -> Any:
    lrs = [{"name": f"lr{lr}", "lr": lr} for lr in (0.01, 0.1, 1.0)]
    widths = [{"name": f"w{width}", "width": width} for width in (8, 16)]
    return replicate(sweep(sweep([{"name": "exp"}], lrs), widths), replicates, seed=0)


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("profile")


@pytest.fixture
def tab(profile: Path) -> Iterator[Tab]:
    with browser.tab(profile) as made:
        yield made


READY = "location.protocol === 'file:' && document.body?.classList.contains('ready')"


def opened(tab: Tab, path: str) -> None:
    tab.open(Path(path))
    tab.until(READY)


def names(tab: Tab) -> list[str]:
    """The first column of the rows that are shown."""
    return list(
        tab.run("[...document.querySelectorAll('#table tbody tr td:first-child')].map(cell => cell.textContent)")
    )


def scrolled_through(tab: Tab) -> None:
    """Have every chart drawn."""
    tab.run("document.querySelector('#parallel').scrollIntoView()")
    tab.until("document.querySelector('#parallel').hidden || document.querySelector('#parallel.drawn')")
    for number in range(tab.run("document.querySelectorAll('figure').length")):
        tab.run(f"document.querySelectorAll('figure')[{number}].scrollIntoView()")
        tab.until(f"document.querySelectorAll('figure')[{number}].classList.contains('drawn')")


def check_silent(tab: Tab) -> None:
    """Fail if the page has complained, or asked for anything that is not in it."""
    assert tab.said == []
    assert [address for address in tab.asked if not address.startswith(("file:", "blob:", "data:"))] == []
    assert sum(address.startswith("file:") for address in tab.asked) == 1
    assert tab.run("document.querySelector('#broken').hidden && typeof stung === 'undefined'")


@in_chromium
def test_a_page_sorts_filters_and_draws_without_a_network(tab: Tab, tmp_path: Path) -> None:
    results = ran(tmp_path / "out", study())
    opened(tab, results.to_html())
    assert names(tab)[0] == "exp_lr0.01_w8_seed0"
    tab.picture(tmp_path / "page.png")

    accuracy = tab.run(
        "[...document.querySelectorAll('th input')].findIndex(each => each.dataset.column === 'accuracy')"
    )
    tab.run(f"document.querySelectorAll('thead th')[{accuracy}].id = 'sorted'")
    tab.click("#sorted .dt-column-title")
    least = min(results["exp_lr0.*"], key=lambda result: result["accuracy"]).name
    tab.until(f"document.querySelector('#table tbody td').textContent === {json.dumps(least)}")
    assert "lr1.0" in names(tab)[-1] or len(names(tab)) < 18  # what is missing comes last

    tab.type("input[data-column='seed'][type=search]", "=2")
    tab.until("document.querySelectorAll('#table tbody tr').length === 6")
    assert all(name.endswith("seed2") for name in names(tab))
    tab.type("input[data-column='accuracy'][type=search]", ">0")
    tab.until("document.querySelectorAll('#table tbody tr').length === 4")
    tab.type("#search", "w16")
    tab.until("document.querySelectorAll('#table tbody tr').length === 2")

    tab.click("#columns summary")
    assert tab.run("document.querySelector('#table').textContent.includes('done')")
    tab.click("input[data-column='status'][type=checkbox]")
    tab.until("!document.querySelector('#table').textContent.includes('done')")

    scrolled_through(tab)
    tab.until("document.querySelector('#parallel .hint').textContent.startsWith('2 of 2 cells')")
    check_silent(tab)


@in_chromium
def test_names_that_are_markup_stay_text_everywhere(tab: Tab, tmp_path: Path) -> None:
    configs = [
        {"name": f"{name}{place}", "seed": place, "lr": name, name.replace(".", "") or "x": place, "width": place}
        for place, name in enumerate(HOSTILE * 2)
    ]

    def fails(config: Any) -> dict[str, Any]:
        if config.width % 2:
            raise ValueError(f"<img src=x onerror=stung=1>{config.name}")
        return dict.fromkeys(HOSTILE, config.width * 1.5) | {"text": HOSTILE[config.width % 7], "accuracy": 0.5}

    results = ran(tmp_path / "out", configs, fails)
    path = results.to_html()
    parsed = Parsed(Path(path).read_text())
    assert {tag for tag, _ in parsed.tags} <= TAGS
    assert not any(key.startswith("on") for _, attributes in parsed.tags for key in attributes)
    opened(tab, path)
    shown = names(tab)
    assert any(HOSTILE[0] in name for name in shown)
    tab.type("#search", "<svg/onload=stung=1>&amp;")
    tab.until("document.querySelectorAll('#table tbody tr').length === 2")
    tab.type("#search", "")
    tab.click("#columns summary")
    assert tab.run("document.querySelector('#columns').textContent").count(HOSTILE[0]) >= 1
    tab.run("document.querySelectorAll('#columns input').forEach(each => each.checked || each.click())")
    scrolled_through(tab)
    for selector in ("figure canvas", "figure:last-child canvas"):  # the tooltips
        x, y = tab.point(selector)
        for step in range(-120, 121, 8):
            tab.move(x + step, y + step / 3)
    assert (
        tab.run("document.querySelectorAll('img, svg, script[src], body script:not([id]):not([type=module])').length")
        == 0
    )
    check_silent(tab)


@in_chromium
def test_of_many_cells_few_are_in_the_document_and_all_are_found(tab: Tab, tmp_path: Path) -> None:
    results = ran(tmp_path / "out", study(300))
    opened(tab, results.to_html())
    assert tab.run("document.querySelectorAll('#table tbody tr').length") < 200
    tab.type("#search", "lr0.1_w16_seed299")
    tab.until("document.querySelectorAll('#table tbody tr').length === 1")
    check_silent(tab)


def test_a_page_tells_what_ran_and_what_failed(tmp_path: Path) -> None:
    results = ran(tmp_path / "out", study())
    path = Path(results.to_html())
    assert path == Path(results[0].out).parent / "report.html"
    parsed = Parsed(path.read_text())
    assert "18 cells: 12 done, 6 failed" in parsed.words
    assert re.search(
        r"6 × ValueError in test_page\.py:\d+ in work: first: diverged at exp_lr1\.0_w8_seed0", parsed.words
    )
    for seed in range(3):  # each with its own message
        assert f"exp_lr1.0_w8_seed{seed}: diverged at exp_lr1.0_w8_seed{seed}" in parsed.words
    assert "Traceback (most recent call last)" in parsed.words
    links = [attributes["href"] for tag, attributes in parsed.tags if tag == "a"]
    assert len(links) == 6
    assert all((path.parent / str(link)).is_file() for link in links)
    command = json.loads((path.parent / "run.json").read_text())["commands"][-1]
    assert command["host"] in parsed.words
    assert command["python"] in parsed.words


def test_the_data_of_a_page_are_those_of_the_records(tmp_path: Path) -> None:
    results = ran(tmp_path / "out", study())
    data = content(Path(results.to_html()))
    rows = results.to_records()
    assert [each["name"] for each in data["columns"]] == list(rows[0])
    for each in data["columns"]:
        assert each["values"] == ["" if row[each["name"]] is None else str(row[each["name"]]) for row in rows]
    assert [each["name"] for each in data["columns"] if each["hidden"]] == [
        "axis_0", "config.lr", "config.seed", "config.width"
    ]  # fmt: skip
    assert {chart["spec"]["title"]["text"] for chart in data["charts"]} == {"accuracy", "steps", "ok"}


def test_a_page_of_an_unfinished_run_and_of_a_selection_and_of_means(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    ran(folder, study(), select="*_w8_*", timestamp="t")
    whole = Experiment(work, output_dir=folder, executor="inline", quiet=True, name="page").results("t", study())
    parsed = Parsed(Path(whole.to_html()).read_text())
    assert "18 cells: 6 done, 9 new, 3 failed" in parsed.words or "9 new" in parsed.words
    assert "No result yet" in parsed.words
    selected = content(Path(pyexp.load(folder / "page")[:4].to_html(tmp_path / "some.html")))
    assert len(selected["columns"][0]["values"]) == 4
    assert all((tmp_path / link).is_dir() for link in selected["links"])
    means = whole["*lr0.01_w8*"].mean()
    with pytest.raises(ResultError, match="give a path"):
        means.to_html()
    assert content(Path(means.to_html(tmp_path / "means.html")))["links"] == [""]
    empty = content(Path(Results([]).to_html(tmp_path / "empty.html")))
    assert empty["columns"] == empty["charts"] == []


def test_a_page_is_small(tmp_path: Path) -> None:
    """Of 10^4 cells with 8 columns it takes at most 3 MB."""
    results = ran(tmp_path / "out", study(5))
    many = Results(list(results) * 334)
    assert os.path.getsize(many.to_html(tmp_path / "many.html")) < 3_000_000
    with pytest.raises(FileNotFoundError, match=f"there is no folder for the page: '{tmp_path}/no'"):
        results.to_html(tmp_path / "no" / "few.html")


def test_without_its_libraries_a_page_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(__import__("sys").modules, "vl_convert", None)
    with pytest.raises(ExtraError, match=r"a page or a plot needs vl_convert: pip install itables vl-convert-python"):
        Results([]).to_html(tmp_path / "page.html")


def damage() -> st.SearchStrategy[Any]:
    """What may stand in a file that somebody has changed: any JSON."""
    scalars = st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5)
    return st.recursive(
        scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner)
    )


ODD = st.one_of(st.sampled_from(HOSTILE), st.text(max_size=8), names_of_configs())
TAGS = {"html", "head", "meta", "title", "style", "body", "header", "h1", "h2", "h3", "p", "dl", "dt", "dd", "ul", "li",
        "noscript", "section", "details", "summary", "b", "code", "a", "pre", "div", "input", "span", "table", "thead",
        "tr", "th", "script"}  # fmt: skip


@settings(max_examples=15)
@given(st.lists(st.tuples(ODD, ODD, ODD, st.booleans()), min_size=1, max_size=6))
def test_whatever_names_there_are_the_page_has_its_own_tags_and_all_of_the_names(
    drawn: list[tuple[str, str, str, bool]],
) -> None:
    def result(name: str, key: str, value: str, failed: bool) -> Result:
        outcome = {"status": "failed", "type": value, "message": key, "traceback": value} if failed else {
            "status": "done", "outputs": {key: value}, "kinds": {key: "str"}}  # fmt: skip
        record = record_of(name, frozen_map({"name": name, f"k{key}": value}), "0" * 12, outcome)
        return Result(record, None, dict)

    results = Results([result(*each) for each in drawn])
    parsed = Parsed(page.page(results, None, "/"))
    assert {tag for tag, _ in parsed.tags} <= TAGS
    assert not any(key.startswith("on") for _, attributes in parsed.tags for key in attributes)
    data = json.loads(zlib.decompress(b64decode(parsed.scripts["data"])))
    assert data["columns"][0]["values"] == [name for name, *_ in drawn]
    shown = results._repr_html_()
    assert {tag for tag, _ in Parsed(shown).tags} <= {"div", "p", "table", "thead", "tr", "th", "tbody", "td"}


def test_the_command_line_writes_the_page_and_prints_its_path(tmp_path: Path) -> None:
    write(tmp_path)
    done = go(tmp_path, "--html", "-q")
    path = done.stdout.splitlines()[-1].removeprefix("page: ")
    assert Path(path).name == "report.html"
    assert Path(path).is_file()
    assert done.stdout.startswith("name"), "the report is printed too"
    os.unlink(path)
    again = go(tmp_path, "--report", "--html", "-q")
    assert again.stdout.splitlines()[-1] == f"page: {path}"
    assert go(tmp_path, "--html", "--dry-run").returncode == 2
    os.unlink(path)
    os.mkdir(path)  # it cannot be written there
    full = go(tmp_path, "--report", "--html", "-q")
    assert full.returncode == 0
    assert "warning: the page could not be written" in full.stderr
    assert full.stdout.startswith("name")


def test_a_page_that_cannot_be_made_is_refused_before_anything_runs(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "itables.py").write_text("raise ImportError('no such library')")
    done = go(tmp_path, "--html")
    assert done.returncode == 2
    assert (
        done.stderr
        == "error: a page or a plot needs itables: pip install itables vl-convert-python (no such library)\n"
    )
    assert not (tmp_path / "ran.txt").exists()


def test_a_run_without_a_page_pays_nothing_for_it(tmp_path: Path) -> None:
    write(tmp_path)
    loaded = ["itables", "vl_convert", "pyexp.look.page", "pyexp.look.charts", "html"]
    with open(tmp_path / "main.py", "a") as script:
        script.write(f"    import sys; print([name for name in {loaded} if name in sys.modules])\n")
    assert go(tmp_path, "-q").stdout.splitlines()[-1] == "[]"


def test_a_page_tells_of_the_code_and_of_earlier_commands(tmp_path: Path) -> None:
    write(tmp_path)
    for words in (
        ["init", "-q"],
        ["add", "main.py"],
        ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "a"],
    ):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    with open(tmp_path / "main.py", "a") as script:
        script.write("# changed\n")
    assert go(tmp_path, "--timestamp", "t", "-q").returncode == 0
    path = go(tmp_path, "--timestamp", "t", "--html", "-q", "--lf").stdout.splitlines()[-1].removeprefix("page: ")
    words = Parsed(Path(path).read_text()).words
    assert "(dirty, with the changes in changes.patch)" in words
    assert "1 earlier" in words
    assert "main.py --timestamp t -q" in words


COMMAND = ["command", "git", "started", "ended", "status", "libraries", "host", "patch"]


@given(st.dictionaries(st.sampled_from(COMMAND), damage()))
def test_a_damaged_description_of_a_command_is_told_as_far_as_it_goes(command: dict[str, Any]) -> None:
    text = page.identity([command, command])
    assert {tag for tag, _ in Parsed(text).tags} <= TAGS | {"ol"}
    assert all(isinstance(value, str) for _, value in page.about(command))


def test_a_run_that_has_not_ended_says_so() -> None:
    assert dict(page.about({"ended": 90.0}))["ran"] == "None to 90.0"  # and not now, for as long as there were dates
    assert "not ended when this page was made" in dict(page.about({"started": 0.0, "ended": None}))["ran"]
    assert dict(page.about({"started": 0.0, "ended": 90.0, "status": "finished"}))["ran"].endswith(
        "for 1 min, finished"
    )
