"""The example run is whole, repeatable and agrees with itself."""

from pathlib import Path

from medkd.jsonio import read_json
from medkd.runs import ARMS, read_cases, read_predictions
from medkd.types import CaseResult, Evaluation
from tests.report.run_factory import write_example_run


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_the_same_call_leaves_the_same_bytes(tmp_path: Path) -> None:
    first = write_example_run(tmp_path / "a").path
    assert files_of(first) == files_of(write_example_run(tmp_path / "b").path)


def test_the_example_run_reads_back_and_agrees_with_its_csv_files(tmp_path: Path) -> None:
    run = write_example_run(tmp_path)
    evaluation = read_json(run.evaluation, Evaluation)
    assert evaluation.transfer_took_place is True
    for arm in ARMS:
        rows = read_predictions(run.predictions(arm, "test"))
        result = evaluation.arm(arm).classification["test"][0]
        called = sum(
            r.labels[0] for r in rows if r.probabilities[0] >= result.operating_point.threshold
        )
        assert called == result.at_operating_point.true_positives
    cases = read_cases(run.cases)
    assert [case.status for case in cases].count("not_analysed") == 1
    assert read_json(run.result("student", "example-06"), CaseResult).candidates
    assert all((run.path / case.path).is_file() for case in cases if case.status == "analysed")


def test_the_image_example_has_no_froc_and_no_transfer(tmp_path: Path) -> None:
    run = write_example_run(tmp_path, kind="image")
    evaluation = read_json(run.evaluation, Evaluation)
    assert evaluation.transfer_took_place is False
    assert all(not arm.froc for arm in evaluation.arms)
    assert {case.kind for case in read_cases(run.cases)} == {"image"}
