"""Images that were called wrongly: by hand, and as many as the evaluation counted."""

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from medkd.jsonio import read_json
from medkd.review.crops import THUMBNAIL_PX, draw_thumbnail
from medkd.review.wrong_images import find_wrong_images
from medkd.runs import Prediction, write_predictions
from medkd.types import Evaluation
from tests.report.run_factory import write_example_run
from tests.viewer import factory


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    return write_example_run(tmp_path_factory.mktemp("image"), kind="image")


def test_there_are_as_many_as_the_evaluation_counted(example):
    evaluation = read_json(example.evaluation, Evaluation)
    for arm in ("teacher", "student"):
        (wrong,) = find_wrong_images(example, evaluation, arm=arm)
        counted = evaluation.arm(arm).classification["test"][0].at_operating_point
        assert wrong.threshold == counted.threshold
        assert len(wrong.missed) == counted.false_negatives
        assert len(wrong.false_alarms) == counted.false_positives


def predictions(run, *rows):
    """Write (case, label, probability) as the student's predictions for the test images."""
    write_predictions(
        run.predictions("student", "test"),
        [Prediction(case, "p", case, (label,), (0.0,), (value,)) for case, label, value in rows],
    )


def test_the_worst_come_first_and_the_threshold_itself_is_positive(tmp_path):
    run = factory.write_bare_run(tmp_path / "run", factory.build_cases())
    least = factory.THRESHOLD
    predictions(
        run,
        ("hit", 1, least), ("near miss", 1, 0.39), ("bad miss", 1, 0.05), ("not known", None, 0.9),
        ("right", 0, 0.39), ("alarm", 0, least), ("loud alarm", 0, 0.8),
    )  # fmt: skip
    (wrong,) = find_wrong_images(run, factory.build_evaluation(), arm="student")
    assert [one.case_id for one in wrong.missed] == ["bad miss", "near miss"]
    assert [one.case_id for one in wrong.false_alarms] == ["loud alarm", "alarm"]


def test_candidates_in_scans_are_no_images(tmp_path):
    run = factory.write_bare_run(tmp_path / "run", factory.build_cases())
    patch = Prediction("a", "p", "scan-a", (1,), (0.0,), (0.1,), center_mm=(1.0, 2.0, 3.0))
    write_predictions(run.predictions("student", "test"), [patch])
    assert find_wrong_images(run, factory.build_evaluation(), arm="student") == []
    unknown = replace(factory.build_evaluation(), arms=())
    assert find_wrong_images(run, unknown, arm="student") == []


@pytest.mark.parametrize(
    ("shape", "size"), [((30, 20), (20, 30)), ((512, 1024), (256, 128)), ((8, 6, 5), (6, 8))]
)
def test_a_thumbnail_keeps_the_proportions_and_the_greys(shape, size):
    pixels = np.full(shape, 0.5, dtype=np.float32)
    pixels[0, 0] = 2.0  # is cut, and does not wrap round to black
    picture = Image.open(io.BytesIO(draw_thumbnail(pixels)))
    assert (picture.mode, picture.size) == ("L", size)
    assert max(picture.size) <= THUMBNAIL_PX
    grey = np.asarray(picture)
    assert grey[-1, -1] == 128
    assert grey[0, 0] > 128
