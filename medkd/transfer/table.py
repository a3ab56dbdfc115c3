"""The tables of transfer terms and of alignments of domains.

To add one: write its file, add its line here, and a test.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import nn

from medkd.settings import union_by_kind
from medkd.transfer.adversarial import AdversarialSettings, AdversarialTerm
from medkd.transfer.alignment import AlignmentSettings
from medkd.transfer.attention import AttentionSettings, build_attention
from medkd.transfer.coral import CoralSettings, build_coral
from medkd.transfer.dann import DannAlignment, DannSettings
from medkd.transfer.dkd import DkdSettings, DkdTerm
from medkd.transfer.feature_kl import FeatureKlSettings, FeatureKlTerm
from medkd.transfer.hints import HintSettings, HintTerm
from medkd.transfer.logit_mse import LogitMseSettings, LogitMseTerm
from medkd.transfer.logit_standardisation import (
    LogitStandardisationSettings,
    LogitStandardisationTerm,
)
from medkd.transfer.mmd import MmdSettings, build_mmd
from medkd.transfer.point_terms import (
    SoftPointsSettings,
    SoftPointsTerm,
    TeacherMarksSettings,
    TeacherMarksTerm,
)
from medkd.transfer.rkd import (
    RkdAngleSettings,
    RkdDistanceSettings,
    build_rkd_angle,
    build_rkd_distance,
)
from medkd.transfer.similarity import PktSettings, SimilaritySettings, build_pkt, build_similarity
from medkd.transfer.soft_labels import SoftLabelSettings, build_soft_label
from medkd.transfer.subclasses import SubclassSettings, SubclassTerm
from medkd.transfer.terms import TermContext, TermSettings


class TermKind(NamedTuple):
    """The settings of a kind of term, and what is built from them."""

    settings: type[TermSettings]
    build: Callable[[Any, TermContext], nn.Module]


TERMS: dict[str, TermKind] = {
    "soft_label": TermKind(SoftLabelSettings, build_soft_label),
    "logit_mse": TermKind(LogitMseSettings, LogitMseTerm),
    "dkd": TermKind(DkdSettings, DkdTerm),
    "logit_standardisation": TermKind(LogitStandardisationSettings, LogitStandardisationTerm),
    "hint": TermKind(HintSettings, HintTerm),
    "attention": TermKind(AttentionSettings, build_attention),
    "feature_kl": TermKind(FeatureKlSettings, FeatureKlTerm),
    "rkd_distance": TermKind(RkdDistanceSettings, build_rkd_distance),
    "rkd_angle": TermKind(RkdAngleSettings, build_rkd_angle),
    "similarity": TermKind(SimilaritySettings, build_similarity),
    "pkt": TermKind(PktSettings, build_pkt),
    "adversarial": TermKind(AdversarialSettings, AdversarialTerm),
    "subclass": TermKind(SubclassSettings, SubclassTerm),
    "soft_points": TermKind(SoftPointsSettings, SoftPointsTerm),
    "teacher_marks": TermKind(TeacherMarksSettings, TeacherMarksTerm),
}


class AlignmentKind(NamedTuple):
    """The settings of a kind of alignment, and what is built from them and a number of channels.

    The module maps (own features, features of the other domain, progress) to a loss.
    """

    settings: type[AlignmentSettings]
    build: Callable[[Any, int], nn.Module]


ALIGNMENTS: dict[str, AlignmentKind] = {
    "coral": AlignmentKind(CoralSettings, build_coral),
    "mmd": AlignmentKind(MmdSettings, build_mmd),
    "dann": AlignmentKind(DannSettings, DannAlignment),
}

NOTHING_WITH_TWO_CLASSES = {
    "dkd": "with two classes its non-target part is 0 for every sample",
    "logit_standardisation": "with two classes every sample becomes +-0.7071: confidence is lost",
    "dist": "with two classes its inter-class correlation is +-1: only the decision is left",
}
"""Published losses that degenerate in the binary case, with the reason why they are refused.

Those of them that are in `TERMS` are accepted for exclusive outputs of three classes or more.
"""

if TYPE_CHECKING:
    AnyTermSettings = TermSettings
    AnyAlignmentSettings = AlignmentSettings
else:
    AnyTermSettings = union_by_kind(kind.settings for kind in TERMS.values())
    AnyAlignmentSettings = union_by_kind(kind.settings for kind in ALIGNMENTS.values())
"""The settings of one term, or of one alignment, of the tables, chosen by `kind`."""
