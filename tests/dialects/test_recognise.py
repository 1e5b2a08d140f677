from __future__ import annotations

from typing import Any

import pytest

from morula.dialects import recognise

CASES: list[tuple[dict[str, Any], str | None]] = [
    ({"SYSTEM": {"NUM_CPUS": -1}, "PROBLEM": {"TYPE": "SEMANTIC_SEG"}, "DATA": {}, "MODEL": {}, "TRAIN": {}}, "BiaPy"),
    ({"PROBLEM": {"TYPE": "SELF_SUPERVISED"}, "OWN_NOTES": "kept by the laboratory"}, "BiaPy"),
    ({"model": {}, "loss": {}, "optimizer": {}, "eval_metric": {}, "trainer": {}, "loaders": {}}, "pytorch-3dunet"),
    ({"model_path": "best.pytorch", "model": {}, "predictor": {}, "loaders": {}}, "pytorch-3dunet"),
    ({"model_path": "best.pytorch", "model": {}, "loaders": {}, "wandb": {}}, "pytorch-3dunet"),
    ({"DATA": {}, "MODEL": {}, "TRAIN": {}}, "BiaPy"),
    ({"images": {}, "method": {}}, None),
    ({"method": {}, "model": {}, "trainer": {}}, None),
    ({"model": {}}, None),
    ({3: "numbers as keys"}, None),
    ({}, None),
]


@pytest.mark.parametrize(("document", "program"), CASES)
def test_foreign_job_files_are_recognised_by_their_sections(document: dict[str, Any], program: str | None) -> None:
    assert recognise(document) == program
