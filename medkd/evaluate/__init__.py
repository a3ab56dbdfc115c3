"""Evaluation: FROC, classification scores, intervals, calibration, efficiency."""
