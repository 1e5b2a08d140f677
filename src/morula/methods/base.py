"""A method: how a network is trained, and how its predictions become a result."""

from __future__ import annotations

from morula.methods.planning import Planning
from morula.methods.postprocessing import Postprocessing
from morula.methods.scoring import Scoring
from morula.methods.training_task import TrainingTask


class Method(TrainingTask, Postprocessing, Scoring, Planning):
    """The four interfaces that the engine uses, together.

    Code that needs one of them takes that one: the training loop a `TrainingTask`, prediction a `Postprocessing`, evaluation a `Scoring`,
    the plan of a job a `Planning`. `morula.testing.method_contracts` tests each of them for all methods.
    """
