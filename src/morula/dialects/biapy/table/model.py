"""Keys under ``MODEL``, ``LOSS`` and ``PATHS``."""

from __future__ import annotations

from morula.dialects.biapy.table.key import Former, Key, same, unused
from morula.dialects.converted import Value

LEVELS = "unet|resunet|resunet++|attention_unet|seunet|resunet_se|unext_v1|unext_v2"
"""Architectures whose levels are stated one by one."""
_TRANSFORMERS = "MODEL.ARCHITECTURE=unetr|mae"
_UNETR = "MODEL.ARCHITECTURE=unetr"
_RCAN = "MODEL.ARCHITECTURE=rcan"
_HRNET = "MODEL.ARCHITECTURE=hrnet|hrnet18|hrnet32|hrnet48|hrnet64"
_SAME_GRID = "networks keep the grid of their input; with SUPER_RESOLUTION images are interpolated to that of their targets first"
_HRNET_CUSTOM = "MODEL.HRNET.VARIANT=custom"
_WIDTHS = ("HRNET_18", "HRNET_32", "HRNET_48", "HRNET_64")
_PRESETS = ("custom", "mini", "small", "base")
_EXPORT = "a finished run is exported with `morula export`"
_ELSEWHERE = "it belongs to an architecture that is not supported"


def _normalization(value: Value) -> Value:
    """Former versions had a switch for batch normalisation."""
    return "bn" if value is True else "none"


def _channels_of_rcan(value: Value) -> Value:
    # the native network states features per level, and this one has a single level
    return [value]


def _by_width(name: str) -> tuple[str, ...]:
    """Former versions had a section for each width of HRNet."""
    return tuple(f"MODEL.{section}.{name}" for section in _WIDTHS)


_ARCHITECTURE = (
    Key(
        "MODEL.SOURCE",
        "biapy",
        refuse=(
            "cannot be obeyed: only networks of MODEL.ARCHITECTURE are supported",
            "Leave it out, and name an architecture. `morula segment IMAGES --model PACKAGE` predicts with packages of bioimage.io.",
        ),
    ),
    Key("MODEL.ARCHITECTURE", "unet", target="network"),
    Key("MODEL.FEATURE_MAPS", [16, 32, 64, 128, 256], target="network.features", condition=f"MODEL.ARCHITECTURE={LEVELS}"),
    Key("MODEL.DROPOUT_VALUES", [0.0], target="network.dropout", condition=f"MODEL.ARCHITECTURE={LEVELS}|unetr"),
    Key(
        "MODEL.NORMALIZATION",
        "in",
        ("in", "bn", "sync_bn", "gn", "none"),
        target="network.norm",
        condition=f"MODEL.ARCHITECTURE={LEVELS}|unetr|hrnet",
        earlier_names=(Former("MODEL.BATCH_NORMALIZATION", _normalization),),
    ),
    Key(
        "MODEL.KERNEL_SIZE",
        3,
        target="network.kernels",
        condition=f"MODEL.ARCHITECTURE={LEVELS}|unetr",
        earlier_names=("MODEL.UNETR_DEC_KERNEL_SIZE",),
    ),
    Key("MODEL.UPSAMPLE_LAYER", "convtranspose", ("convtranspose", "upsampling"), target="network.upsample"),
    Key(
        "MODEL.ACTIVATION",
        "elu",
        target="network.activation",
        condition=f"MODEL.ARCHITECTURE={LEVELS}|unetr|hrnet",
        earlier_names=("MODEL.UNETR_DEC_ACTIVATION",),
    ),
    Key("MODEL.KERNEL_INIT", "he_normal", no_effect="each network initialises its weights by itself", former=True),
    Key("MODEL.SPATIAL_DROPOUT", False, no_effect="dropout always takes whole channels", former=True),
    # an activation that does not fit the channels would make their thresholds meaningless
    Key("MODEL.LAST_ACTIVATION", "", no_effect="the last activation follows from what is predicted", former=True),
    Key("MODEL.Z_DOWN", [0], target="network.pools", condition="PROBLEM.NDIM=3D"),
    Key("MODEL.YX_DOWN", [0], target="network.pools"),
    Key("MODEL.ISOTROPY", [True], target="network.kernels", condition="PROBLEM.NDIM=3D"),
    Key(
        "MODEL.LARGER_IO",
        False,
        refuse=("cannot be obeyed: the first and last convolutions have the kernels of their level", "Raise MODEL.KERNEL_SIZE."),
    ),
    Key("MODEL.CONV_LAYERS", [2], target="network.convolutions", earlier_names=("MODEL.CONVNEXT_LAYERS",)),
    Key("MODEL.CONV_BLOCK_ORDER", "conv_norm_act", ("conv_norm_act", "norm_act_conv"), target="network"),
    Key("MODEL.CONVNEXT_SD_PROB", 0.1, target="network.drop_blocks", condition="MODEL.ARCHITECTURE=unext_v1|unext_v2", convert=same),
    Key("MODEL.CONVNEXT_LAYER_SCALE", 1e-6, target="network.layer_scale", condition="MODEL.ARCHITECTURE=unext_v1", convert=same),
    Key("MODEL.CONVNEXT_STEM_K_SIZE", 2, target="network.stem", condition="MODEL.ARCHITECTURE=unext_v1|unext_v2", convert=same),
)

_TRANSFORMER = (
    Key("MODEL.UNETR_VIT_MODEL", "custom", _PRESETS, target="network.preset", condition=_UNETR),
    Key("MODEL.VIT_MODEL", "custom", _PRESETS, target="network.preset", condition=_TRANSFORMERS),
    Key("MODEL.UNETR_VIT_HIDD_MULT", -1, target="network.every", condition=_UNETR),
    Key("MODEL.UNETR_VIT_NUM_FILTERS", 16, target="network.features", condition=_UNETR, convert=same),
    Key("MODEL.VIT_TOKEN_SIZE", 16, target="network.token", condition=_TRANSFORMERS, convert=same),
    Key("MODEL.VIT_EMBED_DIM", 768, target="network.width", condition=_TRANSFORMERS),
    Key("MODEL.VIT_NUM_LAYERS", 12, target="network.layers", condition=_TRANSFORMERS),
    Key("MODEL.VIT_NUM_HEADS", 12, target="network.heads", condition=_TRANSFORMERS),
    Key("MODEL.VIT_MLP_RATIO", 4.0, target="network.mlp_ratio", condition=_TRANSFORMERS),
    Key("MODEL.VIT_NORM_EPS", 1e-6, no_effect="1e-6 is added under the root of the normalisation of tokens", as_done=(1e-6,)),
    Key("MODEL.VIT_PRETRAINED_WEIGHTS", "", no_effect="weights to start from are named by PATHS.CHECKPOINT_FILE"),
    *unused(
        "MODEL",
        {"MAE_DEC_HIDDEN_SIZE": 512, "MAE_DEC_NUM_LAYERS": 8, "MAE_DEC_NUM_HEADS": 16, "MAE_DEC_MLP_DIMS": 2048},
        "the decoder has a width of 512, 8 layers and 16 heads, as BiaPy builds it whatever the file says",
    ),
    Key("MODEL.MAE_MASK_TYPE", "grid", ("grid", "random"), target="method.mask", condition="MODEL.ARCHITECTURE=mae"),
    Key("MODEL.MAE_MASK_RATIO", 0.5, target="method.ratio", condition="MODEL.MAE_MASK_TYPE=random"),
)

_OTHER_NETWORKS = (
    Key("MODEL.RCAN_RG_BLOCK_NUM", 10, target="network.groups", condition=_RCAN, convert=same),
    Key("MODEL.RCAN_RCAB_BLOCK_NUM", 20, target="network.blocks", condition=_RCAN, convert=same),
    Key("MODEL.RCAN_CONV_FILTERS", 16, target="network.features", condition=_RCAN, convert=_channels_of_rcan),
    Key("MODEL.RCAN_REDUCTION_RATIO", 16, target="network.reduction", condition=_RCAN, convert=same),
    Key("MODEL.RCAN_UPSCALING_LAYER", True, no_effect=_SAME_GRID),
    Key("MODEL.UNET_SR_UPSAMPLE_POSITION", "pre", no_effect=_SAME_GRID),
    Key("MODEL.HRNET.VARIANT", "W48", ("W18", "W32", "W48", "W64", "custom"), target="network.features", condition=_HRNET),
    *(
        Key(
            f"MODEL.HRNET.{name}",
            usual,
            refuse=(f"cannot be obeyed: only {usual} is supported", f"Write {usual}, or leave it out."),
            condition=_HRNET,
            earlier_names=_by_width(name),
        )
        for name, usual in (("HEAD_TYPE", "FCN"), ("BLOCK_TYPE", "BASIC"))
    ),
    Key("MODEL.HRNET.Z_DOWN", [0, 0, 0], target="network.pools", condition=_HRNET_CUSTOM),
    Key("MODEL.HRNET.YX_DOWN", [0, 0, 0], target="network.pools", condition=_HRNET_CUSTOM),
    Key("MODEL.HRNET.NUM_MODULES", [1, 4, 3], target="network.modules", condition=_HRNET_CUSTOM),
    Key("MODEL.HRNET.NUM_BLOCKS", [[4, 4], [4, 4, 4], [4, 4, 4, 4]], target="network.blocks", condition=_HRNET_CUSTOM),
    Key("MODEL.HRNET.NUM_CHANNELS", [[18, 36], [18, 36, 72], [18, 36, 72, 144]], target="network.features", condition=_HRNET_CUSTOM),
    *unused("MODEL.HRNET", {"NUM_STAGES": 3, "NUM_BRANCHES": [2, 3, 4]}, "MODEL.HRNET.NUM_CHANNELS shows it"),
    # versions 3.5 and 3.6 had one switch for all steps along z, a section per width, and one per stage
    Key(
        "MODEL.HRNET_48.Z_DOWN",
        True,
        target="network.pools",
        condition="PROBLEM.NDIM=3D",
        earlier_names=tuple(name for name in _by_width("Z_DOWN") if "48" not in name),
        former=True,
    ),
    Key(
        "MODEL.HRNET.CUSTOM",
        False,
        refuse=(
            "cannot be obeyed: stages are stated as in 3.7",
            "Write MODEL.HRNET.VARIANT custom, NUM_MODULES, NUM_BLOCKS, NUM_CHANNELS.",
        ),
        condition=_HRNET,
        earlier_names=_by_width("CUSTOM"),
        former=True,
    ),
    *(
        Key(f"MODEL.{section}.STAGE{stage}.{name}", default, no_effect="MODEL.ARCHITECTURE says how wide HRNet is", former=True)
        for section in ("HRNET", *_WIDTHS)
        for stage in (1, 2, 3, 4)
        for name, default in (
            *(("NUM_MODULES", 1), ("NUM_BRANCHES", 1), ("NUM_BLOCKS", [4]), ("NUM_CHANNELS", [18]), ("BLOCK", "BASIC")),
            ("FUSE_METHOD", "SUM"),
        )
    ),
    # listed, though the architectures are refused: a job file that BiaPy has written holds all keys with their defaults
    *unused(
        "MODEL.STUNET",
        {
            "VARIANT": "base",
            "PRETRAINED": False,
            "DEPTH": [1, 1, 1, 1, 1, 1],
            "DIMS": [32, 64, 128, 256, 512, 512],
            "POOL_OP_KERNEL_SIZES": [[2, 2, 2], [2, 2, 2], [2, 2, 2], [2, 2, 2], [1, 1, 1]],
            "CONV_KERNEL_SIZES": [[3, 3, 3]] * 6,
        },
        _ELSEWHERE,
    ),
    *unused(
        "MODEL.NAFNET",
        {
            "MIDDLE_BLK_NUM": 12,
            "ENC_BLK_NUMS": [2, 2, 4, 8],
            "DEC_BLK_NUMS": [2, 2, 2, 2],
            "DW_EXPAND": 2,
            "FFN_EXPAND": 2,
            "ARCHITECTURE_D": "patchgan",
            "PATCHGAN.BASE_FILTERS": 64,
            "GENERATOR_BACKBONE": "nafnet",
        },
        _ELSEWHERE,
    ),
    Key("MODEL.TORCHVISION_MODEL_NAME", "", no_effect="MODEL.SOURCE is biapy"),
)

_STORED = (
    Key("MODEL.LOAD_CHECKPOINT", False, target="network.from"),
    *unused("MODEL", {"ITEMS_TO_LOAD_FROM_CHECKPOINT": ["weights", "norm", "model_arch"]}, "weights are loaded; the job states the rest"),
    *unused(
        "MODEL",
        {"LOAD_CHECKPOINT_ONLY_WEIGHTS": True, "LOAD_MODEL_FROM_CHECKPOINT": True},
        "weights are loaded; the job states the rest",
        former=True,
    ),
    Key("MODEL.LOAD_CHECKPOINT_EPOCH", "best_on_val", no_effect="the checkpoint is named by PATHS.CHECKPOINT_FILE"),
    # the names are printed, so that a wrong checkpoint is noticed without the switch
    Key("MODEL.SKIP_UNMATCHED_LAYERS", False, no_effect="layers that do not fit the network are always left out, and named"),
    # safetensors cannot run code when it is loaded, which a pickled checkpoint can
    Key("MODEL.OUT_CHECKPOINT_FORMAT", "pth", no_effect="models are stored as safetensors in model/ of the run folder"),
    Key("MODEL.SAVE_CKPT_FREQ", -1, no_effect="checkpoints to resume from are written after every epoch"),
    Key(
        "MODEL.FREEZE_LAYERS_MATCHING",
        [],
        target="training.freeze",
        refuse=("cannot be obeyed: layers have other names", "Convert the job with `morula convert`, and write training.freeze into it."),
    ),
    Key("MODEL.BMZ.SOURCE_MODEL_ID", "", no_effect="MODEL.SOURCE is biapy", earlier_names=("MODEL.BMZ.SOURCE_MODEL_DOI",)),
    *unused(
        "MODEL.BMZ.EXPORT_MODEL",
        {
            "ENABLE": False,
            "NAME": "",
            "DESCRIPTION": "",
            "AUTHORS": [],
            "LICENSE": "CC-BY-4.0",
            "DOCUMENTATION": "",
            "TAGS": [],
            "CITE": [],
        },
        _EXPORT,
        former=True,
    ),
    *unused(
        "MODEL.BMZ",
        {
            "EXPORT.ENABLE": False,
            "EXPORT.MODEL_NAME": "",
            "EXPORT.DESCRIPTION": "",
            "EXPORT.AUTHORS": [],
            "EXPORT.LICENSE": "CC-BY-4.0",
            "EXPORT.DOCUMENTATION": "",
            "EXPORT.TAGS": [],
            "EXPORT.CITE": [],
            "EXPORT.DATASET_INFO": [{}],
            "EXPORT.MODEL_VERSION": "0.1.0",
            "EXPORT.REUSE_BMZ_CONFIG": False,
        },
        _EXPORT,
    ),
)

MODEL: tuple[Key, ...] = (*_ARCHITECTURE, *_TRANSFORMER, *_OTHER_NETWORKS, *_STORED)
"""Rows of the keys under ``MODEL``."""

_OWN_LOSS = "masking has a loss of its own, the mean squared error of the hidden boxes"
_WITH_LOSSES = "PROBLEM.TYPE=SELF_SUPERVISED|SEMANTIC_SEG|IMAGE_TO_IMAGE|DENOISING|SUPER_RESOLUTION"
_ONE_CLASS = "DATA.N_CLASSES is 2: objects have one class"
LOSS: tuple[Key, ...] = (
    *(Key(f"LOSS.{name}", [], target="method.losses", condition=_WITH_LOSSES, no_effect=_OWN_LOSS) for name in ("TYPE", "WEIGHTS")),
    Key("LOSS.CLASS_REBALANCE", "none", ("none", "auto", "manual"), target="method.classes.class_weights", no_effect=_ONE_CLASS),
    Key(
        "LOSS.CLASS_WEIGHTS",
        [],
        target="method.classes.class_weights",
        condition="LOSS.CLASS_REBALANCE=manual",
        no_effect=_ONE_CLASS,
    ),
    Key("LOSS.IGNORE_INDEX", -1, target="method.classes.ignore", no_effect=_ONE_CLASS),
    Key("LOSS.CONTRAST.ENABLE", False, refuse=("cannot be obeyed: there is no contrastive loss", "Leave it out.")),
    *unused("LOSS.CONTRAST", {"MEMORY_SIZE": 5000, "PROJ_DIM": 256, "PIXEL_UPD_FREQ": 10}, "LOSS.CONTRAST.ENABLE is not set"),
    *unused(
        "LOSS.CYCLEGAN",
        {
            **{f"LAMBDA_{name}": 0.0 for name in ("GAN", "RECON", "CHARB", "LPIPS", "LAP", "EDGE", "FFT", "RFFT")},
            "DELTA_MSE": 0.0,
            "ALPHA_PERCEPTUAL": 0.0,
            "GAMMA_SSIM": 1.0,
            "GAN_TYPE": "bce",
        },
        "it belongs to an architecture that is not supported",
        former=True,
    ),
    *unused("LOSS.GAN", {"R1_GAMMA": 0.0, "ADAPTIVE_GAN_WEIGHT": False}, "it belongs to an architecture that is not supported"),
)
"""Rows of the keys under ``LOSS``."""

_FIXED = "the run folder has a fixed layout"
# names instead of rows: all of these keys are ignored for the same reason
_FOLDERS = {
    "RESULT_DIR": "PATH PER_IMAGE PER_IMAGE_BIN PER_IMAGE_INSTANCES PER_IMAGE_POST_PROCESSING FULL_IMAGE FULL_IMAGE_BIN "
    "FULL_IMAGE_INSTANCES FULL_IMAGE_POST_PROCESSING AS_3D_STACK AS_3D_STACK_BIN AS_3D_STACK_POST_PROCESSING DET_LOCAL_MAX_COORDS_CHECK "
    "DET_LOCAL_MAX_COORDS_CHECK_POST_PROCESSING DET_ASSOC_POINTS INST_ASSOC_POINTS BMZ_BUILD",
    "": "BMZ_EXPORT_PATH PROFILER CHARTS TRAIN_PRED_SAMPLES DA_SAMPLES GEN_CHECKS GEN_MASK_CHECKS TRAIN_INSTANCE_CHANNELS_CHECK "
    "VAL_INSTANCE_CHANNELS_CHECK TEST_INSTANCE_CHANNELS_CHECK CHECKPOINT PROB_MAP_DIR PROB_MAP_FILENAME WATERSHED_DIR MAE_OUT_DIR "
    "FIL_SAMPLES_DIR MEAN_INFO_FILE STD_INFO_FILE TEST_FULL_GT_H5 LWR_X_FILE UPR_X_FILE LWR_Y_FILE UPR_Y_FILE",
}
PATHS: tuple[Key, ...] = (
    Key("PATHS.CHECKPOINT_FILE", "", target="network.from", condition="MODEL.LOAD_CHECKPOINT"),
    Key("PATHS.MAE_CALLBACK_OUT_DIR", "", no_effect=_FIXED, former=True),
    *(
        Key(".".join(filter(None, ("PATHS", section, name))), "", no_effect=_FIXED)
        for section, names in _FOLDERS.items()
        for name in names.split()
    ),
)
"""Rows of the keys under ``PATHS``."""
