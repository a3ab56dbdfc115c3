"""Evaluation reports as HTML, JSON and CSV."""
