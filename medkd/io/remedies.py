"""The command line option that accepts a fault, for messages about a refusal."""

from __future__ import annotations

import re
from collections.abc import Iterable

from medkd.io.dicom.codes import CODES
from medkd.io.radiograph.gate import CODES as IMAGE_CODES


def accepting_option(codes: Iterable[str]) -> str:
    """Return the option that accepts the given faults; empty if one of them cannot be accepted.

    Args:
        codes: codes of the faults (`dicom.codes.CODES`, or those of radiographs).

    Example:
        >>> accepting_option(["slice_thickness", "few_slices"])
        '--allow slice_thickness,few_slices'
        >>> accepting_option(["slice_thickness", "missing_slices"])
        ''
    """
    unique = list(dict.fromkeys(codes))
    return f"--allow {','.join(unique)}" if unique and all(map(_is_allowable, unique)) else ""


def codes_in(reasons: Iterable[str]) -> list[str]:
    """Return the codes of reasons "code: text", each once; reasons without a code are ignored."""
    found = (reason.partition(": ") for reason in reasons)
    known = (code for code, colon, _ in found if colon and re.fullmatch(r"[a-z_]+", code))
    return list(dict.fromkeys(known))


def with_option(reasons: Iterable[str], *, command: str = "") -> tuple[str, ...]:
    """Add to the reasons of a refusal the option that accepts all of them, if there is one.

    Args:
        reasons: each "code: text".
        command: the command that has the option; empty for the command that is running.
    """
    stated = tuple(reasons)
    option = accepting_option(codes_in(stated)) if all(codes_in([r]) for r in stated) else ""
    where = f" of {command}" if command else ""
    return (*stated, f"to accept this: {option}{where}") if option else stated


def _is_allowable(code: str) -> bool:
    image = IMAGE_CODES.get(code)
    return (code in CODES and CODES[code].allowable) or bool(image and image[1])
