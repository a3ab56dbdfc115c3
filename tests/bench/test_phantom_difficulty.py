"""How hard the phantoms of this generator are: the stored figures, and the bars that they keep to.

Measured by `medkd bench bench/phantom_difficulty --out DIR`, which takes an hour on two cores;
DIR/difficulty.json is then kept here and in the package, whose results state it.
"""

from __future__ import annotations

import json
from pathlib import Path

from medkd.config.difficulty_settings import DifficultySettings
from medkd.config.load import find_config, load_settings
from medkd.difficulty import MEASURED
from medkd.jsonio import read_json
from medkd.synthetic.phantom import DIFFICULTY, GENERATOR_VERSION, generator_stamp
from medkd.train.difficulty.rows import DifficultyRecord
from medkd.train.difficulty.tables import failed_bars

RESULT = Path(__file__).parent / "results" / "phantom_difficulty.json"


def test_the_figures_kept_here_are_those_that_the_package_states() -> None:
    stored = json.loads(RESULT.read_text())
    known = MEASURED[generator_stamp()]
    assert known.scans == stored["scans"]
    for figure, name, key in (
        (known.blob_cpm, "blob_finder", "cpm"),
        (known.classifier_auc, "luna16_classifier", "roc_auc"),
        (known.surroundings_auc, "masked_surroundings", "roc_auc"),
    ):
        assert [figure.value, figure.low, figure.high] == [
            stored[name][key],
            *stored[name]["interval_95"],
        ]


def test_the_figures_are_of_this_generator_and_of_the_shipped_bench() -> None:
    stored = read_json(RESULT, DifficultyRecord)
    bench = load_settings(find_config("bench/phantom_difficulty"), DifficultySettings)
    assert (stored.generator_version, stored.difficulty) == (GENERATOR_VERSION, DIFFICULTY)
    assert (stored.size, stored.scans, stored.tuning_scans) == (
        bench.size,
        bench.scans,
        bench.tuning_scans,
    )


def test_every_figure_keeps_to_its_bar() -> None:
    stored = read_json(RESULT, DifficultyRecord)
    assert failed_bars(stored) == ()
    judged = stored.luna16_classifier
    assert judged is not None
    assert judged.nodules >= 200
    assert judged.false_marks >= 200
    assert stored.scans >= 40
    assert stored.peak_mib < 2560
