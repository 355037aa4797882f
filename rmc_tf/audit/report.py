"""What an audit found: JSON, a page, pictures of what fell, one line."""

import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rmc_tf.audit import illustrated, page
from rmc_tf.audit.standing import Broken
from rmc_tf.common import storage


@dataclasses.dataclass(frozen=True)
class Report:
    """The result of `rmc_tf.audit.of`, and of `--mode=audit`.

    Attributes:
      found: all numbers, as JSON; `schema()` describes it.
      images: the clean points, [M, H, W, C].
      broken: for each subject what broke which point.
    """

    found: Mapping[str, Any]
    images: np.ndarray
    broken: list[dict[int, Broken]]

    @property
    def subject(self) -> Mapping[str, Any]:
        """What was found of the defence itself; its bare network, if any, is before it."""
        last: Mapping[str, Any] = self.found["subjects"][-1]
        return last

    @property
    def worst_case(self) -> float:
        """The share of the points on which no answer to any attack was wrong."""
        return float(self.subject["worst_case"])

    @property
    def faults(self) -> tuple[str, ...]:
        """The names of the checks that are suspicious."""
        return tuple(c["name"] for c in self.subject["checks"] if c["status"] == "suspicious")

    @property
    def verdict(self) -> str:
        """What it withstands, and the signs that the truth is lower, in plain words."""
        return page.verdict(self.subject, self.found)

    @property
    def badge(self) -> str:
        """The same in one short line; of the audit of a config, a line for each defence."""
        if self.subject["defence"] in ("given", "none"):
            return illustrated.badge(self.subject, self.found)
        subjects = self.found["subjects"]
        return "\n".join(f"{page.name(s)}: {illustrated.badge(s, self.found)}" for s in subjects)

    def adversarial(self) -> dict[int, np.ndarray]:
        """Returns by the number of each point that fell the image that broke it, [H, W, C]."""
        return {point: each.image for point, each in self.broken[-1].items()}

    def write(self, folder: str | pathlib.Path, made_by: Sequence[str] = ()) -> pathlib.Path:
        """Writes audit.json, audit.html, audit.md, pictures and badge.txt; returns audit.html.

        `made_by` are lines on what produced
        all of it, by default the points, the seed and the revision.
        """
        into, found = pathlib.Path(folder), self.found
        into.mkdir(parents=True, exist_ok=True)
        storage.write_json(into / "audit.json", dict(found))
        storage.write_bytes(into / "badge.txt", f"{self.badge}\n".encode())
        points = f"{found['points']} points, budget {found['budget']['name']}, seed {found['seed']}"
        about = made_by or [f"{points}, revision {found['revision']}"]
        return illustrated.write(into, found, self.images, self.broken, about)


def schema() -> dict[str, Any]:
    """Returns the JSON schema of audit.json, that of `--mode=audit` as well."""
    path = pathlib.Path(__file__).with_name("schema.json")
    return dict(json.loads(path.read_text(encoding="utf-8")))
