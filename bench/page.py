"""The tables in docs/benchmarks.md: everything between the two marks is written from bench/results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gains

BEGIN, END = "<!-- written by make bench: begin -->", "<!-- written by make bench: end -->"


def write_page(page: Path, results: Path) -> None:
    """Write the stored results between the marks, and the figure beside the page; the rest of the page stays."""
    text = page.read_text()
    if BEGIN not in text:
        text = f"{text.rstrip()}\n\n{BEGIN}\n{END}\n"
    head, rest = text.split(BEGIN, 1)
    tail = rest.split(END, 1)[1]
    stored = [json.loads(path.read_text()) for path in sorted(results.glob("*.json"))]
    sections = "\n\n".join(section(row) for row in stored)
    page.write_text(f"{head}{BEGIN}\n\n{sections}\n\n{END}{tail}")
    for row in stored:
        if "scores" in row:
            (page.parent / gains.FIGURE).write_text(gains.picture(row["scores"], row.get("curves", {})))


def section(row: dict[str, Any]) -> str:
    """One table with where, when and how it was measured."""
    versions = ", ".join(f"{name} {number}" for name, number in row["versions"].items())
    lines = [
        f"## {row['title']}",
        "",
        row["note"],
        "",
        f"`{row['command']}`, {row['date']}, {row['machine']}; {versions}.",
        "",
    ]
    if "scores" in row:
        return "\n".join(lines + gains.section(row["scores"]))
    if "table" in row:
        return "\n".join(lines + plain_table(**row["table"]))
    lines += [
        "| what | measured | spread | runs | bar |",
        "|---|---|---|---|---|",
    ]
    for each in row["figures"]:
        runs = each["runs"]
        bar = "" if each["bar"] is None else f"{each['bar']:g} {each['unit']}"
        value = f"{'> ' if each.get('at_least') else ''}{each['value']:.3g} {each['unit']}"
        lines.append(f"| {each['what']} | {value} | {min(runs):.3g} – {max(runs):.3g} | {len(runs)} | {bar} |")
    return "\n".join(lines)


def plain_table(titles: list[str], rows: list[list[Any]]) -> list[str]:
    """Lines of a table whose columns the row names itself; numbers with three decimals."""
    cells = [[f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in row] for row in rows]
    return [f"| {' | '.join(line)} |" for line in (titles, ["---"] * len(titles), *cells)]
