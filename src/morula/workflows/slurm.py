"""Images as arrays of tasks of SLURM (https://slurm.schedmd.com): each task segments its share of the images, or of their blocks."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from morula.core.errors import OptionError

_HEAD = """\
#!/bin/bash
# Begin with: bash SCRIPT. It submits {arrays} of {tasks} tasks{passes}, and a job that merges their results when all have ended well.
# Tasks that were ended continue when the script is run again. Add options of sbatch (partition, time, memory) to the next line.
set -eu
options=(--parsable --job-name=morula --cpus-per-task=2 "$@")
"""
_ARRAY = """\
{name}=$(sbatch "${{options[@]}}" {after}--array=1-{tasks} --output=morula-%A-%a.log --wrap={wrapped})
"""
_MERGE = """\
sbatch "${{options[@]}}" --dependency="afterok:${name}" --output=morula-merge-%j.log --wrap={wrapped}
"""


def script(arguments: Sequence[str], tasks: int) -> str:
    """A script that submits the tasks of `morula segment`, and a last one that merges their results.

    Images larger than a stated `--memory` are shared in blocks, which the tasks decode when all of them have predicted their share: that
    is a second array.

    Args:
        arguments: of `morula segment`.
        tasks: number of tasks.

    Raises:
        OptionError: for a number that is not positive.

    Examples:
        >>> print(script(["scans", "-o", "cells"], 16).splitlines()[-1])
        sbatch "${options[@]}" --dependency="afterok:$first" --output=morula-merge-%j.log --wrap='morula segment scans -o cells --merge'
    """
    if tasks < 1:
        raise OptionError("slurm.tasks", "must be 1 or more", key="print-slurm", value=tasks, remedy="Give the number of tasks.")
    command = shlex.join(["morula", "segment", *arguments])
    wrapped = shlex.quote(f'{command} --shard "$SLURM_ARRAY_TASK_ID/{tasks}" --resume')
    blocks = any(argument == "--memory" or argument.startswith("--memory=") for argument in arguments)
    arrays, passes = ("two arrays", " (predict, then decode)") if blocks else ("an array", "")
    lines = [_HEAD.format(arrays=arrays, tasks=tasks, passes=passes), _ARRAY.format(name="first", after="", tasks=tasks, wrapped=wrapped)]
    if blocks:
        lines.append(_ARRAY.format(name="second", after='--dependency="afterok:$first" ', tasks=tasks, wrapped=wrapped))
    lines.append(_MERGE.format(name="second" if blocks else "first", wrapped=shlex.quote(f"{command} --merge")))
    return "".join(lines)
