"""Configuration files: YAML read as data, the settings of a run, and the table of keys."""
