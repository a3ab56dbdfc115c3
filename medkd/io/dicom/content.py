"""Detection of DICOM files by content, used by every reader of files.

File names are ignored. A DICOM file starts with a preamble and "DICM" (PS3.10 7.1). Many old
archives and planning systems omit the preamble, or also the file meta. Only the first bytes are
examined; `header.py` finds out whether the rest can be read.
"""

from __future__ import annotations

from dataclasses import dataclass

HEAD_BYTES = 1024
"""Number of bytes at the start of a file that the tests examine."""

_MAGIC_AT, _MAGIC = 128, b"DICM"
_META_MARKS = (b"DICM\x02\x00", b"\x02\x00\x00\x00UL\x04\x00")
_CLASS_MARK = b"1.2.840.10008.5.1.4.1.1."
"""Prefix of the UIDs of all storage classes (PS3.4 B.5)."""

_FIRST_GROUPS = (0x0002, 0x0008)
_SECOND_BELOW = 0x00200000
"""The second element is in group 2, 8 or 10 (hex): SOPClassUID of an image is in group 8."""

_LARGEST_FIRST = 256
"""Upper limit for the first element: a group length, character set or image type, all short."""

_SHORT_VRS = frozenset(
    b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split()
)  # fmt: skip
_LONG_VRS = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
VRS = _SHORT_VRS | _LONG_VRS
"""All value representations, whose length field has two or four bytes (PS3.5 7.1.2)."""


def looks_like_dicom(head: bytes) -> bool:
    """Return whether a file is DICOM: it has a preamble or begins with an element of group 2 or 8.

    Args:
        head: the first `HEAD_BYTES` bytes, or all bytes of a shorter file.
    """
    return has_preamble(head) or _is_data_set(head, little=True) or _is_data_set(head, little=False)


def has_preamble(head: bytes) -> bool:
    """Return whether the 128 bytes of a preamble are followed by "DICM"."""
    return head[_MAGIC_AT : _MAGIC_AT + len(_MAGIC)] == _MAGIC


def looks_like_damaged_dicom(head: bytes) -> bool:
    """Return whether a file is probably a DICOM file whose beginning is damaged or cut short.

    Args:
        head: the first `HEAD_BYTES` bytes, or all bytes of a shorter file.
    """
    if looks_like_dicom(head):
        return False
    head = head[:HEAD_BYTES]
    has_mark = any(mark in head for mark in _META_MARKS)
    is_cut = 0 < len(head) < _MAGIC_AT + len(_MAGIC) and not any(head)
    return has_mark or is_cut or (b"\0" in head and _CLASS_MARK in head)


@dataclass(frozen=True, slots=True)
class ElementHead:
    """The first fields of a data element (PS3.5 7.1).

    Args:
        tag: group and element number.
        vr: value representation; empty if implicit.
        start: bytes from the start of the element to its value.
        length: bytes of the value.
    """

    tag: int
    vr: bytes
    start: int
    length: int


def element_head(head: bytes, *, little: bool, implicit: bool | None = None) -> ElementHead:
    """Decode tag, VR and length of an element (PS3.5 7.1).

    Args:
        head: the first 8 bytes of the element; 12 if its length may have four bytes.
        little: whether numbers are little endian.
        implicit: whether the element has no VR; None: it has none if bytes 4 and 5 are not a VR.
    """
    vr = head[4:6]
    if implicit is None:
        implicit = vr not in VRS
    tag = _number(head[:2], little=little) << 16 | _number(head[2:4], little=little)
    if implicit:
        return ElementHead(tag, b"", 8, _number(head[4:8], little=little))
    if vr in _LONG_VRS:
        return ElementHead(tag, vr, 12, _number(head[8:12], little=little))
    return ElementHead(tag, vr, 8, _number(head[6:8], little=little))


def _is_data_set(head: bytes, *, little: bool) -> bool:
    """Return whether `head` starts with an element of group 2 or 8, followed by a higher tag."""
    if len(head) < 8:
        return False
    first = element_head(head[:12], little=little)
    if first.tag >> 16 not in _FIRST_GROUPS or first.tag & 0xFFFF > 0xFF:
        return False
    if not first.vr and not little:  # DICOM has no implicit big-endian syntax
        return False
    after = head[first.start + first.length :][:12]
    follows = len(after) < 8 or first.tag < element_head(after, little=little).tag < _SECOND_BELOW
    return first.length <= _LARGEST_FIRST and follows


def _number(few: bytes, *, little: bool) -> int:
    return int.from_bytes(few, "little" if little else "big")
