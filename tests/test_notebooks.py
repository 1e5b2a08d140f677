"""The notebooks run from the first cell to the last, on a small volume."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path

import pytest

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"


def cells(name: str) -> list[str]:
    """Code of a notebook, cell by cell."""
    document = json.loads((NOTEBOOKS / name).read_text(encoding="utf-8"))
    return ["".join(cell["source"]) for cell in document["cells"] if cell["cell_type"] == "code"]


@pytest.fixture
def display(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What a notebook displays; IPython itself is not needed."""
    shown: list[object] = []
    module = types.ModuleType("IPython.display")
    module.display = shown.append
    module.clear_output = lambda wait=False: None
    monkeypatch.setitem(sys.modules, "IPython", types.ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    return shown


def test_wnet3d(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, display: list[object], capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {}
    for code in cells("wnet3d.ipynb"):
        small = code.replace("EPOCHS = 10", "EPOCHS = 1").replace("(32, 96, 96)", "(16, 32, 32)").replace("[8, 16, 32]", "[4, 8]")
        exec(compile(small, "wnet3d.ipynb", "exec"), namespace)
    assert len(display) == 1
    said = capsys.readouterr().out
    assert "epoch 1/1: ncuts" in said
    assert "objects in nuclei_000.tif" in said
    assert (tmp_path / "wnet3d/objects.csv").is_file()
    assert (tmp_path / "wnet3d/run/report.html").is_file()


def test_notebooks_hold_no_output() -> None:
    for path in NOTEBOOKS.glob("*.ipynb"):
        document = json.loads(path.read_text(encoding="utf-8"))
        assert all(not cell.get("outputs") for cell in document["cells"]), path.name
