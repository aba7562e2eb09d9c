"""What the site needs beside the docs: a first page, an order, files outside `docs/` that pages link to, doctests."""

import os
import re
from pathlib import Path

from griffe import Extension
from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)(?P<path>[^)#\s]+)")
DOCTEST = re.compile(r"^>>> .*(?:\n(?!\s*$).*)*", re.M)


#: The sections, in their order, each with the folder of its pages or its only page.
SECTIONS = {
    "Home": "index.md",
    "Tutorial": "tutorial.md",
    "How to": "how-to",
    "Reference": "reference",
    "Explanation": "explanation",
    "Decisions": "decisions",
    "Changelog": "changelog.md",
    "Contributing": "contributing.md",
}


def on_config(config):
    """Put every page into the navigation, those of a folder in the order of their titles."""
    config["nav"] = [
        {name: place if place.endswith(".md") else [f"{place}/index.md"] * (name == "Decisions") + _pages(place)}
        for name, place in SECTIONS.items()
    ]
    return config


def _pages(folder):
    found = sorted(
        (ROOT / "docs" / folder).glob("*.md"), key=lambda page: page.name if folder == "decisions" else _title(page)
    )
    return [f"{folder}/{page.name}" for page in found]


def _title(page):
    return page.read_text().partition("\n")[0].removeprefix("# ")


def on_files(files, config):
    """Add the README as the first page, a list of the decisions, and each file outside `docs/` that a page links to."""
    files.append(File.generated(config, "index.md", content=(ROOT / "README.md").read_text()))
    decisions = [ROOT / "docs" / page for page in _pages("decisions")]
    listed = "\n".join(f"- [{_title(page)}]({page.name})" for page in decisions)
    files.append(File.generated(config, "decisions/index.md", content=f"# Decisions\n\n{listed}\n"))
    linked = {path for file in files.documentation_pages() for path in _linked(file)}
    for path in sorted(linked):
        files.append(_published(config, path))
    return files


def on_page_markdown(markdown, page, config, files):
    """Lead each link to the page of what it names."""
    folder = os.path.dirname(page.file.src_uri)
    return LINK.sub(lambda found: os.path.relpath(_uri(_target(page.file, found["path"])), folder or "."), markdown)


def _linked(file):
    """What a page links to outside `docs/`."""
    found = (_target(file, each["path"]) for each in LINK.finditer(file.content_string))
    return {path for path in found if path.exists() and _uri(path).startswith("files/")}


def _target(file, path):
    """The file or folder of the repository that a link of a page leads to."""
    own = ROOT / "README.md" if file.src_uri == "index.md" else ROOT / "docs" / file.src_uri
    return Path(os.path.normpath(own.parent / path))


def _uri(path):
    """Where the site has a file or folder of the repository."""
    name = path.relative_to(ROOT).as_posix()
    if name == "README.md":
        return "index.md"
    if name.startswith("docs/"):
        return f"{name}/index.md".removeprefix("docs/") if path.is_dir() else name.removeprefix("docs/")
    return f"files/{name}.md" if path.is_dir() or path.suffix == ".md" else f"files/{name}"


def _published(config, path):
    if not path.is_dir():
        return File.generated(config, _uri(path), content=path.read_bytes())
    listed = "\n".join(f"- `{each.name}`" for each in sorted(path.iterdir()))
    return File.generated(config, _uri(path), content=f"# {path.relative_to(ROOT)}\n\n{listed}\n")


class FencedDoctests(Extension):
    """Show the doctests in docstrings as code: Markdown would read `>>>` as a quote."""

    def on_object(self, *, obj, **kwargs):
        if obj.docstring:
            obj.docstring.value = DOCTEST.sub(lambda found: f"```pycon\n{found[0]}\n```", obj.docstring.value)
