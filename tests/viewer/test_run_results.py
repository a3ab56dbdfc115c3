"""The results page of a RUN, part by part: what it shows, and what leads from it to a case."""

import os
import shutil
from dataclasses import replace

import pytest

from medkd.jsonio import read_json, write_json
from medkd.review.store import WHOLE_CASE, Decision, open_store
from medkd.review.stored_scores import ScoredSet, read_scores
from medkd.runs import Prediction, RunFolder, write_predictions
from medkd.types import Evaluation
from tests.report.run_factory import write_example_run
from tests.viewer import factory
from tests.viewer.test_pages import launch, press, scene_of, texts  # noqa: F401  # a fixture

PARTS = (
    "Scores", "Detection", "Classification", "Threshold", "Mistakes", "Disagreements", "Groups",
    "Readers", "Cost", "Two runs", "Report",
)  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Write an example run of scans and one of images, side by side."""
    folder = tmp_path_factory.mktemp("runs")
    return {kind: write_example_run(folder / kind, kind=kind) for kind in ("scan", "image")}


@pytest.fixture
def fresh_run(runs, tmp_path):
    return RunFolder(shutil.copytree(runs["scan"].path, tmp_path / "run"))


@pytest.fixture
def open_part(launch):  # noqa: F811
    """Open one part of the results page."""

    def open_it(run, part, **reader):
        app = launch(run, "results.py", **reader)
        app.session_state["results_part"] = part
        app.run()
        assert not app.exception
        return app

    return open_it


def frames(app):
    return [table.value for table in app.dataframe]


@pytest.mark.parametrize("kind", ["scan", "image"])
def test_every_part_is_drawn(runs, launch, kind):  # noqa: F811
    app = launch(runs[kind], "results.py")
    (choice,) = [group for group in app.get("button_group") if group.key == "results_part"]
    assert tuple(choice.options) == PARTS
    for part in PARTS:
        app.session_state["results_part"] = part
        app.run()
        assert not app.exception
        assert "Not a medical device" in texts(app.warning) + texts(app.caption)
        assert "cannot be" not in texts(app.error)


def test_the_curves_are_those_of_each_track_and_of_the_classifier(runs, open_part):
    assert len(open_part(runs["scan"], "Detection").get("plotly_chart")) == 2
    assert len(open_part(runs["scan"], "Classification").get("plotly_chart")) == 3
    assert "scored on scans" in texts(open_part(runs["image"], "Detection").info)


def test_images_that_were_called_wrongly_are_shown_and_open_in_their_case(tmp_path, open_part):
    run = factory.write_review_run(tmp_path / "run")
    evaluation = factory.build_evaluation()
    arms = tuple(replace(arm, froc=()) for arm in evaluation.arms)
    write_json(run.evaluation, replace(evaluation, arms=arms))
    called = (("xray-0", 1, 0.2), ("xray-1", 0, 0.7), ("chest-png", 1, 0.1), ("gone", 1, 0.3))
    write_predictions(
        run.predictions("student", "test"),
        [Prediction(name, "p", name, (label,), (0.0,), (p,)) for name, label, p in called],
    )
    app = open_part(run, "Mistakes")
    (choice,) = [group for group in app.get("button_group") if group.key == "wrong_shown"]
    assert choice.options == ["Missed: 3", "False alarms: 1"]
    assert "probability of at least 0.400" in texts(app.text)
    numbered = [text.value for text in app.text if text.value[0].isdigit()]
    assert numbered == ["1. probability 0.100", "2. probability 0.200", "3. probability 0.300"]
    # One of three: the run does not list it as a case.
    assert [c.value for c in app.caption].count("This image cannot be shown.") == 1
    assert [b.label for b in app.button].count("Open") == 2
    next(button for button in app.button if button.label == "Open").click()
    app.run()
    assert not app.exception
    assert "Case chest-png (image, test)" in texts(app.text)


def test_a_run_of_images_does_not_say_that_scans_are_missing(runs, open_part):
    said = texts(open_part(runs["image"], "Readers").info)
    assert "This run has no scans" in said


def test_a_point_outside_the_drawn_range_is_said(fresh_run, open_part):
    evaluation = read_json(fresh_run.evaluation, Evaluation)
    student = evaluation.arm("student")
    whole = student.froc[1]
    far = replace(whole.at_operating_point, fp_per_scan=11.125)
    moved = replace(student, froc=(student.froc[0], replace(whole, at_operating_point=far)))
    arms = tuple(moved if arm.name == "student" else arm for arm in evaluation.arms)
    write_json(fresh_run.evaluation, replace(evaluation, arms=arms))
    said = texts(open_part(fresh_run, "Detection").text)
    assert "Outside the drawn range: student, operating point: 11.12 FP per scan" in said


def test_the_threshold_starts_where_validation_put_it_and_moves_every_number(runs, open_part):
    run = runs["scan"]
    evaluation = read_json(run.evaluation, Evaluation)
    scores = read_scores(run, evaluation, "student", ScoredSet("whole-scan"))
    app = open_part(run, "Threshold")
    (slider,) = app.select_slider
    assert slider.value == scores.frozen.threshold
    assert "chooses nothing" in texts(app.caption)
    assert [metric.delta for metric in app.metric] == [""] * 4
    lowest = scores.offered[0]
    slider.set_value(lowest).run()
    at = scores.score(lowest)
    assert {metric.label: metric.value for metric in app.metric} == {
        "Sensitivity": f"{at.sensitivity.value:.3f}",
        "Precision": f"{at.precision.value:.3f}",
        "F1": f"{at.f1.value:.3f}",
        "FP per scan": f"{at.fp_per_scan:.3f}",
    }
    point = scores.frozen
    assert {metric.label: metric.delta for metric in app.metric} == {
        "Sensitivity": f"{at.sensitivity.value - point.sensitivity.value:+.3f}",
        "Precision": f"{at.precision.value - point.precision.value:+.3f}",
        "F1": f"{at.f1.value - point.f1.value:+.3f}",
        "FP per scan": f"{at.fp_per_scan - point.fp_per_scan:+.3f}",
    }
    (counts,) = frames(app)
    assert counts.to_numpy().tolist() == [
        ["Nodule", str(at.true_positives), str(at.false_negatives)],
        ["No nodule", str(at.false_positives), "not defined"],
    ]
    press(app, "Back to the threshold chosen on validation")
    assert app.select_slider[0].value == scores.frozen.threshold


def test_the_threshold_of_a_classifier_moves_its_specificity(runs, open_part):
    app = open_part(runs["image"], "Threshold")
    assert [metric.label for metric in app.metric] == [
        "Sensitivity", "Specificity", "Precision", "F1",
    ]  # fmt: skip
    (counts,) = frames(app)
    assert counts.columns.to_list() == ["Reference", "Called positive", "Called negative"]


def test_scores_that_changed_after_the_evaluation_are_said_loudly(fresh_run, open_part):
    shutil.copyfile(fresh_run.marks("control"), fresh_run.marks("student"))
    assert "changed after the evaluation" in texts(open_part(fresh_run, "Threshold").error)


def test_the_worst_missed_nodule_opens_in_its_case_with_its_ring(runs, open_part):
    app = open_part(runs["scan"], "Mistakes")
    assert len(app.get("image")) == 3
    name = next(text.value for text in app.text if text.value.startswith("1. "))
    assert " mm, " in name
    app.button(key="open:missed:1").click().run()
    assert not app.exception
    scene = scene_of(app)
    chosen = next(ring for ring in scene["rings"] if ring["id"] == scene["jump"]["id"])
    assert (chosen["group"], chosen["outcome"]) == ("included", "missed")
    assert name.startswith(f"1. {chosen['diameter']:.1f} mm")


def test_the_highest_false_mark_opens_in_its_case(runs, open_part):
    app = open_part(runs["scan"], "Mistakes")
    app.session_state["mistakes_shown"] = "false"
    app.run()
    app.button(key="open:mark:1").click().run()
    scene = scene_of(app)
    chosen = next(ring for ring in scene["rings"] if ring["id"] == scene["jump"]["id"])
    assert (chosen["group"], chosen["outcome"]) == ("mark", "false")


def test_a_place_whose_scan_is_gone_is_listed_without_a_picture(fresh_run, open_part):
    shutil.rmtree(fresh_run.path / "data")
    app = open_part(fresh_run, "Mistakes")
    assert not app.get("image")
    assert "This place cannot be shown." in texts(app.caption)


@pytest.mark.parametrize("part", ["Threshold", "Mistakes", "Groups"])
def test_without_its_reference_standard_a_run_counts_nothing(fresh_run, open_part, part):
    shutil.rmtree(fresh_run.path / "reference")
    app = open_part(fresh_run, part)
    assert "no reference standard" in texts(app.text)
    assert "Missed nodules" not in texts(app.text)


def test_groups_add_up_to_all_nodules(runs, open_part):
    (table,) = frames(open_part(runs["scan"], "Groups"))
    total = table[table["Group"] == ""].iloc[0]
    for group in ("Diameter", "Lung", "Third of the lung"):
        of_group = table[table["Group"] == group]
        assert of_group["Nodules"].sum() == total["Nodules"]
        assert of_group["Found"].sum() == total["Found"]


def decide(run):
    store = open_store(run.review)
    for reader, verdict in (("anna", "accept"), ("ben", "reject")):
        store.add(Decision("example-07", "m1", reader, verdict, center_mm=(0.0, 0.0, 0.0),
                           diameter_mm=5.0))  # fmt: skip
        store.add(Decision("example-07", WHOLE_CASE, reader, "reviewed"))
    store.close()


def test_an_admin_sees_all_readers_and_a_reader_only_the_own_point(
    fresh_run, open_part, monkeypatch
):
    decide(fresh_run)
    points, pairs = frames(open_part(fresh_run, "Readers"))
    assert points["Reader"].to_list() == ["anna", "ben"]
    assert pairs.iloc[0][["First reader", "Second reader"]].to_list() == ["anna", "ben"]
    monkeypatch.setitem(
        os.environ, "MEDKD_REVIEW_READERS", '{"name_from": "account", "admins": ["eva"]}'
    )
    app = open_part(fresh_run, "Readers")
    (points,) = frames(app)
    assert points["Reader"].to_list() == ["anna"]
    assert "An admin sees" in texts(app.caption)


def test_the_plot_never_gets_the_name_of_a_reader(fresh_run, open_part):
    decide(fresh_run)
    (chart,) = open_part(fresh_run, "Readers").get("plotly_chart")
    assert "anna" not in str(chart.proto)


def test_two_runs_are_compared_with_a_note_on_their_cases(runs, open_part):
    app = open_part(runs["scan"], "Two runs")
    app.selectbox[0].set_value("image").run()
    assert not app.exception
    assert "different test cases" in texts(app.warning)
    (table,) = frames(app)
    assert set(table["Arm"]) == {"teacher", "control", "student"}


def test_every_file_of_the_report_is_offered(fresh_run, open_part):
    fresh_run.report.write_text("<html></html>")
    fresh_run.report.with_suffix(".csv").write_text("arm")
    app = open_part(fresh_run, "Report")
    labels = [button.proto.label for button in app.get("download_button")]
    assert labels == ["Save report.html", "Save report.csv"]
