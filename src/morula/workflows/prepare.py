"""Everything that training needs, from a job: images, plan, method, patches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from morula import models, workflows
from morula.core.errors import JobError, MorulaError, Problem
from morula.core.image import Image
from morula.core.outputs import check_apart
from morula.core.remark import Remark, code_of
from morula.core.voxel_size import VoxelSize
from morula.data.augment.parse import parse_augmentations
from morula.data.crop import crop
from morula.data.normalise import Fixed, Normalisation, PatchNormalisation, normalisations
from morula.data.options import Sampling
from morula.data.patches import PatchDataset, Source
from morula.data.sampling import Grid, Validation, steps
from morula.data.sampling import Options as PatchOptions
from morula.data.split import limited, split_sources
from morula.data.summary import middle, object_label_warnings
from morula.io.check import check_image, check_weights
from morula.jobs.inputs import inputs_of, stored_inputs
from morula.jobs.job import Job
from morula.jobs.plan import plan
from morula.methods import METHODS
from morula.methods.base import Method
from morula.methods.planning import Facts, Planning, Sizes
from morula.models.enlarge import enlarged_shape
from morula.nn.options import AUTO
from morula.training.monitors import MSE, PSNR, AnyMonitor, Dice, IoU, Objects, Score
from morula.workflows.doubts import ClassValues, doubts_about
from morula.workflows.object_scale import LOOKED_AT, ObjectScale, fitted_part, on_own_grid, scale_of, takes_colour, voxel_counts
from morula.workflows.resources import resource_problems
from morula.workflows.sources import Opened, consistency_problems, flattened, open_source, target_problems
from morula.workflows.stored_inputs import with_stored_inputs, with_stored_scales

if TYPE_CHECKING:
    from morula.models.model import Model
    from morula.models.scale import Fitted
    from morula.nn.network import Network


@dataclass(frozen=True, eq=False)
class Prepared:
    """A job that is ready to train: its options planned, its images opened, its method built, its patches placed."""

    job: Job
    facts: Facts
    method: Method
    train: PatchDataset
    validation: PatchDataset | None
    normalisation: Normalisation | None
    files: tuple[str, ...]
    warnings: tuple[str, ...]
    test_shapes: tuple[tuple[int, ...], ...] = ()
    diameter: float | None = None
    """Diameter in voxels of the objects that images are rescaled to; `None` where they keep their own scale."""
    notes: tuple[str, ...] = ()
    """Lines for the log."""
    colour: bool = False
    """Whether the model takes colour images, see `Model.colour`."""

    def summary_line(self) -> str:
        """Images, patches and network in one line."""
        sampling = self.job.sampling
        patch = " x ".join(map(str, sampling.patch_shape))
        held = () if self.validation is None else self.validation.sources
        parts = [f"{source.title}[{', '.join(f'{a.start}:{a.stop}' for a in source.region.slices)}]" for source in held if source.region]
        return (
            f"{len(self.train.sources)} training and {len(held)} validation images{f' ({parts[0]})' if len(parts) == 1 else ''}, "
            f"{self.facts.ndim}D; "
            f"patches of {patch}, {sampling.batch} per step; {self.job.network.kind} for {', '.join(self.method.channels)}"
        )

    @property
    def voxel_size(self) -> VoxelSize:
        """Voxel size that the model is trained at."""
        return VoxelSize.of(self.train.sources[0].image.voxel_size, self.facts.ndim)

    def model(self, network: Network) -> Model:
        """The model of a network that was trained for this job."""
        return models.model.Model(
            job=self.job,
            network=network,
            method=self.method,
            in_channels=self.facts.in_channels,
            voxel_size=self.voxel_size,
            normalisation=self.normalisation,
            diameter=self.diameter,
            colour=self.colour,
        )


def prepare(job: Job) -> Prepared:
    """Open the images of a job, plan the options that it leaves out, build its method and place its patches.

    Raises:
        JobError: with all problems of the job and its files.
    """
    check_apart(stored_inputs(job), inputs_of(job))  # computed images are written into this folder
    opened, warnings = _opened(job)
    train, validation = ([image.enlarged(job.method.enlarged_by) for image in opened.get(key, [])] for key in ("train", "validate"))
    warnings = [*job.notes, *warnings]
    try:  # pixels of damaged files are read here for the first time
        warnings += doubts_about(opened, job)
        values = ClassValues.of(opened, job)
    except MorulaError as error:
        raise JobError([Problem.of(error, "images")]) from error
    # before the plan, which sizes the network: a network that starts from stored weights must have their sizes
    job = workflows.transfer.with_stored_network(job) if _starts(job) else job
    scale, train, validation, notes = _at_scale(job, train, validation)
    warnings = [text for text in warnings if scale is None or code_of(text, "") != "voxel_size.mixed"]
    facts = facts_of(train, job, values.found)
    resolved = plan(job, facts)
    warnings += values.remarks(job, resolved) if values.values else ()
    warnings += planning_of(resolved).remarks(resolved)
    method = METHODS.load(resolved.method.kind)(resolved.method, resolved.objects, ndim=facts.ndim, spacing=facts.spacing)
    problems = resource_problems(resolved, facts, method) + target_problems({"train": train, "validate": validation}, method)
    problems += values.problems(resolved) if values.values else []
    if problems:
        raise JobError(problems)
    _check_start(resolved, facts, method)
    files = tuple(file for image in [*train, *validation] for file in image.files)
    sources, held = _split_sources(train, validation, resolved)
    _check_tuning(resolved, held)
    _check_monitor(resolved, held, method)
    _check_sampling(resolved.sampling, method)
    normalise = resolved.sampling.normalise
    try:
        warnings += [text for source in [*sources, *held] for text in check_image(source.image)]
        for weights in (source.weights for source in [*sources, *held] if source.weights is not None):
            check_weights(weights)
        warnings += [text for source in sources for text in unfit(source, method)]
        if method.labelled and method.instances:
            labels = [(source.labels, source.unlabelled) for source in sources if source.labels is not None]
            warnings += object_label_warnings(labels, LOOKED_AT)
        records = normalisations([source.image for source in sources], normalise)
    except MorulaError as error:
        raise JobError([Problem.of(error, "images.train")]) from error
    # with one normalisation for the whole data set, validation images get that of the training images; else each has its own
    shared = records[0] if isinstance(normalise, Fixed) or normalise.per == "data_set" else None
    training = _dataset(sources, records, resolved, method, augment=True)
    warnings += _left_out(training, "sampling.leave_out")
    validation_set = None
    if held:
        held_records = [shared] * len(held) if shared else normalisations([source.image for source in held], normalise)
        validation_set = _dataset(held, held_records, resolved, method, augment=False)
        warnings += _left_out(validation_set, "sampling.validation.leave_out")
    warnings += training.warnings
    said, tested = tuple(dict.fromkeys(warnings)), _shapes(opened.get("test", []), job)
    diameter, colour = None if scale is None else scale.trained, takes_colour(resolved)
    return Prepared(resolved, facts, method, training, validation_set, shared, files, said, tested, diameter, notes, colour)


def _shapes(images: Sequence[Opened], job: Job) -> tuple[tuple[int, ...], ...]:
    """Shapes (Z)YX of the predictions of images."""
    return tuple(enlarged_shape(image.raw, job.method.enlarged_by) for image in images)


def _at_scale(
    job: Job, train: list[Opened], validation: list[Opened]
) -> tuple[ObjectScale | None, list[Opened], list[Opened], tuple[str, ...]]:
    """The scale at which the network sees images, the images at this scale, and what to tell about it."""
    try:
        scale = scale_of(job, train)
        if scale is None:
            return None, train, validation, ()
        rescaled, held = ([scale.rescaled(image) for image in group] for group in (train, validation))
    except JobError:
        raise
    except MorulaError as error:
        raise JobError([Problem.of(error, "images.train")]) from error
    return scale, rescaled, held, (scale.line(str(job.network.from_), train, rescaled),)


def _starts(job: Job) -> bool:
    """Whether the network starts from weights that the job names."""
    return job.network.from_ not in (None, AUTO)


def _check_start(job: Job, facts: Facts, method: Method) -> None:
    """Check what depends on the names of the network's weights, where the job has such keys: building a network imports torch."""
    if _starts(job) or job.training.freeze or job.training.rates:
        workflows.transfer.check_start(job, facts.ndim, facts.in_channels, method.heads)


def _left_out(data: PatchDataset, key: str) -> list[str]:
    """How much the conditions of a key leave out, as a sentence; that nothing remains is found by `check`, not at the first step.

    Raises:
        JobError: when nothing remains.
    """
    if not data.sampling.leave_out:
        return []
    try:
        counts = data.counts
    except MorulaError as error:
        raise JobError([Problem(key, error.rule, code=error.code, remedy=error.remedy)]) from error
    if data.sampling.leave_out_images:
        return [f"{key}: {int((counts == 0).sum())} of {len(counts)} images are left out."]
    assert data.patch is not None
    step = steps(data.patch, data.sampling.overlap)
    total = sum(len(Grid(source.extent, data.patch, step)) for source in data.sources)
    return [f"{key}: {total - int(counts.sum())} of {total} patches are left out."]


def _check_tuning(job: Job, held: Sequence[Source]) -> None:
    if job.objects.tune and any(source.labels is None for source in held):
        rule, remedy = "needs labels of the validation images", "Name them under images.validate, or leave it out."
        raise JobError([Problem("objects.tune", rule, code="tune.no_labels", remedy=remedy)])


def _check_monitor(job: Job, held: Sequence[Source], method: Method) -> None:
    monitor, rule = job.training.monitor, ""
    if monitor is None:
        return
    named = _channels_of(monitor)
    if not held:
        rule, remedy = "is a figure of the validation", "Name images under images.validate, or leave it out."
    elif isinstance(monitor, Score) and (method.labelled or method.restores or any(source.labels is None for source in held)):
        rule = "needs a method that finds objects without labels, and labels of the validation images"
        remedy = "Write loss, or leave it out."
    elif isinstance(monitor, IoU | Dice) and not method.probability_channels:
        rule, remedy = "compares probabilities, which not all channels are", "Write loss, or leave it out."
    elif isinstance(monitor, Objects | MSE | PSNR) and not method.labelled:
        rule, remedy = "needs a method with labels", "Write loss, or leave it out."
    elif named and max(named) >= len(method.channels):
        rule = f"names channel {max(named)}, but there are {len(method.channels)}, counted from 0"
        remedy = f"The channels are {', '.join(method.channels)}."
    if rule:
        raise JobError([Problem("training.monitor", rule, code="training.monitor", value=monitor.kind, remedy=remedy)])


def _check_sampling(sampling: Sampling, method: Method) -> None:
    held = sampling.validation or Validation()
    shapes = {"cell": sampling.cell, "validation.patch": held.patch, "validation.cell": held.cell}
    problems = [
        Problem(f"sampling.{key}", f"has {len(edges)} edges but the images have {method.ndim} axes", code="patch.dimensions", value=edges)
        for key, edges in shapes.items()
        if edges is not None and len(edges) != method.ndim
    ]
    if sampling.separate_parts and not method.instances:
        rule, remedy = "has no meaning for labels that are no objects", "Leave it out."
        problems.append(Problem("sampling.separate_parts", rule, code="sampling.separate_parts", value=True, remedy=remedy))
    if problems:
        raise JobError(problems)


def _channels_of(monitor: AnyMonitor) -> list[int]:
    """Channels that the options of a figure name."""
    if not isinstance(monitor, IoU | Objects):
        return []
    more = (monitor.minus, monitor.truth) if isinstance(monitor, Objects) else ()
    return [*(monitor.channels or ()), *(number for number in more if number is not None)]


def validation_parts(model: Model) -> list[tuple[Source, Fitted]]:
    """Validation images of a trained model on their own grid, and as it sees them; of large ones a part (see `limited`).

    They are those of the training; none if its job has none.

    Raises:
        JobError: with all problems of the files. Test images are not opened.
    """
    job = model.job
    opened, _ = open_images(job, keys=("train", "validate"))
    train, validation = opened["train"], opened.get("validate", [])
    scale = None if model.diameter is None else ObjectScale.of(job, train, model.diameter, model.voxel_size)
    seen = [group if scale is None else [scale.rescaled(image) for image in group] for group in (train, validation)]
    named = {image.name: image for image in validation or train}
    parts = []
    for held in map(limited, _split_sources(seen[0], seen[1], job)[1]):
        image = named[held.name]
        source = on_own_grid(held, image.patches(classes=classes_learned(job)))
        parts.append((source, fitted_part(model, source, None if scale is None else scale.factors(image))))
    return parts


def validation_labels(source: Source) -> np.ndarray:
    """Labels (Z)YX of the validation part of an image with labels."""
    assert source.labels is not None
    return crop(source.labels, source.extent)[0]


def _split_sources(train: Sequence[Opened], validation: Sequence[Opened], job: Job) -> tuple[list[Source], list[Source]]:
    """Sources to train on and to validate on; a share of the training images is split off by the seed of the job."""
    classes = classes_learned(job)
    sources, held = ([image.patches(classes=classes) for image in opened] for opened in (train, validation))
    share = job.images.validate_
    return _split(sources, share, job) if isinstance(share, float) and share > 0 else (sources, held)


def classes_learned(job: Job) -> bool:
    """Whether the classes of objects are learned."""
    return job.method.object_classes is not None


def planning_of(job: Job) -> type[Planning]:
    """The class that plans the options of the job's method and checks them."""
    planning: type[Planning] = METHODS.load(job.method.kind)
    return planning


def _without_classes(opened: Sequence[Opened], job: Job, key: str) -> list[Problem]:
    """Problems of images without classes, if the method learns classes."""
    missing = [image.name for image in opened if image.classes is None] if classes_learned(job) else []
    if not missing:
        return []
    verb = "has" if len(missing) == 1 else "have"
    rule = f"method.classes needs the class of each object; {', '.join(missing[:3])} {verb} none"
    return [Problem(f"{key}.classes", rule, code="classes.missing", remedy="Name class images, or two-channel labels.")]


def _opened(job: Job) -> tuple[dict[str, list[Opened]], list[str]]:
    """The images of a job; all problems of the images and of the method's options are raised together."""
    problems = planning_of(job).option_problems(job.method, job.objects)
    try:
        opened = open_images(job)
    except JobError as error:
        raise JobError(problems + error.problems) from error
    if problems:
        raise JobError(problems)
    return opened


def unfit(source: Source, method: Method) -> list[str]:
    """Reasons why an image does not suit the method; of a large image the central block is examined."""
    return method.image_warnings(crop(source.image, middle(source.image.spatial_shape, LOOKED_AT)), source.title)


def _split(sources: list[Source], share: float, job: Job) -> tuple[list[Source], list[Source]]:
    try:
        return split_sources(sources, share, patch=job.sampling.patch_shape, seed=job.training.seed)
    except MorulaError as error:
        raise JobError([Problem.of(error, "images.validate")]) from error


def _dataset(sources: Sequence[Source], records: Sequence[Normalisation], job: Job, method: Method, *, augment: bool) -> PatchDataset:
    """Patches of the images: for training sampled and augmented as the job says, for validation on a grid and not augmented."""
    again, held = job.sampling.renormalise, job.sampling.validation
    held_patch = job.sampling.patch_shape if held is None or held.patch is None else held.patch
    assert not isinstance(again, Fixed)
    scales = _target_scales(sources, records, job, method)
    return PatchDataset(
        with_stored_inputs(sources, method.stored_input, job.training.seed),
        job.sampling.patch_shape if augment else held_patch,
        with_stored_scales(records, method.stored_input),
        sampling=job.sampling if augment else _of_validation(job.sampling),
        augmentations=parse_augmentations(job.augment or ()) if augment else (),
        targets=method.targets if method.labelled else None,
        context=method.context if job.sampling.label_context else None,
        seed=job.training.seed,
        pretext=method.pretext,
        renormalisation=None if again is None else PatchNormalisation((), (), options=again),
        with_labels=method.labelled and not augment and isinstance(job.training.monitor, Objects),
        # targets on the scale of the image are intensities, whatever their type: they are interpolated where they are moved
        orders={"labels": 1} if scales else {},
        label_type=np.float32 if scales else np.uint32,
        label_scales=scales,
    )


def _target_scales(sources: Sequence[Source], records: Sequence[Normalisation], job: Job, method: Method) -> list[Normalisation]:
    """The normalisation of each target: by its own values where images have theirs, else that of the images; none for other targets."""
    scaled = method.labelled and method.on_scale_of_image
    targets = [source.labels for source in sources if source.labels is not None and scaled]
    normalise = job.sampling.normalise
    if isinstance(normalise, Fixed) or normalise.per == "data_set":
        return [record.with_channels(target.n_channels) for target, record in zip(targets, records, strict=False)]
    return normalisations(targets, normalise)


def _of_validation(sampling: Sampling) -> PatchOptions:
    """How validation images are divided into patches."""
    own = sampling.validation or Validation()
    return PatchOptions(
        kind=own.kind,
        cell=own.cell,
        overlap=own.overlap,
        leave_out=own.leave_out,
        leave_out_images=sampling.leave_out_images,
        leave_out_normalised=sampling.leave_out_normalised,
        least_labelled=own.least_labelled,
        accept_unlabelled=sampling.accept_unlabelled if own.accept_unlabelled is None else own.accept_unlabelled,
        ignored_label=sampling.ignored_label if own.ignored_label is None else own.ignored_label,
        only_annotated=sampling.only_annotated,
        score_padding=sampling.score_padding,
        separate_parts=sampling.separate_parts,
    )


def open_images(job: Job, keys: Sequence[str] = ("train", "validate", "test")) -> tuple[dict[str, list[Opened]], list[str]]:
    """The images of a job by key, and the warnings from opening them.

    All sources (of these keys) are opened before an error is raised, so that it names all problems at once.
    """
    images, problems = job.images, []
    if images.train is None:
        raise JobError(
            [Problem("images.train", "is missing", code="images.missing", remedy="State images to learn from, and their labels.")]
        )
    opened: dict[str, list[Opened]] = {}
    warnings: list[str] = []
    method = METHODS.load(job.method.kind)
    labelled, values = method.labelled, method.labels_are_images
    for key in keys:
        source = getattr(images, "validate_" if key == "validate" else key)
        if source is None or isinstance(source, float):
            continue
        try:
            # test images are opened only to find their problems now, not after hours of training
            needed, by = labelled and key != "test", job.method.enlarged_by
            opened[key], remarks = open_source(source, images, key=f"images.{key}", need_labels=needed, values=values, enlarge=by)
            warnings += remarks if key != "test" else []
            problems += _without_classes(opened[key], job, f"images.{key}") if key != "test" else []
        except JobError as error:
            problems += error.problems
    _flatten(opened)
    warnings += mixed_voxel_sizes([image.raw for key, group in opened.items() if key != "test" for image in group])
    problems += consistency_problems([member for group in opened.values() for member in group], "images")
    if problems:
        raise JobError(problems)
    return opened, warnings


def _flatten(opened: dict[str, list[Opened]]) -> None:
    """Make images with Z of length 1 2D, where all images that are learned from are: the test images follow them."""
    learned = [key for key in opened if key != "test"]
    flat = flattened([image for key in learned for image in opened[key]])
    for key in learned:
        opened[key], flat = flat[: len(opened[key])], flat[len(opened[key]) :]
    if "test" in opened and any(image.raw.ndim_spatial == 2 for key in learned for image in opened[key]):
        opened["test"] = flattened(opened["test"])


def mixed_voxel_sizes(images: Sequence[Image]) -> list[Remark]:
    """A warning where images to learn from have different voxel sizes, or only some of them state one.

    Examples:
        >>> plane = np.zeros((4, 4), np.uint8)
        >>> mixed_voxel_sizes([Image(plane, "YX", VoxelSize(0.5, 0.5)), Image(plane, "YX", VoxelSize(2, 2))])[0][:43]
        'the images have different voxel sizes: 0.5 '
    """
    sizes = []
    for image in images:
        lengths = " x ".join(f"{length:.4g}" for length in image.spacing)
        sizes.append("unknown" if image.voxel_size is None else f"{lengths} {image.voxel_size.unit}")
    distinct = list(dict.fromkeys(sizes))
    if len(distinct) < 2:
        return []
    shown = ", ".join(distinct[:4]) + (" ..." if len(distinct) > 4 else "")
    text = f"the images have different voxel sizes: {shown}. Resample the images, or state the size of all with images.voxel_size."
    return [Remark("voxel_size.mixed", text)]


def facts_of(train: Sequence[Opened], job: Job, values: tuple[int, ...] = ()) -> Facts:
    """Properties of the training images that the plan depends on, and the label values that are classes."""
    first = train[0].raw
    shapes = tuple(image.raw.spatial_shape for image in train)
    sizes = object_sizes(train) if planning_of(job).needs_object_sizes(job) else None
    unit = VoxelSize.of(first.voxel_size, first.ndim_spatial).unit
    targets = target_statistics(train) if planning_of(job).needs_targets(job) else (0.0, 1.0)
    return Facts(first.ndim_spatial, first.spacing, first.n_channels, shapes, values, sizes, unit, targets)


def target_statistics(train: Sequence[Opened]) -> tuple[float, float]:
    """Mean and standard deviation of targets that are images; of a large one the central block is examined."""
    found = [crop(image.labels, middle(image.labels.spatial_shape, LOOKED_AT)).ravel() for image in train if image.labels is not None]
    values = np.concatenate([*found, np.zeros(0)]).astype(np.float64)
    spread = float(values.std()) if len(values) else 0.0
    return (float(values.mean()) if len(values) else 0.0), spread if spread > 0 else 1.0


def object_sizes(train: Sequence[Opened]) -> Sizes | None:
    """Sizes of the labelled objects, `None` without objects; of a large image the central block is examined."""
    sizes: list[int] = []
    for image in train:
        sizes += voxel_counts(image)
    if not sizes:
        return None
    spacing = np.asarray(train[0].raw.spacing) / min(train[0].raw.spacing)
    # radius of a disk or ball with the median area or volume, in units of the smallest edge of a voxel
    median = float(np.median(sizes) * spacing.prod())
    return Sizes(min(sizes), (median / np.pi) ** 0.5 if len(spacing) == 2 else (0.75 * median / np.pi) ** (1 / 3))
