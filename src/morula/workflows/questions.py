"""The questions for a new job, which `morula new` and the window `Wizard` ask. Needs neither torch nor Qt.

Each answer is checked against the files at once, and its consequence is shown, see `Question.consequence`.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import cast

from morula.core.errors import MorulaError
from morula.core.voxel_size import VoxelSize
from morula.jobs.bundled import bundled_models
from morula.workflows import consequences
from morula.workflows.answers import Answers, Task
from morula.workflows.consequences import MANY, enough
from morula.workflows.interview import OWN, PLANES, Choice, Interview, Question

PURPOSES = (
    Choice("both", "Train a network, then segment further images", "The job trains, segments the test images and measures their objects."),
    Choice("train", "Train a network", "The job trains. Later, `morula segment` uses the model on any image."),
    Choice("segment", "Segment images with a model that exists", "No job is needed: the command is shown."),
)
TASKS = (
    Choice("instances", "Single objects", "Each object gets its own number, and a row in a table with its size, shape and intensity."),
    Choice("semantic", "A class for every pixel", "Objects that touch are not separated; the table has a row per class."),
    Choice(
        "pretraining", "Only weights to start from", "The network learns to restore degraded images. It needs no labels and makes none."
    ),
)
LABELLING = (
    Choice(
        "all",
        "Yes, all of them",
        "The network learns from the labels: the most accurate way. A dozen images with 100 objects each are enough.",
    ),
    Choice(
        "part",
        "A part, for example some slices",
        "Only what is annotated is learned and scored. Three slices of a volume are enough to begin.",
    ),
    Choice("none", "No", "WNet3D finds bright objects on a dark background by themselves. Look at the result: it depends on chance."),
)
WHERE = (
    Choice("later", "Later", "The job is written, and the command that runs it is shown."),
    Choice("here", "Now, on this computer", "The job is written and run. Ctrl-C stops it; it can be resumed."),
    Choice("cluster", "On a cluster", "The job is written, and a command for SLURM is shown."),
)
AXES = {
    "YX": Choice("YX", "2D images", "Objects are flat."),
    "CYX": Choice("CYX", "2D images; the first axis is their channels", "The network sees all channels of an image together."),
    "YXC": Choice("YXC", "2D images; the last axis is their colours", "The network sees all colours of an image together."),
    "ZYX": Choice("ZYX", "Volumes; the first axis is z", "Objects extend over several slices."),
}
"""How the axes of an image can be understood."""


def labellings(interview: Interview) -> tuple[Choice, ...]:
    """Without labels there are objects, but no classes of pixels."""
    return LABELLING if interview.objects else LABELLING[:2]


def axes(interview: Interview) -> tuple[Choice, ...]:
    """How the axes of the files can be understood, as they are read by themselves first."""
    read = interview.file_axes
    if not read:
        return ()
    found = [AXES.get(read, Choice(read, f"{read}, as the files state", "Nothing is assumed."))]
    if len(read) == 3:
        found += [choice for letters, choice in AXES.items() if len(letters) == 3 and letters != read]
    if "Z" not in read:
        joined = "A 2D network; later, `morula segment --slices z` joins what it finds in the slices of a volume."
        found.append(Choice(PLANES, "2D images, and volumes later", joined))
    return tuple(found)


def starts(interview: Interview) -> tuple[Choice, ...]:
    """Weights to start from that fit the images; the proposed ones first."""
    none = Choice("none", "Random weights", "The training assumes nothing about the images.")
    own = Choice(OWN, "The weights of another training", "Saves time where the images are alike.")
    if not interview.labelled:
        return none, own
    channels = 1 if interview.first is None else interview.first.n_channels
    suited = [(model, model.facts.suited) for model in bundled_models()]
    fitting = [model for model, facts in suited if (facts.dimensions, facts.channels) == (interview.ndim, channels)]
    named = [Choice(model.name, f"The bundled model {model.name}", model.card.description) for model in fitting]
    if not named or not interview.objects:
        return none, *named, own
    compared = "Each trains for a minute and is judged on the validation images; the better one is planned."
    return Choice("auto", "Try a bundled model and random weights", compared), none, *named, own


def pretrained(interview: Interview) -> bool:
    """Whether the job learns from images without labels first."""
    return interview.labelled and bool(interview.answer("unlabelled")) and enough(interview)


QUESTIONS = (
    Question(
        "purpose",
        "What do you want to do?",
        "The other questions depend on it.",
        "choice",
        choices=lambda _: PURPOSES,
        default=lambda _: "both",
    ),
    Question(
        "task",
        "What should the network find?",
        "The method depends on it.",
        "choice",
        asked=lambda interview: interview.trained,
        choices=lambda _: TASKS,
        default=lambda _: "instances",
    ),
    Question(
        "labelling",
        "Are there labels?",
        "Label images: the number of its object, or its class, for each pixel.",
        "choice",
        asked=lambda interview: interview.trained and interview.answer("task") != "pretraining",
        choices=labellings,
        default=lambda _: "all",
    ),
    Question(
        "raw",
        "Images to learn from",
        "A folder, a file, or a pattern such as data/*.tif.",
        "images",
        consequences.images,
        asked=lambda interview: interview.trained,
    ),
    Question(
        "axes",
        "What are these images?",
        "Not all files state their axes.",
        "choice",
        asked=lambda interview: interview.trained and interview.reading.axes is None and len(axes(interview)) > 1,
        choices=axes,
        default=lambda interview: interview.file_axes,
    ),
    Question(
        "voxel_size",
        "Edge lengths of a voxel in micrometres",
        "The files state none. In 2D y,x; in 3D z,y,x, for example 2,0.5,0.5.",
        "text",
        consequences.voxel_size,
        asked=lambda interview: interview.trained and _without_voxel_size(interview),
        empty="sizes are measured in voxels, and volumes are taken to be as fine along z as along y and x",
    ),
    Question(
        "labels",
        "Their label images",
        "A folder, a file or a pattern. Image and labels have the same name, except for words such as mask.",
        "images",
        consequences.labels,
        asked=lambda interview: interview.labelled,
    ),
    Question(
        "mask",
        "What marks the annotated part?",
        "Mask images in which 0 is not annotated, or the value of unannotated voxels in the labels, such as 255.",
        "images",
        consequences.mask,
        asked=lambda interview: interview.labelled and interview.answer("labelling") == "part",
    ),
    Question(
        "classes",
        "Class images, if objects have classes",
        "In each object the number of its class: 1, 2 and so on.",
        "images",
        consequences.classes,
        asked=lambda interview: interview.labelled and interview.objects,
        empty="objects have no classes",
    ),
    Question(
        "class_names",
        "Names of the classes",
        "In the order of their numbers, separated by commas; or how many there are.",
        "text",
        consequences.class_names,
        asked=lambda interview: interview.labelled and interview.objects and bool(interview.answer("classes")),
    ),
    Question(
        "pixel_classes",
        "Names of the classes, the background first",
        "Separated by commas, for example background, membrane.",
        "text",
        consequences.class_names,
        asked=lambda interview: interview.labelled and interview.answer("task") == "semantic",
        empty="classes are called by their numbers",
    ),
    Question(
        "width",
        "Width of a typical object in pixels",
        "It cannot be measured without labels.",
        "text",
        consequences.width,
        asked=lambda interview: interview.objects and not interview.labelled,
        empty="noise of single pixels is smoothed while learning",
    ),
    Question(
        "slices",
        "Slices that a typical object spans",
        "It cannot be measured without labels.",
        "text",
        consequences.slices,
        asked=lambda interview: interview.objects and not interview.labelled and interview.ndim == 3,
        empty="patches are about cubes",
    ),
    Question(
        "unlabelled",
        "Many more images without labels",
        f"They help only if there are few labels. At least {MANY} times as many as with labels.",
        "images",
        consequences.unlabelled,
        asked=lambda interview: interview.labelled,
        empty="no pretraining",
    ),
    Question(
        "start",
        "Where does the training start?",
        "A network that knows similar images needs less training.",
        "choice",
        asked=lambda interview: interview.trained and not pretrained(interview),
        choices=starts,
        default=lambda interview: starts(interview)[0].value,
    ),
    Question(
        "weights",
        "Its run folder, or a checkpoint",
        "A run of Morula, or a checkpoint of BiaPy or CellSeg3D.",
        "path",
        consequences.weights,
        asked=lambda interview: interview.trained and not pretrained(interview) and interview.answer("start") == OWN,
    ),
    Question(
        "test",
        "Images to segment after the training",
        "Images that the network does not learn from.",
        "images",
        consequences.images,
        asked=lambda interview: _tested(interview),
        empty="nothing is segmented",
    ),
    Question(
        "test_labels",
        "Their label images, for scores",
        "A folder, a file or a pattern, as above.",
        "images",
        consequences.scored,
        asked=lambda interview: _tested(interview) and bool(interview.answer("test")),
        empty="the results are not scored",
    ),
    Question(
        "minutes",
        "Minutes that the training may take on this computer",
        "Leave it empty if the job runs on another one.",
        "text",
        consequences.minutes,
        asked=lambda interview: interview.trained,
        empty="as many epochs as the scores need, however long they take",
    ),
    Question(
        "images",
        "Images to segment",
        "A folder, a file, or a pattern such as data/*.tif.",
        "images",
        consequences.images,
        asked=lambda interview: not interview.trained,
    ),
    Question(
        "model",
        "The model",
        "A bundled model (`morula models`), a run folder, a package of the BioImage Model Zoo, or a checkpoint.",
        "path",
        consequences.model,
        asked=lambda interview: not interview.trained,
        empty="the bundled model that fits the first image",
    ),
    Question(
        "where",
        "When does the job run?",
        "Hours of training belong on a computer with a graphics card.",
        "choice",
        asked=lambda interview: interview.trained,
        choices=lambda _: WHERE,
        default=lambda _: "later",
    ),
)
"""All questions, in their order."""


def _without_voxel_size(interview: Interview) -> bool:
    first = interview.first
    return interview.reading.voxel_size is None and first is not None and first.voxel_size is None


def _tested(interview: Interview) -> bool:
    """Whether the job may have test images: of a 2D network for volumes, these are segmented by another command."""
    both = interview.answer("purpose") in ("", "both")
    return both and interview.answer("task") != "pretraining" and interview.answer("axes") != PLANES


def question(key: str) -> Question:
    """The question of a key.

    Examples:
        >>> question("task").default(Interview())
        'instances'
    """
    return next(entry for entry in QUESTIONS if entry.key == key)


def asked(interview: Interview) -> Iterator[Question]:
    """The questions that these answers lead to, in their order.

    Examples:
        >>> [entry.key for entry in asked(Interview({"purpose": "segment"}))]
        ['purpose', 'images', 'model']
    """
    return (entry for entry in QUESTIONS if entry.asked(interview))


def next_question(interview: Interview) -> Question | None:
    """The first question that was not answered, not even by nothing.

    Examples:
        >>> next_question(Interview({"purpose": "segment"})).key
        'images'
    """
    return next((entry for entry in asked(interview) if entry.key not in interview.given), None)


@dataclass(frozen=True)
class Asked:
    """A question that is asked, and what its answer leads to.

    Attributes:
        question: the question.
        choices: possible answers.
        answer: what was answered, else the proposed answer.
        consequence: what it leads to; empty where it cannot be used.
        error: why it cannot be used.
    """

    question: Question
    choices: tuple[Choice, ...]
    answer: str
    consequence: str = ""
    error: MorulaError | None = None


def checked(interview: Interview) -> list[Asked]:
    """All questions that are asked, each with what its answer leads to, or with its error.

    Examples:
        >>> _, images, model = checked(Interview({"purpose": "segment", "images": "nowhere"}))
        >>> images.error.code, model.consequence
        ('file.missing', 'the bundled model that fits the first image')
    """
    found = []
    for entry in asked(interview):
        shown = Asked(entry, entry.choices(interview), interview.answer(entry.key) or entry.default(interview))
        try:
            found.append(replace(shown, consequence=entry.consequence(interview)))
        except MorulaError as error:
            found.append(replace(shown, error=error))
    return found


def answers_of(interview: Interview) -> Answers:
    """What the planning of a job needs.

    Raises:
        MorulaError: the first error of an answer.
    """
    found = checked(interview)
    for answered in found:
        if answered.error is not None:
            raise answered.error
    given = {answered.question.key: answered.answer or None for answered in found}
    ignore, masks = consequences.annotated(given.get("mask") or "")
    names = consequences.names_in(given.get("class_names") or given.get("pixel_classes") or "")
    counted = len(names) == 1  # of objects; checked with the answer
    start = given.get("weights") if given.get("start") == OWN else given.get("start")
    return Answers(
        raw=str(given["raw"]),
        labels=given.get("labels"),
        task=cast(Task, given["task"]),
        test=given.get("test"),
        test_labels=given.get("test_labels"),
        voxel_size=_voxel_size(interview, given.get("voxel_size")),
        unlabelled=given.get("unlabelled"),
        reading=interview.as_read,
        mask=masks,
        ignore_label=ignore,
        classes=given.get("classes"),
        class_names=() if counted else tuple(names),
        class_count=int(names[0]) if counted else None,
        width=consequences.number(given.get("width")),
        slices=consequences.number(given.get("slices")),
        minutes=consequences.number(given.get("minutes")),
        start=start or "none",
    )


def _voxel_size(interview: Interview, answer: str | None) -> VoxelSize | None:
    """What was answered, or what the caller states; `None`: from the files."""
    if answer:
        return consequences.edges(answer, interview.ndim)
    stated = interview.reading.voxel_size
    return None if stated is None else VoxelSize.of(stated, interview.ndim)


def segment_command(interview: Interview) -> str:
    """The command that segments images with a model that exists.

    Examples:
        >>> segment_command(Interview({"images": "new images", "model": "runs/nuclei"}))
        "morula segment 'new images' --model runs/nuclei -o segmentation"
    """
    model = interview.answer("model")
    return shlex.join(["morula", "segment", interview.answer("images"), *(["--model", model] if model else []), "-o", "segmentation"])
