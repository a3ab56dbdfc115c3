"""Lung segmentation by density: the region in which nodules are searched.

`find_lungs` returns a coarse mask (voxels of about 4 mm) of both lungs with its bounding box. Air
of lung density inside the body is lung, except the trachea and the main bronchi. The mask of each
lung is closed to include vessels, nodules, and dense disease between the air and the chest wall.
Disease at the base or the apex of a lung with no air beyond it is included to a depth of about
12 mm only. No model is involved: a lung full of fluid or tumour is not found, which
`LungField.warnings` reports, and a scan without any lung is refused. `lungs_in_view` checks whether
the lungs are complete.

The grid may have any orientation. A box around the lungs is enough if it shows the chest wall.
Voxels outside the field of view must be air or padding.
"""

from medkd.lungs.air import AIR_HU as AIR_HU
from medkd.lungs.air import LEAST_LITRES as LEAST_LITRES
from medkd.lungs.air import LUNG_HU as LUNG_HU
from medkd.lungs.air import PADDING_HU as PADDING_HU
from medkd.lungs.body import sample_body as sample_body
from medkd.lungs.field import LungField as LungField
from medkd.lungs.field import field_of_patch as field_of_patch
from medkd.lungs.find import find_lungs as find_lungs
from medkd.lungs.view import MOST_AT_END as MOST_AT_END
from medkd.lungs.view import MOST_AT_SIDE_CM2 as MOST_AT_SIDE_CM2
from medkd.lungs.view import lungs_in_view as lungs_in_view
