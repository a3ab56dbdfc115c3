"""The few exceptions that users meet. Each one carries all its reasons, not the first only."""

from __future__ import annotations

from collections.abc import Iterable


def printable(text: str) -> str:
    r"""Escape the bytes of file names that are no UTF-8, so that every output can hold them.

    Args:
        text: a name, or a text with names, as Python reads them from the disk (PEP 383).

    Example:
        >>> import os
        >>> print(printable(os.fsdecode(b"M\xfcller")))
        M\xfcller
    """
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # half of a surrogate pair that no file name gave
        return text.encode("utf-8", "backslashreplace").decode("utf-8")


class MedkdError(Exception):
    """Base of all refusals: a headline and every reason for it, fit to print anywhere.

    Args:
        headline: what was refused, in one line (names the file or series).
        reasons: one line each: what was expected, what was got, what to do.
    """

    def __init__(self, headline: str, reasons: Iterable[str] = ()) -> None:
        self.headline = printable(headline)
        self.reasons = tuple(printable(reason) for reason in reasons)
        super().__init__("\n".join([self.headline, *(f"  - {line}" for line in self.reasons)]))

    def __reduce__(self) -> tuple[object, ...]:
        """Keep headline and reasons apart on the way out of another process."""
        return type(self), (self.headline, self.reasons)


class SeriesError(MedkdError):
    """A scan, radiograph or table of annotations that cannot be read as it stands."""


class SettingsError(MedkdError):
    """A configuration that cannot be run; reasons name the YAML line."""


class CheckpointError(MedkdError):
    """Weights or a model directory that cannot be loaded or saved."""


class WorkerError(MedkdError):
    """A helper process that died, hangs or could not start; reasons say what works without it."""


class ExtraMissingError(MedkdError):
    """An optional package is needed; the reason holds the install line.

    Args:
        package: the module that could not be imported.
        extra: the extra of medkd that brings it.
    """

    def __init__(self, package: str, extra: str) -> None:
        self.package, self.extra = package, extra
        super().__init__(
            f"the optional package {package!r} is not installed",
            [f"run: pip install 'medkd[{extra}]'"],
        )

    def __reduce__(self) -> tuple[object, ...]:
        """Make it again from what it was made of."""
        return type(self), (self.package, self.extra)
