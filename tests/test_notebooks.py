"""The notebooks run from the first cell to the last, on small images."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from morula.jobs.yaml_lines import parse_documents

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


def executed(name: str, small: dict[str, str]) -> dict[str, Any]:
    """The variables of a notebook after all of its cells; `small` replaces what would take long."""
    namespace: dict[str, Any] = {}
    found = "\n".join(cells(name))
    assert all(text in found for text in small), "a text to replace is not in the notebook"
    for code in cells(name):
        for before, after in small.items():
            code = code.replace(before, after)
        exec(compile(code, name, "exec"), namespace)
    return namespace


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_wnet3d(place: Path, display: list[object], capsys: pytest.CaptureFixture[str]) -> None:
    executed("wnet3d.ipynb", {"EPOCHS = 10": "EPOCHS = 1", "(32, 96, 96)": "(16, 32, 32)", "[8, 16, 32]": "[4, 8]"})
    assert len(display) == 1
    said = capsys.readouterr().out
    assert "epoch 1/1: ncuts" in said
    assert "objects in nuclei_000.tif" in said
    assert (place / "wnet3d/objects.csv").is_file()
    assert (place / "wnet3d/run/report.html").is_file()


def test_few_labels(place: Path, display: list[object]) -> None:
    small = {
        "EPOCHS = 10": "EPOCHS = 1",
        "EDGE = 192": "EDGE = 96",
        "[96, 96]": "[48, 48]",
        '"patches_per_epoch": 32': '"patches_per_epoch": 4',
    }
    found = executed("few_labels.ipynb", small)
    assert len(display) == 1
    assert found["scores"][0].n_pred == found["labels"].max()
    assert (place / "few_labels/run/report.html").is_file()


def test_biapy(place: Path, display: list[object], capsys: pytest.CaptureFixture[str]) -> None:
    small = {"EPOCHS = 8": "EPOCHS = 1", "EDGE = 192": "EDGE = 64", "n_train=5, n_test=2": "n_train=2, n_test=1", "[8, 16, 32]": "[4, 8]"}
    found = executed("biapy.ipynb", small)
    assert "report.html" in capsys.readouterr().out
    (document,) = parse_documents(found["text"])
    assert document.data["method"]["kind"] == "channels"
    assert (place / "biapy/run/scores.csv").is_file()


def test_pytorch_3dunet(place: Path, display: list[object]) -> None:
    small = {"STEPS = 60": "STEPS = 2", "(16, 64, 64)": "(16, 32, 32)", "f_maps: [8, 16]": "f_maps: [4, 8]"}
    found = executed("pytorch_3dunet.ipynb", small)
    assert len(display) == 1
    assert found["probability"].shape == (16, 32, 32)
    assert (place / "pytorch_3dunet/checkpoints/run/report.html").is_file()


def test_corrections(place: Path, display: list[object]) -> None:
    small = {"EPOCHS = 10": "EPOCHS = 1", "EDGE = 256": "EDGE = 96", "epochs=EPOCHS": "epochs=EPOCHS, device='cpu'"}
    found = executed("corrections.ipynb", small)
    assert len(display) == 2
    assert found["corrections"].reviews
    assert (place / "corrections/cells_corrected_review.csv").is_file()
    assert found["better"].shape == (96, 96)


def test_notebooks_are_the_same_where_they_install_morula() -> None:
    first, *others = ([cell for cell in cells(path.name) if "pip" in cell] for path in sorted(NOTEBOOKS.glob("*.ipynb")))
    assert len(first) == 1
    assert all(other == first for other in others)


def test_notebooks_hold_no_output() -> None:
    for path in NOTEBOOKS.glob("*.ipynb"):
        document = json.loads(path.read_text(encoding="utf-8"))
        assert all(not cell.get("outputs") for cell in document["cells"]), path.name
