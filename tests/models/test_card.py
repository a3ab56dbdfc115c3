"""The card of a model states everything that its description holds."""

from __future__ import annotations

from dataclasses import replace

from medkd.models.card import WIDTH, model_card
from medkd.models.package import ModelInfo
from tests.models.shipped_models import INFO, NAME


def test_a_card_states_the_facts_of_the_model() -> None:
    card = model_card(NAME, INFO)
    for words in (
        f"# {NAME}\n\nFinds lung nodules in chest CT.",
        "- research; not a medical device",
        "- Voxel spacing: 4 x 4 x 4 mm",
        "- HU window: -1000 to 400 HU",
        "- Trained on: real and synthetic scans: set A",
        "- Note: trained on 3 synthetic and 2 real scans: no clinical performance known",
        "- Generator: medkd phantom 2",
        "- Configuration: ct_points\n- Seed: 7",
        "- Set A\n  - Use: training; 1,186 nodules\n  - Licence: CC BY 4.0\n  - Attribution: A. Au",
        "- test_cpm: 0.842 (95 % 0.811 to 0.871; 1000 bootstrap resamples by patient)",
        "- val_loss: 0.100\n",
        "- whole-scan: 0.25 by fp_per_scan, chosen on validation, false positives per scan 1",
        "## Limits\n\n- Nodules below 3 mm were not in the training data.",
        "## Licence\n\n- Apache-2.0",
    ):
        assert words in card


def test_missing_facts_are_stated_as_not_recorded() -> None:
    card = model_card("old", ModelInfo({"kind": "shallow2d"}))
    for heading in ("Data", "Scores", "Thresholds", "Limits"):
        assert f"## {heading}\n\n- not recorded" in card
    assert "- Seed: not recorded" in card


def test_lines_fit_a_terminal_and_keep_their_indent() -> None:
    long = replace(INFO, limits=("word " * 60,))
    lines = model_card(NAME, long).splitlines()
    assert max(map(len, lines)) <= WIDTH
    assert "  word word" in "\n".join(lines)
