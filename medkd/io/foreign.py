"""Error handling around third-party readers: any exception becomes a `SeriesError`.

nibabel, SimpleITK, pydicom, gdcm, PIL, zlib and NumPy raise many exception types for broken files,
and the types change between versions. Only calls of these libraries belong inside the block: a
programming error of medkd inside it would be reported as a damaged file.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePath

from medkd.errors import MedkdError, SeriesError


@contextmanager
def foreign_faults(
    path: PurePath | str, *, prefix: str = "", show_text: bool = True
) -> Iterator[None]:
    """Turn every exception that is raised inside the block into a `SeriesError`.

    `MedkdError`, KeyboardInterrupt and SystemExit are raised unchanged.

    Args:
        path: the file that is read, or its label in messages (`FileRef.name`).
        prefix: beginning of the reason, for example "unreadable: " or "unreadable: f000017: ".
        show_text: False if the exception's text may contain header values such as a patient's
            name; the reason then contains only the exception's type.

    Raises:
        SeriesError: "<path>: cannot be read", with one reason that never contains the path.

    Example:
        >>> with foreign_faults("scan.nii.gz"):
        ...     raise EOFError("Compressed file ended")
        Traceback (most recent call last):
        medkd.errors.SeriesError: scan.nii.gz: cannot be read
          - EOFError: Compressed file ended
    """
    try:
        yield
    except MedkdError:
        raise
    except BaseException as error:
        # Decoders written in Rust (pyo3) panic with a subclass of BaseException only.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        reason = prefix + describe_error(error, path, show_text=show_text)
        raise SeriesError(f"{path}: cannot be read", [reason]) from error


def describe_error(
    error: BaseException, path: PurePath | str = "", *, show_text: bool = True
) -> str:
    """Describe a third-party exception in one line, without the file's path.

    Args:
        error: the exception.
        path: the file; its path and name are removed from the text, since both may contain a
            patient's name.
        show_text: if False, only the exception's type is returned.
    """
    if isinstance(error, MemoryError):
        return "it does not fit into memory: read it on a machine with more memory"
    kind = type(error).__name__
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror} ({kind})"
    # ITK writes its source files and addresses first, and the error in the last line.
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith("Reason:")] or lines
    if not show_text or not lines:
        return kind
    text = lines[-1].removeprefix("sitk::ERROR: ")
    for known in filter(None, (str(path), PurePath(path).name)):
        text = text.replace(known, "the file")
    return f"{kind}: {text}"
