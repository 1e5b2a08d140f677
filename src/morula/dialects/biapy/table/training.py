"""Keys under ``TRAIN`` and ``LOG``."""

from __future__ import annotations

from morula.dialects.biapy.table.key import Key, above_one, positive, same, unused

_SCHEDULER = "TRAIN.LR_SCHEDULER"
_FOLLOWED = "training is judged by the validation loss and by the scores that fit the method"

TRAIN: tuple[Key, ...] = (
    Key("TRAIN.ENABLE", False, target="training"),
    Key("TRAIN.OPTIMIZER", ["ADAMW"], target="training.optimiser"),
    Key("TRAIN.LR", [1e-4], target="training.optimiser.lr"),
    Key("TRAIN.W_DECAY", 0.02, target="training.optimiser.weight_decay", convert=same),
    Key("TRAIN.OPT_BETAS", [[0.9, 0.999]], target="training.optimiser.betas", condition="TRAIN.OPTIMIZER=adam|adamw"),
    Key("TRAIN.BATCH_SIZE", 2, target="sampling.batch", convert=same),
    Key("TRAIN.EPOCHS", 360, target="training.epochs", convert=same),
    Key("TRAIN.PATIENCE", -1, target="training.patience", convert=positive),
    Key("TRAIN.GRADIENT_CLIP_NORM", 0.0, target="training.clip_norm", convert=positive),
    # 1 is no accumulation
    Key("TRAIN.ACCUM_ITER", 1, target="training.accumulate", convert=above_one, former=True),
    Key(
        f"{_SCHEDULER}.NAME",
        "",
        ("", "reduceonplateau", "warmupcosine", "onecycle"),
        target="training.schedule",
    ),
    # onecycle has a floor of its own, a fixed share of the largest rate
    Key(f"{_SCHEDULER}.MIN_LR", [-1.0], target="training.schedule.floor", condition=f"{_SCHEDULER}.NAME=reduceonplateau|warmupcosine"),
    Key(
        f"{_SCHEDULER}.REDUCEONPLATEAU_FACTOR",
        0.5,
        target="training.schedule.factor",
        condition=f"{_SCHEDULER}.NAME=reduceonplateau",
    ),
    Key(
        f"{_SCHEDULER}.REDUCEONPLATEAU_PATIENCE",
        -1,
        target="training.schedule.patience",
        condition=f"{_SCHEDULER}.NAME=reduceonplateau",
    ),
    Key(
        f"{_SCHEDULER}.WARMUP_COSINE_DECAY_EPOCHS",
        -1,
        target="training.schedule.warmup",
        condition=f"{_SCHEDULER}.NAME=warmupcosine",
    ),
    Key(
        f"{_SCHEDULER}.COSINE_DECAY_FRACTION",
        -1.0,
        condition=f"{_SCHEDULER}.NAME=warmupcosine",
        refuse=("cannot be obeyed: the learning rate falls from the end of the warm-up on", "Leave it out."),
    ),
    Key("TRAIN.VERBOSE", False, no_effect="--verbose and --quiet set how much is printed"),
    Key("TRAIN.METRICS", [], no_effect=_FOLLOWED),
    Key("TRAIN.CHECKPOINT_MONITOR", "val_loss", no_effect=_FOLLOWED),
    *unused(
        "TRAIN",
        {"SAVE_TRAIN_PREDS_FREQ": -1, "SAVE_TRAIN_PREDS_NUM_SAMPLES": 1, "SAVE_TRAIN_PREDS_SHOW": False},
        "previews of predictions are in logs/previews of the run folder",
    ),
)
"""Rows of the keys under ``TRAIN``."""

LOG: tuple[Key, ...] = (
    *unused("LOG", {"LOG_DIR": "", "TENSORBOARD_LOG_DIR": "", "LOG_FILE_PREFIX": ""}, "logs are in logs/ of the run folder"),
    Key(
        "LOG.CHART_CREATION_FREQ",
        5,
        no_effect="charts are in report.html of the run folder; `morula run --config` writes the folder charts, too",
        of_tree=True,
    ),
)
"""Rows of the keys under ``LOG``."""
