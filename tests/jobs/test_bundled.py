"""Models by their names."""

import shutil
from pathlib import Path

import pytest
import yaml

from morula.jobs import bundled
from morula.jobs.bundled import bundled_model, bundled_models, bundled_names, is_name, place_of
from morula.jobs.load import load_job
from morula.testing.errors import raises

CARD = {
    "name": "Test",
    "description": "A test.",
    "license": "CC0-1.0",
    "covers": ["picture.png"],
    "tags": ["a key of bioimage.io that is not read"],
    "config": {"morula": {"suited": {"dimensions": 2, "channels": 1}, "training": []}},
}


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of further models with one, `cells`; no model ships."""
    monkeypatch.setattr(bundled, "SHIPPED", tmp_path / "shipped")
    monkeypatch.setenv("MORULA_MODELS", str(tmp_path / "own"))
    return written(tmp_path / "own" / "cells")


def written(folder: Path, **changes: object) -> Path:
    folder.mkdir(parents=True)
    (folder / "weights.safetensors").touch()
    (folder / "card.yaml").write_text(yaml.safe_dump({**CARD, **changes}))
    return folder


def test_a_folder_of_models(places: Path) -> None:
    written(places.parent.parent / "shipped" / "cells", description="Another.")
    assert [(model.name, model.folder, model.card.description) for model in bundled_models()] == [("cells", places, "A test.")]
    assert bundled_model("cells").picture == places / "picture.png"
    assert is_name("cells")
    assert not is_name("own/cells")


def test_a_name_is_a_model_unless_a_model_lies_there(places: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert place_of("cells") == places
    Path("cells").mkdir()  # for example the images
    assert place_of("cells") == places
    shutil.copytree(places, "cells/model")
    Path("cells/model/model.json").touch()
    assert place_of("cells") == Path("cells")
    assert place_of("runs/cells") == Path("runs/cells")


def test_a_folder_without_weights_is_no_model(places: Path) -> None:
    (places / "weights.safetensors").unlink()
    assert bundled_names() == []
    with raises("model.unknown_name", value="cells"):
        bundled_model("cells")


def test_a_damaged_card(places: Path) -> None:
    written(places.parent / "other", license=3)
    with raises("card.damaged", key="license", value=3):
        bundled_models()


def test_the_folder_must_exist(places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MORULA_MODELS", str(places / "missing"))
    with raises("models.no_folder", key="MORULA_MODELS"):
        bundled_models()


def test_a_job_starts_from_a_name(places: Path, tmp_path: Path) -> None:
    job = {"images": {"train": {"raw": "a"}}, "method": "channels", "network": {"from": "cells"}}
    assert load_job(job).network.from_ == "cells"
    assert load_job({**job, "network": {"from": "others"}}).network.from_ == str(Path.cwd() / "others")
