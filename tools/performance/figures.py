"""Makes one file of the figures of several runs, all of one machine; no TensorFlow."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from rmc_tf.common import storage
from rmc_tf.common.errors import UserError
from tools.performance.measuring import Comparison, Measured

_KINDS = ("comparisons", "series")


def kept(
    out: pathlib.Path, about: Mapping[str, Any], parts: Sequence[str], every: Sequence[str]
) -> list[tuple[str, dict[str, Any]]]:
    """Returns the lines of a stored file that stay, each with its kind.

    Args:
      out: the file; there may be none yet.
      about: machine, versions and all that the new figures depend on.
      parts: which are measured now; their lines don't stay.
      every: all parts.

    Raises:
      UserError: parts are left that were measured elsewhere: one file is of one machine.
    """
    if not out.exists():
        return []
    stored = storage.read_json(out)
    lines = [(kind, line) for kind in _KINDS for line in stored.get(kind, [])]
    left = [(kind, line) for kind, line in lines if line["part"] in set(every) - set(parts)]
    differing = [name for name, value in about.items() if stored.get(name) != value]
    if left and differing:
        was, now = stored.get(differing[0]), about[differing[0]]
        raise UserError(
            f"--out={out}: measured with {differing[0]} {was}, and not {now}; "
            "measure all parts, or choose another --out"
        )
    return left


def merged(
    about: Mapping[str, Any],
    old: Sequence[tuple[str, dict[str, Any]]],
    new: Sequence[Measured],
    every: Sequence[str],
) -> dict[str, Any]:
    """Returns the figures as the file has them, in the order of the parts."""
    fresh = [(_KINDS[not isinstance(one, Comparison)], one.to_json()) for one in new]
    lines = sorted([*old, *fresh], key=lambda line: every.index(line[1]["part"]))
    return {**about, **{k: [line for kind, line in lines if kind == k] for k in _KINDS}}
