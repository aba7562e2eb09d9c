"""The performance page: parts of it are written by the benchmarks, each between two marks that bear its name."""

from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "performance.md"


def write(name: str, lines: list[str]) -> None:
    """Put the lines in the place of the part of that name."""
    begin, end = f"<!-- {name}: written by tests/bench/run.py --write -->", f"<!-- end of {name} -->"
    before, _, rest = PAGE.read_text().partition(begin)
    _, _, after = rest.partition(end)
    PAGE.write_text("\n".join([f"{before}{begin}", "", *lines, "", f"{end}{after}"]))
