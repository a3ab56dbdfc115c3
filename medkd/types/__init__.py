"""The frozen types at the seams between rooms: what one room hands to the next.

Nodule = reference standard, candidate = model output with a score, mark = candidate shown to a
reader. No logic here beyond small derived values; JSON in and out is in `jsonio.py`.
"""

from medkd.types.imaging import (
    Acquisition,
    Candidate,
    CaseResult,
    LabelledCandidate,
    MarkPlace,
    Nodule,
    PatchBatch,
    Point,
    Radiograph,
    Reference,
    Scan,
    SliceFact,
)
from medkd.types.report import (
    Figure,
    Report,
    RunCase,
    Section,
    Table,
)
from medkd.types.results import (
    CPM_RATES,
    ArmResult,
    CaseOrigins,
    ClassificationResult,
    Efficiency,
    Estimate,
    Evaluation,
    Fidelity,
    FrocResult,
    Interval,
    OperatingPoint,
    PairedDifference,
    PointScores,
    RunRecord,
    TermRecord,
)

__all__ = [
    "CPM_RATES",
    "Acquisition",
    "ArmResult",
    "Candidate",
    "CaseOrigins",
    "CaseResult",
    "ClassificationResult",
    "Efficiency",
    "Estimate",
    "Evaluation",
    "Fidelity",
    "Figure",
    "FrocResult",
    "Interval",
    "LabelledCandidate",
    "MarkPlace",
    "Nodule",
    "OperatingPoint",
    "PairedDifference",
    "PatchBatch",
    "Point",
    "PointScores",
    "Radiograph",
    "Reference",
    "Report",
    "RunCase",
    "RunRecord",
    "Scan",
    "Section",
    "SliceFact",
    "Table",
    "TermRecord",
]
