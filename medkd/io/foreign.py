"""The boundary around foreign readers: whatever they raise becomes a `SeriesError`.

nibabel, SimpleITK, pydicom, gdcm, PIL, zlib and NumPy raise many types for broken files, and which
ones changes from version to version. Only code that calls them belongs inside the block: a
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

    Refusals of medkd pass unchanged, and so do KeyboardInterrupt and SystemExit.

    Args:
        path: the file that is read, or the label that messages use for it (`FileRef.name`).
        prefix: begins the reason, for example "unreadable: " or "unreadable: f000017: ".
        show_text: False where the foreign text may hold values of a header, such as a
            patient's name: then the reason gives the exception's type only.

    Raises:
        SeriesError: "<path>: cannot be read", with one reason that never holds the path.

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
        # Decoders written in Rust panic with an exception that is no Exception (pyo3).
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        reason = prefix + worded(error, path, show_text=show_text)
        raise SeriesError(f"{path}: cannot be read", [reason]) from error


def worded(error: BaseException, path: PurePath | str = "", *, show_text: bool = True) -> str:
    """Say in one line what a foreign exception reports, without the file's path.

    Args:
        error: as raised.
        path: the file; its path and name are left out of the text, since both may hold a name.
        show_text: False: the exception's type only.
    """
    if isinstance(error, MemoryError):
        return "it does not fit into memory: read it on a machine with more memory"
    kind = type(error).__name__
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror} ({kind})"
    # ITK names its own source files and addresses first, and the fault in the last line.
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith("Reason:")] or lines
    if not show_text or not lines:
        return kind
    text = lines[-1].removeprefix("sitk::ERROR: ")
    for known in filter(None, (str(path), PurePath(path).name)):
        text = text.replace(known, "the file")
    return f"{kind}: {text}"
