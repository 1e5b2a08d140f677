"""Which of several processes this one is. Imports no torch."""

from __future__ import annotations

import os
from collections.abc import Mapping


def first_process(environment: Mapping[str, str] | None = None) -> bool:
    """Whether this process is the first, or only, one of a training; only the first one writes files, prints and reports.

    With several devices the loop starts the running command again for each further device, and a cluster starts it on every node, so
    code before the loop runs in all of them. SLURM, torchrun, MPI and Lightning Fabric set environment variables with the rank.

    Examples:
        >>> first_process({}), first_process({"NODE_RANK": "0", "LOCAL_RANK": "1"})
        (True, False)
    """
    environment = os.environ if environment is None else environment
    for name in ("RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK"):
        if name in environment:
            return environment[name] == "0"
    return all(environment.get(name, "0") == "0" for name in ("NODE_RANK", "GROUP_RANK", "LOCAL_RANK"))
