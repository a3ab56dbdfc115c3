"""Markdown tables of what transfer costs, as the README of this folder shows them."""

from __future__ import annotations

from typing import Any

Result = dict[str, Any]

_YES_NO = {True: "yes", False: "no"}


def stored_views_markdown(result: Result) -> str:
    """Write the score of a student by the number of stored views."""
    lines = [
        "| views per sample | ROC AUC | minus live views | seconds of a run |",
        "|---|---|---|---|",
    ]
    for name, found in result["views"].items():
        score, gap = found["score"], found.get("minus_live")
        shown = f"{gap['value']:+.3f} ({_interval(gap, '+.3f')})" if gap else ""
        lines.append(
            f"| {name} | {score['value']:.3f} +- {found['seed_sd']:.3f} ({_interval(score, '.3f')})"
            f" | {shown} | {found['seconds']:.0f} |"
        )
    return "\n".join(lines)


def target_speed_markdown(result: Result) -> str:
    """Write the seconds of a step with a live teacher and with its stored answers."""
    lines = [
        "| student | alone | stored answers | live teacher | live / stored | stored / alone |",
        "|---|---|---|---|---|---|",
    ]
    ways = ("alone", "stored", "live")
    for row in result["students"].values():
        times = " | ".join(f"{1000 * row[f'{way}_s']:.0f} ms" for way in ways)
        lines.append(
            f"| {row['parameters'] / 1000:.0f} k | {times} | {row['live_over_stored']:.1f} "
            f"| {row['stored_over_alone']:.2f} |"
        )
    return "\n".join(lines)


def torchdistill_markdown(result: Result) -> str:
    """Write steps and correctness beside torchdistill."""
    sides = ("medkd", "torchdistill")
    lines = [
        f"| measured with torchdistill {result['torchdistill']} | medkd | torchdistill |",
        "|---|---|---|",
    ]
    for name, row in result["speed"].items():
        times = " | ".join(f"{1000 * row[f'{side}_s']:.0f} ms" for side in sides)
        lines.append(f"| step: {name} | {times} |")
    after = result["teacher_after_one_step"]
    alike = {
        "teacher in eval mode while the student trains": lambda side: not side["training_mode"],
        "teacher's buffers bit-identical after a step": lambda side: not side["buffers_moved"],
        "teacher's weights bit-identical after a step": lambda side: not side["weights_moved"],
    }
    for words, is_right in alike.items():
        cells = " | ".join(_YES_NO[is_right(after[side])] for side in sides)
        lines.append(f"| {words} | {cells} |")
    logit = result["one_logit"]
    cells = " | ".join(f"{logit[side]:.4f}" for side in sides)
    lines.append(f"| soft labels of one logit (by hand {logit['by_hand']:.4f}) | {cells} |")
    sizes = result["attention_of_other_sizes"]
    cells = " | ".join("refused" if "Error" in sizes[side] else sizes[side] for side in sides)
    lines.append(f"| attention of 3-D maps of 8^3 and 4^3 positions | {cells} |")
    largest = max(row["largest_difference_of_loss"] for row in result["speed"].values())
    ratios = ", ".join(f"{row['ratio']:.2f}" for row in result["speed"].values())
    words = (
        f"Time over torchdistill's: {ratios}. The losses of the {result['steps']} alternating "
        f"steps differ by {largest:.0e} at most."
    )
    return "\n".join([*lines, "", words])


def _interval(found: Result, form: str) -> str:
    low, high = found["interval"]["low"], found["interval"]["high"]
    return f"{format(low, form)} to {format(high, form)}"
