"""Write the measured parts of docs/benchmarks: tables of rows, the summary and the plots, from bench/results.

A page names the rows that it shows: everything between `<!-- bench: ROW ROW ... -->` and `<!-- bench: end -->` is replaced with their
tables; the row `summary` stands for the summary table. The rest of a page is written by hand.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gains
import plots
from summary import summary_table

BLOCK = re.compile(r"<!-- bench: (?P<rows>[\w ]+) -->.*?<!-- bench: end -->", re.DOTALL)


def write_pages(pages: Path, results: Path) -> None:
    """Replace the blocks of all pages in a folder and write the figures beside them."""
    stored = read_results(results)
    for page in sorted(pages.glob("*.md")):
        page.write_text(filled(page.read_text(), stored))
    for name, row in stored.items():
        if "scores" in row:
            (pages / gains.FIGURE).write_text(gains.picture(row["scores"], row.get("curves", {})))
        if name in plots.PLOTS:
            (pages / f"{name}.svg").write_text(plots.PLOTS[name](row))


def read_results(folder: Path) -> dict[str, dict[str, Any]]:
    """The stored results by the name of their row."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}


def rows_of(text: str) -> list[str]:
    """Names of the rows that a page shows."""
    return [name for block in BLOCK.finditer(text) for name in block["rows"].split() if name != "summary"]


def filled(text: str, stored: Mapping[str, dict[str, Any]]) -> str:
    """A page whose blocks hold the stored results; rows that were not measured are left out."""

    def block(match: re.Match[str]) -> str:
        names = match["rows"].split()
        parts = [summary_table(stored)] if names == ["summary"] else [section(stored[name]) for name in names if name in stored]
        return "\n\n".join([f"<!-- bench: {' '.join(names)} -->", *parts, "<!-- bench: end -->"])

    return BLOCK.sub(block, text)


def section(row: Mapping[str, Any]) -> str:
    """One table, and where, when and how it was measured."""
    versions = ", ".join(f"{name} {number}" for name, number in row["versions"].items())
    origin = f"`{row['command']}`, {row['date']}, {row['machine']}; {versions}."
    lines = [f"## {row['title']}", "", row["note"], "", origin, ""]
    if "scores" in row:
        return "\n".join(lines + gains.section(row["scores"]))
    if "table" in row:
        return "\n".join(lines + plain_table(**row["table"]))
    lines += ["| what | measured | range | runs | target |", "|---|---|---|---|---|"]
    for figure in row["figures"]:
        runs = figure["runs"]
        target = "" if figure["bar"] is None else f"{figure['bar']:.3g} {figure['unit']}".strip()
        value = f"{'> ' if figure.get('at_least') else ''}{figure['value']:.3g} {figure['unit']}".strip()
        spread = f"{min(runs):.3g} –\N{WORD JOINER} {max(runs):.3g}".replace(" ", "\N{NO-BREAK SPACE}") if len(runs) > 1 else ""
        lines.append(f"| {figure['what']} | {value} | {spread} | {len(runs)} | {target} |")
    return "\n".join(lines)


def plain_table(titles: list[str], rows: list[list[Any]]) -> list[str]:
    """Lines of a table with its own column titles; scores with three decimals, minutes with one."""
    digits = [1 if title == "minutes" else 3 for title in titles]
    cells = [[f"{cell:.{n}f}" if isinstance(cell, float) else str(cell) for n, cell in zip(digits, row, strict=True)] for row in rows]
    return [f"| {' | '.join(line)} |" for line in (titles, ["---"] * len(titles), *cells)]
