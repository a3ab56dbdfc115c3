"""Synthetic nodules of known size and place in real CT scans."""
