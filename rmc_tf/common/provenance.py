"""What produced a result: the settings, the versions, the revision, the command."""

import importlib.metadata
import pathlib
import platform
import subprocess
from collections.abc import Mapping
from typing import Any

import rmc_tf


def versions(*packages: str) -> dict[str, str]:
    """Returns our version and those of some packages: what an artefact depends on besides data."""
    found = {name: importlib.metadata.version(name) for name in packages}
    return {"rmc_tf": rmc_tf.__version__, **found}


def revision() -> str:
    """Returns the git revision of the checkout, marked where it has changes; else "installed"."""
    root = pathlib.Path(__file__).parents[2]
    if not (root / ".git").exists():
        return "installed"
    try:
        command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"]
        done = subprocess.run(command, capture_output=True, encoding="utf-8", check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


def provenance(settings: Mapping[str, Any], command: str) -> dict[str, Any]:
    """Returns the command of a report, and everything that is needed to make a result again."""
    return {
        "command": command,
        "seed": settings["seed"],
        "revision": revision(),
        "versions": {
            "python": platform.python_version(),
            **versions("tensorflow", "keras", "cleverhans", "scann", "numpy"),
        },
        "config": settings,
    }
