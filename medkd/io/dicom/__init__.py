"""Read and write DICOM CT series.

To read a series, `header` parses its files with `dataset` and `tags`. `kind`, `structure` and
`acquisitions` find faults, whose codes are in `codes`, and `gate` accepts or refuses the series.
`pixels` decodes the pixels to HU with `streams` and `gdcm_process`, and `order` looks for misplaced
slices. `series` calls all of them. `write` and `derive` write series, `faulty` inserts faults.
"""
