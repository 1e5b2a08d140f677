"""What a job leaves out, planned from its images: patch, batch, network, augmentation, classes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from morula.core.errors import JobError, OptionError, Problem
from morula.core.family import did_you_mean

if TYPE_CHECKING:
    from morula.methods.base import Method, Sizes

PATCH_VOXELS = {2: 256 * 256, 3: 32 * 64 * 64}
"""Voxels of a planned patch: what a network of the default size trains on a laptop's processor in about a second."""
FEATURES = {2: (16, 32, 64, 128, 256), 3: (16, 32, 64, 128)}
"""Channels of a planned network: half as wide as is customary, which costs little and trains on a processor."""
HEAD_FEATURES = 64
"""Channels of a planned convolution before heads of many channels: half as many as StarDist has."""
BATCH = {2: 4, 3: 2}
MIN_STEPS = {2: 40, 3: 40}
"""Steps of a planned epoch at least, so that small data sets are not validated all the time."""

AUGMENT_2D: tuple[Any, ...] = (
    "flip",
    "rotate90",
    {"rotate": {"degrees": 45.0, "probability": 0.3}},
    {"zoom": {"probability": 0.3}},
    {"elastic": {"probability": 0.2}},
    {"brightness": {"probability": 0.5}},
    {"contrast": {"probability": 0.5}},
    {"gaussian_noise": {"probability": 0.3}},
    {"blur": {"probability": 0.2}},
)
AUGMENT_3D: tuple[Any, ...] = (
    "flip",
    "rotate90",
    {"rotate": {"degrees": 45.0, "probability": 0.2}},
    {"zoom": {"probability": 0.2}},
    {"brightness": {"probability": 0.5}},
    {"contrast": {"probability": 0.5}},
    {"gaussian_noise": {"probability": 0.3}},
)
COLOUR: tuple[Any, ...] = ({"colour": {"probability": 0.5}},)
"""Where images have several channels: staining and lamps differ from slide to slide, which a small training set shows too seldom."""


@dataclass(frozen=True)
class Facts:
    """What the plan needs to know of the training images."""

    ndim: int
    spacing: tuple[float, ...]
    in_channels: int
    shapes: tuple[tuple[int, ...], ...]
    classes: int | None = None
    sizes: Sizes | None = None
    """Of the objects of the labels, where the method asks for them."""
    unit: str = ""
    """Of the spacing; empty where it is not known."""


def plan(job: Any, facts: Facts) -> Any:
    """The job with everything that it left out filled in; what it states stays.

    Raises:
        JobError: where what it states does not fit the images.
    """
    from morula.methods import METHODS

    method: type[Method] = METHODS.load(job.method.kind)
    document = job.model_dump(mode="json", by_alias=True)
    patch = planned_patch(job, facts)
    document["sampling"]["patch"] = list(patch)
    if job.sampling.batch is None:
        document["sampling"]["batch"] = BATCH[facts.ndim]
    if job.sampling.patches_per_epoch is None:
        batch, steps = document["sampling"]["batch"], job.training.steps_per_epoch
        planned = len(facts.shapes) if job.sampling.patch == "whole" else patches_per_epoch(facts, patch, batch)
        document["sampling"]["patches_per_epoch"] = steps * batch if steps else planned
    network = network_of(job, method)
    document["network"] = network.model_dump(mode="json", by_alias=True) | planned_network(network, facts, patch)
    if "head_features" in document["network"] and "head_features" not in network.model_fields_set:
        document["network"]["head_features"] = head_features(job, facts, document["network"]["features"])
    for section, values in method.planned(job, facts.sizes).items():
        document[section] = {**document[section], **values} if isinstance(values, Mapping) else values
    if document["augment"] is None:
        document["augment"] = [*(AUGMENT_2D if facts.ndim == 2 else AUGMENT_3D), *(COLOUR if facts.in_channels > 1 else ())]
    document["method"] |= {name: value for name, value in measured_of(document, facts).items() if document["method"].get(name, 0) is None}
    if job.method.kind == "semantic" and job.method.classes is None:
        document["method"]["classes"] = max(2, facts.classes or 2, len(job.method.names))
    return revalidated(document, patch, facts)


def measured_of(document: Mapping[str, Any], facts: Facts) -> dict[str, Any]:
    """What a method may leave open that the images or the network tell."""
    token = document["network"].get("token")
    return {"in_channels": facts.in_channels, "token": [token] * facts.ndim if isinstance(token, int) else token}


def revalidated(document: Any, patch: tuple[int, ...], facts: Facts) -> Any:
    """The planned job, checked once more as a whole."""
    from morula.jobs.load import validate
    from morula.jobs.yaml_lines import Document
    from morula.methods import METHODS

    job = validate(Document(document, {}, None))
    problems = [Problem("sampling.patch", message) for message in patch_problems(job, patch, facts)]
    problems += [Problem(key, message) for key, message in METHODS.load(job.method.kind).unplannable(job)]
    problems += [Problem("training.steps_per_epoch", message) for message in step_problems(job)]
    problems += [Problem("objects.measure.extra", message) for message in extra_problems(job, facts)]
    problems += tuning_problems(job)
    problems += misfits(job, facts)
    tile = job.prediction.tile
    if tile is not None and len(tile) != facts.ndim:
        problems.append(Problem("prediction.tile", f"{list(tile)} has {len(tile)} edges but the images have {facts.ndim} axes."))
    if facts.ndim == 2 and any("z" in each.axes for each in job.prediction.median):
        problems.append(Problem("prediction.median", "filters along z, but the images are 2D; filter along xy, or leave it out."))
    problems += [] if problems else filter_problems(job, facts)
    if problems:
        raise JobError(problems)
    return job


def misfits(job: Any, facts: Facts) -> list[Problem]:
    """Options of the method, and operations on objects, that images of these dimensions cannot have."""
    from morula.labels.refine import refine
    from morula.methods import METHODS

    method: Method = METHODS.load(job.method.kind)(job.method, job.objects, ndim=facts.ndim, spacing=facts.spacing)
    found = [Problem(key, message) for key, message in method.misfits()]
    probe = np.ones((4,) * facts.ndim, np.uint16)
    for number, operation in enumerate(job.objects.refine):
        try:
            refine(probe, [operation], facts.spacing, mask=probe > 0)
        except OptionError as error:
            found.append(Problem(f"objects.refine.{number}", str(error)))
    return found


def tuning_problems(job: Any) -> list[Problem]:
    """A search for settings needs validation images, and a figure that the method has."""
    from morula.methods import METHODS

    tune, problems = job.objects.tune, []
    if tune and not job.images.validate_:
        problems.append(Problem("objects.tune", "needs validation images, but images.validate sets none aside; state a share such as 10%."))
    metric = getattr(tune, "metric", None)
    known = METHODS.load(job.method.kind).figures
    if metric is not None and metric not in known:
        message = f"unknown figure {metric!r}; the method {job.method.kind} has {', '.join(known)}.{did_you_mean(metric, list(known))}"
        problems.append(Problem("objects.tune.metric", message))
    return problems


def planned_patch(job: Any, facts: Facts) -> tuple[int, ...]:
    """The stated patch, or one that is about a cube in physical units and lies inside most images.

    Raises:
        JobError: when the stated one has another number of axes than the images.
    """
    if job.sampling.patch == "whole":
        return whole_patch(job.network, facts)
    if job.sampling.patch is not None:
        if len(job.sampling.patch) != facts.ndim:
            raise JobError(
                [
                    Problem(
                        "sampling.patch",
                        f"{list(job.sampling.patch)} has {len(job.sampling.patch)} edges but the images have {facts.ndim} axes.",
                    )
                ]
            )
        return tuple(job.sampling.patch)
    median = [sorted(lengths)[len(lengths) // 2] for lengths in zip(*facts.shapes, strict=True)]
    edges = [float(length) for length in median]
    free = set(range(facts.ndim))
    while free:  # edges that the image is too short for are cut, the others share what is left
        room = PATCH_VOXELS[facts.ndim] / math.prod(edges[axis] for axis in range(facts.ndim) if axis not in free)
        side = (room * math.prod(facts.spacing[axis] for axis in free)) ** (1 / len(free))
        wanted = {axis: side / facts.spacing[axis] for axis in free}
        short = {axis for axis in free if median[axis] < wanted[axis]}
        if not short:
            edges = [wanted.get(axis, edges[axis]) for axis in range(facts.ndim)]
            break
        free -= short
    return tuple(max(8, _rounded(edge, length)) for edge, length in zip(edges, median, strict=True))


def whole_patch(network: Any, facts: Facts) -> tuple[int, ...]:
    """A patch that holds any of the images, its edges multiples of the network's poolings: what stands over is mirrored, and not scored."""
    pools = network.pool_sizes(facts.ndim)
    multiples = [math.lcm(8, math.prod(pool[axis] for pool in pools)) for axis in range(facts.ndim)]
    longest = [max(lengths) for lengths in zip(*facts.shapes, strict=True)]
    return tuple(math.ceil(length / multiple) * multiple for length, multiple in zip(longest, multiples, strict=True))


def _rounded(edge: float, length: int) -> int:
    """The nearest multiple of 16 (of 8 below 32) that is not longer than the image, where the image allows one."""
    step = 16 if edge >= 32 else 8
    below = length // step * step
    return min(max(step, round(edge / step) * step), below) if below else step


def patches_per_epoch(facts: Facts, patch: Sequence[int], batch: int) -> int:
    """As many patches as cover all images once, but enough for some steps."""
    covering = sum(math.prod(math.ceil(n / p) for n, p in zip(shape, patch, strict=True)) for shape in facts.shapes)
    return max(covering, MIN_STEPS[facts.ndim] * batch)


def network_of(job: Any, method: type[Method]) -> Any:
    """The network's options: those stated, else the defaults of the network that the method trains.

    Raises:
        JobError: for a network that the method cannot train.
    """
    from morula.core.variants import variant_types
    from morula.methods import METHODS
    from morula.nn import NETWORKS

    only = method.network
    if only is not None and "network" not in job.model_fields_set:
        return variant_types(NETWORKS)[only]()
    special = {name: own for name in METHODS.names if (own := METHODS.load(name).network) is not None}
    if job.network.kind == only or (only is None and job.network.kind not in special.values()):
        return job.network
    remedy = f"use {only}, or leave it out" if only else "leave it out, or choose another network"
    raise JobError([Problem("network.kind", f"{job.network.kind!r} cannot be trained by the method {job.method.kind}; {remedy}.")])


def planned_network(network: Any, facts: Facts, patch: Sequence[int]) -> dict[str, Any]:
    """Features, kernels and poolings that the network's options leave out, for this spacing and patch."""
    from morula.nn.anisotropy import plan_anisotropy

    kind, stated = type(network), network.model_fields_set
    known = kind.model_fields
    given = {name: getattr(network, name) for name in stated}
    preset = network.planned_preset
    if preset is not None and not {"preset", "features", "width", "layers", "heads"} & stated:
        network = kind(preset=preset, **given)
    elif network.level_features is not None and "features" not in stated:
        network = kind(features=FEATURES[facts.ndim], **given)
    found = network.model_dump(mode="json", by_alias=True)
    if "token" in known and "token" not in stated:
        found["token"] = [token_edge(edge) for edge in patch]
    if {"kernels", "pools", "features"} <= set(known) and not {"kernels", "pools"} & stated:
        flat = len(network.features) - len(network.pool_sizes(facts.ndim)) - 1  # levels without a pooling of their own
        kernels, pools = plan_anisotropy(facts.spacing, patch, len(network.features) - flat)
        if len(kernels) + flat < len(network.features) and "features" not in stated:  # the patch is too small for more
            found = kind(features=network.features[: len(kernels) + flat], **given).model_dump(mode="json", by_alias=True)
        usual = known["kernels"].default
        edges = [[edge if edge == 1 else usual for edge in kernel] for kernel in kernels]
        found |= {"kernels": edges + edges[-1:] * flat, "pools": [list(pool) for pool in pools]}
    return found


def head_features(job: Any, facts: Facts, features: Sequence[int]) -> int:
    """Channels of a further convolution in each head: none, or some where a head of many channels has more than the finest level.

    Rays that share less features than they are stay near their mean for long: of 32 rays from 16 features the short ones come out too long
    and the long ones too short.
    """
    from morula.methods import METHODS

    if job.method.kind != "channels":
        return 0
    method: Method = METHODS.load(job.method.kind)(job.method, job.objects, ndim=facts.ndim, spacing=facts.spacing)
    if method.misfits():  # told with the planned job
        return 0
    return HEAD_FEATURES if max(method.heads.values()) > features[0] else 0


def token_edge(edge: int) -> int:
    """Edge of a transformer's box along an axis of the patch: the longest power of two up to 16 that parts it into two at least.

    Examples:
        >>> token_edge(256), token_edge(8), token_edge(5)
        (16, 4, 1)
    """
    return max(token for token in (1, 2, 4, 8, 16) if token == 1 or (edge % token == 0 and edge >= 2 * token))


def extra_problems(job: Any, facts: Facts) -> list[str]:
    """Extra measures that cannot be taken of images of these dimensions and voxels, or without their intensities."""
    if not job.objects.measure.extra:
        return []
    from morula.measurement.measure import measured_columns

    probe = np.ones((4,) * facts.ndim, np.uint8)
    intensity = np.ones((facts.in_channels, *probe.shape), np.float32) if job.objects.measure.intensity else None
    try:
        measured_columns(probe, voxel_size=facts.spacing, intensity=intensity, extra=job.objects.measure.extra)
    except OptionError as error:
        return [str(error)]
    return []


def filter_problems(job: Any, facts: Facts) -> list[Problem]:
    """Conditions on properties that will not be measured."""
    if not job.objects.filter:
        return []
    from morula.measurement.filter import check_conditions

    try:
        intensity = facts.in_channels if job.objects.measure.intensity else 0
        also = ("class", "class_confidence") if getattr(job.method, "classes", None) and job.method.kind == "channels" else ()
        extra = job.objects.measure.extra
        check_conditions(job.objects.filter, facts.ndim, channels=intensity, extra=extra, unit=facts.unit, also=also)
    except OptionError as error:
        return [Problem.of(error, "objects.filter")]
    return []


def step_problems(job: Any) -> list[str]:
    """An epoch cannot have more steps than it has patches for."""
    sampling, steps = job.sampling, job.training.steps_per_epoch
    if steps is None or not isinstance(sampling.patches_per_epoch, int) or steps * sampling.batch <= sampling.patches_per_epoch:
        return []
    return [
        f"{steps} steps of {sampling.batch} patches need {steps * sampling.batch} patches, but sampling.patches_per_epoch is "
        f"{sampling.patches_per_epoch}. State one of the two only."
    ]


def patch_problems(job: Any, patch: Sequence[int], facts: Facts) -> list[str]:
    """What is wrong with the patch, for this network."""
    pools = job.network.pool_sizes(facts.ndim)
    multiple = [math.prod(pool[axis] for pool in pools) for axis in range(facts.ndim)]
    wrong = [axis for axis in range(facts.ndim) if patch[axis] % multiple[axis] or patch[axis] < 1]
    if not wrong:
        return []
    nearest = [max(m, round(p / m) * m) for p, m in zip(patch, multiple, strict=True)]
    return [f"{list(patch)} is not a multiple of {multiple}, the product of the network's poolings; use {nearest}, or fewer levels."]
