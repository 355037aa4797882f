"""What the experiments have left in a work directory, as the one JSON that a report is made of."""

import csv
import pathlib
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any

from rmc_tf.audit.page import verdict
from rmc_tf.common import storage
from rmc_tf.common.errors import ArtefactError
from rmc_tf.report.claims.base import COURSES, Course, Point
from rmc_tf.report.tables import ResultTable

Found = dict[str, Any]
"""What `found` returns; `results.json` holds it, and what else a report says."""


def found(root: pathlib.Path, names: Iterable[str]) -> Found:
    """Returns what there is of some tables and figures, each in the folder of its name.

    Raises:
      ArtefactError: something of it is damaged.
    """
    tables, figures, courses = {}, {}, {}
    for name in names:
        folder = root / name
        if not (folder / "results.json").exists():
            continue
        tables[name] = storage.read_json(folder / "results.json")
        if (folder / "figure.svg").exists():
            data = sorted(path.name for path in folder.glob("*.csv"))
            caption = (folder / "caption.md").read_text(encoding="utf-8").strip()
            figures[name] = {"title": tables[name]["title"], "caption": caption, "data": data}
            if name in COURSES:
                courses[name] = _course(folder / "figure.csv")
    return {"tables": tables, "figures": figures, "courses": courses}


def audited(root: pathlib.Path) -> list[str]:
    """Returns what the audit in a work directory says of each defence; nothing if there is none.

    Raises:
      ArtefactError: it is damaged.
    """
    path = root / "audit" / "audit.json"
    if not path.exists():
        return []
    found = storage.read_json(path)
    try:
        return [verdict(subject, found) for subject in found["subjects"]]
    except (KeyError, TypeError, StopIteration):
        raise ArtefactError(f"{path}: not the numbers of an audit; delete it") from None


def tables_of(results: Mapping[str, Any]) -> dict[str, ResultTable]:
    """Returns the tables, by name."""
    return {name: ResultTable.from_json(values) for name, values in results["tables"].items()}


def courses_of(results: Mapping[str, Any]) -> dict[str, Course]:
    """Returns the answers behind the figures that show how RMC goes on, by name."""
    return {
        name: {line: [Point(*point) for point in points] for line, points in lines.items()}
        for name, lines in results["courses"].items()
    }


def _course(path: pathlib.Path) -> dict[str, list[list[Any]]]:
    """Returns, for each line of a figure, its answers: right, steps, seconds."""
    lines: dict[str, list[dict[str, str]]] = {}
    try:
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                lines.setdefault(row["line"], []).append(row)
        return {line: _points(rows) for line, rows in lines.items()}
    except (OSError, KeyError, ValueError) as error:
        raise ArtefactError(f"{path}: not a figure's data ({error}); delete it") from None


def _points(rows: list[dict[str, str]]) -> list[list[Any]]:
    """Returns each answer: the data has what share was right up to it, in %."""
    right = [0, *(round(float(row["robustness"]) * int(row["seen"]) / 100) for row in rows)]
    answers = [later > before for before, later in pairwise(right)]
    return [
        [answer, int(row["steps"]), float(row["seconds"])]
        for answer, row in zip(answers, rows, strict=True)
    ]
