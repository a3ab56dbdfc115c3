"""The frozen dataclasses that the subpackages of medkd exchange.

Nodule = reference standard, candidate = model output with a score, mark = candidate shown to a
reader. The types have no logic beyond small derived values; `jsonio.py` converts them to JSON.
"""

from medkd.types.findings import ReviewedImage as ReviewedImage
from medkd.types.findings import combine_findings as combine_findings
from medkd.types.findings import findings_in as findings_in
from medkd.types.imaging import ABSENT as ABSENT
from medkd.types.imaging import EXCLUDED as EXCLUDED
from medkd.types.imaging import NODULE as NODULE
from medkd.types.imaging import Acquisition as Acquisition
from medkd.types.imaging import Candidate as Candidate
from medkd.types.imaging import CaseResult as CaseResult
from medkd.types.imaging import DisplayWindow as DisplayWindow
from medkd.types.imaging import LabelledCandidate as LabelledCandidate
from medkd.types.imaging import LungPlace as LungPlace
from medkd.types.imaging import MarkPlace as MarkPlace
from medkd.types.imaging import Nodule as Nodule
from medkd.types.imaging import PatchBatch as PatchBatch
from medkd.types.imaging import Point as Point
from medkd.types.imaging import Points as Points
from medkd.types.imaging import Radiograph as Radiograph
from medkd.types.imaging import Reference as Reference
from medkd.types.imaging import ReviewedMark as ReviewedMark
from medkd.types.imaging import Scan as Scan
from medkd.types.imaging import SliceFact as SliceFact
from medkd.types.readers import PairAgreement as PairAgreement
from medkd.types.readers import ReaderPoint as ReaderPoint
from medkd.types.readers import ReaderStudy as ReaderStudy
from medkd.types.report import Figure as Figure
from medkd.types.report import Report as Report
from medkd.types.report import RunCase as RunCase
from medkd.types.report import Section as Section
from medkd.types.report import Table as Table
from medkd.types.results import CPM_RATES as CPM_RATES
from medkd.types.results import ArmResult as ArmResult
from medkd.types.results import CaseOrigins as CaseOrigins
from medkd.types.results import ClassificationResult as ClassificationResult
from medkd.types.results import Efficiency as Efficiency
from medkd.types.results import Estimate as Estimate
from medkd.types.results import Evaluation as Evaluation
from medkd.types.results import Fidelity as Fidelity
from medkd.types.results import FrocResult as FrocResult
from medkd.types.results import Interval as Interval
from medkd.types.results import LayerSimilarity as LayerSimilarity
from medkd.types.results import OperatingPoint as OperatingPoint
from medkd.types.results import PairedDifference as PairedDifference
from medkd.types.results import PointScores as PointScores
from medkd.types.results import RunRecord as RunRecord
from medkd.types.results import SiteDistance as SiteDistance
from medkd.types.results import SiteShift as SiteShift
from medkd.types.results import SiteSummary as SiteSummary
from medkd.types.results import TermRecord as TermRecord
