"""The run record: everything needed to reproduce a result.

This module does not import torch: the caller passes device and determinism.
"""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from medkd import __version__
from medkd.types import CaseOrigins, RunRecord

PACKAGES = (
    "torch", "torchvision", "monai", "accelerate", "numpy", "scipy", "scikit-learn", "pandas",
    "pydicom", "streamlit", "pydantic", "safetensors", "timm",
)  # fmt: skip


NO_PERFORMANCE = "no clinical performance known"
"""Statement added wherever a model was trained on synthetic scans."""


def origin_words(origins: CaseOrigins) -> str:
    """Describe in words how many cases are synthetic, implanted and real.

    Example:
        >>> origin_words(CaseOrigins(real=4, phantom=7))
        '7 synthetic and 4 real scans'
        >>> origin_words(CaseOrigins(real=1, implanted=2, phantom=7))
        '7 synthetic scans, 2 real scans with synthetic nodules and 1 real scan'
        >>> origin_words(CaseOrigins(phantom=7, patches=30))
        '7 synthetic scans and 30 patches of real scans'
    """
    apart = origins.implanted or origins.patches
    if not apart and origins.phantom and origins.real:
        return f"{origins.phantom} synthetic and {_counted(origins.real, 'real', origins)}"
    parts = [
        _counted(count, adjective, origins) + more
        for count, adjective, more in (
            (origins.phantom, "synthetic", ""),
            (origins.implanted, "real", " with synthetic nodules"),
            (origins.real, "real", ""),
        )
        if count
    ]
    if origins.patches:
        parts.append(f"{origins.patches} patches of real scans")
    if len(parts) < 2:
        return "".join(parts) or f"no {origins.kind}"
    return f"{', '.join(parts[:-1])} and {parts[-1]}"


def mixture_words(origins: CaseOrigins) -> str:
    """Return "real and synthetic scans" for cases of both kinds; empty for cases of one kind.

    Example:
        >>> mixture_words(CaseOrigins(real=4, phantom=7)), mixture_words(CaseOrigins(phantom=7))
        ('real and synthetic scans', '')
    """
    both = origins.synthetic and (origins.real or origins.implanted or origins.patches)
    return f"real and synthetic {origins.kind}" if both else ""


def synthetic_words(origins: CaseOrigins | None, *, synthetic: bool) -> str:
    """Return the statement that a model was trained on synthetic scans; empty if it was not.

    Args:
        origins: counts of its training cases by origin; None if they were not recorded.
        synthetic: whether any training case was synthetic.

    Example:
        >>> synthetic_words(CaseOrigins(real=4, phantom=7), synthetic=True)
        'trained on 7 synthetic and 4 real scans: no clinical performance known'
        >>> synthetic_words(None, synthetic=True)
        'trained on synthetic scans: no clinical performance known'
    """
    if not synthetic:
        return ""
    known = origins is not None and origins.synthetic
    counted = origin_words(origins) if origins is not None and known else "synthetic scans"
    return f"trained on {counted}: {NO_PERFORMANCE}"


def joint_origins(first: CaseOrigins, second: CaseOrigins) -> CaseOrigins:
    """Add up the cases of two disjoint sets."""
    return replace(
        first,
        real=first.real + second.real,
        implanted=first.implanted + second.implanted,
        phantom=first.phantom + second.phantom,
        patches=first.patches + second.patches,
    )


def _counted(count: int, adjective: str, origins: CaseOrigins) -> str:
    noun = origins.kind if count != 1 else origins.kind.removesuffix("s")
    return f"{count} {adjective} {noun}"


def sha256_of_text(text: str) -> str:
    """Return the sha256 of a text as 64 hex digits; undecodable file-name bytes are accepted."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def start_record(
    config_text: str, *, seed: int, device: str, deterministic: bool, command: str | None = None
) -> RunRecord:
    """Record what is known when a run starts.

    Args:
        config_text: the resolved settings as written beside the result.
        seed: the run's seed.
        device: torch's name of it, for example "cpu" or "cuda:0 NVIDIA H200".
        deterministic: whether deterministic algorithms were requested.
        command: the command line without personal paths; default: that of this process.
    """
    return RunRecord(
        command=command if command is not None else _own_command(),
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=0.0,
        seed=seed,
        medkd_version=__version__,
        python=platform.python_version(),
        platform=platform.platform(),
        processor=_processor(),
        cores=os.cpu_count() or 1,
        device=device,
        deterministic=deterministic,
        packages=_versions(),
        git_commit=_git("rev-parse", "HEAD"),
        git_dirty=_git_dirty(),
        config_sha256=sha256_of_text(config_text),
    )


def finish_record(
    record: RunRecord,
    *,
    seconds: float,
    data_fingerprints: Mapping[str, str],
    weights_sha256: Mapping[str, str],
    phantoms: Iterable[str] = (),
    without_transfer: Mapping[str, str] | None = None,
) -> RunRecord:
    """Add to the record what is known only at the end of the run."""
    return replace(
        record,
        seconds=round(seconds, 3),
        data_fingerprints=dict(data_fingerprints),
        weights_sha256=dict(weights_sha256),
        phantoms=tuple(phantoms),
        without_transfer=dict(without_transfer or {}),
    )


def _own_command() -> str:
    """Return the command line; absolute paths, which may name a person, keep only their end."""
    return " ".join(Path(word).name if Path(word).is_absolute() else word for word in sys.argv)


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _git(*words: str) -> str | None:
    """Return git's answer about medkd's own checkout; None if there is no checkout."""
    folder = Path(__file__).resolve().parent.parent
    if not (folder / ".git").exists():
        return None
    try:
        done = subprocess.run(  # noqa: S603  # fixed words, no user input
            ["git", "-C", str(folder), *words],  # noqa: S607  # git from PATH as users have it
            capture_output=True, text=True, timeout=10, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _git_dirty() -> bool | None:
    status = _git("status", "--porcelain")
    return None if status is None else bool(status)
