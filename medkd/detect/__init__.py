"""Nodules in a whole scan by a patch classifier: lung box, dense run, peaks, LPS mm.

First form. The classifier is run over the lungs' box (one dense pass where it has one, patch by
patch where not), local maxima of the map inside the lungs are proposals, and each is scored
again as the very patch that the classifier was trained on, the best at the place near them where
they score highest. The score of a mark is the calibrated probability. Not here: test-time
variants, cascades, diameters.
"""

from __future__ import annotations

from medkd.detect.search import SYNTHETIC_NOTE, detect_nodules, search_prepared
from medkd.detect.view import DetectSettings

__all__ = ["SYNTHETIC_NOTE", "DetectSettings", "detect_nodules", "search_prepared"]
