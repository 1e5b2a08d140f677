from __future__ import annotations

import subprocess
import sys

import pytest
import yaml
from pydantic import ValidationError

from morula.training.options import Cosine, OneCycle, Training, interval

JOB = "{epochs: 100, optimiser: {kind: adamw, lr: 1.0e-3}, schedule: one_cycle, patience: 20, precision: auto, seed: 0}"


def test_spelling_of_the_job_file() -> None:
    options = Training.model_validate(yaml.safe_load(JOB))
    assert options.optimiser.lr == 1e-3
    assert options.schedule == OneCycle()
    assert Training.model_validate({"schedule": {"kind": "cosine", "warmup": 0.1}}).schedule == Cosine(warmup=0.1)
    assert Training(optimiser="sgd").optimiser.kind == "sgd"
    assert Training(optimiser={"lr": 0.01}, schedule={"warmup": 0.2}) == Training(
        optimiser={"kind": "adamw", "lr": 0.01}, schedule=OneCycle(warmup=0.2)
    )


def test_round_trip_through_yaml() -> None:
    options = Training.model_validate({**yaml.safe_load(JOB), "devices": [0, 1], "checkpoint_every": "500 steps", "ema_decay": 0.99})
    assert Training.model_validate(yaml.safe_load(yaml.safe_dump(options.model_dump(mode="json")))) == options


@pytest.mark.parametrize(
    ("given", "expected"),
    [(2, (2, "epochs")), ("2", (2, "epochs")), ("1 epoch", (1, "epochs")), ("epoch", (1, "epochs")), (" 500  steps", (500, "steps"))],
)
def test_intervals(given: str | int, expected: tuple[int, str]) -> None:
    assert interval(given) == expected
    assert interval(Training(validate_every=given).validate_every) == expected


@pytest.mark.parametrize("given", [0, -1, "0 steps", "", " ", "often", "1.5 epochs", True])
def test_intervals_refused(given: str | int) -> None:
    with pytest.raises(ValidationError, match="validate_every"):
        Training(validate_every=given)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"optimiser": "rmsprop"}, "'adamw', 'adam', 'sgd'"),
        ({"optimiser": {"kind": "adamw", "momentum": 0.9}}, "momentum"),
        ({"schedule": {"kind": "plateau", "warmup": 3}}, "warmup"),
        ({"epochs": 0}, "epochs"),
        ({"ema_decay": 1.0}, "ema_decay"),
        ({"epoch": 5}, "epoch"),
        ({"optimiser": {"kind": "sgd", "nesterov": True, "momentum": 0}}, "nesterov"),
    ],
)
def test_refused(given: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Training.model_validate(given)


def test_every_field_is_described() -> None:
    schema = Training.model_json_schema()
    for model in [schema, *schema["$defs"].values()]:
        for name, field in model["properties"].items():
            assert name == "kind" or field.get("description"), (model["title"], name)


def test_needs_no_torch() -> None:
    code = "import sys, morula.training.options; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
