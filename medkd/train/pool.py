"""Which cases without labels to label next: those on which teacher and student differ most.

The pool are the training cases whose labels are not known or not used (`target.split.limit` with
`unlabelled: keep`). Teacher and student are scored on their training samples, and the cases are
ordered by the greatest difference of the calibrated probabilities (disagreement of a committee of
two: Settles 2009, Active Learning Literature Survey, section 3.2). The order says where the two
models contradict each other. It does not say which of them is right, or that the case is a
positive one. The student was taught on these samples by the teacher, so the differences are smaller
than on other cases.
"""

from __future__ import annotations

from medkd.data.patches import PatchSource, SelectedPatches
from medkd.explain.disagreement import rank_cases
from medkd.models.package import read_info
from medkd.runs import read_predictions, write_label_next
from medkd.train.plan import RunContext

POOL = "pool"
"""Name of the split that holds predictions for the training samples without labels."""

POOL_ARMS = ("teacher", "student")
"""The two models that are compared on the pool."""


def why_not_ranked(context: RunContext) -> str:
    """Return why the cases without labels are not ranked; empty if they are."""
    settings = context.settings
    if not context.target.split.unlabelled:
        return "every training case has a label"
    if settings.student is None or settings.bench is not None:
        return "only a run with one student compares it with its teacher"
    if settings.transfer is not None and settings.transfer.needs_no_teacher:
        return "the student has no teacher"
    if settings.student.model.finds_points:
        return "two point detectors would have to search every scan"
    if not _pool_rows(context):
        return "none of them has a candidate"
    return ""


def pool_samples(context: RunContext) -> PatchSource:
    """Return the training samples of the cases without labels, as the student saw them."""
    return SelectedPatches(context.target.parts["train"], _pool_rows(context))


def _pool_rows(context: RunContext) -> list[int]:
    pool = set(context.target.split.unlabelled)
    names = context.target.parts["train"].seriesuid
    return [number for number, name in enumerate(names) if name in pool]


def rank_pool(context: RunContext) -> None:
    """Write `label_next.csv`: the cases of the pool, the greatest disagreement first.

    Nothing is written if `why_not_ranked`, or if an arm of the run was scored before medkd ranked
    the pool.
    """
    run = context.run
    files = [run.predictions(arm, POOL) for arm in POOL_ARMS]
    if why_not_ranked(context) or not all(path.is_file() for path in files):
        return
    teacher, student = map(read_predictions, files)
    labels = read_info(run.model("student")).label_names
    write_label_next(run.label_next, rank_cases(teacher, student, labels))
