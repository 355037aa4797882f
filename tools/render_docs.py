"""Writes the tables of stored results into the pages that quote them.

python tools/render_docs.py

A page says `<!-- results: NAME -->`, and what follows up to `<!-- end -->` becomes
the table of docs/results/NAME/results.json. Of a reproduction, NAME/table1 is one of its
tables, and NAME/time is how long it took; NAME/sizes is what fits where. So no measured
number is typed by hand, and a test notices when a page and its results differ. A number
that is typed, such as a setting or one of the literature, has its source in
docs/given.json. What tools/benchmark.py measured at several sizes is drawn, too.
"""

import pathlib
import re
import sys
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # runs from a checkout

from rmc_tf.audit import page as audit_page
from rmc_tf.common import storage
from rmc_tf.report import tables
from rmc_tf.report.page import Block, Grid, Paragraph, Picture, markdown, table
from rmc_tf.reproduction import page as reproduction_page
from tools.performance import (
    autoattack_page,
    certified_page,
    gpu_page,
    groups_page,
    history_page,
    known_page,
    plots,
    scale_page,
    search_page,
    sizes_page,
    step_page,
    withstanding_page,
)
from tools.serving import cleansing_page, window_page
from tools.serving import page as service_page

_PLACE = re.compile(r"(<!-- results: ([\w/]+) -->\n).*?(<!-- end -->\n)", re.DOTALL)
_FIGURE = "growth"
_NOT_PROSE = re.compile(
    r"^```.*?^```$"  # commands and code
    r"|`[^`\n]*`"
    r"|\]\([^)]*\)"  # where a link leads
    r"|(?:Python|TensorFlow|ScaNN|Keras|sections?|Apache-)\s?\d+(?:\.\d+)*",
    re.DOTALL | re.MULTILINE,
)
_ONE = r"[\d,]*\.?\d+"
_NUMBER = re.compile(
    rf"(?<![\w.,]){_ONE}(?:(?:–| to | and | or ){_ONE})*"
    r"(?:\s?%|-fold\b|\s×(?!\s?[\d|(])"  # with a unit of what is measured
    r"|\s?(?:percent|(?:test )?points?|times|[mµn]?s|seconds?|min|minutes?|h|hours?|days?|weeks?"
    r"|[kMGT]i?B|bytes?|B|[MGT]?FLOP|\w+/s|\w+ (?:a|per) second)\b)"
    rf"|(?<![\w.,])[\d,]*\.\d+"  # or with a decimal point
)


def render(text: str) -> str:
    """Returns a page with every table as the stored results give it."""
    return _PLACE.sub(
        lambda place: f"{place[1]}\n{markdown(*of_results(place[2]))}\n{place[3]}", text
    )


def typed(text: str) -> list[str]:
    """Returns the numbers of a page that were typed by hand: with a unit, or with a decimal point.

    Left out are what is rendered, code, and numbers that are names, as of versions and sections.
    """
    prose = _NOT_PROSE.sub(" ` ", _PLACE.sub("\n", text)).replace("*", "")
    return [" ".join(number.split()) for number in _NUMBER.findall(prose)]


def of_results(place: str) -> list[Block]:
    """Returns what a page has of docs/results/NAME, mostly a table and the command that made it.

    Args:
      place: NAME, or NAME/PART.

    Raises:
      ArtefactError: there are no such results.
    """
    name, _, part = place.partition("/")
    folder = ROOT / "docs" / "results" / name
    if part:
        return of_part(folder, part)
    if name == gpu_page.NAME:
        return of_gpu(folder / gpu_page.FILE)
    if (folder / "audit.json").exists():
        return of_audit(folder)
    if (folder / "performance.json").exists():
        return of_benchmark(storage.read_json(folder / "performance.json"), name)
    values = storage.read_json(folder / "results.json")
    if "trained" in values:
        picture = Picture(
            f"/docs/results/{name}/window.png", "Accuracy over time, around the request"
        )
        return [*window_page.tables(values), picture]
    if "from_nothing" in values:
        return cleansing_page.tables(values, name)
    if service_page.is_of_a_service(values):
        return service_page.tables(values)
    if "histories" in values:
        file = f"/docs/results/{name}/history.png"
        picture = Picture(file, "Accuracy and steps of clean queries after an attacker's")
        return [*history_page.tables(values), picture]
    if "candidates" in values:
        return withstanding_page.tables(values, name)
    if "certified" in values:
        return certified_page.tables(values, name)
    if "known_answers" in values:
        return known_page.tables(values)
    if "queries_at_once" in values:
        return of_groups(values, folder)
    if "choosing" in values:
        return of_search(values, folder)
    if "forward_flop" in values:
        return [*step_page.tables(values), Paragraph(f"*Made by `{values['command']}`.*")]
    if "searches" in values:
        return scale_page.tables(values)
    if "claims" in values:
        return of_reproduction(values, folder)
    if "pairs" in values:
        return [of_pairs(values["pairs"])]
    if "cases" in values:
        return autoattack_page.tables(values)
    accuracies = tables.accuracy_table(tables.ResultTable.from_json(values))
    return [accuracies, _made_by(folder, "report", "report.md")]


def _made_by(folder: pathlib.Path, link: str, file: str) -> Paragraph:
    provenance = storage.read_json(folder / "provenance.json")
    made = f"`{provenance['command']}`, seed {provenance['seed']}"
    return Paragraph(f"*Made by {made}; [{link}](/docs/results/{folder.name}/{file}).*")


def of_audit(folder: pathlib.Path) -> list[Block]:
    """Returns verdicts, summary and curve of an audit, with the command that made it."""
    found = storage.read_json(folder / "audit.json")
    made = _made_by(folder, "the whole page", "audit.md")
    curve = Picture(f"/docs/results/{folder.name}/curve.svg", "Worst case against budget")
    return [*audit_page.judged(found), audit_page.summary(found), curve, made]


def of_gpu(file: pathlib.Path) -> list[Block]:
    """Returns the table of tools/benchmark_gpu.py; where nobody has run it, that."""
    return gpu_page.tables(storage.read_json(file)) if file.exists() else [gpu_page.NOT_YET]


def of_search(values: dict[str, Any], folder: pathlib.Path) -> list[Block]:
    """Returns the tables and the plot of a search for the fast profile."""
    plot: Block = Paragraph("No plot is drawn yet.")
    if (folder / "pareto.png").exists():
        file = f"/docs/results/{folder.name}/pareto.png"
        plot = Picture(file, "Robustness against delay")
    made = " and ".join(f"`{command}`" for command in values["commands"])
    return [*search_page.tables(values), plot, Paragraph(f"*Made by {made}.*")]


def of_groups(values: dict[str, Any], folder: pathlib.Path) -> list[Block]:
    """Returns the tables and the plot of queries that share one adaptation."""
    plot: Block = Paragraph("No plot is drawn yet.")
    if (folder / "pareto.png").exists():
        file = f"/docs/results/{folder.name}/pareto.png"
        plot = Picture(file, "Accuracy against delay, by how many queries adapt together")
    made = " and ".join(f"`{command}`" for command in values["commands"])
    return [*groups_page.tables(values), plot, Paragraph(f"*Made by {made}.*")]


def of_reproduction(values: dict[str, Any], folder: pathlib.Path) -> list[Block]:
    """Returns the summary and the claims of a reproduction, with the command that made it."""
    judged = reproduction_page.verdicts(values)
    listed = reproduction_page.claim_list(values, judged)[:2]  # without each difference
    made = _made_by(folder, "the whole report", "report.md")
    return [*reproduction_page.summary(values, judged), *listed, made]


def of_part(folder: pathlib.Path, part: str) -> list[Block]:
    """Returns one part of stored results: "time", "sizes", or a table of a reproduction.

    Of an audit, what it says of one defence.
    """
    if (folder / "audit.json").exists():
        found = storage.read_json(folder / "audit.json")
        own = [each for each in found["subjects"] if each["defence"] == part]
        return [Paragraph(audit_page.verdict(own[0], found))]
    values = storage.read_json(folder / "results.json")
    if part == "time":
        command = storage.read_json(folder / "provenance.json")["command"]
        return [Paragraph(f"`{command}`: {reproduction_page.how_long(values['runs'])}")]
    if part == "sizes":
        return sizes_page.tables(values)
    return [tables.accuracy_table(tables.ResultTable.from_json(values["tables"][part]))]


def of_pairs(pairs: list[dict[str, Any]]) -> Grid:
    """Returns the table of a benchmark of attacks."""
    rows = []
    for pair in pairs:
        success = f"{100 * pair['our_success']:.0f} %, {100 * pair['their_success']:.0f} %"
        rows.append(
            {
                "attack": pair["attack"],
                "peer": pair["peer"],
                "time of the peer ÷ ours": f"**{pair['ratio']:.1f}**",
                "from – to": f"{pair['least']:.1f}–{pair['most']:.1f}",
                "÷ the gradients alone": f"{pair['limit']:.1f}" if pair.get("limit") else "",
                "success, ours and the peer's": success,
            }
        )
    return table(rows)


def of_benchmark(values: dict[str, Any], name: str) -> list[Block]:
    """Returns the tables of tools/benchmark.py, by part, its figure, and the machine."""
    comparisons, series = values["comparisons"], values.get("series", [])
    blocks: list[Block] = []
    for part in dict.fromkeys(line["part"] for line in [*comparisons, *series]):
        measured = [line for line in series if line["part"] == part]
        if measured:
            blocks.append(of_series(measured))
        compared = [line for line in comparisons if line["part"] == part]
        if compared:
            blocks.append(of_comparisons(compared))
    if series:
        file = f"/docs/results/{name}/{_FIGURE}.png"
        blocks.append(Picture(file, "How cost grows with the work"))
    machine = values["machine"]
    about = f"{machine['cores']} cores of {machine['processor']}"
    versions = f"TensorFlow {machine['tensorflow']}, Keras {machine['keras']}"
    made = "" if values["deterministic"] else ", operations that needn't repeat to the bit"
    return [*blocks, Paragraph(f"*Measured on {about}; {versions}{made}.*")]


def of_series(series: list[dict[str, Any]]) -> Grid:
    """Returns the table of what was measured at several sizes."""
    rows = []
    for line in series:
        medians = zip(line["sizes"], line["medians"], strict=True)
        course = ", ".join(f"{size:,.0f}: {median:.3g}" for size, median in medians)
        rows.append(
            {
                "setting": line["setting"],
                "measured": f"{line['name']}, {line['unit']}",
                "size: median": f"of {line['along']}; {course}",
                "∝ size to the": f"**{line['exponent']:.2f}**",
                "n": str(min(len(values) for values in line["values"])),
            }
        )
    return table(rows)


def of_comparisons(comparisons: list[dict[str, Any]]) -> Grid:
    """Returns the table of some comparisons."""
    rows = []
    for line in comparisons:
        target, met = "", ""
        if line["target"]:
            side, bound = line["target"]
            most = side == "at most"
            target = f"{'≤' if most else '≥'} {bound}"
            good = line["median"] <= bound if most else line["median"] >= bound
            met = "met" if good else "missed"
        rows.append(
            {
                "setting": line["setting"],
                "comparison": line["name"],
                "target": target,
                "median": f"**{line['median']:.2f}**",
                "from – to, n": f"{line['least']:.2f}–{line['most']:.2f}, {len(line['ratios'])}",
                "": met,
            }
        )
    return table(rows)


def main() -> None:
    """Renders every page, and draws the figures of stored series."""
    for path in sorted((ROOT / "docs" / "results").glob("*/performance.json")):
        series = storage.read_json(path).get("series", [])
        if series:
            plots.growth(series, path.with_name(_FIGURE))
            print(f"{path.parent.relative_to(ROOT)}: {len(series)} series drawn")
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))):
        text = page.read_text(encoding="utf-8")
        rendered = render(text)
        if rendered != text:
            storage.write_bytes(page, rendered.encode())
            print(f"{page.relative_to(ROOT)}: rendered")


if __name__ == "__main__":
    main()
