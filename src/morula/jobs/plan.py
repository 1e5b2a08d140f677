"""What a job leaves out, planned from its images: patch, batch, network, augmentation, and what the method plans."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from morula.core.errors import JobError, OptionError, Problem
from morula.core.family import did_you_mean
from morula.core.remedy import AS_VOLUME, Remedy
from morula.core.variants import variant_types
from morula.jobs.job import Job
from morula.jobs.load import validate
from morula.jobs.yaml_lines import Document
from morula.labels.refine import refine
from morula.measurement.filter import check_conditions
from morula.measurement.measure import measure
from morula.methods import METHODS
from morula.methods.base import Method
from morula.methods.object_options import Tuning
from morula.methods.planning import Document as Mapped
from morula.methods.planning import Facts, Sizes
from morula.nn import NETWORKS
from morula.nn.anisotropy import plan_anisotropy
from morula.nn.options import NetworkOptions

__all__ = ["Facts", "Sizes", "plan"]

PATCH_VOXELS = {2: 256 * 256, 3: 32 * 64 * 64}
"""Voxels of a planned patch: a network of the default size trains on one in about a second on the processor of a laptop."""
FEATURES = {2: (16, 32, 64, 128, 256), 3: (16, 32, 64, 128)}
"""Channels of a planned network: half as many as is customary, which costs little accuracy and trains on a processor."""
BATCH = {2: 4, 3: 2}
MIN_STEPS = {2: 40, 3: 40}
"""Least number of steps of a planned epoch, so that small data sets are not validated all the time."""

AUGMENT_2D: tuple[str | Mapped, ...] = (
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
AUGMENT_3D: tuple[str | Mapped, ...] = (
    "flip",
    "rotate90",
    {"rotate": {"degrees": 45.0, "probability": 0.2}},
    {"zoom": {"probability": 0.2}},
    {"brightness": {"probability": 0.5}},
    {"contrast": {"probability": 0.5}},
    {"gaussian_noise": {"probability": 0.3}},
)
COLOUR: tuple[Mapped, ...] = ({"colour": {"probability": 0.5}},)
"""For images with several channels: staining and lamps differ from slide to slide, more than a small training set shows."""


def plan(job: Job, facts: Facts) -> Job:
    """The job with everything that it left out filled in; what it states stays.

    Raises:
        JobError: where what it states does not fit the images.
    """
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
        document["network"]["head_features"] = method_of(job, facts).head_features(document["network"]["features"][0])
    for section, values in method.planned(job, facts, document["network"]).items():
        document[section] = {**document[section], **values} if isinstance(values, Mapping) else values
    if document["augment"] is None:
        document["augment"] = [*(AUGMENT_2D if facts.ndim == 2 else AUGMENT_3D), *(COLOUR if facts.in_channels > 1 else ())]
    return checked(validate(Document(document, {}, None)), facts)


def method_of(job: Job, facts: Facts) -> Method:
    """The method of a job, for images of these dimensions."""
    method: Method = METHODS.load(job.method.kind)(job.method, job.objects, ndim=facts.ndim, spacing=facts.spacing)
    return method


def checked(job: Job, facts: Facts) -> Job:
    """A planned job as it is, checked as a whole.

    Raises:
        JobError: with everything that does not fit the images.
    """
    method = method_of(job, facts)
    problems = patch_problems(job, facts)
    problems += method.job_problems(job)
    problems += step_problems(job)
    problems += extra_problems(job, facts)
    problems += tuning_problems(job)
    problems += method.dimension_problems()
    problems += refinement_problems(job, facts)
    problems += prediction_problems(job, facts)
    problems += spread_problems(job, method)
    problems += [] if problems else filter_problems(job, method, facts)
    if problems:
        raise JobError(problems)
    return job


def refinement_problems(job: Job, facts: Facts) -> list[Problem]:
    """Operations on objects that images of these dimensions cannot have."""
    problems = []
    probe = np.ones((4,) * facts.ndim, np.uint16)
    longest = max(max(shape) for shape in facts.shapes)
    for number, operation in enumerate(job.objects.refine):
        radius = getattr(operation, "radius", 0)
        # before the probe: memory and time of an operation grow with its radius
        if max(radius if isinstance(radius, tuple) else (radius,), default=0) > longest:
            rule, remedy = f"must not exceed the longest edge of the images, {longest} voxels", "Give the radius in voxels."
            problems.append(Problem(f"objects.refine.{number}.radius", rule, code="radius.too_large", value=radius, remedy=remedy))
            continue
        try:
            refine(probe, [operation], facts.spacing, mask=probe > 0)
        except OptionError as error:
            problems.append(Problem.of(error, f"objects.refine.{number}"))
    return problems


def prediction_problems(job: Job, facts: Facts) -> list[Problem]:
    """Tiles and filters for images of other dimensions."""
    problems, tile = [], job.prediction.tile
    if tile is not None and len(tile) != facts.ndim:
        rule = f"{list(tile)} has {len(tile)} edges but the images have {facts.ndim} axes"
        problems.append(Problem("prediction.tile", rule, code="tile.axes", value=tile))
    if facts.ndim == 2 and any("z" in median.axes for median in job.prediction.median):
        remedy = "Filter along xy, or leave it out."
        problems.append(Problem("prediction.median", "filters along z, but the images are 2D", code="median.needs_3d", remedy=remedy))
    return problems


def spread_problems(job: Job, method: Method) -> list[Problem]:
    """The spread of test-time augmentation needs objects, and channels with values between 0 and 1."""
    if not job.prediction.tta_spread or (method.instances and method.bounded):
        return []
    rule = "compares channels with values between 0 and 1, of which the method has none"
    if not method.instances:
        rule = f"is a column of the tables of objects, which the method {job.method.kind} does not make"
    return [Problem("prediction.tta_spread", rule, code="prediction.no_spread", value=True, remedy="Leave it out.")]


def tuning_problems(job: Job) -> list[Problem]:
    """A search for settings needs validation images, and a score that the method has."""
    tune, problems = job.objects.tune, []
    if tune and not job.images.validate_:
        rule = "needs validation images, but images.validate sets none aside"
        problems.append(Problem("objects.tune", rule, code="tune.no_validation", remedy="State a share such as 10%."))
    known = METHODS.load(job.method.kind).figures
    if isinstance(tune, Tuning) and tune.metric is not None and tune.metric not in known:
        rule = f"unknown score {tune.metric!r}; the method {job.method.kind} has {', '.join(known)}"
        remedy = did_you_mean(tune.metric, list(known)).strip()
        problems.append(Problem("objects.tune.metric", rule, code="tune.unknown_metric", value=tune.metric, remedy=remedy))
    return problems


def planned_patch(job: Job, facts: Facts) -> tuple[int, ...]:
    """The stated patch, or one that is about a cube in physical units and lies inside most images.

    Raises:
        JobError: when the stated one has another number of axes than the images.
    """
    if job.sampling.patch == "whole":
        return whole_patch(job.network, facts)
    if job.sampling.patch is not None:
        if len(job.sampling.patch) != facts.ndim:
            rule = f"{list(job.sampling.patch)} has {len(job.sampling.patch)} edges but the images have {facts.ndim} axes"
            remedy = Remedy(AS_VOLUME) if facts.ndim == 2 else ""
            raise JobError([Problem("sampling.patch", rule, code="patch.axes", value=job.sampling.patch, remedy=remedy)])
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


def whole_patch(network: NetworkOptions, facts: Facts) -> tuple[int, ...]:
    """A patch that holds any of the images, its edges multiples of the network's poolings: the excess is reflect-padded and not scored."""
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


def network_of(job: Job, method: type[Method]) -> NetworkOptions:
    """The network's options: those stated, else the defaults of the network that the method trains.

    Raises:
        JobError: for a network that the method cannot train.
    """
    only = method.network
    if only is not None and "network" not in job.model_fields_set:
        options = variant_types(NETWORKS)[only]()
        assert isinstance(options, NetworkOptions)
        return options
    special = {name: own for name in METHODS.names if (own := METHODS.load(name).network) is not None}
    if job.network.kind == only or (only is None and job.network.kind not in special.values()):
        return job.network
    remedy = f"Use {only}, or leave it out." if only else "Leave it out, or choose another network."
    rule = f"{job.network.kind!r} cannot be trained by the method {job.method.kind}"
    raise JobError([Problem("network.kind", rule, code="network.method", value=job.network.kind, remedy=remedy)])


def planned_network(network: NetworkOptions, facts: Facts, patch: Sequence[int]) -> Mapped:
    """Features, kernels and poolings that the network's options leave out, for this spacing and patch."""
    kind, stated = type(network), network.model_fields_set
    known = kind.model_fields
    given = {name: getattr(network, name) for name in stated}
    preset = network.planned_preset
    if preset is not None and not {"preset", "features", "width", "layers", "heads"} & stated:
        network = kind.model_validate({**given, "preset": preset})
    elif network.level_features is not None and "features" not in stated:
        network = kind.model_validate({**given, "features": FEATURES[facts.ndim]})
    document = network.model_dump(mode="json", by_alias=True)
    if "token" in known and "token" not in stated:
        document["token"] = [token_edge(edge) for edge in patch]
    features = network.level_features
    if features is not None and {"kernels", "pools", "features"} <= set(known) and not {"kernels", "pools"} & stated:
        unpooled = len(features) - len(network.pool_sizes(facts.ndim)) - 1  # levels without a pooling of their own
        kernels, pools = plan_anisotropy(facts.spacing, patch, len(features) - unpooled)
        if len(kernels) + unpooled < len(features) and "features" not in stated:  # the patch is too small for more
            fewer = kind.model_validate({**given, "features": features[: len(kernels) + unpooled]})
            document = fewer.model_dump(mode="json", by_alias=True)
        usual = known["kernels"].default
        edges = [[edge if edge == 1 else usual for edge in kernel] for kernel in kernels]
        document |= {"kernels": edges + edges[-1:] * unpooled, "pools": [list(pool) for pool in pools]}
    return document


def token_edge(edge: int) -> int:
    """Edge of a transformer's box along an axis of the patch: the longest power of two up to 16 that divides it into two or more.

    Examples:
        >>> token_edge(256), token_edge(8), token_edge(5)
        (16, 4, 1)
    """
    return max(token for token in (1, 2, 4, 8, 16) if token == 1 or (edge % token == 0 and edge >= 2 * token))


def extra_problems(job: Job, facts: Facts) -> list[Problem]:
    """Extra properties that cannot be measured in images of these dimensions and voxels, or without their intensities."""
    if not job.objects.measure.extra:
        return []
    probe = np.ones((4,) * facts.ndim, np.uint8)
    intensity = np.ones((facts.in_channels, *probe.shape), np.float32) if job.objects.measure.intensity else None
    try:
        measure(probe, voxel_size=facts.spacing, intensity=intensity, extra=job.objects.measure.extra)
    except OptionError as error:
        return [Problem.of(error, "objects.measure.extra")]
    return []


def filter_problems(job: Job, method: Method, facts: Facts) -> list[Problem]:
    """Conditions on properties that will not be measured."""
    if not job.objects.filter:
        return []
    intensity = facts.in_channels if job.objects.measure.intensity else 0
    extra = job.objects.measure.extra
    try:
        check_conditions(job.objects.filter, facts.ndim, channels=intensity, extra=extra, unit=facts.unit, also=method.extra_columns)
    except OptionError as error:
        return [Problem.of(error, "objects.filter")]
    return []


def step_problems(job: Job) -> list[Problem]:
    """An epoch cannot have more steps than it has patches for."""
    sampling, steps, patches = job.sampling, job.training.steps_per_epoch, job.sampling.patches_per_epoch
    if steps is None or not isinstance(patches, int) or steps * sampling.batch_size <= patches:
        return []
    needed = steps * sampling.batch_size
    rule = f"{steps} steps of {sampling.batch_size} patches need {needed} patches, but sampling.patches_per_epoch is {patches}"
    return [Problem("training.steps_per_epoch", rule, code="steps.too_many", value=steps, remedy="State one of the two only.")]


def patch_problems(job: Job, facts: Facts) -> list[Problem]:
    """A patch that the network cannot pool."""
    patch, pools = job.sampling.patch_shape, job.network.pool_sizes(facts.ndim)
    multiple = [math.prod(pool[axis] for pool in pools) for axis in range(facts.ndim)]
    if all(edge >= step and (job.network.any_patch or edge % step == 0) for edge, step in zip(patch, multiple, strict=True)):
        return []
    fitting = [max(step, round(edge / step) * step) for edge, step in zip(patch, multiple, strict=True)]
    rule = f"{list(patch)} is not a multiple of {multiple}, the product of the network's poolings"
    return [Problem("sampling.patch", rule, code="patch.multiple", value=patch, remedy=f"Use {fitting}, or fewer levels.")]
