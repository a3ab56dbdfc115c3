"""Find nodules in whole scans with a patch classifier.

The classifier scores the bounding box of the lungs, densely if the network supports it, otherwise
patch by patch. Local maxima inside the lungs are proposals. Each proposal is scored as a patch like
those in training, and the best are moved to a nearby maximum. The score of a mark is the calibrated
probability. There are no test-time augmentation, cascades or diameters.
"""

from __future__ import annotations

from medkd.detect.search import detect_nodules, search_prepared
from medkd.detect.view import DetectSettings

__all__ = ["DetectSettings", "detect_nodules", "search_prepared"]
