"""How hard and how real the phantoms are, by the figures of methods that never saw one.

    MEDKD_DATA=... python -m tests.bench.phantom_difficulty OUT [--scans N]

A scan takes about a minute and a half of one core. OUT keeps one JSON a scan, so that a stopped
measurement goes on where it stood; in the end it holds difficulty.json. That file is kept as
tests/bench/results/phantom_difficulty.json, and its three figures in medkd/difficulty.py.

Three figures are measured, each with a 95 % interval by scan:

- the CPM of a blob finder inside the true lung, which must be below .60;
- the ROC AUC of a classifier of real nodules that never saw a phantom, nodules against the blob
  finder's false marks, which must lie between .85 and .99;
- the ROC AUC of boosted trees on the same places with the nodule masked out, which must be
  below .60: the surroundings must not give a nodule away.
"""
