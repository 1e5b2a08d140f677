"""Keys under ``AUGMENTOR``."""

from __future__ import annotations

from morula.dialects.biapy.table.key import Key, unused
from morula.dialects.converted import Value

# switches; the rows of their probabilities and parameters follow from them below
OBEYED = {
    "ROT90": "rotate90",
    "RANDOM_ROT": "rotate",
    "SHEAR": "shear",
    "ZOOM": "zoom",
    "SHIFT": "shift",
    "VFLIP": "flip",
    "HFLIP": "flip",
    "ZFLIP": "flip",
    "ELASTIC": "elastic",
    "G_BLUR": "blur",
    "GAMMA_CONTRAST": "gamma",
    "BRIGHTNESS": "brightness",
    "CONTRAST": "contrast",
    "CUTOUT": "cutout",
    "GRIDMASK": "gridmask",
    "DROPOUT": "dropout",
    "CUTBLUR": "cutblur",
    "CHANNEL_SHUFFLE": "shuffle_channels",
    "GAUSSIAN_NOISE": "gaussian_noise",
    "POISSON_NOISE": "poisson_noise",
}
"""Augmentations that have a native counterpart, with its name."""
_REFUSED = (
    *("MEDIAN_BLUR", "MOTION_BLUR", "CUTMIX", "CUTNOISE", "MISALIGNMENT", "MISSING_SECTIONS", "GRAYSCALE"),
    *("SALT", "PEPPER", "SALT_AND_PEPPER"),
)
_NO_COUNTERPART = ("cannot be obeyed: this augmentation is not supported", "Leave it out.")
_EM = {"BRIGHTNESS", "CONTRAST"}
"""Augmentations that versions 3.0 to 3.4 had twice, the second time for electron microscopy."""

_NOTES = {
    "SHIFT": "Shifts are drawn from 0 to the upper end of AUGMENTOR.SHIFT_RANGE, in both directions.",
    "ELASTIC": "The strength of elastic deformations is the mean of AUGMENTOR.E_ALPHA.",
    "CONTRAST": "Contrast changes about the mean of the patch; in BiaPy about 0.",
    "GAUSSIAN_NOISE": "The variance of Gaussian noise is drawn from 0 to AUGMENTOR.GAUSSIAN_NOISE_VAR.",
    "POISSON_NOISE": "Poisson noise is that of 30 to 1000 photons in the brightest voxel.",
    "G_BLUR": "The blur is drawn from 0 to the upper end of AUGMENTOR.G_SIGMA.",
    "GRIDMASK": "The grid hides squares with an edge of 1 - GRID_RATIO of its unit, filled with the mean of the patch.",
}
"""What native augmentations do differently."""

_PARAMETERS: dict[str, dict[str, Value]] = {
    "RANDOM_ROT": {"RANDOM_ROT_RANGE": [-180.0, 180.0]},
    "SHEAR": {"SHEAR_RANGE": [-20.0, 20.0]},
    "ZOOM": {"ZOOM_RANGE": [0.5, 1.5], "ZOOM_IN_Z": False},
    "SHIFT": {"SHIFT_RANGE": [0.1, 0.2]},
    "ELASTIC": {"E_ALPHA": [12.0, 16.0], "E_SIGMA": 4.0},
    "G_BLUR": {"G_SIGMA": [1.0, 2.0]},
    "GAMMA_CONTRAST": {"GC_GAMMA": [1.25, 1.75]},
    "BRIGHTNESS": {"BRIGHTNESS_FACTOR": [-0.1, 0.1]},
    "CONTRAST": {"CONTRAST_FACTOR": [-0.1, 0.1]},
    "CUTOUT": {"COUT_NB_ITERATIONS": [1, 3], "COUT_SIZE": [0.05, 0.3]},
    "GRIDMASK": {"GRID_RATIO": 0.6, "GRID_D_RANGE": [0.4, 1.0], "GRID_INVERT": False},
    "DROPOUT": {"DROP_RANGE": [0.0, 0.2]},
    "CUTBLUR": {"CBLUR_SIZE": [0.2, 0.4], "CBLUR_DOWN_RANGE": [2, 8], "CBLUR_INSIDE": True},
    "GAUSSIAN_NOISE": {"GAUSSIAN_NOISE_VAR": 0.05},
}
"""Parameters that are obeyed, by their augmentation."""
_UNUSED_PARAMETERS: dict[str, dict[str, Value]] = {
    "MEDIAN_BLUR": {"MB_KERNEL": (3, 7)},
    "MOTION_BLUR": {"MOTB_K_RANGE": (8, 12)},
    "CUTMIX": {"CMIX_SIZE": (0.2, 0.4)},
    "CUTNOISE": {"CNOISE_SCALE": (0.05, 0.1), "CNOISE_NB_ITERATIONS": (1, 3), "CNOISE_SIZE": (0.2, 0.4)},
    "MISALIGNMENT": {"MS_DISPLACEMENT": 16, "MS_ROTATE_RATIO": 0.5},
    "MISSING_SECTIONS": {"MISSP_CHANNEL_PB": 0.5, "MISSP_ITERATIONS": (10, 30)},
    "GRAYSCALE": {"GRAY_RANGE": (0.0, 1.0)},
    "SALT": {"SALT_AMOUNT": 0.05},
    "PEPPER": {"PEPPER_AMOUNT": 0.05},
    "SALT_AND_PEPPER": {"SALT_AND_PEPPER_AMOUNT": 0.05, "SALT_AND_PEPPER_PROP": 0.5},
}
"""Parameters of augmentations that are not supported."""

AUGMENTOR: tuple[Key, ...] = (
    Key("AUGMENTOR.ENABLE", False, target="augment"),
    *(
        Key(
            f"AUGMENTOR.{name}",
            False,
            target=f"augment.{native}",
            condition="AUGMENTOR.ENABLE",
            note=_NOTES.get(name, ""),
            earlier_names=(f"AUGMENTOR.{name}_EM",) if name in _EM else (),
        )
        for name, native in OBEYED.items()
    ),
    # former versions had one probability for all augmentations
    *(
        Key(
            f"AUGMENTOR.{name}_PROB",
            0.5,
            target=f"augment.{native}.probability",
            condition=f"AUGMENTOR.{name}",
            earlier_names=("AUGMENTOR.DA_PROB",),
        )
        for name, native in OBEYED.items()
    ),
    *(
        Key(
            f"AUGMENTOR.{parameter}",
            default,
            target=f"augment.{OBEYED[name]}",
            condition=f"AUGMENTOR.{name}",
            earlier_names=(f"AUGMENTOR.{name}_EM_FACTOR",) if name in _EM else (),
        )
        for name, parameters in _PARAMETERS.items()
        for parameter, default in parameters.items()
    ),
    # refused instead of ignored: the training would not be the one that the job describes
    *(Key(f"AUGMENTOR.{name}", False, condition="AUGMENTOR.ENABLE", refuse=_NO_COUNTERPART) for name in _REFUSED),
    *(
        row
        for name, parameters in _UNUSED_PARAMETERS.items()
        for row in unused("AUGMENTOR", parameters, f"AUGMENTOR.{name} is not set", former=name == "GRAYSCALE")
    ),
    *(
        Key(f"AUGMENTOR.{name}_PROB", 0.5, no_effect=f"AUGMENTOR.{name} is not set", earlier_names=("AUGMENTOR.DA_PROB",))
        for name in _REFUSED
    ),
    Key(
        "AUGMENTOR.GAUSSIAN_NOISE_MEAN",
        0.0,
        condition="AUGMENTOR.GAUSSIAN_NOISE",
        refuse=("cannot be obeyed: noise has the mean 0", "Leave it out, and add AUGMENTOR.BRIGHTNESS."),
    ),
    Key(
        "AUGMENTOR.GAUSSIAN_NOISE_USE_INPUT_IMG_MEAN_AND_VAR",
        False,
        condition="AUGMENTOR.GAUSSIAN_NOISE",
        refuse=("cannot be obeyed: noise has the stated variance", "Write AUGMENTOR.GAUSSIAN_NOISE_VAR."),
    ),
    Key(
        "AUGMENTOR.COUT_APPLY_TO_MASK",
        False,
        condition="AUGMENTOR.CUTOUT",
        refuse=("cannot be obeyed: labels stay under the boxes that are cut out", "Leave it out."),
    ),
    # no error for what only affects the voxels at the border of a patch, or how boxes are filled
    Key("AUGMENTOR.GRID_ROTATE", 1.0, no_effect="the grid is parallel to the axes"),
    Key("AUGMENTOR.COUT_CVAL", 0.0, no_effect="boxes are filled with the mean of the patch"),
    Key("AUGMENTOR.AFFINE_MODE", "reflect", no_effect="what comes in from outside the patch is reflected", as_done=("reflect",)),
    Key("AUGMENTOR.E_MODE", "reflect", no_effect="what comes in from outside the patch is reflected", as_done=("reflect",)),
    *(
        Key(f"AUGMENTOR.{name}", "3D", no_effect="the change is the same in all planes of a patch", former=True)
        for name in ("BRIGHTNESS_MODE", "CONTRAST_MODE", "BRIGHTNESS_EM_MODE", "CONTRAST_EM_MODE")
    ),
    *unused(
        "AUGMENTOR",
        {"AUG_SAMPLES": True, "AUG_NUM_SAMPLES": 10},
        "previews of augmented patches are in logs/previews of the run folder; `morula run --config` writes the folder aug, too",
        of_tree=True,
    ),
    Key("AUGMENTOR.DRAW_GRID", True, no_effect="samples are written without a grid"),
    Key("AUGMENTOR.SHUFFLE_TRAIN_DATA_EACH_EPOCH", True, no_effect="training patches are always shuffled", as_done=(True,)),
    Key("AUGMENTOR.SHUFFLE_VAL_DATA_EACH_EPOCH", False, no_effect="the order of validation patches does not change their scores"),
)
"""Rows of the keys under ``AUGMENTOR``."""
