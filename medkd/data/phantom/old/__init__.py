"""The generator of before, until the new one takes its place."""
