"""What is wrong with flags and with `--config.FIELD=VALUE`, in a line."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import ml_collections
from absl import flags

from rmc_tf.common.errors import UserError, did_you_mean


def illegal(said: str, config: ml_collections.ConfigDict | None) -> str:
    """Returns which value can't be one of its setting, and what can: a number, as a rule."""
    wanted = r"invalid literal|could not convert|\('Non-boolean"
    found = re.match(rf"flag (--(?:config\.)?([\w.]+)=.*): (?:{wanted})", said)
    if found is None or config is None:
        return f"{said}; see --help"
    default: Any = False if found[2] == "help" else config  # the only flag that isn't a setting
    for name in found[2].split(".") if default else ():
        default = default[name]
    kind = "a whole number" if isinstance(default, int) else "a number"
    if isinstance(default, bool):
        kind, default = "true or false", str(default).lower()
    return f"{found[1]}: must be {kind}, such as {default}"


def near(
    flag: str, known: Sequence[str], config: ml_collections.ConfigDict | None, prefix: str = ""
) -> str:
    """Returns the remedy for a flag that isn't known: a setting of that name, or a flag like it."""
    found = [path for path in _paths(config or {}) if path.split(".")[-1] == flag]
    if found:
        return f"did you mean {', '.join(found[:3])}{', …' if len(found) > 3 else ''}?"
    return did_you_mean(flag, known, prefix)


def _paths(group: Mapping[str, Any], before: str = "--config") -> Iterator[str]:
    for name, value in group.items():
        path = f"{before}.{name}"
        if isinstance(value, ml_collections.ConfigDict):
            yield from _paths(value, path)
        else:
            yield path


def fractions(arguments: Sequence[str], config: ml_collections.ConfigDict) -> list[str]:
    """Returns the arguments, with what is a number and given as a fraction, such as 8/255, as one.

    The names are known.
    """
    written = []
    for argument in arguments:
        found = re.fullmatch(r"(--?config\.([\w.]+)=)(\d+)/([1-9]\d*)", argument)
        if found:
            value: Any = config
            for name in found[2].split("."):
                value = value[name]
            if isinstance(value, float):
                argument = f"{found[1]}{int(found[3]) / int(found[4])!r}"
        written.append(argument)
    return written


def check_names(arguments: Sequence[str], config: ml_collections.ConfigDict) -> None:
    """Refuses an override that names no setting, and says which is spelt most like it.

    Raises:
      UserError: for the first such argument; it may also name a whole group.
    """
    for argument in arguments:
        path = _name(argument).split(".")
        if not argument.startswith("-") or path[0] != "config":
            continue
        group: Any = config
        for place, name in enumerate(path[1:], start=1):
            before = f"--{'.'.join(path[:place])}"
            if not isinstance(group, ml_collections.ConfigDict):
                raise UserError(f"{argument}: {before} is a setting and has none below it")
            if name not in group:
                remedy = did_you_mean(name, list(group), f"{before}.")
                if place == 1 and not remedy.startswith("did"):
                    remedy = near(name, list(group), group)
                raise UserError(f"{argument}: no such setting; {remedy}")
            group = group[name]
        if isinstance(group, ml_collections.ConfigDict):
            while isinstance(group, ml_collections.ConfigDict) and len(group):
                path.append(min(group, key=lambda n: (isinstance(group[n], type(group)), n)))
                group = group[path[-1]]
            one = f"--{'.'.join(path)}={group}"
            raise UserError(f"{argument}: a group of settings; override one of them, as in {one}")


def check_readable(arguments: Sequence[str]) -> None:
    """Refuses what Python could not decode: TensorFlow takes no such path.

    Raises:
      UserError: it names the locale as the reason.
    """
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError:
            raise UserError(
                f"{argument!a}: not ASCII, and the locale is; set LC_ALL=C.UTF-8 or PYTHONUTF8=1"
            ) from None


def check_once(arguments: Sequence[str], *parsed: flags.FlagValues) -> None:
    """Refuses a flag that is given twice, of which absl would take the last without a word.

    Raises:
      UserError: it names each time.
    """
    for values in parsed:
        present = {name for name in values if values[name].present}
        for name in present:
            same = {name, f"config.{_SETTINGS[name]}" if name in _SETTINGS else name} & present
            found = [a for a in arguments if a.startswith("-") and _name(a) in same]
            if len(found) > 1:
                raise UserError(f"{' '.join(found)}: given more than once; give it once")


_SETTINGS = {"seed": "seed", "data_dir": "dataset.data_dir", "import": "model.imports"}
"""Flags that stand for a setting, and which."""


def _name(argument: str) -> str:
    """Returns the name of the flag in an argument, with or without its value."""
    return argument.lstrip("-").partition("=")[0].removeprefix("no")
