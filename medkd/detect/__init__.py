"""Find nodules in whole scans with a point detector or a patch classifier.

Only the box around the lungs is prepared and searched. A point detector gives positions, diameters
and logits of all nodules in one run (`points.py`). A patch classifier scores the box densely if the
network supports it, otherwise patch by patch; each proposal is scored as a patch like those in
training, and the best are moved to a nearby maximum. The score of a mark is the calibrated
probability. There are no test-time augmentation and no cascades.

`search_scans` (`batch.py`) searches many scans, also in parallel; `jobs.py` writes RESULTS.
"""

from __future__ import annotations

from medkd.detect.search import detect_nodules, search_prepared
from medkd.detect.view import DetectSettings

__all__ = ["DetectSettings", "detect_nodules", "search_prepared"]
