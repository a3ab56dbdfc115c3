"""Silence pydicom: its warnings and log lines can show header values, such as patient names.

medkd checks headers itself and words its messages without values that could name a patient.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_LOGGERS = ("pydicom", "pydicom.pixels", "highdicom", "pylibjpeg")


@contextmanager
def quiet_dicom() -> Iterator[None]:
    """Suppress warnings and log lines of the DICOM libraries inside the block."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    before = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for logger in loggers:
                logger.setLevel(logging.CRITICAL + 1)
            yield
        finally:
            for logger, level in zip(loggers, before, strict=True):
                logger.setLevel(level)
