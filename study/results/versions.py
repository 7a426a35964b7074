"""The versions of the installed packages, and the git commit of this code."""

from __future__ import annotations

import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("mnist-study", "torch", "torchvision", "ray", "optuna", "pandas", "numpy")


def installed_versions() -> dict[str, str | None]:
    """The versions of the packages that affect results; None for one not installed."""

    def installed(package: str) -> str | None:
        try:
            return version(package)
        except PackageNotFoundError:
            return None

    return {package: installed(package) for package in PACKAGES}


def git_state() -> dict[str, Any] | None:
    """Commit and dirty flag of the checkout that this package runs from, or None."""

    def git(*arguments: str) -> str:
        here = Path(__file__).parent
        command = ["git", "-C", str(here), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        # Fails if this file is installed inside some other project's checkout.
        git("ls-files", "--error-unmatch", Path(__file__).name)
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.CalledProcessError):
        return None
