"""What is wrong with `--config.FIELD=VALUE`, in a line."""

import re
from collections.abc import Sequence
from typing import Any

import ml_collections

from rmc_tf.common.errors import did_you_mean


def illegal(said: str, config: ml_collections.ConfigDict | None) -> str:
    """Returns which value can't be one of its setting, and what can: a number, as a rule."""
    wanted = r"invalid literal|could not convert|\('Non-boolean"
    found = re.match(rf"flag (--(?:config\.)?([\w.]+)=.*): (?:{wanted})", said)
    if found is None or config is None:
        return f"{said}; see --help"
    default: Any = config
    for name in found[2].split("."):
        default = default[name]
    kind = "a whole number" if isinstance(default, int) else "a number"
    if isinstance(default, bool):
        kind, default = "true or false", str(default).lower()
    return f"{found[1]}: must be {kind}, such as {default}"


def misspelt(arguments: Sequence[str], config: ml_collections.ConfigDict | None) -> str:
    """Returns which override names no setting, and the setting that is spelt most like it."""
    for argument in arguments:
        path = argument.lstrip("-").partition("=")[0].split(".")
        group: object = config
        for place, name in enumerate(path[1:] if path[0] == "config" else [], start=1):
            known = list(group) if isinstance(group, ml_collections.ConfigDict) else []
            if name not in known:
                remedy = did_you_mean(name, known, f"--{'.'.join(path[:place])}.")
                return f"{argument}: no such setting; {remedy}"
            group = group[name]  # type: ignore[index]
    return "--config.…: no such setting; all are in rmc_tf/config/"
