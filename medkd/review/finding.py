"""The finding that a review asks for on whole X-rays: the labels of the model that scored them.

An INDEX was scored by no model. To accept one of its X-rays means that the image and its labels are
correct, which says nothing about one finding.
"""

from __future__ import annotations

from pathlib import Path

from medkd.errors import CheckpointError, MedkdError
from medkd.models.package import read_info
from medkd.review.opened import Review, open_review
from medkd.review.schemas import read_finding
from medkd.types import combine_findings

ARM = "student"
"""The arm of a RUN whose scores readers see."""


def asked_finding(review: Review) -> str:
    """Return the finding that is accepted or rejected on an X-ray; empty: none, or not known.

    Raises:
        MedkdError: if the record of RESULTS cannot be read.
    """
    if review.kind == "INDEX":
        return ""
    if review.kind == "RESULTS":
        return combine_findings(review.results.read_record().labels)
    try:
        return combine_findings(read_info(review.run.model(ARM)).label_names)
    except CheckpointError:
        return ""


def finding_of_store(store: str) -> str:
    """Return the finding of the RUN or RESULTS to which a store belongs; empty: it is not known.

    A file belongs to the folder in which it is. A store in PostgreSQL says what was reviewed.
    """
    if "://" in store:
        return read_finding(store)
    try:
        return asked_finding(open_review(Path(store).parent))
    except MedkdError:
        return ""
