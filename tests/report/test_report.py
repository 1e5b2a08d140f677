"""The page of a run folder: whole, predicted only, semantic, stopped, empty."""

from __future__ import annotations

import base64
import csv
import html
import io
import json
import math
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import yaml
from PIL import Image as Picture

from morula.core.events import Preview
from morula.measurement.measure import measure
from morula.metrics.matching import match, pool
from morula.report import build
from morula.report.build import chosen, write_report
from morula.report.panels import Reading
from morula.report.run_folder import read_run
from morula.report.verdict import verdict
from morula.testing.errors import raises
from morula.training.tracking import save_preview

MakeRun = Callable[..., Path]
MEANS = ("mean_true_score", "mean_matched_score")
SCORES = ("threshold", "tp", "fp", "fn", "precision", "recall", "accuracy", "f1", "panoptic_quality", *MEANS)


def squares(shape: tuple[int, ...], n: int, step: int = 1) -> np.ndarray:
    """Label image with `n` boxes along the last axis, numbered in steps."""
    labels = np.zeros(shape, np.uint32)
    for index in range(n):
        where = tuple(slice(2, 8) for _ in shape[:-1])
        labels[(*where, slice(2 + 12 * index, 10 + 12 * index))] = 1 + index * step
    return labels


def write_csv(path: Path, columns: list[str], rows: list[list[Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])


def job(kind: str = "channels") -> dict[str, Any]:
    return {
        "images": {"train": {"raw": "/d/raw", "labels": "/d/labels"}, "validate": 0.1, "voxel_size": "auto", "axes": None},
        "method": {"kind": kind, "channels": {"F": {}, "C": {}}},
        "network": {"kind": "unet", "features": [8, 16]},
        "training": {"epochs": 3, "optimiser": {"kind": "adamw", "lr": 0.001}},
    }


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def write_images(folder: Path, run: Path, name: str, true: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Raw, true and predicted image with its table; the first object is missed and one is invented."""
    predicted = np.where(true == 1, 0, true)
    predicted[tuple(slice(-6, -2) for _ in true.shape)] = 70_000
    tifffile.imwrite(folder / f"{name}.tif", (rng.poisson(20, true.shape) + 400 * (true > 0)).astype(np.uint16))
    tifffile.imwrite(folder / f"{name}_truth.tif", true)
    tifffile.imwrite(run / "objects" / f"{name}.tif", predicted)
    table = measure(predicted, confidence=rng.random(int(predicted.max(initial=0))))
    rows = [list(row) for row in zip(*(table[column] for column in table.columns), strict=True)]
    write_csv(run / "objects" / f"{name}.csv", list(table.columns), rows)
    return predicted


def write_records(run: Path) -> None:
    """The training table, the log, the job and the record of the run."""
    columns = ["epoch", "step", "seconds", "loss", "loss_F", "loss_C", "lr", "validation_loss", "best"]
    figures = [[i, 10 * i, 2.5, 1 / i, 0.6 / i, 0.4 / i, 1e-3, "" if i == 2 else 1.1 / i, i < 3] for i in (1, 2, 3)]
    write_csv(run / "logs" / "training.csv", columns, figures)
    (run / "logs" / "log.txt").write_text("started\nwarning: image_0 is rather dark\n")
    (run / "job.yaml").write_text(yaml.safe_dump(job()))
    record = {"seed": 7, "weights": "ab" * 32, "environment": {"python": "3.11.7"}, "inputs": [1, 2]}
    (run / "provenance.json").write_text(json.dumps(record))


@pytest.fixture
def make_run(tmp_path: Path, rng: np.random.Generator) -> MakeRun:
    """A run folder with images of `n` objects each."""

    def make(shape: tuple[int, ...] = (24, 64), *, n_images: int = 2, n: int = 4, truth: bool = True, step: int = 1) -> Path:
        run = tmp_path / "runs" / "cells"
        for part in ("model", "objects", "report"):
            (run / part).mkdir(parents=True)
        scores, entries = {}, []
        for name in (f"image_{index}" for index in range(n_images)):
            true = squares(shape, n, step)
            scores[name] = match(true, write_images(tmp_path, run, name, true, rng), (0.5, 0.75, 0.9))
            places = {"raw": tmp_path / f"{name}.tif", "prediction": run / "objects" / f"{name}.tif"}
            entry = {key: str(path) for key, path in places.items()}
            entries.append({"name": name, **entry, "truth": str(tmp_path / f"{name}_truth.tif") if truth else None})
        (run / "report" / "images.json").write_text(json.dumps(entries))
        write_records(run)
        if truth:
            told = scores | {"pooled": pool(scores.values())}
            rows = [[name, *(getattr(each, key) for key in SCORES)] for name, rows in told.items() for each in rows]
            write_csv(run / "scores.csv", ["image", *SCORES], rows)
        return run

    return make


def page_of(run: Path, **options: Any) -> str:
    return write_report(run, **options).read_text(encoding="utf-8")


def pictures_in(page: str) -> list[np.ndarray]:
    found = re.findall(r"data:image/webp;base64,([A-Za-z0-9+/=]+)", page)
    return [np.asarray(Picture.open(io.BytesIO(base64.b64decode(each)))) for each in dict.fromkeys(found)]


def text_of(page: str) -> str:
    body = re.sub(r"<(script|style).*?</\1>", " ", page, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body)).split())


def test_page_is_whole_and_loads_nothing(make_run: MakeRun) -> None:
    run = make_run()
    page = page_of(run)
    assert not re.search(r"https?://|src=\"(?!data:)|url\((?!data:|\$)|@import|<link(?! rel=\"icon\" href=\"data:,\")", page)
    text = text_of(page)
    parts = ["cells", "F1 @ 0.5", "image_0 is rather dark", "3 found, 1 missed, 1 false", "best epoch 2", "Worst objects"]
    parts += ["unet, features 8 16", "3.11.7", "8 objects found for 8 true ones", "Objects per image"]
    assert not [part for part in parts if part not in text]
    assert "abababababab…" in text
    assert not [path for path in run.iterdir() if path.name.startswith(".")]


def test_scores_are_those_of_matching(make_run: MakeRun) -> None:
    text = text_of(page_of(make_run()))
    precision = recall = 3 / 4
    assert f"0.5 6 2 2 {precision:.3f} {recall:.3f}" in text


def test_pictures_have_alternative_texts(make_run: MakeRun) -> None:
    page = page_of(make_run())
    assert len(pictures_in(page)) >= 2 * 4
    images = re.findall(r"<img[^>]*>", page)
    assert images
    assert all(re.search(r'alt="[^"]+"', image) for image in images)
    assert page.count('role="img"') >= 2


def test_volume_has_a_picture_per_plane(make_run: MakeRun) -> None:
    page = page_of(make_run((12, 24, 64), n_images=1))
    data = json.loads(re.search(r'<script type="application/json">(.*?)</script>', page, flags=re.DOTALL).group(1))  # type: ignore[union-attr]
    assert data["numbers"] == list(range(12))
    assert [len(plane) for plane in data["planes"]] == [4] * 12
    assert page.count('type="range"') == 1
    assert "of 0 to 11" in text_of(page)


def test_worst_objects_come_first(make_run: MakeRun) -> None:
    page = page_of(make_run(n_images=1))
    body = page[page.index('id="objects"') :]
    tags = re.findall(r'<span class="tag (..)">', body)
    assert sorted(tags[:2]) == ["FN", "FP"]
    assert set(tags[2:]) == {"TP"}
    assert body.count('class="thumbnail"') == len(tags) == 5
    assert 'href="#image-0" class="go"' in body


def test_large_ids_and_special_names(make_run: MakeRun) -> None:
    run = make_run(step=100_000)
    entries = json.loads((run / "report" / "images.json").read_text())
    entries[0]["name"] = "<b>&amp;"
    (run / "report" / "images.json").write_text(json.dumps(entries))
    page = page_of(run)
    assert "100001" in text_of(page)
    assert "<b>&amp;" not in page.replace("&lt;b&gt;&amp;amp;", "")


def test_without_truth_sorted_by_confidence(make_run: MakeRun) -> None:
    run = make_run(truth=False)
    text = text_of(page_of(run))
    assert "Without true labels they cannot be scored" in text
    assert "lowest confidence come first" in text
    assert "errors" not in text
    assert "Scores" not in text


def test_semantic_run_shows_classes(make_run: MakeRun) -> None:
    run = make_run(n_images=1)
    (run / "job.yaml").write_text(yaml.safe_dump(job("semantic")))
    write_csv(run / "scores.csv", ["image", "class", "iou", "dice"], [["image_0", "cell", 0.8, 0.9], ["pooled", "cell", 0.8, "nan"]])
    for path in (run / "objects" / "image_0.tif", run.parents[1] / "image_0_truth.tif"):
        tifffile.imwrite(path, (tifffile.imread(path) > 0).astype(np.uint8))
    text = text_of(page_of(run))
    assert "IoU cell" in text
    assert "another class" in text
    assert "Worst objects" not in text


def test_stopped_training(make_run: MakeRun) -> None:
    run = make_run()
    for part in ("objects", "report", "model"):
        shutil.rmtree(run / part)
    (run / "scores.csv").unlink()
    text = text_of(page_of(run))
    assert "The training is not finished: 3 of 3 epochs are done" in text
    assert "Loss" in text


def test_unscored_predictions(make_run: MakeRun) -> None:
    run = make_run(n_images=1)
    (run / "scores.csv").unlink()
    assert "They are not scored yet" in text_of(page_of(run))
    shutil.rmtree(run / "report")
    assert "1 of 1 images" in text_of(page_of(run))


def test_a_run_that_did_nothing(tmp_path: Path) -> None:
    with raises("run_folder.no_run", file=str(tmp_path)):
        write_report(tmp_path)
    (tmp_path / "provenance.json").write_text("{}")
    assert "was not trained" in text_of(page_of(tmp_path))


def test_image_without_objects_has_no_score(make_run: MakeRun) -> None:
    run = make_run()
    with (run / "scores.csv").open("a", encoding="utf-8") as file:
        csv.writer(file).writerows(["image_2", each, *([0] * (len(SCORES) - 1))] for each in (0.5, 0.75, 0.9))
    text = text_of(page_of(run))
    assert text.index("image_0 0.750") < text.index("image_2 – – – 0 0 0")


def test_objects_are_counted(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run()
    assert "10 objects: those that overlap least" in text_of(page_of(run))  # four true ones and an invented one each
    monkeypatch.setattr(build, "OBJECTS", 7)
    assert "7 objects of 10: those that overlap least" in text_of(page_of(run))


def test_images_without_objects(make_run: MakeRun) -> None:
    run = make_run(n_images=1, n=0)
    tifffile.imwrite(run / "objects" / "image_0.tif", np.zeros((24, 64), np.uint16))
    write_csv(run / "objects" / "image_0.csv", ["label", "voxels"], [])
    text = text_of(page_of(run))
    assert "0 found, 0 missed, 0 false" in text


@pytest.mark.parametrize("shape", [(24, 64, 3), (2, 24, 64), (24, 2000)])
def test_colours_channels_and_long_images(make_run: MakeRun, rng: np.random.Generator, shape: tuple[int, ...]) -> None:
    spatial = shape if len(shape) == 2 else (24, 64)
    run = make_run(spatial, n_images=1)
    tifffile.imwrite(run.parents[1] / "image_0.tif", rng.integers(0, 255, shape).astype(np.uint8))
    axes = {3: "YXC" if shape[-1] == 3 else "CYX", 2: "YX"}[len(shape)]
    stated = job()
    stated["images"]["axes"] = axes
    (run / "job.yaml").write_text(yaml.safe_dump(stated))
    assert all(max(picture.shape[:2]) <= 640 for picture in pictures_in(page_of(run)))


def test_images_span_the_ranking(make_run: MakeRun) -> None:
    run = make_run(n_images=6)
    rows = [[f"image_{index}", 0.5, 1, 1, 1, 0.5, 0.5, 0.5, index / 10, 0, 0, 0] for index in range(6)]
    write_csv(run / "scores.csv", ["image", *SCORES], rows)
    assert [image.name for image in chosen(read_run(run), 3)] == ["image_0", "image_2", "image_5"]
    assert page_of(run, n_images=3).count('class="panel"') == 3


def test_page_is_deterministic(make_run: MakeRun) -> None:
    run = make_run()
    assert page_of(run) == page_of(run)


def test_damaged_or_missing_files(make_run: MakeRun) -> None:
    run = make_run()
    with raises("run_folder.missing", file=str(run / "nothing")):
        write_report(run / "nothing")
    (run / "report" / "images.json").write_text('[{"raw": null}]')
    with raises("run_folder.damaged_file", file=str(run / "report" / "images.json")):
        write_report(run)
    (run / "provenance.json").write_text("{")
    with raises("run_folder.damaged_file", file=str(run / "provenance.json")):
        write_report(run)


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs Chromium")
def test_browser_reports_no_error(make_run: MakeRun, tmp_path: Path) -> None:
    page = page_of(make_run((12, 24, 64), n_images=2))
    act = (
        "document.querySelectorAll('.go')[1].click(); document.querySelectorAll('th button')[2].click();"
        "document.querySelectorAll('.tile')[3].click(); document.getElementById('overlays').click();"
        "const s = document.querySelector('input[type=range]'); s.value = 2; s.dispatchEvent(new Event('input'));"
        "document.body.dataset.seen = document.querySelector('output').textContent + document.getElementById('enlarged').open;"
    )
    (tmp_path / "page.html").write_text(page.replace("</body>", f"<script>{act}</script></body>"))
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom", f"--user-data-dir={tmp_path / 'me'}"]
    done = subprocess.run(["chromium", *flags, f"file://{tmp_path / 'page.html'}"], capture_output=True, text=True, timeout=120, check=True)
    assert "CONSOLE" not in done.stderr
    assert 'data-seen="2true"' in done.stdout


def test_not_finite_figures_leave_gaps(make_run: MakeRun) -> None:
    run = make_run()
    rows = [[1, 0.5, math.inf], [2, math.nan, 0.4], [3, 0.3, 0.2]]
    write_csv(run / "logs" / "training.csv", ["epoch", "loss", "validation_loss"], rows)
    page = page_of(run)
    assert "nan" not in page[page.index('id="training"') : page.index('id="job"')]


@pytest.mark.parametrize(
    ("counts", "grade", "command"),
    [
        ((9, 1, 1), "good", "segment"),  # tp, fp, fn
        ((8, 2, 2), "fair", "tune"),
        ((5, 95, 5), "poor", "tune"),
        ((2, 0, 8), "poor", "tune"),
        ((0, 0, 8), "poor", "tune"),
        ((0, 3, 0), "open", None),
    ],
)
def test_verdict_names_grade_and_next_step(make_run: MakeRun, counts: tuple[int, int, int], grade: str, command: str | None) -> None:
    run = make_run(n_images=1)
    tp, fp, fn = counts
    f1 = 2 * tp / max(1, 2 * tp + fp + fn)
    write_csv(run / "scores.csv", ["image", "threshold", "tp", "fp", "fn", "f1"], [["pooled", 0.5, tp, fp, fn, f1]])
    found = verdict(read_run(run), tp + fp)
    assert found.grade == grade
    assert [step[1].split()[1] for step in found.steps] == ([] if command is None else [command])


def test_longer_training_is_advised_when_the_last_epoch_is_best(make_run: MakeRun) -> None:
    run = make_run(n_images=1)
    write_csv(run / "logs" / "training.csv", ["epoch", "loss", "best"], [[1, 1.0, 1], [2, 0.5, 1], [3, 0.4, 1]])
    assert any("training.epochs=12" in command for _, command in verdict(read_run(run), 4).steps)


def test_histograms_hold_all_objects(make_run: MakeRun) -> None:
    run = read_run(make_run(n_images=2, step=100_000))
    populations = build.examine(run, run.images, Reading()).populations
    assert populations.counts == {"image_0": (4, 4), "image_1": (4, 4)}
    assert [len(sizes) for sizes in populations.true.sizes] == [len(grey) for grey in populations.true.intensities] == [4, 4]
    assert populations.true.sizes[0].tolist() == [48.0] * 4
    assert populations.true.intensities[0].min() > 400
    assert len(populations.charts(run.scores)) == 3


def test_film_shows_first_middle_and_last_epoch_with_titles(make_run: MakeRun) -> None:
    run = make_run(n_images=1)
    for epoch in range(1, 6):
        event = Preview("channels", np.zeros((8, 12)), epoch, rows=("target", "prediction"), columns=("image", "F", "C"))
        save_preview(event, run / "logs" / "previews")
    text = text_of(page_of(run))
    film = text[text.index("What the network predicts") :]
    assert re.findall(r"epoch (\d)", film[: film.index("How it was made")]) == ["1", "3", "5"]
    assert film.count("image F C target prediction") == 3


def test_links_lead_to_files_of_the_run(make_run: MakeRun) -> None:
    run = make_run(n_images=1)
    links = [link for link in re.findall(r'href="([^"#]+)"', page_of(run)) if not link.startswith("data:")]
    assert {"scores.csv", "objects/image_0.tif", "objects/image_0.csv"} <= set(links)
    assert not [link for link in links if not (run / link).exists()]
