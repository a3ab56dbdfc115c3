"""Numbers: FROC, classification scores, intervals, calibration, efficiency."""
