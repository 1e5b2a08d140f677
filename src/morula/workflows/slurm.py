"""A batch of images as an array of tasks of SLURM (https://slurm.schedmd.com): each task segments its share of the images."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from morula.core.errors import OptionError


def script(arguments: Sequence[str], tasks: int) -> str:
    """A script for `sbatch` that segments images in several tasks, and in a last one writes the tables of all images.

    Args:
        arguments: of `morula segment`.
        tasks: number of tasks.

    Raises:
        OptionError: for a number that is not positive.

    Examples:
        >>> print(script(["scans/*.tif", "-o", "cells"], 16).splitlines()[-1])
        morula segment 'scans/*.tif' -o cells --shard "$SLURM_ARRAY_TASK_ID/16" --resume
    """
    if tasks < 1:
        raise OptionError("slurm.tasks", "must be 1 or more", key="print-slurm", value=tasks, remedy="Give the number of tasks.")
    command = shlex.join(["morula", "segment", *arguments])
    merging = shlex.quote(f"{command} --merge")
    return f"""\
#!/bin/bash
# Begin with: sbatch SCRIPT. Each of {tasks} tasks segments its share of the images; a task that was ended continues when it is begun again.
#SBATCH --job-name=morula
#SBATCH --array=1-{tasks}
#SBATCH --cpus-per-task=2
#SBATCH --output=morula-%A-%a.log
set -eu
# the first task begins the one that writes the tables of all images when all tasks have ended well
if [ "$SLURM_ARRAY_TASK_ID" = 1 ]; then
  sbatch --dependency="afterok:$SLURM_ARRAY_JOB_ID" --job-name=morula-merge --output=morula-merge-%j.log --wrap={merging}
fi
{command} --shard "$SLURM_ARRAY_TASK_ID/{tasks}" --resume
"""
