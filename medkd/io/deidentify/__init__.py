"""Copies of images for sharing: `copy` makes them by `rules`, and `check` searches them."""
