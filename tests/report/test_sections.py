"""Each section says what it must, from the run and nothing else."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from medkd.report import words
from medkd.report.contents import RunContents, TrainingLog
from medkd.report.figures import froc_figure
from medkd.report.rows import metric_rows
from medkd.report.sections import (
    SECTIONS,
    SectionBuilder,
    build_candidates_froc,
    build_curves,
    build_data,
    build_efficiency,
    build_not_analysed,
    build_other_froc,
    build_record,
    build_summary,
    build_warnings,
    build_whole_scan_froc,
)
from medkd.report.summary import (
    banner_lines,
    difference_words,
    summary_paragraphs,
    transfer_words,
)
from medkd.report.tables import FROC_RULES, scores_table
from medkd.report.transfer import build_transfer, disagreements_table, similarity_tables
from medkd.runs import Disagreement
from medkd.types import (
    CaseOrigins,
    Estimate,
    Evaluation,
    FrocResult,
    Interval,
    LayerSimilarity,
    PairedDifference,
    Section,
    Table,
)
from tests.contracts import check_section


def sections_of(contents: RunContents) -> dict[str, Section]:
    return {made.key: made for build in SECTIONS if (made := build(contents)) is not None}


@pytest.fixture(scope="module")
def scan_sections(scan_contents: RunContents) -> dict[str, Section]:
    return sections_of(scan_contents)


def words_of(section: Section) -> str:
    cells = [cell for table in section.tables for row in table.rows for cell in row]
    return "\n".join([section.title, *section.paragraphs, *cells])


def cell(table: Table, row: str, column: str) -> str:
    (found,) = [cells for cells in table.rows if cells[0] == row]
    return found[table.columns.index(column)]


def with_evaluation(contents: RunContents, **changes) -> RunContents:
    return replace(contents, evaluation=replace(contents.evaluation, **changes))


def bare(evaluation: Evaluation) -> Evaluation:
    """What a run may leave at the least: one arm, nothing compared."""
    arms = (replace(evaluation.arm("student"), classification={}, froc=(), efficiency=None),)
    return replace(
        evaluation, arms=arms, differences=(), terms=(), fidelity=(), transfer_took_place=None,
        splits={}, warnings=(),
    )  # fmt: skip


@pytest.mark.parametrize("build", SECTIONS, ids=lambda build: build.__name__)
def test_a_section_is_whole_whatever_the_run_holds(
    build: SectionBuilder,
    scan_contents: RunContents,
    image_contents: RunContents,
) -> None:
    least = RunContents(bare(scan_contents.evaluation), "name: x\n")
    for contents in (scan_contents, image_contents, least):
        check_section(build, contents)


def test_sections_stand_in_order_and_each_key_once(scan_sections: dict[str, Section]) -> None:
    assert list(scan_sections) == [
        "summary", "warnings", "data", "arms", "differences", "transfer", "curves",
        "froc-candidates", "froc-whole-scan", "operating-point", "efficiency", "not-analysed",
        "record", "config",
    ]  # fmt: skip


def test_the_arms_table_shows_the_evaluations_own_numbers(
    scan_contents: RunContents, scan_sections: dict[str, Section]
) -> None:
    table = scan_sections["arms"].tables[0]
    auc = scan_contents.evaluation.arm("student").classification["test"][0].roc_auc
    assert auc.interval is not None
    said = f"{auc.value:.3f} ({auc.interval.low:.3f} to {auc.interval.high:.3f})"
    assert cell(table, "ROC AUC", "student") == said
    assert table.columns == ("Metric", "teacher", "control", "student")


def test_balanced_accuracy_at_the_frozen_point_is_shown_where_the_run_has_it(
    scan_contents: RunContents, scan_sections: dict[str, Section]
) -> None:
    row = "Balanced accuracy at the operating point"
    result = scan_contents.evaluation.arm("student").classification["test"][0]
    point = result.at_operating_point
    assert point.specificity is not None
    assert point.balanced_accuracy is not None
    by_hand = (point.sensitivity.value + point.specificity.value) / 2
    shown = cell(scan_sections["arms"].tables[0], row, "student")
    assert shown == words.estimate(replace(point.balanced_accuracy, value=by_hand))
    assert " to " in shown

    earlier = replace(result, at_operating_point=replace(point, balanced_accuracy=None))
    table = scores_table({"student": earlier}, "test")
    assert row not in [cells[0] for cells in table.rows]


def test_every_score_that_is_asked_for_stands_in_the_arms_table(
    scan_sections: dict[str, Section],
) -> None:
    rows = " ".join(row[0] for row in scan_sections["arms"].tables[0].rows)
    for metric in ("ROC AUC", "PR AUC", "Sensitivity", "Specificity", "Precision", "F1", "Brier",
                   "calibration error", "Accuracy at threshold 0.5"):  # fmt: skip
        assert metric in rows


def test_the_shift_of_prevalence_is_named(image_contents: RunContents) -> None:
    said = words_of(build_data(image_contents))
    # 89 of 120 and 93 of 150: 74.17 and 62.00 %, 12.17 points less.
    assert "74.2 % of the validation samples and 62.0 % of the test samples" in said
    assert "(\u221212.2 percentage points)" in said


def test_each_froc_track_is_titled_as_what_it_is(scan_sections: dict[str, Section]) -> None:
    sections = scan_sections
    assert "candidates track" in sections["froc-candidates"].title
    assert "nothing is searched" in words_of(sections["froc-candidates"])
    assert "whole-scan" in sections["froc-whole-scan"].title


def test_every_froc_names_both_cpm_readings_and_all_rules(
    scan_sections: dict[str, Section],
) -> None:
    for key in ("froc-candidates", "froc-whole-scan"):
        said = words_of(scan_sections[key])
        assert all(name in said and rule in said for name, rule in FROC_RULES)
        assert "Divided by all 8 scans" in said
        assert "100 marks" in said


def test_every_froc_on_phantoms_says_how_hard_they_are(scan_contents: RunContents) -> None:
    line = "medkd phantom 2 0123456789abcdef: blob finder CPM 0.31"
    record = replace(scan_contents.evaluation.record, phantoms=(line,))
    contents = with_evaluation(scan_contents, record=record)
    for build in (build_candidates_froc, build_whole_scan_froc, build_summary, build_record):
        section = build(contents)
        assert section is not None
        assert line in words_of(section)


def test_a_track_of_another_name_keeps_its_name(scan_contents: RunContents) -> None:
    arms = tuple(
        replace(arm, froc=tuple(replace(f, track="readers") for f in arm.froc[:1]))
        for arm in scan_contents.evaluation.arms
    )
    contents = with_evaluation(scan_contents, arms=arms)
    section = build_other_froc(contents)
    assert section is not None
    assert section.title == "FROC, readers"
    assert build_candidates_froc(contents) is None


def test_the_loss_terms_of_soft_labels_and_features_are_drawn(
    scan_sections: dict[str, Section],
) -> None:
    titles = [figure.title for figure in scan_sections["transfer"].figures]
    assert any("soft labels (soft_label)" in title for title in titles)
    assert any("feature alignment (hint)" in title for title in titles)


def test_a_log_with_gaps_is_drawn(scan_contents: RunContents) -> None:
    nan = float("nan")
    log = TrainingLog((1, 2), {"term_soft_label": (nan, nan), "val_loss": (nan, 0.5)})
    section = build_transfer(replace(scan_contents, logs={"student": log}))
    assert [figure.alt for figure in section.figures] == [
        "Over the epochs: student not logged.",
        "Over the epochs: student from 0.5 to 0.5.",
    ]


def test_the_term_weights_and_the_fidelity_are_shown(
    scan_contents: RunContents, scan_sections: dict[str, Section]
) -> None:
    weights, fidelity = scan_sections["transfer"].tables
    assert cell(weights, "soft labels (soft_label)", "Weight") == "0.5"
    student = scan_contents.evaluation.fidelity[1]
    kl = cell(fidelity, "student", "KL divergence from the calibrated teacher (nats)")
    assert kl == f"{student.kl:.4f}"


ALIKE = LayerSimilarity(
    "student", "teacher", "test", 256, ("body", "layer1"), ("pool", "features"),
    ((0.62, 0.5), (0.4, None)),
)  # fmt: skip


def test_layers_are_compared_beside_the_control(scan_contents: RunContents) -> None:
    control = replace(ALIKE, arm="control", cka=((0.41, 0.3), (0.2, 0.1)))
    evaluation = replace(scan_contents.evaluation, similarity=(control, ALIKE))

    section = build_transfer(replace(scan_contents, evaluation=evaluation))

    table = section.tables[2]
    assert table.columns == ("Layer of student", "body", "layer1")
    assert table.rows == (
        ("pool", "0.62 / 0.41", "0.40 / 0.20"),
        ("features", "0.50 / 0.30", "not defined / 0.10"),
    )
    assert "linear CKA: student / control, on 256 test samples" in table.caption
    assert any("up to a rotation and a scale" in text for text in section.paragraphs)


def test_a_student_without_control_is_shown_alone(scan_contents: RunContents) -> None:
    other = replace(ALIKE, arm="control", layers=("pool", "other"))
    (table,) = similarity_tables((ALIKE, other))
    assert table.rows[0] == ("pool", "0.62", "0.40")


def test_why_layers_were_not_compared_is_stated(scan_contents: RunContents) -> None:
    evaluation = replace(scan_contents.evaluation, no_similarity="Point detectors are left out.")
    section = build_transfer(replace(scan_contents, evaluation=evaluation))
    assert "Point detectors are left out." in section.paragraphs
    assert len(section.tables) == 2


def test_the_greatest_disagreements_are_listed(scan_contents: RunContents) -> None:
    rows = [Disagreement(f"case-{n}", "nodule", 0.9, 0.2, (1.0, 2.0, 3.0)) for n in range(12)]
    table = build_transfer(replace(scan_contents, disagreements=tuple(rows))).tables[-1]
    assert table.columns == (
        "Case", "Place (LPS mm)", "Teacher", "Student", "Student minus teacher"
    )  # fmt: skip
    assert table.rows[0] == ("case-0", "1.0, 2.0, 3.0", "0.900", "0.200", "\u22120.700")
    assert len(table.rows) == 10


def test_disagreements_on_images_name_the_label_if_there_are_several() -> None:
    rows = [Disagreement("a", "nodule", 0.9, 0.2), Disagreement("a", "mass", 0.5, 0.6)]
    table = disagreements_table(rows, "Disagreements")
    assert table.columns[:2] == ("Case", "Label")
    assert table.rows[1] == ("a", "mass", "0.500", "0.600", "+0.100")


def test_what_to_label_next_is_listed(scan_contents: RunContents) -> None:
    rows = tuple(Disagreement(f"case-{n}", "nodule", 0.9, 0.2) for n in range(12))
    section = build_transfer(replace(scan_contents, label_next=rows))
    assert "label_next.csv ranks 12 training cases without labels" in words_of(section)
    assert "weak guide" not in words_of(section)
    assert section.tables[-1].caption == "Training cases without labels, the first to label"
    assert len(section.tables[-1].rows) == 10


def test_an_order_by_a_teacher_that_is_no_better_is_called_a_weak_guide(
    scan_contents: RunContents,
) -> None:
    evaluation = scan_contents.evaluation
    record = replace(evaluation.record, without_transfer={"student": "its teacher is no better"})
    contents = replace(
        scan_contents,
        evaluation=replace(evaluation, record=record),
        label_next=(Disagreement("case-0", "nodule", 0.9, 0.2),),
    )
    said = "The teacher was not better than the control on validation, so the order is a weak guide"
    assert said in words_of(build_transfer(contents))


def test_a_second_term_of_a_kind_is_named_as_its_kind() -> None:
    assert words.term_words("hint_2") == "feature alignment (hint_2)"
    assert words.term_words("other") == "other"


def test_the_control_of_soft_labels_alone_is_described_as_it_was_trained(
    scan_contents: RunContents,
) -> None:
    hard, *others = scan_contents.evaluation.terms
    alone = with_evaluation(scan_contents, terms=(replace(hard, weight=0.0), *others))
    (usual, other) = (summary_paragraphs(one)[0] for one in (scan_contents, alone))
    assert "trained in the same way but without the teacher" in usual
    assert "trained on the labels without the teacher" in other


def test_the_accuracy_of_exclusive_classes_is_shown(scan_contents: RunContents) -> None:
    found = {"test": Estimate(0.75), "val": Estimate(0.5)}
    arms = tuple(replace(arm, class_accuracy=found) for arm in scan_contents.evaluation.arms)
    classes = with_evaluation(scan_contents, arms=arms)
    shown = sections_of(classes)
    assert "most probable class is the right one: teacher 0.750" in words_of(shown["summary"])
    assert cell(shown["arms"].tables[0], "test", "student") == "0.750"
    rows = [row for row in metric_rows(classes.evaluation) if row.metric == "class_accuracy"]
    assert {(row.split, row.value) for row in rows} == {("test", 0.75), ("val", 0.5)}


def test_a_run_without_transfer_terms_says_so(scan_contents: RunContents) -> None:
    hard = scan_contents.evaluation.terms[:1]
    section = build_transfer(with_evaluation(scan_contents, terms=hard))
    assert any("No transfer term" in paragraph for paragraph in section.paragraphs)


def test_arms_of_other_names_are_told_apart_in_drawings(scan_contents: RunContents) -> None:
    evaluation = scan_contents.evaluation
    names = ("wide", "lite", "control", "soft", "hint")
    arms = tuple(replace(evaluation.arm("student"), name=name) for name in names)
    section = build_curves(with_evaluation(scan_contents, arms=arms))
    assert section is not None
    drawn = section.figures[1].content.decode()
    colours = set(re.findall(r"stroke: (#[0-9a-f]{6}); stroke-width: 1.5", drawn))
    assert len(colours) == len(names)


def test_refused_cases_are_listed_with_all_reasons(scan_sections: dict[str, Section]) -> None:
    (table,) = scan_sections["not-analysed"].tables
    reasons = cell(table, "example-99", "Reasons")
    assert "slice spacing varies" in reasons
    assert "2 slices are missing" in reasons


def test_without_a_worklist_the_report_does_not_claim_that_all_was_analysed(
    scan_contents: RunContents,
) -> None:
    contents = replace(scan_contents, cases=None)
    assert "Not known" in words_of(build_not_analysed(contents))
    assert "not known" in words_of(build_warnings(contents))
    assert "not known" in words_of(build_summary(contents))


def test_warnings_of_the_evaluation_and_of_a_froc_are_loud(scan_contents: RunContents) -> None:
    evaluation = scan_contents.evaluation
    student = evaluation.arm("student")
    froc = replace(student.froc[1], warnings=("3 marks of unknown series",))
    quiet = [replace(a, froc=()) for a in evaluation.arms[:2]]
    given = replace(student.froc[0], warnings=())
    arms = (*quiet, replace(student, froc=(given, froc)))
    contents = with_evaluation(scan_contents, arms=arms, warnings=("the teacher is weak",))
    said = build_warnings(contents).paragraphs
    assert said == ("the teacher is weak", "FROC, whole-scan, student: 3 marks of unknown series")


def test_a_warning_that_the_run_already_gave_is_not_given_twice(
    image_contents: RunContents,
) -> None:
    given = "NO TRANSFER TOOK PLACE in student: its divergence is too great"
    said = build_warnings(with_evaluation(image_contents, warnings=(given,))).paragraphs
    assert said == (given,)


def test_a_run_without_warnings_has_no_loud_section(scan_contents: RunContents) -> None:
    arms = tuple(
        replace(arm, froc=tuple(replace(froc, warnings=()) for froc in arm.froc))
        for arm in scan_contents.evaluation.arms
    )
    section = build_warnings(with_evaluation(scan_contents, warnings=(), arms=arms))
    assert section.key == "no-warnings"
    assert section.paragraphs == ("None were recorded.",)


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (-0.01, 0.03, "do not show a difference"),
        (0.0, 0.03, "do not show a difference"),
        (0.01, 0.03, "above zero"),
        (-0.03, -0.01, "below zero"),
    ],
)
def test_a_difference_is_claimed_only_if_its_interval_leaves_out_zero(
    low: float, high: float, said: str
) -> None:
    estimate = Estimate((low + high) / 2, Interval(low, high))
    assert said in difference_words(PairedDifference("student", "control", "roc_auc", estimate))


def test_the_rule_of_the_differences_stands_beside_them(scan_sections: dict[str, Section]) -> None:
    said = words_of(scan_sections["differences"])
    assert "draws patients for both arms together" in said
    assert "100 resamples by patient, seed 0" in said
    assert "Holm" in said
    assert "trained once here (seed 7)" in said


def test_the_summary_says_how_far_the_student_follows_its_teacher(
    scan_contents: RunContents,
) -> None:
    evaluation = scan_contents.evaluation
    control, student = (
        replace(f, kl=kl) for f, kl in zip(evaluation.fidelity, (0.2, 0.05), strict=True)
    )
    followed = replace(evaluation, fidelity=(control, student))
    assert "75.0 % below the control's" in transfer_words(followed)
    near = replace(control, arm="self_training", kl=0.1)
    with_pool = replace(evaluation, fidelity=(control, near, student))
    assert "50.0 % below that of self-training" in transfer_words(with_pool)
    strayed = replace(
        evaluation, fidelity=(control, replace(student, kl=0.25)), transfer_took_place=False
    )
    assert "25.0 % above the control's" in transfer_words(strayed)


def test_few_patients_support_no_claim() -> None:
    interval = Interval(0.1, 0.2, 0.95, 1000, "patient", 0)
    found = PairedDifference("student", "control", "roc_auc", Estimate(0.15, interval), 0.01)
    assert "student is higher" in difference_words(found, patients=10)
    assert "Only 9 patients were scored" in difference_words(found, patients=9)


def test_the_summary_counts_what_the_student_found(scan_contents: RunContents) -> None:
    point = scan_contents.evaluation.arm("student").classification["test"][0].at_operating_point
    said = " ".join(summary_paragraphs(scan_contents))
    assert f"calls {point.true_positives} of 12 positive and" in said
    assert "67 times fewer" in said  # 14,356,929 / 214,017
    arms = scan_contents.evaluation.arms
    teacher = scan_contents.evaluation.arm("teacher")
    small = replace(teacher, efficiency=replace(teacher.efficiency, parameters=107_008))
    smaller = replace(scan_contents.evaluation, arms=(small, *(a for a in arms if a != teacher)))
    said = " ".join(summary_paragraphs(replace(scan_contents, evaluation=smaller)))
    assert "2.0 times more than the teacher" in said


@pytest.mark.parametrize(
    ("teacher", "student", "said"),
    [
        (100, 100, "100 parameters, as many as the teacher"),
        (1_030, 1_000, "1,000 parameters, 30 fewer than the teacher"),
        (1_000, 1_030, "1,030 parameters, 30 more than the teacher"),
        (150, 100, "1.5 times fewer than the teacher"),
        (100, 150, "1.5 times more than the teacher"),
        (700, 100, "7 times fewer than the teacher"),
    ],
)
def test_parameters_are_compared_in_words_that_say_something(
    scan_contents: RunContents, teacher: int, student: int, said: str
) -> None:
    counts = {"teacher": teacher, "student": student}
    arms = tuple(
        replace(arm, efficiency=replace(arm.efficiency, parameters=counts.get(arm.name, 1)))
        for arm in scan_contents.evaluation.arms
    )
    found = " ".join(summary_paragraphs(with_evaluation(scan_contents, arms=arms)))
    assert said in found
    assert "1.0 times" not in found


def test_a_latency_shows_its_spread_and_how_busy_the_machine_was(
    scan_contents: RunContents,
) -> None:
    arms = tuple(
        replace(a, efficiency=replace(a.efficiency, latency_spread_ms=(2.5, 4.25), busy=0.61))
        for a in scan_contents.evaluation.arms
    )
    contents = with_evaluation(scan_contents, arms=arms)
    section = build_efficiency(contents)
    assert section is not None
    assert cell(section.tables[0], "student", "Interquartile range (ms)") == "2.5 to 4.2"
    for text in (words_of(section), " ".join(summary_paragraphs(contents))):
        assert "61 % of the CPU time: slower than on an idle machine" in text


def test_few_cases_are_named_wherever_a_number_stands(scan_contents: RunContents) -> None:
    sections = sections_of(scan_contents)
    said = "few cases (12 positive samples, 8 patients)"
    captions = [t.caption.casefold() for key in ("arms", "operating-point")
                for t in sections[key].tables]  # fmt: skip
    assert sum(said in caption for caption in captions) >= 2
    for key in ("froc-candidates", "froc-whole-scan"):
        warned = [t for t in sections[key].tables if "12 nodules, 8 scans" in t.caption]
        assert len(warned) >= 2
    summary = words_of(sections["summary"]).casefold()
    assert summary.count("few cases (") == 3  # ROC AUC, the operating point, CPM
    rows = [row for row in metric_rows(scan_contents.evaluation) if row.caution]
    named = {row.metric for row in rows}
    assert {"roc_auc", "f1@frozen", "accuracy@frozen", "whole-scan/cpm_interpolated"} <= named


def test_the_data_section_says_where_the_cases_come_from(scan_contents: RunContents) -> None:
    origins = {
        "train": CaseOrigins(real=2, phantom=5), "val": CaseOrigins(phantom=2),
        "test": CaseOrigins(real=2),
    }  # fmt: skip
    arms = tuple(
        replace(a, origins=CaseOrigins(real=2, phantom=5)) for a in scan_contents.evaluation.arms
    )
    contents = with_evaluation(scan_contents, origins=origins, arms=arms)
    assert "this run: 7 synthetic and 4 real scans (train: 5 synthetic and 2 real" in words_of(
        build_data(contents)
    )
    assert banner_lines(contents.evaluation)[0] == (
        "Trained on 5 synthetic and 2 real scans: no clinical performance known."
    )
    mixed = with_evaluation(contents, origins={"test": CaseOrigins(real=1, phantom=3)})
    for build in (build_summary, build_candidates_froc, build_whole_scan_froc):
        section = build(mixed)
        assert section is not None
        assert "Scored on 3 synthetic and 1 real scan" in words_of(section)


def froc_with(contents: RunContents, fp_per_scan: float) -> FrocResult:
    result = contents.evaluation.arm("student").froc[0]
    assert result.at_operating_point is not None
    return replace(
        result, at_operating_point=replace(result.at_operating_point, fp_per_scan=fp_per_scan)
    )


@pytest.mark.parametrize(("fp_per_scan", "inside"), [
    (0.125, True), (1.0, True), (8.0, True), (0.1, False), (0.0, False), (8.5, False),
    (59.3, False),
])  # fmt: skip
def test_a_ring_outside_the_axes_is_told_in_the_legend_instead(
    scan_contents: RunContents, fp_per_scan: float, inside: bool
) -> None:
    figure = froc_figure({"student": froc_with(scan_contents, fp_per_scan)}, "FROC")
    svg = figure.content.decode()
    assert ("(ring: operating point chosen on validation)" in figure.title) == inside
    assert ("operating point outside: " in svg) != inside


def test_the_legend_of_a_froc_lies_below_its_axes(scan_contents: RunContents) -> None:
    results = {arm.name: arm.froc[0] for arm in scan_contents.evaluation.arms}
    svg = froc_figure(results, "FROC").content.decode()
    axes = re.search(r'<g id="patch_2">\s*<path d="M [\d.]+ ([\d.]+)', svg)
    texts = re.findall(
        r'translate\([\d.]+ ([\d.]+)\)"[^>]*>\w+, CPM|y="([\d.]+)"[^>]*>\w+, CPM', svg
    )
    assert axes is not None
    assert len(texts) == 3
    assert all(float(a or b) > float(axes[1]) for a, b in texts)
