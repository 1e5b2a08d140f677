"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

JobFile = Annotated[Path, typer.Argument(help="Job file (YAML).", show_default=False)]
Run = Annotated[Path, typer.Argument(help="Run folder.", show_default=False)]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="Run folder. [default: runs/<name of the job file>]")]
Set = Annotated[
    list[str],
    typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the job, for example training.epochs=5. Can be repeated."),
]
Resume = Annotated[bool, typer.Option("--resume", help="Continue this run exactly where it was stopped.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an earlier run in the folder.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
Memory = Annotated[str | None, typer.Option(help="Memory limit for prediction, for example 8GB.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print only warnings, errors and the result.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Print more, for example every file that is written.")]
