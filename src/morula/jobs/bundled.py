"""Models that can be used by their name: those that ship with Morula, and those in the folder that ``MORULA_MODELS`` names.

Each is a folder with the weights and their description (``weights.safetensors``, ``model.json``), a card (``card.yaml``) whose keys are
those of a model of bioimage.io, and a picture. Nothing here needs torch.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from morula.core.errors import MissingFileError, ModelError
from morula.core.options import problem_of
from morula.jobs.yaml_lines import read_documents

SHIPPED = Path(__file__).resolve().parent.parent / "models" / "bundled"
"""Folder of the models that ship with Morula."""
ENVIRONMENT = "MORULA_MODELS"
"""Environment variable that names a folder with further models."""
CARD = "card.yaml"
WEIGHTS = "weights.safetensors"


class _Part(BaseModel):
    """A part of a card; a card of bioimage.io has further keys, which are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class TrainingImages(_Part):
    """Images that a model was trained on."""

    data: str
    licence: str
    images: int = Field(ge=0)
    source: str = ""


class Scores(_Part):
    """F1 of a model on test images, and that of Otsu's threshold with a watershed on the same images."""

    data: str
    images: int = Field(ge=1)
    objects: int = Field(ge=1)
    f1_50: float = Field(ge=0, le=1)
    f1_75: float = Field(ge=0, le=1)
    otsu_50: float = Field(ge=0, le=1)
    otsu_75: float = Field(ge=0, le=1)
    note: str = ""


class Suited(_Part):
    """Images that a model is meant for."""

    dimensions: Literal[2, 3]
    channels: int = Field(ge=1)
    background: Literal["dark", "bright"] = "dark"


class MorulaFacts(_Part):
    """What a card says in addition to the keys of bioimage.io."""

    suited: Suited
    training: list[TrainingImages]
    scores: list[Scores] = []
    limits: str = ""


class _Config(_Part):
    morula: MorulaFacts


class Card(_Part):
    """The card of a model, with the keys of a model description of bioimage.io."""

    name: str
    description: str
    license: str
    version: str = ""
    covers: list[str] = []
    config: _Config


@dataclass(frozen=True)
class Bundled:
    """A model that can be used by its name."""

    name: str
    folder: Path
    card: Card

    @property
    def facts(self) -> MorulaFacts:
        """What it is meant for, what it was trained on, and its scores."""
        return self.card.config.morula

    @property
    def picture(self) -> Path | None:
        """The first picture of its card."""
        return self.folder / self.card.covers[0] if self.card.covers else None


def bundled_models() -> list[Bundled]:
    """All models that can be used by their names; one in the folder of ``MORULA_MODELS`` replaces a shipped one of the same name.

    Raises:
        MissingFileError: when ``MORULA_MODELS`` names a folder that does not exist.
        ModelError: when a card is damaged.
    """
    return sorted({model.name: model for folder in _places() for model in _models_in(folder)}.values(), key=lambda model: model.name)


def bundled_names() -> list[str]:
    """The names of all models, without reading their cards."""
    return sorted({name for folder in _places() for name in _names_in(folder)})


def bundled_model(name: str) -> Bundled:
    """A model by its name.

    Raises:
        MissingFileError: when there is none of this name, with the names that there are.
        ModelError: when its card is damaged.
    """
    for folder in reversed(list(_places())):
        if name in _names_in(folder):
            return Bundled(name, folder / name, read_card(folder / name / CARD))
    known = ", ".join(bundled_names())
    raise MissingFileError("model.unknown_name", f"is not a known model; there are {known}", value=name, remedy="See `morula models`.")


def place_of(model: str | Path) -> Path:
    """The place of a model: that of the model of this name, else the path itself. Files, runs and model folders come before names.

    Examples:
        >>> place_of("runs/mine")
        PosixPath('runs/mine')
    """
    path = Path(model).expanduser()
    own = path.is_file() or any((path / inner / "model.json").is_file() for inner in ("", "model"))
    return path if own or not is_name(str(model)) else bundled_model(str(model)).folder


def is_name(text: str) -> bool:
    """Whether a text is the name of a model."""
    return Path(text).name == text and any(text in _names_in(folder) for folder in _places())


def _places() -> Iterator[Path]:
    """Folders of models; later ones have precedence."""
    yield SHIPPED
    if stated := os.environ.get(ENVIRONMENT):
        folder = Path(stated).expanduser()
        if not folder.is_dir():
            remedy = "Set it to a folder that holds one folder per model, or unset it."
            raise MissingFileError("models.no_folder", "is not a folder", key=ENVIRONMENT, value=stated, remedy=remedy)
        yield folder


def _names_in(folder: Path) -> list[str]:
    return [card.parent.name for card in sorted(folder.glob(f"*/{CARD}")) if (card.parent / WEIGHTS).is_file()]


def _models_in(folder: Path) -> list[Bundled]:
    return [Bundled(name, folder / name, read_card(folder / name / CARD)) for name in _names_in(folder)]


@cache
def read_card(path: Path) -> Card:
    """A card, checked.

    Raises:
        ModelError: when it is damaged.
    """
    try:
        return Card.model_validate(read_documents(path)[0].data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        problem = problem_of(first, ".".join(map(str, first["loc"])))
        rule = f"is not the card of a model: {problem.rule}"
        raise ModelError("card.damaged", rule, key=problem.key, value=problem.value, file=path, remedy="Copy the model again.") from error
