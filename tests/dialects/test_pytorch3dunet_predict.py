"""Prediction by job files of pytorch-3dunet, against a plain loop over the patches as that program lays them."""

import itertools
import tracemalloc
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import yaml
from typer.testing import CliRunner

from morula.cli.app import app
from morula.core.errors import JobError
from morula.core.events import FileWritten, Finished, Progress, Warned
from morula.core.manifest import RESULTS
from morula.dialects.pytorch3dunet import build_model, original_state_dict
from morula.dialects.pytorch3dunet.predict import predict3dunet
from morula.io.write import write
from morula.testing.errors import raises

MODEL = {"name": "UNet3D", "in_channels": 1, "out_channels": 2, "f_maps": [4, 8], "num_groups": 2, "final_sigmoid": False}
PATCH, STRIDE, HALO = (4, 8, 8), (4, 6, 8), (1, 2, 4)
SHAPE = (8, 20, 19)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    checkpoint(MODEL)
    volume = np.random.default_rng(0).integers(0, 4000, SHAPE).astype(np.uint16)
    with h5py.File("a.h5", "w") as file:
        file["raw"] = volume
        file["label"] = (volume > 2000).astype(np.uint8)
    return tmp_path


def checkpoint(model, path="best.pytorch"):
    torch.manual_seed(0)
    network = build_model(model).eval()
    torch.save({"model_state_dict": original_state_dict(network), "num_epochs": 1, "best_eval_score": 0.5}, path)
    return network


def job(path="test.yml", model=None, **changes):
    """A job file; keys of `changes` are sections, whose values are added."""
    document = {
        "model_path": "best.pytorch",
        "device": "cpu",
        "model": model or MODEL,
        "predictor": {"name": "StandardPredictor"},
        "loaders": {
            "output_dir": "out",
            "batch_size": 2,
            "num_workers": 8,
            "global_normalization": True,
            "test": {
                "file_paths": ["a.h5"],
                "slice_builder": {
                    "name": "SliceBuilder",
                    "patch_shape": list(PATCH),
                    "stride_shape": list(STRIDE),
                    "halo_shape": list(HALO),
                    "skip_shape_check": True,
                },
                "transformer": {"raw": [{"name": "Standardize"}, {"name": "ToTensor", "expand_dims": True}]},
            },
        },
    }
    for section, values in changes.items():
        if section == "slice_builder":
            document["loaders"]["test"]["slice_builder"].update(values)
        elif section == "test":
            document["loaders"]["test"].update(values)
        else:
            document[section].update(values)
    Path(path).write_text(yaml.safe_dump(document))
    return path


def stored(name="out/a_predictions.h5", dataset="predictions"):
    with h5py.File(name) as file:
        return file[dataset][...]


def starts(n, patch, stride):
    found = list(range(0, n - patch + 1, stride))
    return found if found[-1] + patch == n else [*found, n - patch]


def plain(network, volume, halo=HALO, standardize=None):
    """What 1.9 writes: each patch with its halo, mirrored at the border, the last one counts; and how many patches hold a voxel."""
    mean, std = (volume.mean(), volume.std()) if standardize is None else standardize
    padded = np.pad((volume - mean) / std, [(h, h) for h in halo], mode="reflect").astype(np.float32)
    out, count = np.zeros((2, *volume.shape), np.float32), np.zeros(volume.shape, int)
    for start in itertools.product(*map(starts, volume.shape, PATCH, STRIDE)):
        tile = padded[tuple(slice(a, a + p + 2 * h) for a, p, h in zip(start, PATCH, halo))]
        with torch.no_grad():
            answer = network(torch.from_numpy(tile.copy())[None, None])[0].numpy()
        box = tuple(slice(a, a + p) for a, p in zip(start, PATCH))
        out[(slice(None), *box)] = answer[(slice(None), *(slice(h, h + p) for h, p in zip(halo, PATCH)))]
        count[box] += 1
    return out, count


def run(path="test.yml", **options):
    return list(predict3dunet(path, **options))


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision(folder, precision):
    run(job())
    exact = stored()
    run(job(predictor={"precision": precision}), overwrite=True)
    difference = np.abs(stored() - exact).max()
    assert 0 < difference < (0.05 if precision == "bf16" else 0.01)
    with raises("prediction.precision", key="predictor.precision", value="bf16"):
        run(job(predictor={"precision": "bf16", "backend": "openvino"}), overwrite=True)


def test_patches_with_halo(folder):
    before = Path("a.h5").read_bytes()
    events = run(job(predictor={"blend": "last"}))
    expected, count = plain(checkpoint(MODEL), stored("a.h5", "raw").astype(float))
    result = stored()
    assert (result.shape, result.dtype) == ((2, *SHAPE), np.float32)
    np.testing.assert_allclose(result, expected, atol=1e-5)
    assert Path("a.h5").read_bytes() == before
    assert sorted(path.name for path in Path("out").iterdir()) == [RESULTS, "a_predictions.h5"]
    progress = [event for event in events if isinstance(event, Progress)]
    assert (progress[-1].done, progress[-1].total, progress[-1].note) == (2 * 3 * 3, 2 * 3 * 3, "a.h5")
    assert [event.path for event in events if isinstance(event, FileWritten)] == [Path("out/a_predictions.h5")]
    run(job("smooth.yml", loaders={"output_dir": "smooth"}))
    smooth = stored("smooth/a_predictions.h5")
    np.testing.assert_allclose(smooth[:, count == 1], expected[:, count == 1], atol=1e-5)
    assert (np.abs(smooth - expected)[:, count > 1] > 1e-4).any()
    np.testing.assert_allclose(smooth.sum(axis=0), 1, atol=1e-5)


@pytest.mark.parametrize("predictor", ["StandardPredictor", "LazyPredictor"])
@pytest.mark.parametrize("dataset", ["StandardHDF5Dataset", "LazyHDF5Dataset"])
def test_stored_predictions(folder, predictor, dataset):
    expected, _ = plain(checkpoint(MODEL), stored("a.h5", "raw").astype(float))
    kinds = {
        "channels": ({"output_dataset": "maps/all"}, expected, np.float32),
        "one": ({"prediction_channel": 1}, expected[1:], np.float32),
        "classes": ({"save_segmentation": True}, expected.argmax(axis=0), np.uint16),
    }
    for kind, (options, wanted, dtype) in kinds.items():
        section = {"name": predictor, "blend": "last", **options}
        run(job(predictor=section, loaders={"dataset": dataset, "output_dir": kind}))
        result = stored(f"{kind}/a_predictions.h5", options.get("output_dataset", "predictions"))
        assert (result.shape, result.dtype) == (wanted.shape, dtype)
        if kind == "classes":
            assert (result == wanted).mean() > 0.999
        else:
            np.testing.assert_allclose(result, wanted, atol=1e-5)


def test_lazy_prediction_needs_little_memory(folder):
    model = {**MODEL, "f_maps": [2, 2], "num_groups": 1}
    checkpoint(model)
    shape = (64, 128, 256)
    write("big.h5", np.zeros(shape, np.float32), axes="ZYX", dataset="raw")
    edges = [16, 64, 64]
    loaders = {"dataset": "LazyHDF5Dataset", "global_normalization": False}
    builder = {"patch_shape": edges, "stride_shape": edges, "halo_shape": [2, 4, 4]}
    job(model=model, loaders=loaders, slice_builder=builder, test={"file_paths": ["big.h5"]}, predictor={"name": "LazyPredictor"})
    tracemalloc.start()
    try:
        run()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < np.prod(shape) * 4 / 2
    assert stored("out/big_predictions.h5").shape == (2, *shape)


def test_mask_of_one_channel_of_a_plane(folder):
    model = {**MODEL, "name": "UNet2D", "out_channels": 1, "final_sigmoid": True}
    network = checkpoint(model)
    image = np.random.default_rng(1).normal(size=(1, 24, 20)).astype(np.float32)
    write("b.tif", image[0], axes="YX")
    builder = {"patch_shape": [1, 24, 20], "stride_shape": [1, 24, 20], "halo_shape": [0, 0, 0]}
    run(job(model=model, slice_builder=builder, test={"file_paths": ["b.tif"]}, predictor={"save_segmentation": True}))
    with torch.no_grad():
        expected = network(torch.from_numpy((image - image.mean()) / image.std())[None])[0].numpy()
    assert (stored("out/b_predictions.h5") == (expected > 0.5)).mean() > 0.99
    assert stored("out/b_predictions.h5").shape == (1, 24, 20)


def test_patches_are_normalised_separately(folder):
    """The original's way: mean and deviation of each patch with its halo."""
    builder = {"stride_shape": list(PATCH), "patch_shape": list(PATCH)}
    run(job(loaders={"global_normalization": False}, slice_builder=builder, predictor={"blend": "last"}))
    volume = stored("a.h5", "raw").astype(float)
    padded = np.pad(volume, [(h, h) for h in HALO], mode="reflect")
    tile = padded[tuple(slice(0, p + 2 * h) for p, h in zip(PATCH, HALO))]
    with torch.no_grad():
        tensor = torch.from_numpy(((tile - tile.mean()) / tile.std()).astype(np.float32))
        answer = checkpoint(MODEL)(tensor[None, None])[0].numpy()
    inner = answer[(slice(None), *(slice(h, h + p) for h, p in zip(HALO, PATCH)))]
    np.testing.assert_allclose(stored()[:, : PATCH[0], : PATCH[1], : PATCH[2]], inner, atol=1e-5)


@pytest.mark.parametrize("name", ["dice", "mean_iou"])
def test_score_of_the_file(folder, name):
    options = {"performance_metric": name, "gt_internal_path": "label", "save_segmentation": name == "mean_iou"}
    finished = run(job(predictor=options))[-1]
    assert isinstance(finished, Finished)
    truth, result = stored("a.h5", "label") == 1, stored()
    if name == "dice":
        p = result[1].astype(float)
        expected = 2 * (p * truth).sum() / ((p * p).sum() + truth.sum())
    else:
        expected = ((result == 1) & truth).sum() / ((result == 1) | truth).sum()
    assert finished.figures == {name: pytest.approx(expected, abs=1e-6)}


def test_folders_and_other_formats(folder):
    volume = stored("a.h5", "raw")
    with h5py.File("a_predictions.h5", "w") as file:
        file["predictions"] = np.zeros((1, 2, 2, 2), np.float32)
    events = run(job(test={"file_paths": ["."]}))
    assert any(isinstance(event, Warned) and event.message.startswith("loaders.test.file_paths: 1 file") for event in events)
    write("c.ome.zarr", volume, axes="ZYX")
    write("d.tif", volume, axes="ZYX")
    run(job(test={"file_paths": ["c.ome.zarr", "d.tif"]}))
    for name in "cd":
        np.testing.assert_array_equal(stored(f"out/{name}_predictions.h5"), stored())


def test_images_in_folders(folder):
    model = {**MODEL, "name": "UNet2D", "out_channels": 1, "final_sigmoid": True}
    network = checkpoint(model)
    for number, shape in enumerate([(20, 30), (33, 17)]):
        write(folder / "nuclei" / "images" / f"{number}.png", np.random.default_rng(number).integers(0, 255, shape).astype(np.uint8))
    loaders = {"dataset": "DSB2018Dataset", "global_normalization": False}
    run(job(model=model, loaders=loaders, predictor={"name": "DSB2018Predictor"}, test={"file_paths": ["nuclei"], "slice_builder": None}))
    image = np.random.default_rng(1).integers(0, 255, (33, 17)).astype(float)
    with torch.no_grad():
        expected = network(torch.from_numpy(((image - image.mean()) / image.std()).astype(np.float32))[None, None])[0, 0].numpy()
    np.testing.assert_allclose(stored("out/1_predictions.h5"), expected, atol=1e-5)
    objects = stored("out/1_predictions.h5", "segmentation")
    assert objects.dtype == np.uint16
    assert ((objects > 0) == (expected > 0.5)).mean() > 0.99


def test_planned_tiles(folder):
    model = {**MODEL, "layer_order": "cr"}
    checkpoint(model)
    Path("a.h5").unlink()
    write("a.h5", np.random.default_rng(0).normal(size=(8, 20, 80)).astype(np.float32), axes="ZYX", dataset="raw")
    builder = {"patch_shape": [8, 20, 80], "stride_shape": [8, 20, 80], "halo_shape": [0, 0, 0]}
    run(job(model=model, slice_builder=builder))
    events = run(job(model=model, predictor={"tiles": "planned"}, loaders={"output_dir": "planned"}), memory="500KB")
    assert next(event for event in events if isinstance(event, Progress)).total > 1
    np.testing.assert_allclose(stored("planned/a_predictions.h5"), stored(), atol=1e-5)


def test_outputs_are_complete_or_absent(folder):
    run(job())
    before = Path("out/a_predictions.h5").read_bytes()
    with raises("output.exists", key="loaders.output_dir"):
        run()
    events = predict3dunet("test.yml", overwrite=True)
    for event in events:
        if isinstance(event, Progress) and event.done:
            break
    events.close()
    assert Path("out/a_predictions.h5").read_bytes() == before
    assert sorted(path.name for path in Path("out").iterdir()) == [RESULTS, "a_predictions.h5"]
    run(overwrite=True)
    Path("out/a_predictions.h5").write_bytes(before + b"of another program")
    with raises("output.not_own", key="loaders.output_dir"):
        run(overwrite=True)


def test_all_problems_with_lines(folder):
    job(
        predictor={"name": "StandardPredictor", "prediction_channel": 2, "performance_metric": "dice", "patch_halo": [4, 4, 4]},
        slice_builder={"stride_shape": [4, 9, 8]},
    )
    with pytest.raises(JobError) as caught:
        run()
    said = {problem.key: problem for problem in caught.value.problems}
    assert list(said) == sorted(said, key=lambda key: said[key].line)
    assert {key: problem.code for key, problem in said.items()} == {
        "predictor.prediction_channel": "prediction.no_such_channel",
        "predictor.gt_internal_path": "prediction.no_ground_truth",
        "loaders.test.slice_builder.stride_shape": "patch.gaps",
    }
    job(test={"file_paths": ["a.h5", "missing.h5", "b.h5"]}, loaders={"raw_internal_path": "raw"})
    Path("best.pytorch").unlink()
    write("b.h5", np.zeros((2, 8, 20, 19), np.float32), axes="CZYX", dataset="raw")
    with pytest.raises(JobError) as caught:
        run()
    assert {"checkpoint.missing", "image.channels"} < {problem.code for problem in caught.value.problems}
    assert "missing.h5" in str(caught.value)
    assert all(problem.line for problem in caught.value.problems)


def test_check(folder):
    result = CliRunner().invoke(app, ["check", job(predictor={"patch_halo": [4, 4, 4]})])
    assert result.exit_code == 0, result.output
    assert "1 file(s) to predict with UNet3D on cpu into out/a_predictions.h5" in result.output
    assert "predictor.blend" in result.output
    assert "patch_halo" in result.output
    job(model={**MODEL, "f_maps": [4, 16]})
    result = CliRunner().invoke(app, ["check", "test.yml"])
    assert result.exit_code == 1
    assert "model_path" in result.output
    assert "do not fit the network" in result.output


def test_conflicting_outputs(folder):
    for name in ("one", "two"):
        write(folder / name / "a.h5", np.zeros(SHAPE, np.float32), axes="ZYX", dataset="raw")
    with raises("output.shared"):
        run(job(test={"file_paths": ["one/a.h5", "two/a.h5"]}))
    write("a_predictions.h5", np.zeros(SHAPE, np.float32), axes="ZYX", dataset="raw")
    with raises("output.is_input"):
        run(job(test={"file_paths": ["a.h5", "a_predictions.h5"]}, loaders={"output_dir": "."}), overwrite=True)


def test_command_line(folder):
    Path("best.pytorch").rename("other.pytorch")
    Path("a.h5").rename("z.h5")
    write("y.h5", np.zeros((4, 8, 8), np.float32) + np.arange(8), axes="ZYX", dataset="raw")
    flags = ["--model_path", "other.pytorch", "--loaders.output_dir", "flags", "--loaders.test.file_paths", "z.h5", "y.h5"]
    flags += ["--loaders.test.slice_builder.patch_shape", "4", "8", "8", "--loaders.test.slice_builder.stride_shape", "4", "8", "8"]
    result = CliRunner().invoke(app, ["predict3dunet", "--config", job(predictor={"patch_halo": [1, 1, 1]}), *flags])
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in Path("flags").iterdir()) == [RESULTS, "y_predictions.h5", "z_predictions.h5"]
    assert "predictor.patch_halo" in result.output
    assert "halo_shape" in result.output
    again = CliRunner().invoke(app, ["predict3dunet", "--config", "test.yml", *flags])
    assert again.exit_code == 1
    assert "--overwrite" in again.output
