"""The exceptions that users see. Each one carries all of its reasons, not only the first."""

from __future__ import annotations

from collections.abc import Iterable


def printable(text: str) -> str:
    r"""Escape file-name bytes that are not valid UTF-8, so that any output can print them.

    Args:
        text: a file name, or a text with file names, as Python decodes them (PEP 383).

    Example:
        >>> import os
        >>> print(printable(os.fsdecode(b"M\xfcller")))
        M\xfcller
    """
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # a lone surrogate that no file name contains
        return text.encode("utf-8", "backslashreplace").decode("utf-8")


class MedkdError(Exception):
    """Base class of all refusals: a headline and all of its reasons, both printable.

    Args:
        headline: one line that states what was refused and names the file or series.
        reasons: one line each: what was expected, what was found, and what to do.
    """

    def __init__(self, headline: str, reasons: Iterable[str] = ()) -> None:
        self.headline = printable(headline)
        self.reasons = tuple(printable(reason) for reason in reasons)
        super().__init__("\n".join([self.headline, *(f"  - {line}" for line in self.reasons)]))

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle headline and reasons separately, so that worker processes can return them."""
        return type(self), (self.headline, self.reasons)


class SeriesError(MedkdError):
    """A scan, radiograph or annotation table cannot be read."""


class SettingsError(MedkdError):
    """A configuration cannot be run; the reasons name the YAML lines."""


class CheckpointError(MedkdError):
    """Weights or a model directory cannot be loaded or saved."""


class WorkerError(MedkdError):
    """A worker process died, hung or could not start; the reasons state what works without it."""


class OtherProcessError(MedkdError):
    """Another process of the same training has ended; that process says why."""


class ExtraMissingError(MedkdError):
    """An optional package is missing; the reason contains the install command.

    Args:
        package: the module that could not be imported.
        extra: the extra of medkd that installs it.
    """

    def __init__(self, package: str, extra: str) -> None:
        self.package, self.extra = package, extra
        super().__init__(
            f"the optional package {package!r} is not installed",
            [f"run: pip install 'medkd[{extra}]'"],
        )

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle the arguments of the constructor."""
        return type(self), (self.package, self.extra)
