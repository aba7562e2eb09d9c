"""Every code block of README.md and docs/ does what the page says; `docs/contributing.md` tells writers how.

A page is read from top to bottom in an empty folder of its own, by the real interpreter and shell:

- `python` is a script. `# main.py` as its first line names its file; if a `console` block that runs it is next, it is
  only written here.
- `console` are commands after `$ `, each to end with status 0, and what they print, stdout and stderr as they come.
- `text` right after a `python` block is what that prints on stdout.
- `bash` is a shell script, to end with status 0.
- `pycon` are doctests; those of a page are one session, held after all else has run.
- Other languages show something that cannot be run, and `json` has to be JSON.

In expected output `…` stands for any text in a line, alone on a line for any lines. A comment
`<!-- not run here: why -->` before a block takes it out; `<!-- needs optuna -->` does where that cannot be imported.
Each such block is a skipped test that says why.
"""

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

import pyexp.testing

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
RUN = ("python", "console", "bash", "pycon")
SHOWN = ("text", "json", "toml", "")

BLOCK = re.compile(
    r"(?:<!-- (?:not run here: (?P<why>.+?)|needs (?P<module>\w+)) -->\n)?^```(?P<language>\w*)\n(?P<code>.*?)^```$",
    re.M | re.S,
)
LINK = re.compile(r"\[[^\]\n]*\]\((?!https?:)(?P<path>[^)#\s]*)(?:#[^)\s]*)?\)")


@dataclass(frozen=True)
class Block:
    """A fenced block: where it is, its language, what is in it, and why it is not run, if so."""

    place: str
    language: str
    code: str
    why: str | None


def lack(module: str | None) -> str | None:
    """Why a block that needs this module is not run, if so."""
    return None if module is None or find_spec(module) else f"needs {module}: pip install {module}"


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    text = page.read_text()
    name = page.relative_to(ROOT)
    return [
        Block(
            f"{name}:{text.count(chr(10), 0, found.start('code'))}",
            found["language"],
            found["code"],
            found["why"] or lack(found["module"]),
        )
        for found in BLOCK.finditer(text)
    ]


EVERY = [block for page in PAGES for block in blocks(page)]


def environment() -> dict[str, str]:
    """The environment of a user's shell in which `python` is this interpreter."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST", "COV", "PYTHON"))}
    return {**inherited, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{inherited['PATH']}", "COLUMNS": "100"}


def ran(command: list[str], folder: Path, place: str, **options: int) -> str:
    """What a command prints, once it has ended with status 0."""
    captured = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    done = subprocess.run(
        command,
        check=False,
        cwd=folder,
        env=environment(),
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=300,
        **captured,
    )
    assert done.returncode == 0, f"{place}: exit status {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def check_printed(printed: str, expected: str, place: str) -> None:
    """Fail unless the text is the expected one, in which `…` stands for any text."""
    any_lines, any_text = r"(?:.*\n)?", r"[^\n]*"
    pattern = "".join(
        any_lines if line == "…" else re.escape(line).replace("…", any_text) + r"\n" for line in expected.splitlines()
    )
    text = f"{printed.rstrip()}\n" if printed.strip() else ""
    assert re.fullmatch(pattern, text, re.S), f"{place}: printed\n{printed}\nand the page says\n{expected}"


def run_python(block: Block, follower: Block | None, folder: Path) -> None:
    named = re.match(r"# (\w+\.py)\n", block.code)
    script = folder / (named[1] if named else f"block_{block.place.rpartition(':')[2]}.py")
    script.write_text(block.code)
    if named and follower is not None and follower.language == "console" and script.name in follower.code:
        return
    printed = ran([sys.executable, script.name], folder, block.place)
    if follower is not None and follower.language == "text":
        check_printed(printed, follower.code, follower.place)


def run_console(block: Block, folder: Path) -> None:
    assert block.code.startswith("$ "), f"{block.place}: a console block begins with a command: '$ …'"
    for session in re.split(r"^\$ ", block.code, flags=re.M)[1:]:
        command, _, expected = session.partition("\n")
        printed = ran(["bash", "-c", command], folder, block.place, stderr=subprocess.STDOUT)
        if expected:
            check_printed(printed, expected, f"{block.place}: $ {command}")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_block_of_a_page_does_what_the_page_says(page: Path, tmp_path: Path) -> None:
    on_page = blocks(page)
    for block, follower in zip(on_page, [*on_page[1:], None], strict=False):
        if block.why is not None:
            continue
        match block.language:
            case "python":
                run_python(block, follower, tmp_path)
            case "console":
                run_console(block, tmp_path)
            case "bash":
                ran(["bash", "-euo", "pipefail", "-c", block.code], tmp_path, block.place)
            case "json":
                json.loads(block.code)
    session = "\n".join(block.code for block in on_page if block.language == "pycon" and block.why is None)
    if session:
        (tmp_path / "session.txt").write_text(session)
        command = "import doctest, sys; sys.path.insert(0, ''); "
        command += "sys.exit(doctest.testfile('session.txt', False, optionflags=doctest.ELLIPSIS).failed > 0)"
        ran([sys.executable, "-c", command], tmp_path, str(page.relative_to(ROOT)))


@pytest.mark.parametrize("block", [block for block in EVERY if block.why], ids=lambda block: block.place)
def test_a_block_that_is_not_run_says_why(block: Block) -> None:
    pytest.skip(str(block.why))


def test_every_block_has_a_language_that_is_known() -> None:
    assert EVERY
    assert [block.place for block in EVERY if block.language not in (*RUN, *SHOWN)] == []


def test_no_fence_is_left_open() -> None:
    for page in PAGES:
        assert page.read_text().count("\n```") % 2 == 0, page


def test_every_link_leads_to_a_file() -> None:
    wrong = [
        f"{page.relative_to(ROOT)}: {link['path']}"
        for page in PAGES
        for link in LINK.finditer(BLOCK.sub("", page.read_text()))
        if link["path"] and not (page.parent / link["path"]).exists()
    ]
    assert wrong == []


def test_the_readme_has_fewer_than_150_lines() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) < 150


def test_the_page_on_files_names_every_key_of_the_json_files(tmp_path: Path) -> None:
    code = (
        "import pyexp\n\n@pyexp.experiment(executor='inline')\ndef inverse(config):\n    return {'y': 1 / config.x}\n\n"
        "inverse.run(configs=[{'x': 1}, {'x': 0}], argv=[])\n"
    )
    ran([sys.executable, "-c", code], tmp_path, "an experiment")
    page = (ROOT / "docs/reference/disk.md").read_text()
    for name in ("run.json", "record.json"):
        section = page.partition(f"## {name}")[2].partition("\n## ")[0]
        named = {key for row in re.findall(r"^\| (`.+?) \|", section, re.M) for key in re.findall(r"`(\w+)`", row)}
        found = {key for path in tmp_path.rglob(name) for key in json.loads(path.read_text())}
        assert named == found, name


def test_the_page_on_public_names_has_each_of_them_once() -> None:
    entries = re.findall(r"^::: (pyexp[\w.]+)\.(\w+)$", (ROOT / "docs/reference/api.md").read_text(), re.M)
    found = {name: getattr(import_module(module), name) for module, name in entries}
    own = {name: value for name, value in found.items() if name in pyexp.__all__}
    assert sorted(name for _, name in entries if name in own) == sorted({*pyexp.__all__} - {"__version__"})
    assert own == {name: getattr(pyexp, name) for name in own}
    assert {name for name in found if name not in own} <= {*pyexp.testing.__all__}
