"""`morula models`: the models that can be used by their names."""

from __future__ import annotations

from collections.abc import Iterator

from morula.cli.show import echo
from morula.jobs.bundled import ENVIRONMENT, Bundled, bundled_models


def print_models() -> None:
    """Print each model with its licence, training images, scores and picture."""
    for number, model in enumerate(bundled_models()):
        if number:
            echo("")
        for line in lines_of(model):
            echo(line)
    echo("")
    echo(f"Use one with `morula segment IMAGE --model NAME`. {ENVIRONMENT} names a folder with further models.")


def lines_of(model: Bundled) -> Iterator[str]:
    """The lines about one model."""
    card, facts = model.card, model.facts
    yield f"{model.name}: {card.description}"
    yield f"  licence    {card.license}"
    for images in facts.training:
        yield f"  training   {images.images} images of {images.data} ({images.licence})"
    for score in facts.scores:
        yield (
            f"  scores     {score.data}, {score.images} images, {score.objects} objects: "
            f"F1@0.5 {score.f1_50:.3f}, F1@0.75 {score.f1_75:.3f} (Otsu + watershed {score.otsu_50:.3f}, {score.otsu_75:.3f})"
        )
    if facts.limits:
        yield f"  limits     {facts.limits}"
    if model.picture is not None:
        yield f"  picture    {model.picture}"
    yield f"  folder     {model.folder}"
