"""Read and write DICOM CT series.

To read a series, `header` parses its files. `structure`, `kind` and `scope` find faults, whose
codes are in `codes`, and `gate` accepts or refuses the series. `streams`, `pixels` and `hu` decode
the pixels to HU, and `order` looks for misplaced slices. `series` calls all of them. `write` writes
a series.
"""
