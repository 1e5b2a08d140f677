"""Connected components of a mask: a thin layer over cc3d, which is two to five times faster than scikit-image and SciPy."""

from __future__ import annotations

import cc3d
import numpy as np


def connected_components(mask: np.ndarray, connectivity: int = 1) -> tuple[np.ndarray, int]:
    """Label the connected components of a mask.

    Args:
        mask: (Z)YX bool.
        connectivity: 1 for faces, 2 for edges, 3 for corners, as in scikit-image.

    Returns:
        Ids (Z)YX uint32 from 1 on, and their number.

    Examples:
        >>> connected_components(np.array([[True, False, True]]))
        (array([[1, 0, 2]], dtype=uint32), 2)
    """
    neighbours = {2: (4, 8), 3: (6, 18, 26)}[mask.ndim][connectivity - 1]
    # cc3d 4.1.1 labels stray background voxels of 2D bool masks with 8 neighbours and an odd side; uint8 takes another path
    labels, number = cc3d.connected_components(mask.view(np.uint8), connectivity=neighbours, return_N=True, out_dtype=np.uint32)  # type: ignore[call-overload]
    return labels, int(number)
