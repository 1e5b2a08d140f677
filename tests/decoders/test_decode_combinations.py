"""Every combination of channels that the document names parts touching cells by default."""

from pathlib import Path

import numpy as np
import pytest

from morula.decoders.decode import build_decoder, decode, decode_objects
from morula.decoders.watershed import Options, Watershed
from morula.representations.encode import build_channels, encode
from morula.testing.errors import raises

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "labels" / "channels.npz")
SETS = [
    *(
        "F+D",
        "F+Dn",
        "F+T",
        "F+C+T",
        "F+C+Db+Dn",
        "F+C+D",
        "F+Z+V+H",
        "Dc+F+Z+V+H",
        "F+C+M",
        "A",
        "B+T",
        "D+Z+V+H",
        "D",
        "Db+Z+V+H",
        "F+Dc",
    ),
]


def found(labels, prediction):
    """Share of the objects that are found with an IoU above 0.75."""
    good = []
    for label in np.unique(labels[labels > 0]):
        mask = labels == label
        over = np.bincount(prediction[mask].astype(np.int64))
        over[0] = 0
        top = over.argmax()
        good.append(over[top] > 0.75 * (mask.sum() + (prediction == top).sum() - over[top]))
    return np.mean(good)


@pytest.mark.parametrize("codes", SETS)
@pytest.mark.parametrize("size", ["2d", "3d"])
def test_defaults_part_touching_cells(codes, size):
    labels = GOLDEN[f"labels_{size}"]
    names = codes.split("+")
    ideal = encode(labels, names)
    low = -1 if set(names) & {"H", "V", "Z", "D"} else 0
    noise = np.random.default_rng(0).normal(0, 0.05, ideal.shape)
    for channels in (ideal, np.clip(ideal + noise, low, 1).astype(np.float32)):
        objects = decode_objects(channels, names)
        assert len(objects) == len(np.unique(labels)) - 1
        assert found(labels, objects.labels) > 0.9
        assert ((objects.confidence > 0.3) & (objects.confidence <= 1)).all()
    nothing = encode(np.zeros_like(labels), names)
    assert decode(nothing, names).max() == 0


def test_thresholds_of_channels_that_stand_together():
    labels = GOLDEN["labels_2d"]
    channels = build_channels(["F", "V", "H"])
    decoder = Watershed(Options(seeds={"F": 0.6, "H": 0.5, "V": 0.4}, surface="H"), channels)
    assert decoder.seeds == {"F": 0.6, "offsets": 0.4}
    assert decoder.surface == "offsets"
    low, high = (decode(encode(labels, ["A"]), ["A"], options={"seeds": {"A": t}, "growth": {"A": 0.4}}) for t in (0.2, 0.8))
    np.testing.assert_array_equal(low, high)
    for options in ({"H": {"norm": False}, "V": {"norm": False}},):
        assert decode(encode(labels, ["F", "V", "H"], options), {"F": {}, "V": {"norm": False}, "H": {"norm": False}}).max() == 12


def test_channels_that_the_watershed_cannot_read():
    with raises("decoder.unusable_channels", value="Db, R"):
        build_decoder(build_channels(["Db", "R"]), "watershed")
    with raises("decoder.unusable_channels", value="T"):
        build_decoder(build_channels(["T"]), "watershed")
    with raises("prediction.channel_count", value=(3, 8, 8)):
        decode(np.zeros((3, 8, 8), np.float32), ["F", "V"])
