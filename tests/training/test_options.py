from __future__ import annotations

import subprocess
import sys

import pytest
import yaml
from pydantic import ValidationError

from morula.testing.errors import option_codes
from morula.training.options import Cosine, OneCycle, Training, interval

JOB = "{epochs: 100, optimiser: {kind: adamw, lr: 1.0e-3}, schedule: one_cycle, patience: 20, precision: auto, seed: 0}"


def test_spellings_of_the_job_file() -> None:
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
def test_invalid_intervals(given: str | int) -> None:
    with pytest.raises(ValidationError) as caught:
        Training(validate_every=given)
    assert option_codes(caught.value) == ["interval.form"]


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"optimiser": "rmsprop"}, "union_tag_invalid"),
        ({"optimiser": {"kind": "adamw", "momentum": 0.9}}, "extra_forbidden"),
        ({"schedule": {"kind": "plateau", "warmup": 3}}, "extra_forbidden"),
        ({"epochs": 0}, "greater_than_equal"),
        ({"ema_decay": 1.0}, "less_than"),
        ({"epoch": 5}, "extra_forbidden"),
        ({"optimiser": {"kind": "sgd", "nesterov": True, "momentum": 0}}, "optimiser.nesterov"),
    ],
)
def test_invalid_options(given: dict[str, object], code: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Training.model_validate(given)
    assert option_codes(caught.value) == [code]
    assert caught.value.errors()[0]["loc"][0] == next(iter(given))


def test_every_field_is_described() -> None:
    schema = Training.model_json_schema()
    for model in [schema, *schema["$defs"].values()]:
        for name, field in model["properties"].items():
            assert name == "kind" or field.get("description"), (model["title"], name)


def test_needs_no_torch() -> None:
    code = "import sys, morula.training.options; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
