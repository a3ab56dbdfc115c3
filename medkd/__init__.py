"""medkd: train a small lung-nodule model by knowledge distillation from a large one.

Not a medical device. The names below are the public interface. Each is imported on first use,
which keeps `import medkd` fast. README.md has an example and a table of the packages.
"""

from importlib import import_module

__version__ = "0.1.0"

_PUBLIC = {
    "RunFolder": "medkd.runs",
    "detect_nodules": "medkd.detect",
    "evaluate_froc": "medkd.evaluate.froc",
    "load_model": "medkd.models.package",
    "load_run_settings": "medkd.config.load",
    "read_radiograph": "medkd.io.radiograph.read",
    "read_reference": "medkd.io.luna16_tables",
    "read_scan": "medkd.io.scans",
    "run_training": "medkd.train.run",
    "write_report": "medkd.report.render",
}
"""Public name to the module that defines it."""

__all__ = list(_PUBLIC)


def __getattr__(name: str) -> object:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'medkd' has no attribute {name!r}; it has {__all__}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *_PUBLIC]
