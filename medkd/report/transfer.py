"""The section on the transfer: its terms, how close the student came to its teacher, and where not.

Also the tables of this section, which the app shows too.
"""

from __future__ import annotations

from collections.abc import Sequence

from medkd.report import figures, words
from medkd.report.contents import RunContents
from medkd.report.summary import transfer_words
from medkd.report.tables import fidelity_table, terms_table
from medkd.runs import Disagreement
from medkd.types import Evaluation, LayerSimilarity, Section, Table

HARD_LABEL = "hard_label"
CONTROL = "control"
SHOWN = 10
"""Rows of a table of disagreements."""

DISAGREEMENTS = "Greatest disagreements of teacher and student, validation and test"
LABEL_NEXT = "Training cases without labels, the first to label"


def build_transfer(contents: RunContents) -> Section:
    """Show term weights, fidelity to the teacher, and the curves of the loss terms."""
    evaluation = contents.evaluation
    paragraphs = [transfer_words(evaluation)]
    untaught = evaluation.record.without_transfer and not evaluation.fidelity
    if not untaught:
        paragraphs.append(
            f"Rule: on held-out data the mean {_divergence(evaluation)} of the student from its "
            "calibrated teacher must be at least 30 % below that of the control, and of "
            "self-training where there is such an arm."
        )
    made: list[Table] = []
    if evaluation.terms:
        made.append(terms_table(evaluation.terms))
    if all(term.kind == HARD_LABEL for term in evaluation.terms) and not untaught:
        paragraphs.append(
            "No transfer term is recorded for this run. Either it has none, or it has several "
            "students with their own terms (see the resolved settings)."
        )
    if evaluation.fidelity:
        made.append(fidelity_table(evaluation.fidelity))
    made += similarity_tables(evaluation.similarity)
    paragraphs += filter(None, (_similarity_words(evaluation), evaluation.no_similarity))
    if contents.disagreements:
        made.append(disagreements_table(contents.disagreements[:SHOWN], DISAGREEMENTS))
    if contents.label_next:
        weak = bool(evaluation.record.without_transfer)
        paragraphs.append(_label_next_words(len(contents.label_next), weak_teacher=weak))
        made.append(disagreements_table(contents.label_next[:SHOWN], LABEL_NEXT))
    taught = {arm: log for arm, log in contents.logs.items() if not arm.startswith("teacher")}
    drawn = list(figures.term_figures(taught))
    shared = _validation_column(contents)
    if shared:
        logs = {arm: log for arm, log in contents.logs.items() if shared in log.columns}
        drawn.append(figures.validation_figure(logs, shared))
    return Section(
        "transfer", "Transfer from the teacher", tuple(paragraphs), tuple(made), tuple(drawn)
    )


def _divergence(evaluation: Evaluation) -> str:
    classes = any(arm.class_accuracy for arm in evaluation.arms)
    return "KL divergence of the classes" if classes else "Bernoulli KL divergence"


def _validation_column(contents: RunContents) -> str | None:
    """Return the log column of the metric to draw: ROC AUC if logged, else the first one."""
    names = [
        name for log in contents.logs.values() for name in log.columns if name.startswith("val_")
    ]
    return "val_roc_auc" if "val_roc_auc" in names else next(iter(names), None)


def similarity_tables(found: Sequence[LayerSimilarity]) -> list[Table]:
    """Show each student's layers (rows) against the teacher's, beside the values of the control."""
    return [_similarity_table(one, _control_of(one, found)) for one in found if one.arm != CONTROL]


def _control_of(
    student: LayerSimilarity, found: Sequence[LayerSimilarity]
) -> LayerSimilarity | None:
    """Return the values of the control for the same teacher and the same layers."""
    same = (student.teacher, student.teacher_layers, student.layers)
    return next(
        (
            one
            for one in found
            if one.arm == CONTROL and (one.teacher, one.teacher_layers, one.layers) == same
        ),
        None,
    )


def _similarity_table(student: LayerSimilarity, control: LayerSimilarity | None) -> Table:
    def cell(teacher_layer: int, layer: int) -> str:
        values = [one.cka[teacher_layer][layer] for one in (student, control) if one is not None]
        return " / ".join(words.number(value, 2) for value in values)

    rows = tuple(
        (name, *(cell(a, b) for a in range(len(student.teacher_layers))))
        for b, name in enumerate(student.layers)
    )
    arms = f"{student.arm} / {CONTROL}" if control else student.arm
    return Table(
        (f"Layer of {student.arm}", *student.teacher_layers),
        rows,
        f"Similarity of layers with those of {student.teacher} (columns), linear CKA: {arms}, on "
        f"{words.count(student.samples)} {student.split} samples",
    )


def _similarity_words(evaluation: Evaluation) -> str:
    if not evaluation.similarity:
        return ""
    return (
        "Linear CKA compares how two layers arrange the same samples: 1 means equally up to a "
        "rotation and a scale, about 0 means independently. It is estimated without bias on "
        "random samples. The first row and column are the embeddings. Where the student's value is "
        "above the control's, the student arranges the samples more like its teacher than labels "
        "alone would make it. The rule above does not use these numbers."
    )


def _label_next_words(count: int, *, weak_teacher: bool) -> str:
    caution = (
        " The teacher was not better than the control on validation, so the order is a weak guide."
    )
    found = (
        f"label_next.csv ranks {words.count(count)} training cases without labels: those on which "
        "the calibrated probabilities of teacher and student differ most come first. They are the "
        "cases to label next, because the two models contradict each other there. The order does "
        "not say which of them is right."
    )
    return found + caution if weak_teacher else found


def disagreements_table(rows: Sequence[Disagreement], caption: str) -> Table:
    """List where the calibrated probabilities of teacher and student differ most.

    Args:
        rows: in the order that is shown. Columns in which every cell is empty are left out.
        caption: of the table.
    """
    several = len({row.label for row in rows}) > 1
    places = any(row.center_mm is not None for row in rows)
    columns = ("Case", *(["Label"] if several else []), *(["Place (LPS mm)"] if places else []))
    cells = tuple(
        (
            row.case_id,
            *([row.label] if several else []),
            *([_place(row)] if places else []),
            words.number(row.teacher),
            words.number(row.student),
            words.signed(row.difference),
        )
        for row in rows
    )
    head = (*columns, "Teacher", "Student", "Student minus teacher")
    return Table(head, cells, caption)


def _place(row: Disagreement) -> str:
    return ", ".join(f"{value:.1f}" for value in row.center_mm) if row.center_mm else ""
