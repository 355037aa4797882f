"""Results to tables and figures. Reads what the evaluation wrote; needs no TensorFlow."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np

from rmc_tf.common import storage
from rmc_tf.common.intervals import wilson
from rmc_tf.report import page
from rmc_tf.report.figures import courses, style
from rmc_tf.report.figures.courses import WARM_UP, Record
from rmc_tf.report.page import Block, Grid, Heading, Items, Paragraph, Picture
from rmc_tf.report.paper import PrintedRow, PrintedTable

Result = Mapping[str, Any]
"""What `evaluation.evaluate` returns for one defence on one stream."""


NOT_ADAPTIVE = (
    "No number here says that a defence is safe. A stream that an attack model made was perturbed "
    "against the static network, before the defence saw it: no adaptive attack. `--mode=audit` "
    "attacks each defence by those who simulate it, and writes down the worst case."
)


class ResultRow(NamedTuple):
    """A row of a table: for each column the results that are averaged there, mostly one."""

    block: str
    title: str
    cells: Sequence[Sequence[Result]]


class ResultTable(NamedTuple):
    """A table that is filled."""

    title: str
    columns: Sequence[str]
    rows: Sequence[ResultRow]

    @property
    def blocks(self) -> dict[str, list[ResultRow]]:
        """The rows under each heading."""
        return {name: [r for r in self.rows if r.block == name] for name, *_ in self.rows}

    def to_json(self) -> dict[str, Any]:
        """Returns the table as JSON can hold it."""
        return {
            "title": self.title,
            "columns": list(self.columns),
            "rows": [row._asdict() for row in self.rows],
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "ResultTable":
        """Returns the table that `to_json` described."""
        return cls(values["title"], values["columns"], [ResultRow(**row) for row in values["rows"]])


def accuracy_table(table: ResultTable) -> Grid:
    """Returns the accuracies with their 95 % intervals."""
    head = ["Accuracy, % (95 % interval)", *table.columns]
    parts = {
        name: [[row.title, *map(_share, row.cells)] for row in rows]
        for name, rows in table.blocks.items()
    }
    return Grid(head, parts)


def target_table(table: ResultTable) -> Grid | None:
    """Returns how often each defence answered what a targeted attack aimed at.

    None where no column is by a targeted attack.
    """

    def known(row: ResultRow, column: int) -> bool:
        return all("target_rate" in result for result in row.cells[column])

    def line(row: ResultRow) -> list[str]:
        shares = [_share(row.cells[n], "target_rate") if known(row, n) else "–" for n in numbers]
        return [row.title, *shares]

    numbers = [n for n in range(len(table.columns)) if any(known(row, n) for row in table.rows)]
    if not numbers:
        return None
    head = ["Success of the attack, % (95 % interval)", *(table.columns[n] for n in numbers)]
    return Grid(head, {name: list(map(line, rows)) for name, rows in table.blocks.items()})


def refusal_table(table: ResultTable) -> Grid | None:
    """Returns how often each defence that refuses did, and how often it did or was right.

    The latter is of streams that are perturbed: there a refusal is as good as the right answer. On
    clean points it isn't. None where nothing was refused.
    """

    def refuses(row: ResultRow) -> bool:
        return any("refused_rate" in result for cell in row.cells for result in cell)

    def place(results: Sequence[Result]) -> str:
        none = [{"refused_rate": 0.0, "right_or_refused_rate": r["accuracy"], **r} for r in results]
        refused = f"refused {_share(none, 'refused_rate')}"
        if all(result["stream"] == "clean" for result in results):
            return refused
        return f"{_share(none, 'right_or_refused_rate')}; {refused}"

    parts = {
        name: [[row.title, *map(place, row.cells)] for row in rows if refuses(row)]
        for name, rows in table.blocks.items()
    }
    parts = {name: rows for name, rows in parts.items() if rows}
    return Grid(["Right or refused, % (95 % interval)", *table.columns], parts) if parts else None


def certified_table(table: ResultTable) -> Grid | None:
    """Returns how often each defence that certifies was right, and certified, within some L2 radii.

    On clean points alone, where that is what no attack can take. None where none certifies.
    """
    found = {
        name: [
            (row.title, column, cell)
            for row in rows
            for column, cell in zip(table.columns, row.cells, strict=True)
            if all("certified" in r and r["stream"] == "clean" for r in cell)
        ]
        for name, rows in table.blocks.items()
    }
    found = {name: cells for name, cells in found.items() if cells}
    every = [each for cells in found.values() for each in cells]
    if not every:
        return None
    radii = [at["radius"] for at in every[0][2][0]["certified"]]
    several = len({column for _, column, _ in every}) > 1

    def line(title: str, column: str, results: Sequence[Result]) -> list[str]:
        within = [[{**r, **r["certified"][i]} for r in results] for i in range(len(radii))]
        return [f"{title}, {column}" if several else title, *map(_share, within)]

    head = ["Certified accuracy, % (95 % interval)", *(f"L2, {radius:g}" for radius in radii)]
    return Grid(head, {name: [line(*each) for each in cells] for name, cells in found.items()})


def cost_table(table: ResultTable) -> Grid:
    """Returns steps and delay; delays are ratios to the undefended network."""
    every = {id(r): r for row in table.rows for cell in row.cells for r in cell}.values()
    bare = [r["median_seconds"] for r in every if r["defence"] == "none"]
    rows = []
    for title in dict.fromkeys(result["title"] for result in every):
        own = [result for result in every if result["title"] == title]
        steps, delay, after = (
            float(np.mean([result[key] for result in own]))
            for key in ("mean_steps", "median_seconds", "median_calibration_seconds")
        )
        rows.append(
            {
                "Cost of a prediction": title,
                "mean steps of local adaptation": f"{steps:.1f}",
                "median delay, ms": f"{1e3 * delay:.1f}",
                "delay ÷ None": f"{delay / np.mean(bare):.0f} ×" if bare else "–",
                "median calibration after it, ms": f"{1e3 * after:.1f}",
            }
        )
    return page.table(rows)


def attack_table(attacked: Sequence[Mapping[str, Any]]) -> Grid:
    """Returns how the attacks did that made the streams."""
    norms = {"linf": "L∞", "l2": "L2", "l0": "L0, pixels"}
    rows = [
        {
            "Attack": made["attack"],
            "against": made["network"],
            "images": f"{made['images']}",
            "success, %": f"{100 * made['success_rate']:.1f}",
            "mean distance": f"{made['mean_distance']:.3f} ({norms[made['norm']]})",
            "left where they began": f"{made.get('unmoved', '–')}",
            "images/s": f"{made['images_per_second']:.0f}",
        }
        for made in attacked
    ]
    return page.table(rows)


def printed_table(printed: PrintedTable) -> list[Block]:
    """Returns what the paper prints, and its footnotes."""

    def line(row: PrintedRow) -> list[str]:
        return [row.title, *("–" if value is None else f"{value:g}" for value in row.values)]

    head = [f"As printed, % ({printed.dataset})", *printed.columns]
    parts = {name: list(map(line, rows)) for name, rows in printed.blocks.items()}
    return [Grid(head, parts), *map(Paragraph, printed.footnotes)]


def attack_line(made: Mapping[str, Any]) -> str:
    """Returns in a line how an attack did."""
    speed = f", {made['images_per_second']:.0f} images/s" if "images_per_second" in made else ""
    unmoved = made.get("unmoved", 0)
    still = f"; {unmoved:,} left where they began, for want of a gradient" if unmoved else ""
    return (
        f"{made['images']:,} images, {100 * made['success_rate']:.1f} % succeed, "
        f"mean {made['norm']} distance {made['mean_distance']:.3f}{speed}{still}"
    )


def mean_accuracy(
    results: Sequence[Result], measure: str = "accuracy"
) -> tuple[float, tuple[float, float], int]:
    """Returns the average accuracy of one place, its 95 % interval, and on how many points.

    Or of another share that all its results hold, by its name.
    """
    share = float(np.mean([result[measure] for result in results]))
    points = min(result["points"] for result in results)
    return share, wilson(share, points), points


def _share(results: Sequence[Result], measure: str = "accuracy") -> str:
    share, (low, high), points = mean_accuracy(results, measure)
    several = f", mean of {len(results)} D'" if len(results) > 1 else ""
    return f"{100 * share:.1f} ({100 * low:.1f}–{100 * high:.1f}), n = {points}{several}"


def accuracy_figure(path: pathlib.Path, table: ResultTable) -> None:
    """Draws the accuracy of each row in each column, with its 95 % interval, as PNG."""
    blocks = table.blocks
    size = (max(8, 1.6 * len(table.columns)), 1 + 3 * len(blocks))
    figure, panels = plt.subplots(len(blocks), 1, figsize=size, squeeze=False, layout="constrained")
    for axes, (block, rows) in zip(panels[:, 0], blocks.items(), strict=True):
        width = 0.8 / len(rows)
        colours = plt.get_cmap("cividis")(np.linspace(0, 0.9, len(rows)))  # for any eye
        for i, row in enumerate(rows):
            means = [mean_accuracy(cell) for cell in row.cells]
            heights = np.array([100 * share for share, _, _ in means])
            bounds = np.array([[100 * bound for bound in ends] for _, ends, _ in means]).T
            errors = np.maximum([heights - bounds[0], bounds[1] - heights], 0)
            places = np.arange(len(heights)) + (i - (len(rows) - 1) / 2) * width
            axes.bar(places, heights, width * 0.92, color=colours[i], label=row.title)
            axes.errorbar(places, heights, errors, fmt="none", color="tab:red", lw=1, capsize=2)
        ticks = {"xticks": range(len(table.columns)), "xticklabels": table.columns}
        axes.set(ylabel="accuracy, %", ylim=(0, 100), title=block, **ticks)
        axes.set_xlabel("stream U")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3, frameon=False)
    style.save(figure, path)
    plt.close(figure)


def primed_line(rows: int) -> str:
    """Returns in a line how a defence that adapts began: primed by so many rows, or by none."""
    if rows:
        return f"RMC is primed by {rows} rows of D' before its first answer"
    return "RMC is not primed (rmc.primed_rows=0, the paper): its first answers are its warm-up"


def warm_up_table(records: Mapping[str, Sequence[Record]]) -> Grid:
    """Returns the accuracy of RMC's first answers on each stream, and that of the others."""

    def share(answers: Sequence[Record]) -> str:
        if not answers:
            return "–"
        right = float(np.mean([one["prediction"] == one["label"] for one in answers]))
        return _share([{"accuracy": right, "points": len(answers)}])

    first = [share(points[:WARM_UP]) for points in records.values()]
    others = [share(points[WARM_UP:]) for points in records.values()]
    lines = [[f"its first {WARM_UP} answers", *first], ["the others", *others]]
    return Grid(["RMC, accuracy, % (95 % interval)", *records], {"": lines})


def write(
    folder: pathlib.Path,
    table: ResultTable,
    records: Mapping[str, Sequence[Record]],
    attacked: Sequence[Mapping[str, Any]],
    *,
    caption: str = "",
    printed: PrintedTable | None = None,
    verdicts: Sequence[Block] = (),
    notes: Sequence[str] = (),
    facts: Sequence[str],
    provenance: Mapping[str, Any],
) -> pathlib.Path:
    """Writes report.md, table.md, the figures, results.json, provenance.json; returns report.md.

    Args:
      folder: where to; files of an earlier report are replaced.
      table: filled.
      records: column to the records of RMC.
      attacked: how each attack did that made a stream.
      caption: of the figure of the paper that is in the folder and shows this table, if any.
      printed: the table of the paper that this one is after, if any.
      verdicts: how the paper's claims about this table stand, if it makes any.
      notes: sentences without which the table would be misread.
      facts: sentences about the run, such as the index' recall.
      provenance: config, versions, seed and revision that produced it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    accuracy = accuracy_table(table)
    page.write(folder / "table.md", [accuracy])
    storage.write_json(folder / "provenance.json", provenance)
    found = {**table.to_json(), "attacks": list(attacked), "notes": list(notes)}
    storage.write_json(folder / "results.json", found)
    accuracy_figure(folder / "accuracy.png", table)
    blocks: list[Block] = [Heading(1, table.title)]
    blocks += page.noted(notes)
    if caption:
        blocks.append(Picture("figure.png", table.title, caption))
    blocks += [
        accuracy,
        Paragraph(NOT_ADAPTIVE),
        Picture("accuracy.png", "Accuracy of each defence"),
    ]
    if targeted := target_table(table):
        blocks += [Heading(2, "How often the attacker had its way"), targeted]
    if refusals := refusal_table(table):
        said = "Above, an answer that was refused isn't right. To an attacker it is no success."
        blocks += [Heading(2, "What was refused"), Paragraph(said), refusals]
    if certified := certified_table(table):
        said = (
            "Clean points that are right, and certified to stay so under any attack within an L2 "
        )
        said += "radius, in units of [0, 1]. Votes that end early (`smoothing.early_stop`) certify "
        said += "little beyond `smoothing.radius`."
        blocks += [Heading(2, "What is certified"), Paragraph(said), certified]
    if printed:
        blocks += [Heading(2, f"{printed.source} of the paper"), *printed_table(printed)]
    if verdicts:
        blocks += [Heading(2, "What the paper says, and what is seen here"), *verdicts]
    if printed or verdicts:
        blocks.append(Heading(2, "Cost, and the attacks"))
    blocks.append(cost_table(table))
    if attacked:
        blocks.append(attack_table(attacked))
    if records:
        courses.overview(folder / "course.png", records)
        blocks += [Picture("course.png", "RMC as it sees more test points"), warm_up_table(records)]
    made_by = [*facts, *page.made_by(provenance), "every setting: provenance.json"]
    blocks += [Heading(2, "What produced this"), Items(made_by)]
    report = folder / "report.md"
    page.write(report, blocks)
    return report
