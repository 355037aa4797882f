"""Results to tables and figures. Reads what the evaluation wrote; needs no TensorFlow."""

import io
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np

from rmc_tf import storage

Result = Mapping[str, Any]
"""What `evaluation.evaluate` returns for one defence on one stream."""
Record = Mapping[str, Any]
"""What it keeps of one test point."""


def accuracy_table(
    results: Sequence[Result], titles: Mapping[str, str], streams: Sequence[str]
) -> str:
    """Returns a Markdown table: a row a defence, a column a stream.

    Args:
      results: as `evaluation.evaluate` returns them.
      titles: name to title of each defence, in the order of the rows.
      streams: the columns.
    """
    cells = {(result["defence"], result["stream"]): _accuracy(result) for result in results}
    return _markdown(
        ["Accuracy, % (95 % interval)", *streams],
        [[title, *(cells[name, stream] for stream in streams)] for name, title in titles.items()],
    )


def cost_table(results: Sequence[Result], titles: Mapping[str, str]) -> str:
    """Returns a Markdown table of steps and delay; delays are ratios to the undefended network."""
    bare = [r["median_seconds"] for r in results if r["defence"] == "none"]
    rows = []
    for name, title in titles.items():
        own = [result for result in results if result["defence"] == name]
        steps, delay, after = (
            float(np.mean([result[key] for result in own]))
            for key in ("mean_steps", "median_seconds", "median_calibration_seconds")
        )
        ratio = f"{delay / np.mean(bare):.0f} ×" if bare else "–"
        rows.append([title, f"{steps:.1f}", f"{1e3 * delay:.1f}", ratio, f"{1e3 * after:.1f}"])
    return _markdown(
        [
            "Cost of a prediction",
            "mean steps of local adaptation",
            "median delay, ms",
            "delay ÷ None",
            "median calibration after it, ms",
        ],
        rows,
    )


def _accuracy(result: Result) -> str:
    low, high = (100 * bound for bound in result["interval"])
    return f"{100 * result['accuracy']:.1f} ({low:.1f}–{high:.1f}), n = {result['points']}"


def _markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "".join("| " + " | ".join(cells) + " |\n" for cells in lines)


def accuracy_figure(
    path: pathlib.Path,
    results: Sequence[Result],
    titles: Mapping[str, str],
    streams: Sequence[str],
) -> None:
    """Draws the accuracy of each defence on each stream, with its 95 % interval, as PNG."""
    figure, axes = plt.subplots(figsize=(8, 4), layout="constrained")
    width = 0.8 / len(titles)
    colours = plt.get_cmap("cividis")(np.linspace(0, 0.9, len(titles)))  # for any eye
    for i, (name, title) in enumerate(titles.items()):
        of = {result["stream"]: result for result in results if result["defence"] == name}
        heights = np.array([100 * of[stream]["accuracy"] for stream in streams])
        bounds = np.array([[100 * b for b in of[stream]["interval"]] for stream in streams]).T
        errors = np.maximum([heights - bounds[0], bounds[1] - heights], 0)
        places = np.arange(len(streams)) + (i - (len(titles) - 1) / 2) * width
        axes.bar(places, heights, width * 0.92, color=colours[i], label=title)
        axes.errorbar(places, heights, errors, fmt="none", color="tab:red", lw=1, capsize=2)
    axes.set(ylabel="accuracy, %", ylim=(0, 100), xticks=range(len(streams)), xticklabels=streams)
    axes.set_xlabel("stream U")
    figure.legend(loc="outside upper center", ncols=3, frameon=False)
    _save(figure, path)


def course_figure(path: pathlib.Path, records: Mapping[str, Sequence[Record]]) -> None:
    """Draws what changes as RMC sees more of U (compare Figures 2 and 3), as PNG.

    Args:
      path: of the picture.
      records: stream to the records of RMC on it.
    """
    figure, panels = plt.subplots(1, 3, figsize=(12, 3.4), layout="constrained")
    for i, (stream, points) in enumerate(records.items()):
        style = {"label": stream, "color": plt.get_cmap("cividis")(0.9 * i / len(records))}
        seen = np.arange(1, len(points) + 1)
        right = np.array([point["prediction"] == point["label"] for point in points])
        panels[0].plot(seen, 100 * np.cumsum(right) / seen, **style)
        panels[1].plot(seen, np.cumsum([p["steps"] for p in points]) / seen, **style)
        panels[2].plot(seen, 1e3 * np.cumsum([p["seconds"] for p in points]) / seen, **style)
    for axes, what in zip(
        panels, ("accuracy so far, %", "steps a prediction", "delay a prediction, ms"), strict=True
    ):
        axes.set(xlabel="test points seen", ylabel=what, ylim=(0, None))
    panels[0].legend(frameon=False)
    _save(figure, path)


def _save(figure: matplotlib.figure.Figure, path: pathlib.Path) -> None:
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=150)
    plt.close(figure)
    storage.write_bytes(path, picture.getvalue())


def write(
    folder: pathlib.Path,
    results: Sequence[Result],
    records: Mapping[str, Sequence[Record]],
    titles: Mapping[str, str],
    streams: Sequence[str],
    *,
    title: str,
    facts: Sequence[str],
    provenance: Mapping[str, Any],
) -> pathlib.Path:
    """Writes report.md, table.md, the figures and provenance.json; returns report.md.

    Args:
      folder: where to; files of an earlier report are replaced.
      results: one for each defence and stream.
      records: stream to the records of RMC.
      titles: name to title of each defence.
      streams: in the order of the columns.
      title: of the report.
      facts: sentences about the run, such as the index' recall.
      provenance: config, versions, seed and revision that produced it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    table = accuracy_table(results, titles, streams)
    storage.write_bytes(folder / "table.md", table.encode())
    storage.write_json(folder / "provenance.json", provenance)
    storage.write_json(folder / "results.json", list(results))
    accuracy_figure(folder / "accuracy.png", results, titles, streams)
    text = [f"# {title}\n", table, "![Accuracy of each defence](accuracy.png)\n"]
    text.append(cost_table(results, titles))
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
