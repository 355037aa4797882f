"""Results to tables and figures. Reads what the evaluation wrote; needs no TensorFlow."""

import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np

from rmc_tf.common import storage
from rmc_tf.common.intervals import wilson
from rmc_tf.report.figures import style
from rmc_tf.report.paper import Printed

Result = Mapping[str, Any]
"""What `evaluation.evaluate` returns for one defence on one stream."""
Record = Mapping[str, Any]
"""What it keeps of one test point."""


class Row(NamedTuple):
    """A row of a table: for each column the results that are averaged there, mostly one."""

    block: str
    title: str
    cells: Sequence[Sequence[Result]]


class Table(NamedTuple):
    """A table that is filled."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Row]

    @property
    def blocks(self) -> dict[str, list[Row]]:
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
    def from_json(cls, values: Mapping[str, Any]) -> "Table":
        """Returns the table that `to_json` described."""
        return cls(values["title"], values["columns"], [Row(**row) for row in values["rows"]])


def accuracy_table(table: Table) -> str:
    """Returns a Markdown table of accuracies with their 95 % intervals."""
    lines = [(row.block, [row.title, *map(_share, row.cells)]) for row in table.rows]
    return markdown(["Accuracy, % (95 % interval)", *table.columns], _under_headings(lines))


def target_table(table: Table) -> str:
    """Returns a Markdown table of how often each defence answered what a targeted attack aimed at.

    Empty where no column is by a targeted attack.
    """

    def known(row: Row, column: int) -> bool:
        return all("target_rate" in result for result in row.cells[column])

    numbers = [n for n in range(len(table.columns)) if any(known(row, n) for row in table.rows)]
    if not numbers:
        return ""
    lines = []
    for row in table.rows:
        places = [_share(row.cells[n], "target_rate") if known(row, n) else "–" for n in numbers]
        lines.append((row.block, [row.title, *places]))
    head = ["Success of the attack, % (95 % interval)", *(table.columns[n] for n in numbers)]
    return markdown(head, _under_headings(lines))


def cost_table(table: Table) -> str:
    """Returns a Markdown table of steps and delay; delays are ratios to the undefended network."""
    every = {id(r): r for row in table.rows for cell in row.cells for r in cell}.values()
    bare = [r["median_seconds"] for r in every if r["defence"] == "none"]
    rows = []
    for title in dict.fromkeys(result["title"] for result in every):
        own = [result for result in every if result["title"] == title]
        steps, delay, after = (
            float(np.mean([result[key] for result in own]))
            for key in ("mean_steps", "median_seconds", "median_calibration_seconds")
        )
        ratio = f"{delay / np.mean(bare):.0f} ×" if bare else "–"
        rows.append([title, f"{steps:.1f}", f"{1e3 * delay:.1f}", ratio, f"{1e3 * after:.1f}"])
    return markdown(
        [
            "Cost of a prediction",
            "mean steps of local adaptation",
            "median delay, ms",
            "delay ÷ None",
            "median calibration after it, ms",
        ],
        rows,
    )


def attack_table(attacked: Sequence[Mapping[str, Any]]) -> str:
    """Returns a Markdown table of how the attacks did that made the streams."""
    names = {"linf": "L∞", "l2": "L2", "l0": "L0, pixels"}
    rows = [
        [
            made["attack"],
            made["network"],
            f"{made['images']}",
            f"{100 * made['success_rate']:.1f}",
            f"{made['mean_distance']:.3f} ({names[made['norm']]})",
            f"{made['images_per_second']:.0f}",
        ]
        for made in attacked
    ]
    head = ["Attack", "against", "images", "success, %", "mean distance", "images/s"]
    return markdown(head, rows)


def printed_table(printed: Printed) -> str:
    """Returns a Markdown table of what the paper prints, with its footnotes."""
    lines = []
    for row in printed.rows:
        values = ["–" if value is None else f"{value:g}" for value in row.values]
        lines.append((row.block, [row.title, *values]))
    head = [f"As printed, % ({printed.dataset})", *printed.columns]
    table = markdown(head, _under_headings(lines))
    return table + "".join(f"\n{note}\n" for note in printed.footnotes)


def attack_line(made: Mapping[str, Any]) -> str:
    """Returns in a line how an attack did."""
    speed = f", {made['images_per_second']:.0f} images/s" if "images_per_second" in made else ""
    return (
        f"{made['images']:,} images, {100 * made['success_rate']:.1f} % succeed, "
        f"mean {made['norm']} distance {made['mean_distance']:.3f}{speed}"
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


def _under_headings(lines: Sequence[tuple[str, list[str]]]) -> list[list[str]]:
    """Returns (block, row) as rows, those of a block together under its name."""
    rows = []
    for block in dict.fromkeys(name for name, _ in lines):
        own = [row for name, row in lines if name == block]
        if block:
            rows.append([f"**{block}**", *([""] * (len(own[0]) - 1))])
        rows += own
    return rows


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Returns a Markdown table; its cells are any text in one line, as of |D'|."""
    lines = [header, ["---"] * len(header), *rows]
    escaped = [[cell.replace("|", "\\|") for cell in cells] for cells in lines]
    return "".join("| " + " | ".join(cells) + " |\n" for cells in escaped)


def accuracy_figure(path: pathlib.Path, table: Table) -> None:
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


def course_figure(path: pathlib.Path, records: Mapping[str, Sequence[Record]]) -> None:
    """Draws what changes as RMC sees more of U (compare Figures 2 and 3), as PNG.

    Args:
      path: of the picture.
      records: stream to the records of RMC on it.
    """
    figure, panels = plt.subplots(1, 3, figsize=(12, 3.4), layout="constrained")
    for i, (stream, points) in enumerate(records.items()):
        look = {"label": stream, "color": plt.get_cmap("cividis")(0.9 * i / len(records))}
        seen = np.arange(1, len(points) + 1)
        right = np.array([point["prediction"] == point["label"] for point in points])
        panels[0].plot(seen, 100 * np.cumsum(right) / seen, **look)
        panels[1].plot(seen, np.cumsum([p["steps"] for p in points]) / seen, **look)
        panels[2].plot(seen, 1e3 * np.cumsum([p["seconds"] for p in points]) / seen, **look)
    for axes, what in zip(
        panels, ("accuracy so far, %", "steps a prediction", "delay a prediction, ms"), strict=True
    ):
        axes.set(xlabel="test points seen", ylabel=what, ylim=(0, None))
    panels[0].legend(frameon=False)
    style.save(figure, path)
    plt.close(figure)


def write(
    folder: pathlib.Path,
    table: Table,
    records: Mapping[str, Sequence[Record]],
    attacked: Sequence[Mapping[str, Any]],
    *,
    caption: str = "",
    printed: Printed | None = None,
    verdicts: str = "",
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
      verdicts: how the paper's claims about this table stand, in Markdown, if it makes any.
      facts: sentences about the run, such as the index' recall.
      provenance: config, versions, seed and revision that produced it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    accuracy = accuracy_table(table)
    storage.write_bytes(folder / "table.md", accuracy.encode())
    storage.write_json(folder / "provenance.json", provenance)
    storage.write_json(folder / "results.json", {**table.to_json(), "attacks": list(attacked)})
    accuracy_figure(folder / "accuracy.png", table)
    text = [f"# {table.title}\n"]
    if caption:
        text.append(f"![{table.title}](figure.png)\n\n{caption}\n")
    text += [accuracy, "![Accuracy of each defence](accuracy.png)\n"]
    if targeted := target_table(table):
        text.append("## How often the attacker had its way\n")
        text.append(targeted)
    if printed:
        text.append(f"## {printed.source} of the paper\n")
        text.append(printed_table(printed))
    if verdicts:
        text.append("## What the paper says, and what is seen here\n")
        text.append(verdicts)
    if printed or verdicts:
        text.append("## Cost, and the attacks\n")
    text.append(cost_table(table))
    if attacked:
        text.append(attack_table(attacked))
    if records:
        course_figure(folder / "course.png", records)
        text.append("![RMC as it sees more test points](course.png)\n")
    text.append("## What produced this\n")
    text.append("".join(f"- {fact}\n" for fact in facts))
    versions = ", ".join(f"{name} {v}" for name, v in provenance["versions"].items())
    text.append(
        f"- seed {provenance['seed']}; report at revision {provenance['revision']}; {versions}\n"
        f"- command: `{provenance['command']}`\n- every setting: provenance.json\n"
    )
    report = folder / "report.md"
    storage.write_bytes(report, "\n".join(text).encode())
    return report
