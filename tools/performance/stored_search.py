"""What a search has stored, and what is left to measure: a search that was stopped goes on."""

import json
import pathlib
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from absl import flags

from rmc_tf.common import console, storage
from rmc_tf.config import ExperimentConfig, RMCConfig, with_profile
from tools.performance.measuring import machine


def number(values: flags.FlagValues, name: str, default: int, what: str, least: int = 0) -> None:
    """Adds a flag for a whole number."""
    flags.DEFINE_integer(name, default, what, flag_values=values, lower_bound=least)


def define_flags(values: flags.FlagValues, runs: str, parts: Sequence[str]) -> None:
    """Adds the flags that all searches have; `runs` names their work directories."""
    names = ["digits", "fashion_mnist"]
    flags.DEFINE_enum("dataset", "digits", names, "Which config of configs/.", flag_values=values)
    text = f"For its artefacts; empty: runs/{runs}-DATASET."
    flags.DEFINE_string("workdir", "", text, flag_values=values)
    text = "JSON file for the figures."
    flags.DEFINE_string("out", None, text, flag_values=values, required=True)
    flags.DEFINE_list("parts", list(parts), "Which parts.", flag_values=values)
    number(values, "rows", 0, "The first so many rows of D; 0: all.")
    number(values, "k", 0, "K; 0: that of the config.")
    number(values, "epochs", 0, "Of training; 0: those of the config.")


def about(found: Mapping[str, Any], tool: str, dataset: str, fingerprint: str) -> dict[str, Any]:
    """Returns what the file of a search says of it, beside the figures."""
    command = shlex.join(["python", f"tools/{tool}.py", *sys.argv[1:]])
    return {
        "machine": machine(),
        "fingerprint": fingerprint,
        "commands": list(dict.fromkeys([*found.get("commands", []), command])),
        "dataset": dataset,
    }


def keep(
    out: pathlib.Path,
    found: dict[str, Any],
    of: Mapping[str, Any],
    part: str,
    names: Iterable[str],
    measured: Iterable[tuple[str, Sequence[dict[str, Any]]]],
) -> None:
    """Stores what is measured, and says it, stream by stream.

    Args:
      out: the file.
      found: all figures so far; those of the part are added to.
      of: as `about` returns it.
      part: whose figures these are.
      names: of the settings that answered in turn.
      measured: streams, and the figures of each of these settings.
    """
    settings = list(names)
    for stream, made in measured:
        for name, one in zip(settings, made, strict=True):
            found[part][name]["streams"][stream] = one
            milliseconds = f"{1e3 * one['seconds']:.0f} ms"
            console.say(f"  {stream}, {name}: {100 * one['accuracy']:.0f} %, {milliseconds}")
        text = json.dumps({**found, **of}, indent=1)
        storage.write_bytes(out, f"{text}\n".encode())


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
