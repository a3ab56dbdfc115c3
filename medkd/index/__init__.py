"""The INDEX of an archive: its table, its cases, its pseudonyms, its frozen split."""
