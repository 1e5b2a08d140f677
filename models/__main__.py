"""Train the bundled models: `python -m models [NAME ...]`.

Images are prepared and trained in build/models; what is finished there is not repeated, and a stopped training continues. The finished
model, its scores and its card are written to src/morula/models/bundled.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from pack import pack  # noqa: E402 - the folder is not a package
from recipes import RECIPES  # noqa: E402

import morula  # noqa: E402

BUILD = HERE.parent / "build" / "models"
BUNDLED = HERE.parent / "src" / "morula" / "models" / "bundled"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m models", description="Train the bundled models.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"models to train (default: all): {', '.join(RECIPES)}")
    parser.add_argument("--again", action="store_true", help="begin from the start")
    options = parser.parse_args()
    data = Path(os.environ.get("MORULA_DATA", HERE.parent.parent / "shared" / "data")).resolve()
    if not data.is_dir():
        raise SystemExit(f"there are no images in {data}; name the folder in MORULA_DATA")
    unknown = sorted(set(options.names) - set(RECIPES))
    if unknown:
        parser.error(f"no such models: {', '.join(unknown)}")
    for name in options.names or RECIPES:
        make(name, data, again=options.again)


def make(name: str, data: Path, *, again: bool) -> None:
    """Prepare, train and pack one model."""
    recipe, run = RECIPES[name], BUILD / "runs" / name
    if again:
        shutil.rmtree(BUILD / name, ignore_errors=True)
        shutil.rmtree(run, ignore_errors=True)
    recipe.prepare(data, BUILD / name)
    job = BUILD / f"{name}.yaml"
    shutil.copyfile(HERE / "jobs" / f"{name}.yaml", job)  # its paths begin at its folder
    if not (run / "model" / "model.json").is_file():
        for event in morula.train(job, output=run, resume=(run / "job.yaml").is_file()):
            if text := str(event):
                print(f"{name}: {text}", flush=True)
    for event in morula.tune(run) if recipe.tune and not tuned(run) else ():
        print(f"{name}: {event}", flush=True)
    pack(name, recipe, run, data, BUNDLED / name)


def tuned(run: Path) -> bool:
    """Whether the settings of the decoder were searched for already."""
    return morula.load(run).job.objects.tuned is not None


main()
