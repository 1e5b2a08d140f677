"""The answers to the questions for a new job so far, and what a question is. Needs neither torch nor Qt."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal, TypeAlias

from morula.core.errors import MorulaError, OptionError
from morula.core.image import Image
from morula.io.lazy import time_points, without_z
from morula.io.pairs import list_images
from morula.workflows.reading import Reading

Kind: TypeAlias = Literal["choice", "images", "path", "text"]
"""One of several, images (a folder, a file or a pattern), a file or folder, or a line of text."""

OWN = "own"
"""Choice of a model that is not bundled."""
PLANES = "planes"
"""Choice of a 2D network for volumes."""


@dataclass(frozen=True)
class Choice:
    """One possible answer, and what it leads to."""

    value: str
    title: str
    consequence: str


@dataclass(frozen=True)
class Interview:
    """The answers so far, as texts by the key of their question.

    Attributes:
        given: answers; empty ones count as not given.
        reading: how the files are read, as far as the caller has stated it.

    Examples:
        >>> Interview().answered("task", " semantic ").answer("task")
        'semantic'
    """

    given: Mapping[str, str] = field(default_factory=dict)
    reading: Reading = field(default_factory=Reading)

    def answer(self, key: str) -> str:
        """The answer to a question, without spaces around it; empty where there is none."""
        return self.given.get(key, "").strip()

    def answered(self, key: str, answer: str) -> Interview:
        """The interview with one more answer."""
        return replace(self, given={**self.given, key: answer})

    @cached_property
    def first(self) -> Image | None:
        """The first training image, without its pixels; `None` while none is named that can be read."""
        try:
            return self.open(self.answer("raw")) if self.answer("raw") else None
        except MorulaError:
            return None

    @cached_property
    def file_axes(self) -> str:
        """The axes of the first training image as its file states or suggests them; empty while there is none."""
        try:
            return str(self.reading.open(list_images(self.answer("raw"))[0]).axes) if self.answer("raw") else ""
        except MorulaError:
            return ""

    @property
    def as_read(self) -> Reading:
        """How the files are read: what the caller and the question of the axes state."""
        axes = self.answer("axes")
        return replace(self.reading, axes=axes) if axes not in ("", PLANES, self.file_axes) else self.reading

    def open(self, images: str) -> Image:
        """The first of some images, of a series its first time point. Errors as of `list_images` and `Reading.open`."""
        return without_z(time_points(self.as_read.open(list_images(images)[0]))[0])

    @property
    def shape(self) -> tuple[int, ...]:
        """Spatial shape of the first training image; empty while there is none."""
        return () if self.first is None else self.first.spatial_shape

    @property
    def ndim(self) -> int:
        """Number of spatial axes of the training images; 2 while there is none."""
        return len(self.shape) or 2

    @property
    def trained(self) -> bool:
        """Whether a network is trained."""
        return self.answer("purpose") != "segment"

    @property
    def labelled(self) -> bool:
        """Whether the network learns from labels."""
        return self.trained and self.answer("task") != "pretraining" and self.answer("labelling") != "none"

    @property
    def objects(self) -> bool:
        """Whether single objects are learned."""
        return self.trained and self.answer("task") in ("", "instances")


def _always(_: Interview) -> bool:
    return True


def _no_choices(_: Interview) -> tuple[Choice, ...]:
    return ()


def _empty(_: Interview) -> str:
    return ""


@dataclass(frozen=True)
class Question:
    """One question.

    Attributes:
        key: its name, and that of the answer.
        text: what is asked.
        help: what the answer is for, or how to give it.
        kind: how it is answered.
        check: what an answer leads to, in words; raises an error for one that cannot be used. Choices know what they lead to.
        asked: whether it is asked, given the answers to the questions before.
        choices: possible answers, for a ``choice``.
        default: answer that is proposed.
        empty: what no answer leads to; without this text an answer is needed.
    """

    key: str
    text: str
    help: str
    kind: Kind
    check: Callable[[str, Interview], str] | None = None
    asked: Callable[[Interview], bool] = _always
    choices: Callable[[Interview], tuple[Choice, ...]] = _no_choices
    default: Callable[[Interview], str] = _empty
    empty: str = ""

    def consequence(self, interview: Interview) -> str:
        """What the given answer leads to, or the proposed one of a choice.

        Raises:
            MorulaError: when the answer cannot be used, or one is needed.
        """
        answer = interview.answer(self.key)
        if self.check is None:
            known = {choice.value: choice for choice in self.choices(interview)}
            chosen = answer or self.default(interview)
            if chosen not in known:
                raise OptionError("question.unknown_choice", f"must be one of {', '.join(known)}", key=self.key, value=chosen)
            return known[chosen].consequence
        if answer:
            return self.check(answer, interview)
        if not self.empty:
            raise OptionError("question.not_answered", "is needed", key=self.text, remedy=self.help)
        return self.empty
