import pickle

import h5py
import numpy as np
import pytest
import torch

from morula.core.errors import FileReadError
from morula.core.image import Image
from morula.data import patches
from morula.data.augment.parse import parse_augmentations
from morula.data.loader import collate, make_loader, order
from morula.data.normalise import Normalisation
from morula.data.patches import PatchDataset, Source
from morula.data.sampling import Options
from morula.io.read import read
from morula.testing.errors import raises


@pytest.fixture(scope="module")
def dataset():
    images = [Image(np.random.default_rng(i).random((40, 40)), "YX") for i in range(3)]
    augmentations = parse_augmentations(["flip", {"rotate": {}}, {"gaussian_noise": {"probability": 1}}])
    sampling = Options(patches_per_epoch=11)
    return PatchDataset([Source(image) for image in images], (16, 16), Normalisation((0.0,), (1.0,)), sampling, augmentations, seed=5)


def images(loader):
    return [batch["image"] for batch in loader]


def test_workers_change_nothing(dataset):
    alone = {epoch: images(make_loader(dataset, batch=2, epoch=epoch)) for epoch in (0, 1)}
    for epoch in (0, 1):
        helped = images(make_loader(dataset, batch=2, workers=2, epoch=epoch))
        assert len(helped) == len(alone[epoch]) == 6
        assert all(torch.equal(a, b) for a, b in zip(helped, alone[epoch]))
    seen = {patch.numpy().tobytes() for batches in alone.values() for batch in batches for patch in batch}
    assert len(seen) == 22


def test_restart_continues(dataset):
    whole = images(make_loader(dataset, batch=2, epoch=3))
    rest = make_loader(dataset, batch=2, epoch=3, start=4)
    assert len(rest) == 2
    assert all(torch.equal(a, b) for a, b in zip(images(rest), whole[4:]))
    assert images(make_loader(dataset, batch=2, epoch=3, start=6)) == []


@pytest.mark.parametrize("batch", [1, 2, 3, 4])
def test_ranks_share_the_global_batches(dataset, batch):
    one = images(make_loader(dataset, batch=2 * batch, epoch=1))
    ranks = [images(make_loader(dataset, batch=batch, epoch=1, rank=rank, world=2)) for rank in (0, 1)]
    assert len(one) == len(ranks[0]) == len(ranks[1])
    for whole, even, odd in zip(one, *ranks):
        assert torch.equal(whole[0::2], even)
        if len(whole) > 1:
            assert torch.equal(whole[1::2], odd)
        assert len(odd) >= 1


def test_global_generator_is_unchanged(dataset):
    before = torch.get_rng_state()
    images(make_loader(dataset, batch=4, workers=1))
    assert torch.equal(before, torch.get_rng_state())


def test_order():
    assert sorted(order(0, 0, 50)) == list(range(50))
    assert (order(0, 0, 50) != order(0, 1, 50)).any()
    assert (order(0, 0, 50) != order(1, 0, 50)).any()
    assert (order(0, 0, 50, shuffle=False) == np.arange(50)).all()


def test_labels_become_signed():
    sample = {"image": np.zeros((1, 2, 2), np.float32), "instances": np.full((2, 2), 2**32 - 1, np.uint32)}
    batch = collate([sample | {"name": np.array(name)} for name in "ab"])
    assert batch["name"] == ["a", "b"]
    assert batch["image"].shape == (2, 1, 2, 2)
    assert batch["instances"].dtype == torch.int64
    assert batch["instances"].max() == 2**32 - 1


def test_names_become_a_list():
    assert collate([{"name": np.array("a.tif")}, {"name": np.array("b.tif")}]) == {"name": ["a.tif", "b.tif"]}


class Broken:
    """A file whose later part cannot be read."""

    shape, dtype, ndim = (64, 64), np.dtype(np.uint8), 2

    def __getitem__(self, key):
        raise FileReadError("'a.zarr' cannot be read (chunk c/1/0). Copy it again.")


@pytest.mark.parametrize("workers", [0, 1])
def test_damaged_file_raises_its_own_error(workers, monkeypatch):
    monkeypatch.setattr(patches, "CACHE", 0)
    data = PatchDataset([Source(Image(Broken(), "YX"))], (16, 16), Normalisation((0.0,), (1.0,)))
    with pytest.raises(FileReadError) as caught:
        images(make_loader(data, batch=2, workers=workers))
    assert str(caught.value) == "'a.zarr' cannot be read (chunk c/1/0). Copy it again."


@pytest.mark.parametrize("cache", [0, 2**31])
def test_lazy_sources(cache, tmp_path):
    values = np.random.default_rng(0).integers(0, 999, (8, 40, 40)).astype(np.uint16)
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("raw", data=values, chunks=(4, 16, 16))
    lazy, plain = (
        PatchDataset([Source(image)], (4, 16, 16), Normalisation((0.0,), (1.0,)), cache=cache)
        for image in (read(path, axes="ZYX"), Image(values, "ZYX"))
    )
    found = images(make_loader(lazy, batch=3, workers=2))
    assert all(torch.equal(a, b) for a, b in zip(found, images(make_loader(plain, batch=3))))
    assert isinstance(lazy._layers[0][0].image.data, np.ndarray) == (cache > 0)


def test_dataset_can_be_pickled(dataset):
    twin = pickle.loads(pickle.dumps(dataset))
    assert (twin.sample(1, 2)["image"] == dataset.sample(1, 2)["image"]).all()


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"batch": 0}, "loader.too_small"),
        ({"workers": -1}, "loader.too_small"),
        ({"start": 12}, "loader.start"),
        ({"rank": 2, "world": 2}, "loader.rank"),
    ],
)
def test_errors(dataset, wrong, code):
    with raises(code, key=next(iter(wrong)), value=next(iter(wrong.values()))):
        make_loader(dataset, **{"batch": 1} | wrong)
