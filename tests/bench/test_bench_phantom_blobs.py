"""How hard the phantoms are: what two finders without learning reach on them."""

import json
import platform
import time
from importlib.metadata import version
from pathlib import Path

import pytest

from medkd.data.phantom import GENERATOR_VERSION, PhantomSettings, make_phantom
from medkd.evaluate.froc import evaluate_froc
from medkd.types import Reference
from tests.bench.blob_finder import find_blobs, find_components

RESULT = Path(__file__).parent / "results" / "phantom_blob_finder.json"
FINDERS = {"blob_log": find_blobs, "threshold_and_components": find_components}
LIMIT = 0.6


def measure_site(site: str) -> dict[str, object]:
    settings = PhantomSettings(site=site, scans=10, seed=20, nodules_per_scan="2-5")
    started = time.process_time()
    phantoms = [make_phantom(settings, number) for number in range(settings.scans)]
    seconds = (time.process_time() - started) / settings.scans
    reference = Reference(
        tuple(n for p in phantoms for n in p.nodules),
        tuple(n for p in phantoms for n in p.excluded),
        tuple(p.scan.seriesuid for p in phantoms),
    )
    row: dict[str, object] = {
        "settings": settings.model_dump(mode="json"),
        "nodules": len(reference.nodules),
        "cpu_seconds_a_scan": round(seconds, 2),
    }
    for name, find in FINDERS.items():
        marks = [mark for phantom in phantoms for mark in find(phantom)]
        froc = evaluate_froc(marks, reference, track=name, bootstrap=1000)
        assert froc.interval is not None
        row[name] = {
            "cpm_interpolated": round(froc.cpm_interpolated, 4),
            "interval_95": [round(froc.interval.low, 4), round(froc.interval.high, 4)],
            "sensitivity_at": {k: round(v, 4) for k, v in froc.sensitivity_at.items()},
            "found_of_100_marks_a_scan": froc.true_positives,
        }
    return row


@pytest.mark.bench
def test_finders_without_learning_stay_below_the_limit_on_ten_scans():
    result = {
        "what": "LUNA16-scored marks inside the true lung of phantoms never used for anything else",
        "generator_version": GENERATOR_VERSION,
        "machine": platform.processor() or platform.machine(),
        "versions": {name: version(name) for name in ("numpy", "scipy", "scikit-image")},
        "sites": {site: measure_site(site) for site in ("a", "b")},
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    for site in result["sites"].values():
        assert all(site[name]["cpm_interpolated"] < LIMIT for name in FINDERS)


def test_the_stored_result_is_of_this_generator_and_below_the_limit():
    result = json.loads(RESULT.read_text())
    assert result["generator_version"] == GENERATOR_VERSION
    for site in result["sites"].values():
        assert all(site[name]["cpm_interpolated"] < LIMIT for name in FINDERS)
