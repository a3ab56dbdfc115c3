"""Readers and writers of the file formats of hospitals and public sets."""
