"""The voxels of a scan that lie in the body."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medkd.lungs.air import PADDING_HU, within_body
from medkd.lungs.sampling import sample_coarsely

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from medkd.types import Scan


def sample_body(scan: Scan) -> NDArray[np.int16]:
    """Return the HU of voxels in the body, lungs included, about 4 mm apart.

    Air around the patient and padding outside the field of view are left out.

    Args:
        scan: HU on any grid.

    Returns:
        [N] HU; empty if no voxel is denser than lung.
    """
    hu = sample_coarsely(scan).hu
    return hu[within_body(hu) & (hu > PADDING_HU)]
