"""The acceptance test of a model at a site: synthetic nodules in the site's own scans.

A site without a reference standard can answer two questions before it uses a model. Which of the
synthetic nodules that are added to its scans are found, by size and type? How many marks are on the
unchanged scans? The scans are changed in memory only (`synthetic/implant/`), never on disk.

OUT/acceptance.json    `Acceptance`: settings, thresholds, every nodule and scan, all results
OUT/nodules.csv        one row per nodule, with the probability of its best mark
OUT/report.html        the page, written by `report/acceptance.py`

It does not measure clinical performance. A mark on an unchanged scan counts as false unless it is
on an annotated finding, so nodules that nobody annotated make the rate too high.
"""
