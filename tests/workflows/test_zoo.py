"""Packages of the BioImage Model Zoo: written and read back, run as those of other programs, and refused where they are hostile."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import yaml

import morula
from morula.core.options import validated
from morula.data.normalise import Fixed, MinMax, Normalisation, Options, Percentile, ZScore, statistics
from morula.data.options import Sampling
from morula.models.zoo.archive import Package
from morula.models.zoo.processing import applied, normalise_of, steps_of
from morula.testing.errors import raises
from morula.workflows.export_model import export_model

Edit = Callable[[dict[str, Any]], None]
NO_FILES: Mapping[str, bytes] = {}


@pytest.fixture(scope="module")
def package(run2d: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("zoo") / "nuclei.zip"
    list(export_model(run2d, path, authors=["A. Author"], licence="MIT"))
    return path


def changed(
    package: Path, target: Path, edit: Edit = lambda _: None, *, weights: str | None = None, files: Mapping[str, bytes] = NO_FILES
) -> Path:
    """The package without Morula's files, as another program would have written it."""
    with zipfile.ZipFile(package) as source, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as out:
        described = yaml.safe_load(source.read("rdf.yaml"))
        if weights is not None:
            described["weights"] = {weights: described["weights"][weights]}
        edit(described)
        content = {name: source.read(name) for name in source.namelist() if name not in ("model.json", "weights.safetensors")}
        for name, data in {**content, "rdf.yaml": yaml.safe_dump(described).encode(), **files}.items():
            out.writestr(name, data)
    return target


def test_a_package_of_morula_segments_as_its_run(package: Path, run2d: Path, data2d: Path, tmp_path: Path) -> None:
    image = data2d / "test/images/nuclei_000.tif"
    list(morula.segment(image, model=package, output=tmp_path / "a.tif"))
    assert np.array_equal(morula.read(tmp_path / "a.tif"), morula.read(run2d / "objects/nuclei_000.tif"))
    with raises("zoo.channels_known"):
        morula.load(package, channels=["F", "C", "Db"])
    with raises("model.channels_known"):
        morula.load(run2d, channels=["F", "C", "Db"])


def test_the_description_states_what_the_network_takes_and_gives(package: Path) -> None:
    described = Package(package).description
    image, output = described["inputs"][0], described["outputs"][0]
    assert image["axes"][2] == {"type": "space", "id": "y", "size": {"min": 4, "step": 2}}
    assert output["axes"][1]["channel_names"] == ["F", "C", "Db"]
    assert [step["id"] for step in image["preprocessing"]] == ["ensure_dtype", "scale_range"]
    assert set(described["weights"]) == {"torchscript", "onnx"}
    assert (described["license"], described["authors"]) == ("MIT", [{"name": "A. Author"}])


@pytest.mark.parametrize("weights", ["torchscript", "onnx"])
def test_networks_of_other_programs_predict_the_same(package: Path, run2d: Path, tmp_path: Path, weights: str) -> None:
    foreign = morula.load(changed(package, tmp_path / "a.zip", weights=weights), channels=["F", "C", "Db"])
    image = np.random.default_rng(0).normal(100, 20, (256, 256)).astype(np.float32)  # as large as a tile
    np.testing.assert_allclose(foreign.predict(image), morula.load(run2d).predict(image), atol=1e-5)
    assert foreign.segment(image).shape == (256, 256)
    some = morula.load(tmp_path / "a.zip", channels=["F", "-", "Db"])
    np.testing.assert_array_equal(some.predict(image), foreign.predict(image)[[0, 2]])


def test_fixed_sizes_and_postprocessing_are_obeyed(tmp_path: Path, package: Path) -> None:
    class Logits(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cat([x.reshape(1, 1, 32, 32), 1 - x], dim=1)  # other sizes than 32 are errors

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated, and packages hold it
        torch.jit.save(torch.jit.trace(Logits(), torch.zeros(1, 1, 32, 32)), str(tmp_path / "w.pt"))
    files = {"weights.pt": (tmp_path / "w.pt").read_bytes()}

    def edit(described: dict[str, Any]) -> None:
        for axis in described["inputs"][0]["axes"][2:]:
            axis["size"] = 32
        described["inputs"][0]["preprocessing"] = [{"id": "scale_linear", "kwargs": {"gain": 0.5, "offset": 1.0}}]
        described["outputs"][0]["axes"][1]["channel_names"] = ["F", "C"]
        described["outputs"][0]["postprocessing"] = [{"id": "sigmoid"}]

    foreign = morula.load(changed(package, tmp_path / "a.zip", edit, weights="torchscript", files=files))
    image = np.linspace(-2, 2, 70 * 40, dtype=np.float32).reshape(70, 40)
    expected = 1 / (1 + np.exp(-np.stack([image / 2 + 1, -image / 2])))
    np.testing.assert_allclose(foreign.predict(image), expected, atol=1e-6)


def test_descriptions_of_version_4_are_read(package: Path, tmp_path: Path) -> None:
    def edit(described: dict[str, Any]) -> None:
        described["format_version"] = "0.4.10"
        described["inputs"] = [
            {
                "name": "image",
                "axes": "bcyx",
                "shape": {"min": [1, 1, 4, 4], "step": [0, 0, 2, 2]},
                "preprocessing": [{"name": "zero_mean_unit_variance", "kwargs": {"axes": "yx", "mode": "per_sample"}}],
            }
        ]
        reference = {"reference_tensor": "image", "scale": [1, 0, 1, 1], "offset": [0, 1.5, 0, 0]}
        described["outputs"] = [{"name": "output", "axes": "bcyx", "shape": reference}]

    model = morula.load(changed(package, tmp_path / "a.zip", edit), channels=["F", "C", "Db"])
    assert model.job.sampling.normalise == ZScore()
    assert model.predict(np.eye(64)).shape == (3, 64, 64)


@pytest.mark.parametrize(
    ("options", "stored"),
    [
        (Percentile(low=2, high=99), None),
        (Percentile(clip=True, channels="together"), None),
        (ZScore(), None),
        (ZScore(clip=(-1, 1), channels="together"), None),
        (MinMax(), None),
        (MinMax(low=80, high=120, range=(-1, 1)), None),
        (Fixed(offset=100, scale=20, clip=(-1, 1)), None),
        (Percentile(per="data_set"), Normalisation((90.0, 80.0), (20.0, 30.0))),
    ],
)
def test_normalisations_survive_the_specification(options: Options, stored: Normalisation | None) -> None:
    array = np.random.default_rng(0).normal(100, 20, (2, 40, 50)).astype(np.float32)
    steps = steps_of(Sampling(normalise=options), stored, "yx")
    image = morula.Image(array, "CYX")
    expected = (stored or statistics(image, options)).apply(array)
    np.testing.assert_allclose(applied(steps, array.astype(np.float64)), expected, atol=2e-4)
    again = morula.Image(array, "CYX")
    read = {"zscore": ZScore, "percentile": Percentile, "minmax": MinMax, "fixed": Fixed}[normalise_of(steps, "a.zip")["kind"]]
    np.testing.assert_allclose(statistics(again, read.model_validate(normalise_of(steps, "a.zip"))).apply(array), expected, atol=2e-4)


def test_a_second_normalisation_is_of_each_tile(run2d: Path) -> None:
    model = morula.load(run2d)
    sampling = Sampling.model_validate({"normalise": {"kind": "minmax"}, "renormalise": {"kind": "zscore", "per": "patch"}})
    array = np.random.default_rng(0).gamma(2, 20, (1, 40, 50)).astype(np.float32)
    scaling = replace(model, normalisation=None, job=model.job.model_copy(update={"sampling": sampling})).scaling(
        morula.Image(array, "CYX")
    )
    for part in (array, array[:, :8, 10:20]):
        found, once = scaling.apply(part), part.astype(np.float64)
        np.testing.assert_allclose(found, (once - once.mean()) / once.std(), atol=1e-4)
    np.testing.assert_allclose(scaling.apply(array), applied(steps_of(sampling, None, "yx"), array.astype(np.float64)), atol=2e-4)
    with raises("normalisation.per_patch"):
        validated(Sampling, {"renormalise": "zscore"}, "sampling")


def test_one_limit_is_not_in_the_specification() -> None:
    with raises("zoo.normalisation", key="sampling.normalise"):
        steps_of(Sampling(normalise=MinMax(low=80)), None, "yx")


def external(name: str) -> bytes:
    tensor = onnx.helper.make_tensor("w", onnx.TensorProto.FLOAT, [1], [1.0])
    tensor.ClearField("float_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=name)
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Mul", ["x", "w"], ["y"])], "g", [value], [value], [tensor])
    return onnx.helper.make_model(graph).SerializeToString()


def only_pickle(described: dict[str, Any]) -> None:
    described["weights"] = {"pytorch_state_dict": {"source": "weights.pt", "architecture": {"source": "evil.py", "callable": "Net"}}}


def outside(described: dict[str, Any]) -> None:
    described["weights"]["torchscript"]["source"] = "../../etc/passwd"


def elsewhere(described: dict[str, Any]) -> None:
    described["weights"]["torchscript"]["source"] = "https://example.org/weights.pt"


def odd_axes(described: dict[str, Any]) -> None:
    axes = described["inputs"][0]["axes"]
    described["inputs"][0]["axes"] = [axes[0], *axes[2:], axes[1]]


def huge(described: dict[str, Any]) -> None:
    described["inputs"][0]["axes"][2]["size"] = {"min": 10**12, "step": 1}


def odd_step(described: dict[str, Any]) -> None:
    described["inputs"][0]["preprocessing"] = [{"id": "custom", "kwargs": {"callable": "os.system"}}]


def odd_percentile(described: dict[str, Any]) -> None:
    described["inputs"][0]["preprocessing"] = [{"id": "scale_range", "kwargs": {"min_percentile": {"a": 1}}}]


@pytest.mark.parametrize(
    ("edit", "files", "code"),
    [
        (odd_percentile, {}, "zoo.description"),
        (only_pickle, {}, "zoo.weights"),
        (outside, {}, "zoo.outside"),
        (elsewhere, {}, "zoo.outside"),
        (odd_axes, {}, "zoo.axes"),
        (huge, {}, "zoo.description"),
        (odd_step, {}, "zoo.preprocessing"),
        (lambda described: described.update(inputs=[]), {}, "zoo.tensors"),
        (lambda described: described.update(type="dataset"), {}, "zoo.not_a_model"),
        (lambda described: described["weights"].pop("torchscript"), {"weights.onnx": external("/etc/passwd")}, "zoo.external_weights"),
        (lambda described: described["weights"].pop("torchscript"), {"weights.onnx": b"no graph"}, "zoo.damaged_weights"),
        (lambda _: None, {"weights.pt": b"no archive"}, "zoo.damaged_weights"),
        (lambda _: None, {"weights.pt": bytes(200 << 20)}, "zoo.too_large"),
        (lambda _: None, {"rdf.yaml": b"!!python/object/apply:os.system ['true']"}, "zoo.description"),
        (lambda _: None, {"rdf.yaml": b"a: [" * 200}, "zoo.description"),
    ],
)
def test_hostile_packages_are_refused(package: Path, tmp_path: Path, edit: Edit, files: dict[str, bytes], code: str) -> None:
    place = changed(package, tmp_path / "a.zip", edit, files=files)
    with raises(code):
        morula.load(place, channels=["F", "C", "Db"])


def test_networks_that_fail_or_give_another_shape_are_errors(package: Path, tmp_path: Path) -> None:
    def fewer(described: dict[str, Any]) -> None:
        described["outputs"][0]["axes"][1]["channel_names"] = ["F", "C"]

    def other_size(described: dict[str, Any]) -> None:
        described["inputs"][0]["axes"][1]["channel_names"] = ["a", "b"]

    with raises("zoo.output_shape", key="weights"):
        morula.load(changed(package, tmp_path / "a.zip", fewer)).predict(np.eye(64))
    for weights in ("torchscript", "onnx"):
        with raises("zoo.failed"):
            morula.load(changed(package, tmp_path / "b.zip", other_size, weights=weights)).predict(np.ones((2, 64, 64)) * np.eye(64))


def test_channels_are_named_by_hand(package: Path, tmp_path: Path) -> None:
    def unnamed(described: dict[str, Any]) -> None:
        described["outputs"][0]["axes"][1]["channel_names"] = ["foreground", "edges", "dist"]

    place = changed(package, tmp_path / "a.zip", unnamed)
    with raises("zoo.channels_unknown"):
        morula.load(place)
    with raises("zoo.unknown_channel", value="Q"):
        morula.load(place, channels=["F", "C", "Q"])
    with raises("zoo.channel_count"):
        morula.load(place, channels=["F", "C"])
    with raises("zoo.channels"):
        morula.load(place, channels=["-", "-", "Dn"])


def test_damaged_archives_are_refused(tmp_path: Path, package: Path) -> None:
    (tmp_path / "cut.zip").write_bytes(package.read_bytes()[:-200])
    with raises("checkpoint.damaged"):
        morula.load(tmp_path / "cut.zip")
    content = bytearray(package.read_bytes())
    content[content.find(b"weights.safetensors") + 4000] ^= 255
    (tmp_path / "bit.zip").write_bytes(content)
    with raises("zoo.damaged"):
        morula.load(tmp_path / "bit.zip")


def test_weights_alone_are_written(run2d: Path, tmp_path: Path) -> None:
    for suffix in ("pt", "onnx"):
        list(export_model(run2d, tmp_path / f"a.{suffix}"))
        with raises("output.exists"):
            list(export_model(run2d, tmp_path / f"a.{suffix}"))
    onnx.checker.check_model(onnx.load(tmp_path / "a.onnx"))
    with raises("export.suffix"):
        list(export_model(run2d, tmp_path / "a.h5"))


def test_exports_are_the_same_bytes_each_time(package: Path, run2d: Path, tmp_path: Path) -> None:
    list(export_model(run2d, tmp_path / "nuclei.zip", authors=["A. Author"], licence="MIT"))
    first, second = (zipfile.ZipFile(path) for path in (package, tmp_path / "nuclei.zip"))
    # TorchScript stores names that count up within a process
    names = [name for name in first.namelist() if name not in ("weights.pt", "rdf.yaml", "weights.onnx")]
    assert [name for name in names if first.read(name) != second.read(name)] == []


@pytest.mark.skipif("MORULA_BIOIMAGEIO" not in os.environ, reason="set MORULA_BIOIMAGEIO to a folder with bioimageio.core, as .ci/zoo does")
def test_bioimageio_core_accepts_the_package(package: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.environ["MORULA_BIOIMAGEIO"], "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-m", "bioimageio.core", "test", str(package)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert "Reproduce test outputs from test inputs (torchscript)" in " ".join(done.stdout.split())
