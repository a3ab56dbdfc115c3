"""The option that accepts a fault, where there is one: for everybody who prints a refusal."""

from __future__ import annotations

from collections.abc import Iterable

from medkd.io.dicom.codes import CODES
from medkd.io.radiograph.gate import CODES as IMAGE_CODES


def accepting_option(codes: Iterable[str]) -> str:
    """Word the option that accepts faults; empty if one of them cannot be accepted.

    Args:
        codes: of the faults (`dicom.codes.CODES`, or those of radiographs).

    Example:
        >>> accepting_option(["slice_thickness", "few_slices"])
        '--allow slice_thickness,few_slices'
        >>> accepting_option(["slice_thickness", "missing_slices"])
        ''
    """
    unique = list(dict.fromkeys(codes))
    return f"--allow {','.join(unique)}" if unique and all(map(_may_pass, unique)) else ""


def codes_in(reasons: Iterable[str]) -> list[str]:
    """Return the codes of reasons "code: text", each once."""
    return list(dict.fromkeys(reason.partition(":")[0] for reason in reasons))


def with_option(reasons: Iterable[str], *, command: str = "") -> tuple[str, ...]:
    """Add to the reasons of a refusal the option that would accept all of them.

    Args:
        reasons: each "code: text".
        command: the command that takes the option; empty: the one that is running.
    """
    told = tuple(reasons)
    option = accepting_option(codes_in(told))
    where = f" of {command}" if command else ""
    return (*told, f"to accept this: {option}{where}") if option else told


def _may_pass(code: str) -> bool:
    image = IMAGE_CODES.get(code)
    return (code in CODES and CODES[code].allowable) or bool(image and image[1])
