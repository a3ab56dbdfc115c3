"""Chest radiographs: `read` is the way in; `dicom`, `values` and `gate` serve it."""
