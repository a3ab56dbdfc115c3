"""One training loop and the recipes over it."""
