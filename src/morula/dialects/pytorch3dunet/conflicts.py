"""Rules that several sections of a job file of pytorch-3dunet follow together."""

from __future__ import annotations

from collections.abc import Iterator

from morula.core.errors import Problem
from morula.dialects.pytorch3dunet.losses import ClassesLoss, LossOptions, OverlapLoss
from morula.dialects.pytorch3dunet.networks import NetworkOptions
from morula.dialects.pytorch3dunet.sections import LoadersOptions, PhaseName, PredictorOptions, SliceBuilderOptions


def training_conflicts(model: NetworkOptions, loss: LossOptions, loaders: LoadersOptions | None) -> Iterator[Problem]:
    """Values that make a training useless or impossible: a single class, or a 2D network on patches of several planes.

    Examples:
        >>> from morula.dialects.pytorch3dunet.losses import LOSSES
        >>> from morula.dialects.pytorch3dunet.networks import NETWORKS
        >>> model = NETWORKS["UNet3D"](name="UNet3D", in_channels=1, out_channels=1, final_sigmoid=False)
        >>> [problem.code for problem in training_conflicts(model, LOSSES["DiceLoss"](name="DiceLoss"), None)]
        ['model.softmax_of_one_channel']
    """
    # both train without an error, and learn nothing
    if isinstance(loss, ClassesLoss) and model.out_channels == 1:
        rule = f"{loss.name} compares classes, and a single class is always right"
        remedy = "Write one output channel per class, the background included."
        yield Problem("model.out_channels", rule, code="model.one_class", value=1, remedy=remedy)
    elif _softmax(model) and model.out_channels == 1:
        rule = "softmax over a single channel is 1 everywhere"
        yield Problem("model.final_sigmoid", rule, code="model.softmax_of_one_channel", value=False, remedy="Write final_sigmoid: true.")
    phases: tuple[PhaseName, ...] = ("train", "val")
    for name in phases:
        phase = None if loaders is None else loaders.phase(name)
        if phase is not None and phase.slice_builder is not None:
            yield from _planes(model, phase.slice_builder, f"loaders.{name}.slice_builder", halo=False)


def training_warnings(model: NetworkOptions, loss: LossOptions) -> Iterator[Problem]:
    """A final activation, which predictions and `eval_metric` use, other than the one that the loss trains."""
    if not model.is_segmentation or model.out_channels == 1:
        return
    softmax = _softmax(model)
    trains_softmax = isinstance(loss, ClassesLoss) or (isinstance(loss, OverlapLoss) and loss.normalization == "softmax")
    if (isinstance(loss, ClassesLoss) or loss.of_masks) and softmax != trains_softmax:
        own, other = ("softmax", "sigmoid") if trains_softmax else ("sigmoid", "softmax")
        rule = f"{loss.name} trains the {own} of the outputs, but predictions and eval_metric use the {other}"
        remedy = f"Write final_sigmoid: {str(not trains_softmax).lower()}."
        yield Problem("model.final_sigmoid", rule, code="model.activation_against_loss", value=not softmax, remedy=remedy)


def prediction_conflicts(predictor: PredictorOptions, loaders: LoadersOptions, model: NetworkOptions) -> Iterator[Problem]:
    """Values of a prediction job that contradict each other."""
    channel, key = predictor.prediction_channel, "predictor.prediction_channel"
    if channel is not None and channel >= model.out_channels:
        rule = f"the model has the channels 0 to {model.out_channels - 1}"
        yield Problem(key, rule, code="prediction.no_such_channel", value=channel, remedy="Choose one of them.")
    if channel is not None and predictor.save_segmentation:
        rule = "cannot be combined with save_segmentation, which compares all channels"
        yield Problem(key, rule, code="prediction.options_exclude_each_other", value=channel, remedy="Leave one of the two out.")
    if predictor.performance_metric is not None and predictor.gt_internal_path is None:
        rule = "is missing, and performance_metric needs the data set of the ground truth"
        yield Problem("predictor.gt_internal_path", rule, code="prediction.no_ground_truth", remedy="Name it.")
    if (predictor.backend, predictor.precision) == ("openvino", "bf16"):
        remedy = "Write fp16, which is as fast and more accurate, or fp32."
        rule = "backend openvino does not compute in bf16"
        yield Problem("predictor.precision", rule, code="prediction.precision", value="bf16", remedy=remedy)
    if (loaders.dataset == "DSB2018Dataset") != (predictor.name == "DSB2018Predictor"):
        rule = f"does not match loaders.dataset {loaders.dataset}"
        remedy = "DSB2018Predictor and DSB2018Dataset are used together."
        yield Problem("predictor.name", rule, code="prediction.options_exclude_each_other", value=predictor.name, remedy=remedy)
    builder = None if loaders.test is None else loaders.test.slice_builder
    if builder is None:
        return
    if any(stride > patch for stride, patch in zip(builder.stride_shape, builder.patch_shape, strict=True)):
        rule = f"is longer than patch_shape {list(builder.patch_shape)}, so voxels between patches get no prediction"
        value, key = list(builder.stride_shape), "loaders.test.slice_builder.stride_shape"
        yield Problem(key, rule, code="patch.gaps", value=value, remedy="Write strides that are not longer than the patch.")
    yield from _planes(model, builder, "loaders.test.slice_builder", halo=True)


def _softmax(model: NetworkOptions) -> bool:
    return bool(model.is_segmentation and not model.final_sigmoid)


def _planes(model: NetworkOptions, builder: SliceBuilderOptions, key: str, *, halo: bool) -> Iterator[Problem]:
    """Patches of several planes for a network of two dimensions."""
    # a halo along z adds planes to a patch of one plane
    margin = builder.halo_shape[0] if halo else 0
    if model.ndim == 2 and (builder.patch_shape[0], margin) != (1, 0):
        rule = f"{model.name} computes one plane at a time" + (f", and halo_shape is {list(builder.halo_shape)}" if margin else "")
        remedy = f"Write 1 for z{', and 0 in halo_shape' if halo else ''}, or use a 3D network."
        yield Problem(f"{key}.patch_shape", rule, code="patch.planes_for_2d_network", value=list(builder.patch_shape), remedy=remedy)
