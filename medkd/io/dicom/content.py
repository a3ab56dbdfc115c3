"""Whether bytes are DICOM: the one test by content that every reader of files uses.

Names decide nothing. A DICOM file has a preamble and "DICM" (PS3.10 7.1); many old archives and
planning systems leave out the preamble, or the file meta too. Only the first bytes are looked at:
whether the rest of the file can be read is for `header.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

HEAD_BYTES = 1024
"""How many first bytes of a file the tests need."""

_MAGIC_AT, _MAGIC = 128, b"DICM"
_META_MARKS = (b"DICM\x02\x00", b"\x02\x00\x00\x00UL\x04\x00")
_CLASS_MARK = b"1.2.840.10008.5.1.4.1.1."
"""How the UIDs of all storage classes begin (PS3.4 B.5)."""

_FIRST_GROUPS = (0x0002, 0x0008)
_SECOND_BELOW = 0x00200000
"""The second element is in group 2, 8 or 10 (hex); an image states its class in group 8."""

_LARGEST_FIRST = 256
"""First elements are group lengths, character sets or image types, all short."""

_SHORT_VRS = frozenset(
    b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split()
)  # fmt: skip
_LONG_VRS = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
VRS = _SHORT_VRS | _LONG_VRS
"""Value representations with lengths of two and of four bytes (PS3.5 7.1.2)."""


def looks_like_dicom(head: bytes) -> bool:
    """Say whether a file is DICOM: with preamble, or a data set that begins in group 2 or 8.

    Args:
        head: the first `HEAD_BYTES` bytes, or all of a shorter file.
    """
    return has_preamble(head) or _is_data_set(head, little=True) or _is_data_set(head, little=False)


def has_preamble(head: bytes) -> bool:
    """Say whether "DICM" follows a preamble of 128 bytes."""
    return head[_MAGIC_AT : _MAGIC_AT + len(_MAGIC)] == _MAGIC


def looks_like_damaged_dicom(head: bytes) -> bool:
    """Say whether a file that is not DICOM has been: its beginning is damaged or cut short.

    Args:
        head: the first `HEAD_BYTES` bytes, or all of a shorter file.
    """
    if looks_like_dicom(head):
        return False
    head = head[:HEAD_BYTES]
    has_mark = any(mark in head for mark in _META_MARKS)
    is_cut = 0 < len(head) < _MAGIC_AT + len(_MAGIC) and not any(head)
    return has_mark or is_cut or (b"\0" in head and _CLASS_MARK in head)


@dataclass(frozen=True, slots=True)
class ElementHead:
    """Tag, VR (empty where implicit) and length of an element; its value is `start` bytes on."""

    tag: int
    vr: bytes
    start: int
    length: int


def element_head(head: bytes, *, little: bool, implicit: bool | None = None) -> ElementHead:
    """Read the head of an element (PS3.5 7.1).

    Args:
        head: at least 8 bytes from its first; 12 where it may have a long VR.
        little: whether numbers are little endian.
        implicit: whether it has no VR; None: it has one if it shows a known one.
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
    """Say whether an element of group 2 or 8 comes first, and a later one after it."""
    if len(head) < 8:
        return False
    first = element_head(head[:12], little=little)
    if first.tag >> 16 not in _FIRST_GROUPS or first.tag & 0xFFFF > 0xFF:
        return False
    if not first.vr and not little:  # there is no big-endian syntax without VR
        return False
    after = head[first.start + first.length :][:12]
    follows = len(after) < 8 or first.tag < element_head(after, little=little).tag < _SECOND_BELOW
    return first.length <= _LARGEST_FIRST and follows


def _number(few: bytes, *, little: bool) -> int:
    return int.from_bytes(few, "little" if little else "big")
