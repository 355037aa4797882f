"""What a search has stored, and what is left to measure: a search that was stopped goes on."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from rmc_tf.common import storage
from rmc_tf.config import ExperimentConfig, RMCConfig, with_profile


def fingerprint_of(config: ExperimentConfig) -> str:
    """Returns that of all that the figures depend on."""
    settings = config.to_dict() | {"rmc": with_profile(config.rmc).to_dict()}
    for name in ("engine", "ray_address", "ray_workers"):  # whoever makes D', it is the same
        del settings["hardware"][name]
    return storage.fingerprint(settings)


def stored(out: pathlib.Path, fingerprint: str, parts: Sequence[str]) -> dict[str, Any]:
    """Returns what an earlier search with this fingerprint has found, by part and settings."""
    found: dict[str, Any] = {part: {} for part in parts}
    if out.exists():
        earlier = storage.read_json(out)
        if earlier["fingerprint"] == fingerprint:
            found |= earlier
    return found


def left(
    found: dict[str, Any], settings: Mapping[str, RMCConfig], wanted: Mapping[str, int]
) -> list[str]:
    """Returns the streams that not all of these settings have answered.

    Args:
      found: the part's figures; those of a name whose settings have changed are dropped.
      settings: by name.
      wanted: streams, and how many points of each.
    """
    for name, rmc in settings.items():
        if found.get(name, {}).get("settings") != rmc.to_dict():
            found[name] = {"settings": rmc.to_dict(), "streams": {}}
    rows = [found[name]["streams"] for name in settings]
    return [
        stream
        for stream, number in wanted.items()
        if any(row.get(stream, {}).get("points") != number for row in rows)
    ]
