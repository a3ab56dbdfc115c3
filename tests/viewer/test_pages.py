"""Every page, launched through its router: what a reader sees, and that decisions are kept."""

import json
from dataclasses import replace

import pytest
from streamlit.testing.v1 import AppTest

from medkd.io.luna16_tables import write_annotations, write_seriesuids
from medkd.jsonio import read_json, write_json
from medkd.review.consensus import find_consensus
from medkd.review.export import consensus_nodules
from medkd.review.store import Decision, open_store
from medkd.runs import read_cases
from medkd.types import Candidate, CaseResult, Nodule, RunCase
from tests.real_data import data_root
from tests.report.run_factory import write_example_run
from tests.viewer import factory
from tests.viewer.conftest import VIEWER

FIRST_MARK = "at_-70.00_10.00_-80.00"
PAGES = ["worklist.py", "case.py", "results.py"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return factory.write_review_run(tmp_path_factory.mktemp("run"))


@pytest.fixture
def fresh_run(tmp_path):
    return factory.write_review_run(tmp_path / "run")


@pytest.fixture
def launch(monkeypatch):
    """Open a page of a run, optionally at a case, as one reader."""

    def open_page(run, page="worklist.py", *, case=None, reader="anna"):
        monkeypatch.setenv("MEDKD_REVIEW_PATH", str(run.path))
        monkeypatch.setenv("MEDKD_REVIEW_INDEX", str(getattr(run, "index", None) or ""))
        monkeypatch.setenv("MEDKD_REVIEW_READER", reader)
        app = AppTest.from_file(str(VIEWER / "app.py"), default_timeout=30).run()
        if page != "worklist.py":
            app.switch_page(page)
            if case:
                app.query_params["case"] = case
            app.run()
        assert not app.exception
        return app

    return open_page


def texts(elements):
    return "\n".join(str(element.value) for element in elements)


def scene_of(app):
    """Return what the page passes to the slice viewer; None if it draws none."""
    viewers = app.get("bidi_component")
    return json.loads(viewers[0].proto.json) if viewers else None


def shown_images(app):
    """Count the viewers on the page."""
    return len(app.get("bidi_component"))


def press(app, label):
    next(button for button in app.button if button.label == label).click()
    app.run()
    assert not app.exception


@pytest.mark.parametrize("page", PAGES)
def test_every_page_says_that_this_is_no_medical_device_and_synthetic(run, launch, page):
    app = launch(run, page)
    assert "Not a medical device" in texts(app.warning)
    assert "no clinical performance known" in texts(app.warning)


@pytest.mark.parametrize("case", [case.case_id for case in factory.build_cases()])
def test_every_case_launches(run, launch, case):
    app = launch(run, "case.py", case=case)
    assert case in texts(app.text)
    assert shown_images(app) == (0 if case == "scan-gone" else 1)


def test_a_note_that_stands_on_top_of_the_page_is_not_repeated_beside_the_marks(fresh_run, launch):
    path = fresh_run.result("student", "scan-a")
    top = texts(launch(fresh_run).warning)
    repeated = top.split(". ")[0]
    repeated = repeated[0].lower() + repeated[1:]
    result = read_json(path, CaseResult)
    write_json(path, replace(result, notes=(repeated, "its lungs touch the border")))
    shown = texts(launch(fresh_run, "case.py", case="scan-a").text)
    assert "its lungs touch the border" in shown
    assert repeated not in shown


def test_the_worklist_sorts_by_score_and_never_hides_what_was_not_analysed(run, launch):
    app = launch(run)
    table = app.dataframe[0].value
    assert list(table["Case"][:3]) == ["scan-refused", "scan-a", "xray-1"]
    assert table["Status"][0] == "NOT ANALYSED"
    assert "slices are missing" in table["Reasons"][0]
    assert "not the same as no findings" in texts(app.warning)


def test_the_worklist_counts_the_marks_that_reach_the_threshold(run, launch):
    table = launch(run).dataframe[0].value.set_index("Case")["Marks"]
    assert table["scan-a"] == "0 of 2 decided"
    assert table["scan-b"] == "no mark"
    assert table["scan-refused"] == ""


def test_the_worklist_filters_by_status(run, launch):
    app = launch(run)
    app.selectbox[0].set_value("NOT ANALYSED").run()
    assert list(app.dataframe[0].value["Case"]) == ["scan-refused"]


def test_a_case_that_was_not_analysed_shows_its_reasons_and_no_marks(run, launch):
    app = launch(run, "case.py", case="scan-refused")
    assert "Not analysed" in texts(app.error)
    assert "slices are missing" in texts(app.text)
    assert scene_of(app)["refused"]
    assert not [button for button in app.button if button.label == "Accept"]


def test_text_from_data_is_never_markdown(run, launch):
    app = launch(run, "case.py", case="scan-refused")
    assert factory.EVIL in texts(app.text)
    assert "onerror" not in texts(app.markdown) + texts(app.error) + texts(app.caption)


def test_marks_below_the_threshold_are_counted_and_can_be_shown(run, launch):
    app = launch(run, "case.py", case="scan-a")
    marks = next(radio for radio in app.radio if radio.label == "Marks shown")
    assert [option[-1] for option in marks.options] == ["2", "3"]
    marks.set_value(marks.options[1]).run()
    listed = [
        button for button in app.button if button.label.startswith(("Mark 1", "Mark 2", "Mark 3"))
    ]
    assert len(listed) == 3
    assert len([button for button in app.button if button.label == "Accept"]) == 1


def test_jumping_to_a_mark_shows_its_slice(run, launch):
    # Second mark at z = -120 mm: (-120 + 200) / 6 = 13.3, the 14th slice from below.
    app = launch(run, "case.py", case="scan-a")
    press(app, "Mark 2: 0.710, 22.0 mm, slice 14, left middle, undecided")
    scene = scene_of(app)
    assert scene["jump"] == {"id": scene["rings"][1]["id"], "count": 1, "center": None}
    assert scene["rings"][1]["center"][2] == pytest.approx(80 / 6)


def test_a_mark_outside_the_scan_is_not_moved_into_it(fresh_run, launch):
    outside = Candidate("scan-a", (0.0, 0.0, 5000.0), 0.99, 10.0)
    write_json(fresh_run.result("student", "scan-a"), CaseResult("scan-a", (outside,), "analysed"))
    app = launch(fresh_run, "case.py", case="scan-a")
    jump = next(button for button in app.button if button.label.startswith("Mark 1"))
    assert jump.label == "Mark 1: 0.990, 10.0 mm, outside the scan, undecided"


def test_the_viewer_gets_the_marks_with_their_decisions(fresh_run, launch):
    app = launch(fresh_run, "case.py", case="scan-a")
    press(app, "Reject")
    first, second = scene_of(app)["rings"]
    assert (first["number"], first["score"], first["diameter"]) == (1, 0.93, 16.0)
    assert first["verdict"] == "reject"
    assert first["saved"].startswith("saved 20")
    assert (second["verdict"], second["saved"], second["outcome"]) == ("undecided", "", "")


def test_the_viewer_gets_the_reference_and_what_was_hit(fresh_run, launch):
    # The first nodule is marked at the threshold, the third is not; one finding is excluded.
    (first, second, third) = [Nodule("scan-a", *nodule) for nodule in factory.NODULES]
    write_annotations(fresh_run.reference / "annotations.csv", [first, third])
    excluded = fresh_run.reference / "annotations_excluded.csv"
    write_annotations(excluded, [replace(second, counts_as="excluded")])
    write_seriesuids(fresh_run.reference / "seriesuids.csv", ["scan-a"])
    rings = scene_of(launch(fresh_run, "case.py", case="scan-a"))["rings"]
    assert [(ring["group"], ring["outcome"]) for ring in rings] == [
        ("mark", "hit"), ("mark", "ignored"), ("included", "found"), ("included", "missed"),
        ("excluded", ""),
    ]  # fmt: skip


def test_a_page_that_is_drawn_again_names_the_same_volume(run, launch):
    app = launch(run, "case.py", case="scan-a")
    before = scene_of(app)["volume"]
    app.run()
    assert scene_of(app)["volume"] == before
    assert scene_of(launch(run, "case.py", case="scan-b"))["volume"]["id"] == before["id"]


def test_what_travels_to_the_viewer_names_no_file_and_no_patient(run, launch):
    text = json.dumps(scene_of(launch(run, "case.py", case="scan-a")))
    assert len(text) < 20_000  # no voxels
    assert not [word for word in (str(run.path), "mhd", "p1", "scan-a") if word in text]


def test_next_and_previous_walk_the_worklist(run, launch):
    app = launch(run, "case.py", case="scan-refused")
    press(app, "Next case")
    assert "Case scan-a" in texts(app.text)
    press(app, "Previous case")
    assert "Case scan-refused" in texts(app.text)


def test_a_decision_and_a_note_are_found_after_a_reload(fresh_run, launch):
    app = launch(fresh_run, "case.py", case="scan-a")
    press(app, "Accept")
    app.text_input[0].set_value("spiculated").run()
    kept = launch(fresh_run, "case.py", case="scan-a")
    assert "accept, saved" in texts(kept.caption)
    assert kept.text_input[0].value == "spiculated"
    assert launch(fresh_run).dataframe[0].value.set_index("Case")["Marks"]["scan-a"] == (
        "1 of 2 decided"
    )


def test_every_press_is_kept_as_history_with_what_was_on_the_screen(fresh_run, launch):
    app = launch(fresh_run, "case.py", case="scan-a")
    press(app, "Accept")
    press(app, "Clear")
    store = open_store(fresh_run.review)
    history = store.history()
    store.close()
    assert [decision.verdict for decision in history] == ["accept", "undecided"]
    assert (history[0].reader, history[0].score) == ("anna", 0.93)
    assert history[0].center_mm == factory.NODULES[0][0]


def test_an_accepted_mark_has_its_diameter_in_the_export(fresh_run, launch):
    press(launch(fresh_run, "case.py", case="scan-a"), "Accept")
    store = open_store(fresh_run.review)
    nodules = consensus_nodules(find_consensus(store.history()))
    store.close()
    assert [(n.center_mm, n.diameter_mm) for n in nodules] == [factory.NODULES[0]]


def test_a_corrected_place_and_diameter_of_a_mark_are_what_the_page_shows(fresh_run, launch):
    store = open_store(fresh_run.review)
    mark = Decision("scan-a", FIRST_MARK, "anna", "undecided", center_mm=factory.NODULES[0][0])
    store.change(mark, "diameter_mm", 21.5)
    store.close()
    app = launch(fresh_run, "case.py", case="scan-a")
    assert scene_of(app)["rings"][0]["diameter"] == 21.5


def test_readers_do_not_see_each_others_decisions(fresh_run, launch):
    press(launch(fresh_run, "case.py", case="scan-a"), "Accept")
    other = launch(fresh_run, "case.py", case="scan-a", reader="ben")
    assert "accept, saved" not in texts(other.caption)


def test_a_scan_is_reviewed_when_the_reader_says_so(fresh_run, launch):
    press(launch(fresh_run, "case.py", case="scan-b"), "Mark the case as reviewed")
    table = launch(fresh_run).dataframe[0].value.set_index("Case")
    assert table["Review"]["scan-b"] == "reviewed"


def test_an_image_shows_the_arms_and_is_reviewed_by_a_verdict(fresh_run, launch):
    app = launch(fresh_run, "case.py", case="xray-1")
    assert list(app.dataframe[0].value["Arm"]) == ["teacher", "control", "student"]
    assert list(app.dataframe[0].value["Result"]) == ["positive"] * 3
    press(app, "Reject")
    assert launch(fresh_run).dataframe[0].value.set_index("Case")["Review"]["xray-1"] == "reviewed"


def test_the_results_page_names_both_readings_of_the_cpm_and_each_track(run, launch):
    app = launch(run, "results.py")
    shown = "\n".join(table.value.to_string() for table in app.dataframe)
    assert "CPM, interpolated" in shown
    assert "CPM, nearest curve point" in shown
    headers = {header.value for header in app.header}
    assert {"Detection, candidates track", "Detection, whole scans"} <= headers


def test_the_results_page_says_beside_each_cpm_how_hard_the_phantoms_are(fresh_run, launch):
    evaluation = factory.build_evaluation()
    record = replace(evaluation.record, phantoms=("medkd phantom 2: blob finder CPM 0.31",))
    write_json(fresh_run.evaluation, replace(evaluation, record=record))
    said = [text.value for text in launch(fresh_run, "results.py").text]
    assert said.count("medkd phantom 2: blob finder CPM 0.31") == 2


def test_the_results_page_shows_every_score_with_its_interval(run, launch):
    table = launch(run, "results.py").dataframe[0].value.set_index("Metric")
    for name in ("Sensitivity", "F1", "Precision", "Specificity"):
        assert " to " in table.loc[f"{name} at the operating point", "student"]
    assert list(table.columns) == ["teacher", "control", "student"]


def test_a_run_without_transfer_says_so_loudly(run, launch):
    assert "No transfer took place" in texts(launch(run, "results.py").error)


def test_a_run_on_real_data_has_no_banner(fresh_run, launch):
    write_json(fresh_run.evaluation, factory.build_evaluation(synthetic=False))
    app = launch(fresh_run)
    assert "synthetic" not in texts(app.warning)
    assert "Not a medical device" in texts(app.caption)


def test_a_run_without_evaluation_says_that_nothing_is_known(fresh_run, launch):
    fresh_run.evaluation.unlink()
    assert "is unknown" in texts(launch(fresh_run).warning)
    assert "no evaluation yet" in texts(launch(fresh_run, "results.py").info)


def test_a_folder_that_is_no_run_is_refused_with_reasons(tmp_path, launch, monkeypatch):
    monkeypatch.setenv("MEDKD_REVIEW_PATH", str(tmp_path))
    app = AppTest.from_file(str(VIEWER / "app.py"), default_timeout=30).run()
    assert "cannot be shown" in texts(app.error)
    assert "not a RUN, RESULTS or an INDEX" in texts(app.text)


def test_a_decision_that_cannot_be_saved_is_said_loudly(fresh_run, launch):
    app = launch(fresh_run, "case.py", case="scan-a")
    fresh_run.review.write_bytes(b"no database " * 1000)
    next(button for button in app.button if button.label == "Accept").click()
    app.run()
    assert "cannot be" in texts(app.text) + texts(app.error)


@pytest.mark.parametrize("kind", ["scan", "image"])
@pytest.mark.parametrize("page", PAGES)
def test_every_page_launches_on_an_example_run(tmp_path, launch, kind, page):
    run = write_example_run(tmp_path / "run", kind=kind)
    analysed = [case.case_id for case in read_cases(run.cases) if case.status == "analysed"]
    app = launch(run, page, case=analysed[0] if page == "case.py" else None)
    assert "Not a medical device" in texts(app.warning) + texts(app.caption)
    assert shown_images(app) == (page == "case.py")


@pytest.mark.parametrize(
    ("kind", "path", "row"),
    [("scan", "ct_dicom", None), ("image", "pneumoniamnist/pneumoniamnist.npz", 3)],
)
def test_real_data_is_shown(tmp_path, launch, kind, path, row):
    place = data_root() / path
    assert place.exists()
    case = RunCase("real", "p", kind, str(place), "test", row, None, None, "analysed")
    app = launch(factory.write_bare_run(tmp_path, [case]), "case.py")
    assert not app.error
    assert shown_images(app) == 1


def test_no_page_allows_html():
    assert not [p for p in VIEWER.glob("*.py") if "unsafe_allow_html" in p.read_text()]
