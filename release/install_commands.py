"""Print the `pip install` commands of the documentation, the notebooks and the error messages, each once."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
COMMAND = re.compile(r"pip install (?:-\S+ \S+ )*(?:'[^'{\n]+'|[\w./=-]+)")


def texts() -> Iterator[tuple[Path, str]]:
    """Each page, each notebook as the text of its cells, and each source file."""
    for path in [*ROOT.glob("*.md"), *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "src").rglob("*.py"))]:
        yield path, path.read_text("utf-8")
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        yield path, "\n".join("".join(cell["source"]) for cell in json.loads(path.read_text("utf-8"))["cells"])


def commands() -> Iterator[tuple[Path, str]]:
    """Each command with its file."""
    for path, text in texts():
        for command in COMMAND.findall(text):
            yield path, command


if __name__ == "__main__":
    print("\n".join(dict.fromkeys(command for _, command in commands())))
