"""Which of several processes this one is. Needs no torch."""

from __future__ import annotations

import os
from collections.abc import Mapping


def first_process(environment: Mapping[str, str] | None = None) -> bool:
    """Whether this process is the first, or only, one of a training; the others leave files, prints and reports to it.

    With several devices the loop starts the running command again for each further one, and a cluster starts it everywhere, so
    whatever comes before the loop runs in all of them. SLURM, torchrun, MPI and Lightning Fabric say in the environment which one it is.

    Examples:
        >>> first_process({}), first_process({"NODE_RANK": "0", "LOCAL_RANK": "1"})
        (True, False)
    """
    environment = os.environ if environment is None else environment
    for name in ("RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK"):
        if name in environment:
            return environment[name] == "0"
    return all(environment.get(name, "0") == "0" for name in ("NODE_RANK", "GROUP_RANK", "LOCAL_RANK"))
