"""Configuration files: YAML as data, the settings of a run, and what each key means."""
