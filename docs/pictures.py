"""Draw the pictures of the documentation: `python docs/pictures.py [NAME ...]` writes them into docs/images.

Every picture is made from images that `morula.testing.simulate` draws with a fixed seed, so a new run gives the same pictures. A picture
is a row of panels on a transparent background; its captions are readable on a light and on a dark page.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image as Picture
from PIL import ImageDraw, ImageFont
from scipy import ndimage

import morula
from morula.decoders.decode import decode_objects
from morula.report.pictures import edges, object_colour
from morula.testing.simulate import Simulated, simulate
from morula.testing.varied import varied_volume

FOLDER = Path(__file__).parent / "images"
SIDE, GAP, CAPTION = 264, 14, 30
"""Pixels: height of a panel, space between panels, space for a caption."""
GREY = (112, 126, 133, 255)
"""Colour of captions and arrows: the contrast is sufficient on white and on dark grey."""

# Colour maps as anchor colours from the lowest to the highest value.
SEQUENTIAL = ((12, 8, 38), (86, 16, 110), (187, 55, 84), (249, 142, 8), (252, 255, 164))
DIVERGING = ((38, 110, 190), (132, 182, 222), (24, 24, 30), (240, 158, 110), (200, 50, 40))


class Panel(NamedTuple):
    """One panel: its caption and its pixels (Y, X, 3) uint8."""

    caption: str
    pixels: np.ndarray


@cache
def nuclei() -> Simulated:
    """Touching nuclei in 2D."""
    return simulate("nuclei", shape=(88, 88), n_objects=10, rng=np.random.default_rng(21), coverage=0.42, touching=0.9)


@cache
def volume() -> Simulated:
    """Touching nuclei in 3D; voxels are twice as long along z."""
    return simulate(
        "nuclei", shape=(44, 88, 88), n_objects=26, rng=np.random.default_rng(5), spacing=(2, 1, 1), coverage=0.35, touching=0.9
    )


def colour_map(values: np.ndarray, low: float, high: float, anchors: Sequence[tuple[int, int, int]] = SEQUENTIAL) -> np.ndarray:
    """Values (Y, X) as colours (Y, X, 3) uint8, linear between `low` and `high`."""
    position = np.clip((values - low) / (high - low), 0, 1)
    steps = np.linspace(0, 1, len(anchors))
    return np.stack([np.interp(position, steps, channel) for channel in np.array(anchors).T], axis=-1).astype(np.uint8)


def image_panel(image: np.ndarray, caption: str = "image") -> Panel:
    """Grey levels between the 1st and the 99.8th percentile."""
    low, high = np.percentile(image, (1, 99.8))
    grey = (255 * np.clip((image - low) / (high - low), 0, 1)).astype(np.uint8)
    return Panel(caption, np.repeat(grey[..., None], 3, axis=-1))


def labels_panel(labels: np.ndarray, caption: str = "labels") -> Panel:
    """One colour per object on black, with a dark line around each object."""
    colours = np.array([(0, 0, 0), *(object_colour(label) for label in range(1, int(labels.max()) + 1))], np.uint8)
    big = enlarged(labels)
    pixels = colours[big]
    pixels[edges(big, thickness=1)] = 0
    return Panel(caption, pixels)


def outline_panel(image: np.ndarray, labels: np.ndarray, caption: str) -> Panel:
    """The image with a coloured outline around every object."""
    pixels = enlarged(image_panel(image).pixels).copy()
    big = enlarged(labels)
    line = edges(big, thickness=2)
    colours = np.array([(0, 0, 0), *(object_colour(label) for label in range(1, int(labels.max()) + 1))], np.uint8)
    pixels[line] = colours[big][line]
    return Panel(caption, pixels)


def channel_panel(values: np.ndarray, caption: str) -> Panel:
    """A channel: black to yellow from 0, blue to red where values are negative, too."""
    low, high = float(values.min()), float(values.max())
    if low < 0:
        limit = max(-low, high)
        return Panel(caption, colour_map(values, -limit, limit, DIVERGING))
    return Panel(caption, colour_map(values, 0.0, max(high, 1e-6)))


def direction_panel(along_y: np.ndarray, along_x: np.ndarray, caption: str) -> Panel:
    """A vector field: the hue is the direction, the brightness the length."""
    hue = (np.arctan2(along_y, along_x) / (2 * np.pi)) % 1.0
    length = np.hypot(along_y, along_x)
    hsv = np.stack([255 * hue, np.full_like(hue, 190), 255 * np.clip(length / max(length.max(), 1e-6), 0, 1)], axis=-1)
    return Panel(caption, np.asarray(Picture.fromarray(hsv.astype(np.uint8), mode="HSV").convert("RGB")))


def enlarged(plane: np.ndarray) -> np.ndarray:
    """A plane (Y, X[, 3]) repeated to the height of a panel; pixels stay visible as squares."""
    if plane.shape[0] >= SIDE:
        return plane
    factor = SIDE // plane.shape[0]
    return plane.repeat(factor, axis=0).repeat(factor, axis=1)


def draw(panels: Sequence[Panel], arrows: Sequence[int] = ()) -> Picture.Image:
    """The panels side by side with their captions above, on a transparent background; an arrow before each panel of these numbers."""
    tiles = [enlarged(panel.pixels) for panel in panels]
    gaps = [3 * GAP if number in arrows else GAP for number in range(1, len(tiles))] + [0]
    width = sum(tile.shape[1] for tile in tiles) + sum(gaps)
    sheet = Picture.new("RGBA", (width, max(tile.shape[0] for tile in tiles) + CAPTION), (0, 0, 0, 0))
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(18)
    left = 0
    for number, (panel, tile) in enumerate(zip(panels, tiles, strict=True)):
        pen.text((left, 2), panel.caption, fill=GREY, font=font)
        sheet.paste(Picture.fromarray(tile), (left, CAPTION))
        left += tile.shape[1]
        gap = gaps[number]
        if number + 1 in arrows:
            middle = CAPTION + tile.shape[0] // 2
            pen.line((left + 8, middle, left + gap - 14, middle), fill=GREY, width=3)
            pen.polygon([(left + gap - 16, middle - 7), (left + gap - 6, middle), (left + gap - 16, middle + 7)], fill=GREY)
        left += gap
    return sheet


def predicted(labels: np.ndarray, channels: Any, noise: float = 0.06, blur: float = 0.7) -> np.ndarray:
    """Channels as a network might predict them: encoded from the labels, slightly blurred, with noise."""
    encoded = np.asarray(morula.encode(labels, channels), np.float32)
    rng = np.random.default_rng(0)
    blurred = np.stack([ndimage.gaussian_filter(channel, blur) for channel in encoded])
    return (blurred + rng.normal(0, noise, encoded.shape)).astype(np.float32)


# --- channels ---------------------------------------------------------------------------------------------------------------------------


def channel(
    code: str, options: Mapping[str, Any] | None = None, captions: Sequence[str] = (), shown: Sequence[int] = (0,)
) -> Picture.Image:
    """The labels and some of the channels that a code stands for."""
    labels = nuclei().labels
    encoded = morula.encode(labels, {code: dict(options or {})})
    captions = captions or (code,)
    return draw([labels_panel(labels), *(channel_panel(encoded[i], text) for i, text in zip(shown, captions, strict=True))])


def channel_flow() -> Picture.Image:
    """G: both components and the direction as a hue."""
    labels = nuclei().labels
    along_y, along_x = morula.encode(labels, ["G"])
    parts = [channel_panel(along_y, "G along y"), channel_panel(along_x, "G along x"), direction_panel(along_y, along_x, "direction (hue)")]
    return draw([labels_panel(labels), *parts])


def channel_depth() -> Picture.Image:
    """Z: a vertical section through a volume."""
    scene = volume()
    section = int(np.argmax((scene.labels > 0).sum(axis=(0, 2))))
    labels = scene.labels[:, section].repeat(2, axis=0)
    encoded = morula.encode(scene.labels, ["Z"], voxel_size=(2, 1, 1))[0, :, section].repeat(2, axis=0)
    return draw([labels_panel(labels, "labels, section zx"), channel_panel(encoded, "Z, section zx")])


def channel_rays() -> Picture.Image:
    """R: three of 32 rays, and all rays of one voxel per object."""
    labels = nuclei().labels
    encoded = morula.encode(labels, {"R": {"nrays": 32, "norm": False}})
    panels = [channel_panel(encoded[i], f"R, ray {i} of 32") for i in (0, 8)]
    return draw([labels_panel(labels), *panels, Panel("32 rays of one pixel per object", _stars(labels, encoded))])


def _stars(labels: np.ndarray, rays: np.ndarray) -> np.ndarray:
    """The rays from the centre of every object, drawn on its labels."""
    pixels = labels_panel(labels).pixels // 2
    factor = SIDE // labels.shape[0]
    sheet = Picture.fromarray(pixels)
    pen = ImageDraw.Draw(sheet)
    angles = np.arange(len(rays)) * 2 * np.pi / len(rays)
    for label in range(1, int(labels.max()) + 1):
        y, x = (round(float(mean)) for mean in np.argwhere(labels == label).mean(axis=0))
        start = ((x + 0.5) * factor, (y + 0.5) * factor)
        for ray, angle in zip(rays[:, y, x].tolist(), angles.tolist(), strict=True):
            end = (start[0] + ray * factor * np.cos(angle), start[1] + ray * factor * np.sin(angle))
            pen.line((*start, *end), fill=(255, 255, 255))
    return np.asarray(sheet)


CHANNELS: Mapping[str, Callable[[], Picture.Image]] = {
    "F": partial(channel, "F"),
    "B": partial(channel, "B"),
    "P": partial(channel, "P", {"dilation": 2}),
    "C": partial(channel, "C"),
    "Db": partial(channel, "Db"),
    "Dc": partial(channel, "Dc"),
    "T": partial(channel, "T"),
    "D": partial(channel, "D"),
    "Dn": partial(channel, "Dn"),
    "H": partial(channel, "H"),
    "V": partial(channel, "V"),
    "Z": channel_depth,
    "R": channel_rays,
    "E": partial(channel, "E", {}, ("E, offset along x", "E, offset along y"), (0, 1)),
    "A": partial(channel, "A", {"reach": [1, 5]}, ("A, 1 pixel above", "A, 5 pixels above"), (0, 2)),
    "G": channel_flow,
    "M": partial(channel, "M"),
}

# --- decoders ---------------------------------------------------------------------------------------------------------------------------


def decoder(name: str, channels: Any, inputs: Mapping[str, int], intermediates: Mapping[str, str], noise: float = 0.06) -> Picture.Image:
    """Channels, what the decoder derives from them, and the objects.

    Args:
        name: of the decoder.
        channels: codes with their options.
        inputs: caption and number of each channel that is shown.
        intermediates: name and caption of the intermediate images that are shown.
        noise: standard deviation of the noise on the channels.
    """
    labels = nuclei().labels
    prediction = predicted(labels, channels, noise)
    objects = decode_objects(prediction, channels, name)
    panels = [channel_panel(np.clip(prediction[number], 0, None), caption) for caption, number in inputs.items()]
    panels += [_intermediate(objects.intermediates[key], caption) for key, caption in intermediates.items()]
    return draw([*panels, labels_panel(objects.labels, "objects")], range(len(inputs), len(panels) + 1))


def _intermediate(values: np.ndarray, caption: str) -> Panel:
    """Labels in one colour per object, everything else like a channel."""
    if values.dtype == np.bool_ or values.dtype.kind == "f":
        return channel_panel(values.astype(np.float32) - min(0.0, float(values.min())), caption)
    return labels_panel(values.astype(np.int64), caption)


def decoder_flows() -> Picture.Image:
    """F and the direction of G, where the paths end, and the objects."""
    labels = nuclei().labels
    prediction = predicted(labels, ["F", "G"], 0.04)
    objects = decode_objects(prediction, ["F", "G"], "flows")
    panels = [channel_panel(prediction[0].clip(0), "F"), direction_panel(prediction[1], prediction[2], "direction of G")]
    ends = ndimage.grey_dilation(objects.intermediates["ends"].astype(np.float32), size=2)
    return draw([*panels, channel_panel(np.minimum(ends, 12), "end points"), labels_panel(objects.labels, "objects")], (2, 3))


def decoder_stardist() -> Picture.Image:
    """Db, one ray, the centres that survive the non-maximum suppression, and the objects."""
    labels = nuclei().labels
    channels = {"Db": {}, "R": {"nrays": 32}}
    prediction = predicted(labels, channels, 0.01)
    objects = decode_objects(prediction, channels, "stardist")
    centres = ndimage.grey_dilation(objects.intermediates["centres"].astype(np.int64), size=3)
    panels = [channel_panel(prediction[0].clip(0), "Db"), channel_panel(prediction[1].clip(0), "R, ray 0")]
    return draw([*panels, labels_panel(centres, "chosen centres"), labels_panel(objects.labels, "objects")], (2, 3))


def decoder_agglomeration() -> Picture.Image:
    """Affinities whose noise splits the objects into fragments, the fragments, and the objects."""
    prediction = predicted(nuclei().labels, ["A"], noise=0.07, blur=0.3)
    objects = decode_objects(prediction, ["A"], "agglomeration")
    panels = [
        channel_panel(prediction[0].clip(0), "A, first offset"),
        labels_panel(objects.intermediates["fragments"].astype(np.int64), "fragments"),
    ]
    return draw([*panels, labels_panel(objects.labels, "objects")], (1, 2))


def decoder_embedseg() -> Picture.Image:
    """The predicted centre of every pixel, the seediness and the objects."""
    labels = nuclei().labels
    prediction = np.asarray(morula.encode(labels, ["E"]), np.float32)
    objects = decode_objects(prediction, ["E"], "embedseg")
    panels = [channel_panel(prediction[0], "E, offset along x"), channel_panel(prediction[1], "E, offset along y")]
    panels.append(channel_panel(prediction[-1], "E, seediness"))
    return draw([*panels, labels_panel(objects.labels, "objects")], (3,))


def decoder_of_foreground(name: str) -> Picture.Image:
    """A foreground probability that is lower near the boundary of each object, the seeds, and the objects."""
    labels = nuclei().labels
    depth = np.asarray(morula.encode(labels, {"Db": {"norm": False}}), np.float32)
    noise = np.random.default_rng(0).normal(0, 0.02, depth.shape)
    prediction = np.clip(ndimage.gaussian_filter(1 - np.exp(-0.55 * depth), (0, 0.7, 0.7)) + noise, 0, 1).astype(np.float32)
    objects = decode_objects(prediction, ["F"], name)
    seeds = ndimage.grey_dilation(objects.intermediates["seeds"].astype(np.int64), size=3 if name == "voronoi_otsu" else 1)
    return draw([channel_panel(prediction[0], "F"), labels_panel(seeds, "seeds"), labels_panel(objects.labels, "objects")], (1, 2))


AFFINITIES = {"A": {"reach": [1, 5]}}
DECODERS: Mapping[str, Callable[[], Picture.Image]] = {
    "watershed": partial(decoder, "watershed", ["F", "C"], {"F": 0, "C": 1}, {"seeds": "seeds"}),
    "embedseg": decoder_embedseg,
    "mutex_watershed": partial(decoder, "mutex_watershed", AFFINITIES, {"A, 1 pixel above": 0, "A, 5 pixels above": 2}, {}),
    "agglomeration": decoder_agglomeration,
    "voronoi_otsu": partial(decoder_of_foreground, "voronoi_otsu"),
    "seeded_watershed": partial(decoder_of_foreground, "seeded_watershed"),
    "connected_components": partial(decoder, "connected_components", ["F"], {"F": 0}, {}),
    "stardist": decoder_stardist,
    "flows": decoder_flows,
}


def home() -> Picture.Image:
    """The way of an image: image, predicted channels, objects."""
    scene = simulate("nuclei", shape=(132, 132), n_objects=26, rng=np.random.default_rng(3), coverage=0.4, touching=0.8)
    codes = ["F", "C", "Db"]
    prediction = predicted(scene.labels, codes, 0.04)
    objects = decode_objects(prediction, codes, "watershed").labels
    panels = [image_panel(scene.image), *(channel_panel(prediction[i].clip(0), code) for i, code in enumerate(codes))]
    return draw([*panels, outline_panel(scene.image, objects, f"{int(objects.max())} objects")], (1, len(panels)))


def simulated_volumes() -> Picture.Image:
    """Middle planes of volumes as the model `nuclei-3d` is trained on, and the labels of one of them."""
    volumes = [varied_volume(10, (44, 88, 88), np.random.default_rng((0, 0, index))) for index in (24, 25, 27, 32, 33)]
    panels = [image_panel(made.image[len(made.image) // 2, :88, :88], "") for made in volumes]
    return draw([*panels, labels_panel(volumes[-1].labels[22, :88, :88], "labels of the last one")])


PICTURES: Mapping[str, Callable[[], Picture.Image]] = {
    "home": home,
    "simulated-volumes": simulated_volumes,
    **{f"channel-{code}": draw_channel for code, draw_channel in CHANNELS.items()},
    **{f"decoder-{name}": draw_decoder for name, draw_decoder in DECODERS.items()},
}


def main(names: Sequence[str]) -> None:
    """Write the named pictures, or all of them."""
    FOLDER.mkdir(exist_ok=True)
    for name in names or PICTURES:
        PICTURES[name]().save(FOLDER / f"{name}.webp", "webp", quality=88, method=6)


if __name__ == "__main__":
    main(sys.argv[1:])
