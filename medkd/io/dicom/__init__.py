"""DICOM CT series: headers, gate, pixels, and back.

The way of a series: `header` reads what its files say; `structure` and `kind` and `scope` find
faults, named by `codes`; `gate` judges; `streams`, `pixels` and `hu` give HU, `order` looks for
slices out of place; `series` puts it together. `write` goes the other way.
"""
