"""The section `killed` of the row `trust`: `kill -9` at random points of commands, and the same command again.

Each command runs in a forked process, which is killed after a random share of the time that the whole command takes. Then the command is
given again (`train` with `resume`), and all results are compared, byte for byte, with those of a command that nothing interrupted.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

JOB = """\
images:
  train: {raw: data/train/images, labels: data/train/labels}
  validate: 50%
  test: {raw: data/test/images, labels: data/test/labels}
method: {kind: channels, channels: [F, C, Db]}
network: {kind: unet, features: [4, 8]}
sampling: {patch: [32, 32], batch: 2, patches_per_epoch: 4}
training: {epochs: 3, precision: fp32, seed: 3, checkpoint_every: 1 steps}
objects: {refine: [{remove_small: 4}]}
"""
POINTS = 20
_TIMED = ("logs/log.txt", "events.jsonl", "manifest.jsonl", ".morula.jsonl", "provenance.json")
"""Files that hold times, or lines in the order of writing."""


def killed(done: Collection[str], options: argparse.Namespace) -> Iterator[tuple[str, str]]:
    """Cases ``COMMAND POINT``, and what differs after the command was given again."""
    wanted = {name: [f"{name} {point}" for point in range(POINTS) if f"{name} {point}" not in done] for name in COMMANDS}
    if not any(wanted.values()):
        return
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        make(place)  # in this process, which imports everything that the forked ones need
        for name, cases in wanted.items():
            if not cases:
                continue
            reset(place, name)
            began = time.monotonic()
            if in_process(lambda name=name: COMMANDS[name](place, False)) != 0:
                yield f"{name} {POINTS}", "the command failed without an interruption"
                continue
            seconds, expected = time.monotonic() - began, results(place)
            for case in cases:
                yield case, tried(name, place, random.Random(case).random() * seconds, expected)


def make(place: Path) -> None:
    """Images and a finished run, from which every case starts."""
    import morula
    from morula.testing.simulate import simulate_data_set

    simulate_data_set(place / "data", n_train=2, n_test=4, shape=(64, 64), n_objects=6, seed=1)
    (place / "job.yaml").write_text(JOB)
    os.chdir(place)
    for _ in morula.iter_run(place / "job.yaml", output=place / "work" / "run", device="cpu"):
        pass
    (place / "work").rename(place / "base")


def reset(place: Path, name: str) -> None:
    """The state before a command: the finished run, or nothing for those that make one."""
    shutil.rmtree(place / "work", ignore_errors=True)
    (place / "work").mkdir()
    if name != "train":
        shutil.copytree(place / "base" / "run", place / "work" / "run")


def train(place: Path, again: bool) -> None:
    """Train; again with `resume`, or from the beginning where the run had not begun."""
    import morula

    begun = again and (place / "work/run/job.yaml").is_file()
    events = morula.train(place / "job.yaml", output=place / "work/run", resume=begun, overwrite=again and not begun, device="cpu")
    for _ in events:
        pass


def segment(place: Path, again: bool) -> None:
    """Segment a folder of images, by the same command again."""
    import morula

    for _ in morula.segment(place / "data/test/images", model=place / "work/run", output=place / "work/out", device="cpu"):
        pass


def predict(place: Path, again: bool) -> None:
    """Predict the test images of the run."""
    import morula

    for _ in morula.predict(place / "work/run", device="cpu"):
        pass


def evaluate(place: Path, again: bool) -> None:
    """Score them."""
    import morula

    for _ in morula.evaluate(place / "work/run"):
        pass


def tune(place: Path, again: bool) -> None:
    """Search the settings of the decoder."""
    import morula

    for _ in morula.tune(place / "work/run", device="cpu"):
        pass


COMMANDS: dict[str, Callable[[Path, bool], None]] = {
    "train": train,
    "segment": segment,
    "predict": predict,
    "evaluate": evaluate,
    "tune": tune,
}


def tried(name: str, place: Path, seconds: float, expected: dict[str, bytes]) -> str:
    """What is wrong after a command was killed after some seconds and given again; an empty text where nothing is."""
    for _ in range(6):
        reset(place, name)
        if in_process(lambda: COMMANDS[name](place, False), kill_after=seconds) == -signal.SIGKILL:
            break
        seconds *= 0.7  # it was faster than the command that was timed
    else:
        return "the command ended before it was killed"
    code = in_process(lambda: COMMANDS[name](place, True))
    found = results(place)
    if code != 0 and found != expected:  # a command that had finished when it was killed refuses to replace its results
        return f"the command that was given again ended with code {code}"
    other = sorted(file for file in expected.keys() | found.keys() if expected.get(file) != found.get(file))
    return f"other results: {', '.join(other[:4])}" if other else ""


def results(place: Path) -> dict[str, bytes]:
    """The files of a finished command, without those that hold times; hidden ones too, because none may be left."""
    found = {}
    for path in sorted((place / "work").rglob("*")):
        name = path.relative_to(place / "work").as_posix()
        if path.is_file() and not name.endswith(_TIMED) and "tfevents" not in name:
            content = path.read_bytes()
            found[name] = _without_seconds(content) if name.endswith("training.csv") else content
    return found


def _without_seconds(table: bytes) -> bytes:
    rows = [line.split(b",") for line in table.splitlines()]
    column = rows[0].index(b"seconds")
    return b"\n".join(b",".join(row[:column] + row[column + 1 :]) for row in rows)


def in_process(work: Callable[[], None], kill_after: float | None = None, meanwhile: Callable[[int], None] | None = None) -> int:
    """Run something in a forked process: its exit code, 1 for an error, or the negative number of the signal that ended it.

    Args:
        work: what is run.
        kill_after: seconds until the process is killed.
        meanwhile: called with the number of the process while it runs.
    """
    child = os.fork()
    if not child:
        code = 1
        try:
            work()
            code = 0
        except BaseException as error:  # noqa: BLE001 - nothing may reach the code of the parent
            print(f"{type(error).__name__}: {error}"[:500], flush=True)
        finally:
            os._exit(code)
    if meanwhile is not None:
        meanwhile(child)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
