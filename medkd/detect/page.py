"""The page of results: the scans with pictures of their first marks, as one HTML file.

The page loads nothing and runs no script, which its content security policy forbids. It contains
no more about a patient than results.csv, and the reasons why scans were not analysed. It is
written from stored results and thumbnails, piece by piece, so that many scans need little memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files

from jinja2 import Environment, StrictUndefined

from medkd import __version__
from medkd.detect.thumbnails import SHOWN, read_thumbnails
from medkd.files import replacing
from medkd.io.pictures import PIXEL_MM, SIDE_PX
from medkd.io.synthetic_mark import is_synthetic_note
from medkd.runs import ResultsFolder
from medkd.types import Candidate, CaseResult, MarkPlace

NOT_A_DEVICE = "Research use only. Not a medical device: not for diagnosis."

_LEAST_RING_MM, _MOST_RING_MM = 8.0, 0.9 * SIDE_PX * PIXEL_MM


@dataclass(frozen=True, slots=True)
class PageFacts:
    """What the page says about the whole search.

    `model` and `threshold_words` are sentences. `threshold` is the probability from which marks
    are flagged (None: the model has none). `warnings` are sentences shown on top; a note of a scan
    that equals one of `known_notes` is not repeated for each scan.
    """

    model: str
    threshold_words: str
    threshold: float | None = None
    warnings: tuple[str, ...] = ()
    known_notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Mark:
    """A mark as the page shows it; `ring_percent` is relative to the side of the picture."""

    picture: str
    above: bool
    ring_percent: float
    lines: tuple[str, ...]
    words: str


@dataclass(frozen=True, slots=True)
class _Case:
    number: int
    result: CaseResult
    above: int
    notes: tuple[str, ...]
    synthetic: bool


def write_page(folder: ResultsFolder, results: Sequence[CaseResult], facts: PageFacts) -> None:
    """Write the page of scans. The file is never partially written.

    Args:
        folder: the results; its thumbnails are embedded.
        results: the results of scans in the order of the page.
        facts: what the page says about the whole search.
    """
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.tests["synthetic"] = is_synthetic_note
    source = files("medkd.detect").joinpath("results.html.j2").read_text(encoding="utf-8")
    cases = [_case(number, result, facts) for number, result in enumerate(results, start=1)]
    analysed = sum(result.status == "analysed" for result in results)
    stream = environment.from_string(source).stream(
        facts=facts,
        cases=cases,
        analysed=analysed,
        marks_of=lambda case: list(_marks(case.result, folder, facts)),
        not_a_device=NOT_A_DEVICE,
        version=__version__,
        shown=SHOWN,
        side_px=SIDE_PX,
        side_mm=SIDE_PX * PIXEL_MM,
    )
    stream.enable_buffering(64)
    with replacing(folder.page) as temporary:
        stream.dump(str(temporary), encoding="utf-8")


def _case(number: int, result: CaseResult, facts: PageFacts) -> _Case:
    above = sum(_is_above(mark, facts) for mark in result.candidates)
    notes = tuple(note for note in result.notes if note not in facts.known_notes)
    return _Case(number, result, above, notes, any(map(is_synthetic_note, notes)))


def _marks(result: CaseResult, folder: ResultsFolder, facts: PageFacts) -> Iterator[_Mark]:
    shown = result.candidates[:SHOWN]
    pictures = read_thumbnails(folder.thumbnails, result.input_key) if shown else []
    pictures += [""] * (len(shown) - len(pictures))
    places = result.places or (None,) * len(result.candidates)
    for number, (mark, picture, place) in enumerate(
        zip(shown, pictures, places, strict=False), start=1
    ):
        above = _is_above(mark, facts)
        lines = (*_lines(mark, place), "reaches the threshold" if above else "")
        yield _Mark(
            picture=picture,
            above=above,
            ring_percent=_ring_percent(mark.diameter_mm),
            lines=tuple(filter(None, (f"{number}. {lines[0]}", *lines[1:]))),
            words=f"Mark {number}, {', '.join(filter(None, lines))}",
        )


def _is_above(mark: Candidate, facts: PageFacts) -> bool:
    return facts.threshold is not None and mark.score >= facts.threshold


def _lines(mark: Candidate, place: MarkPlace | None) -> tuple[str, ...]:
    """Return the lines under a picture: probability, diameter, slice, and place in the lungs."""
    diameter = "" if mark.diameter_mm is None else f"{mark.diameter_mm:.1f} mm"
    if place is None:
        return (f"p {mark.score:.3g}", diameter)
    image = f"slice {place.voxel[2] + 1}"
    if place.image.instance_number is not None:
        image += f", instance {place.image.instance_number}"
    if place.image.frame_number is not None:
        image += f", frame {place.image.frame_number}"
    lung = f"{place.lung.side} lung, {place.lung.third} third" if place.lung else ""
    return (f"p {mark.score:.3g}", diameter, image, lung)


def _ring_percent(diameter_mm: float | None) -> float:
    """Return the diameter of the ring around a mark: twice that of the nodule, within limits."""
    wanted = 2.0 * (diameter_mm or 0.0)
    ring_mm = min(max(wanted, _LEAST_RING_MM), _MOST_RING_MM)
    return round(100 * ring_mm / (SIDE_PX * PIXEL_MM), 1)
