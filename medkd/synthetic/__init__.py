"""Synthetic data: chest CT phantoms, and nodules implanted into real scans."""
