"""Whether bytes are DICOM: the one test by content that every reader of files uses.

Names decide nothing. A DICOM file has a preamble and "DICM" (PS3.10 7.1); many old archives and
planning systems leave out the preamble, or the file meta too. Only the first bytes are looked at:
whether the rest of the file can be read is for `header.py`.
"""

from __future__ import annotations

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


def _is_data_set(head: bytes, *, little: bool) -> bool:
    """Say whether an element of group 2 or 8 comes first, and a later one after it."""
    first = _tag(head[:4], little=little)
    if len(head) < 8 or first >> 16 not in _FIRST_GROUPS or first & 0xFFFF > 0xFF:
        return False
    vr, start = head[4:6], 8
    if vr in _SHORT_VRS:
        length = _number(head[6:8], little=little)
    elif vr in _LONG_VRS:
        length, start = _number(head[8:12], little=little), 12
    else:
        length = _number(head[4:8], little=little)
        if not little:  # there is no big-endian syntax without VR
            return False
    after = head[start + length : start + length + 4]
    follows = len(after) < 4 or first < _tag(after, little=little) < _SECOND_BELOW
    return length <= _LARGEST_FIRST and follows


def _tag(four: bytes, *, little: bool) -> int:
    return _number(four[:2], little=little) << 16 | _number(four[2:], little=little)


def _number(few: bytes, *, little: bool) -> int:
    return int.from_bytes(few, "little" if little else "big")
