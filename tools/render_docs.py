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
from rmc_tf.reproduction import as_markdown
from rmc_tf.reproduction import page as reproduction_page
from tools.performance import plots, scale_page, search_page, sizes_page, step_page

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

    def table(place: re.Match[str]) -> str:
        return f"{place[1]}\n{of_results(place[2])}\n{place[3]}"

    return _PLACE.sub(table, text)


def typed(text: str) -> list[str]:
    """Returns the numbers of a page that were typed by hand: with a unit, or with a decimal point.

    Left out are what is rendered, code, and numbers that are names, as of versions and sections.
    """
    prose = _NOT_PROSE.sub(" ` ", _PLACE.sub("\n", text)).replace("*", "")
    return [" ".join(number.split()) for number in _NUMBER.findall(prose)]


def of_results(place: str) -> str:
    """Returns what a page has of docs/results/NAME, mostly a table and the command that made it.

    Args:
      place: NAME, or NAME/PART.

    Raises:
      ArtefactError: there are no such results.
    """
    name, _, part = place.partition("/")
    if part:
        return of_part(name, part)
    folder = ROOT / "docs" / "results" / name
    if (folder / "audit.json").exists():
        return of_audit(name)
    if (folder / "performance.json").exists():
        return of_benchmark(storage.read_json(folder / "performance.json"), name)
    values = storage.read_json(folder / "results.json")
    if "choosing" in values:
        drawn = (folder / "pareto.png").exists()
        plot = f"![Robustness against delay](/docs/results/{name}/pareto.png)"
        picture = plot if drawn else "No plot is drawn yet."
        made = " and ".join(f"`{command}`" for command in values["commands"])
        return f"\n{search_page.table(values)}\n{picture}\n\n*Made by {made}.*\n"
    if "forward_flop" in values:
        return f"\n{step_page.tables(values)}\n*Made by `{values['command']}`.*\n"
    if "searches" in values:
        return f"\n{scale_page.tables(values)}"
    if "claims" in values:
        return of_reproduction(values, name)
    if "pairs" in values:
        return of_pairs(values["pairs"])
    stored = tables.Table.from_json(values)
    provenance = storage.read_json(folder / "provenance.json")
    table = tables.accuracy_table(stored)
    made = f"`{provenance['command']}`, seed {provenance['seed']}"
    return f"{table}\n*Made by {made}; [report](/docs/results/{name}/report.md).*\n"


def of_audit(name: str) -> str:
    """Returns the verdicts and the summary of an audit, with the command that made it."""
    folder = ROOT / "docs" / "results" / name
    found = storage.read_json(folder / "audit.json")
    provenance = storage.read_json(folder / "provenance.json")
    made = f"`{provenance['command']}`, seed {provenance['seed']}"
    link = f"[the whole page](/docs/results/{name}/audit.md)"
    return f"{audit_page.verdicts(found)}\n{audit_page.summary(found)}\n*Made by {made}; {link}.*\n"


def of_reproduction(values: dict[str, Any], name: str) -> str:
    """Returns the summary and the claims of a reproduction, with the command that made it."""
    folder = ROOT / "docs" / "results" / name
    provenance = storage.read_json(folder / "provenance.json")
    judged = reproduction_page.verdicts(values)
    listed = reproduction_page.claim_list(values, judged)[:2]  # without each difference
    text = as_markdown.render([*reproduction_page.summary(values, judged), *listed])
    made = f"`{provenance['command']}`, seed {provenance['seed']}"
    link = f"[the whole report](/docs/results/{name}/report.md)"
    return f"{text}\n*Made by {made}; {link}.*\n"


def of_part(name: str, part: str) -> str:
    """Returns one part of stored results: "time", "sizes", or a table of a reproduction."""
    folder = ROOT / "docs" / "results" / name
    values = storage.read_json(folder / "results.json")
    if part == "time":
        command = storage.read_json(folder / "provenance.json")["command"]
        return f"`{command}`: {reproduction_page.how_long(values['runs'])}"
    if part == "sizes":
        return sizes_page.tables(values)
    return f"\n{tables.accuracy_table(tables.Table.from_json(values['tables'][part]))}"


def of_pairs(pairs: list[dict[str, Any]]) -> str:
    """Returns the table of a benchmark of attacks."""
    lines = [
        "| attack | peer | time of the peer ÷ ours | from – to | ÷ the gradients alone | success, "
        "ours and the peer's |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for pair in pairs:
        spread = f"{pair['least']:.1f}–{pair['most']:.1f}"
        success = f"{100 * pair['our_success']:.0f} %, {100 * pair['their_success']:.0f} %"
        limit = f"{pair['limit']:.1f}" if pair.get("limit") else ""
        name = f"| {pair['attack']} | {pair['peer']} | **{pair['ratio']:.1f}** "
        lines.append(f"{name}| {spread} | {limit} | {success} |")
    return "\n" + "\n".join(lines) + "\n"


def of_benchmark(values: dict[str, Any], name: str) -> str:
    """Returns the tables of tools/benchmark.py, by part, its figure, and the machine."""
    comparisons, series = values["comparisons"], values.get("series", [])
    tables = []
    for part in dict.fromkeys(line["part"] for line in [*comparisons, *series]):
        measured = [line for line in series if line["part"] == part]
        if measured:
            tables.append(of_series(measured))
        compared = [line for line in comparisons if line["part"] == part]
        if compared:
            tables.append(of_comparisons(compared))
    if series:
        tables.append(f"![How cost grows with the work](/docs/results/{name}/{_FIGURE}.png)\n")
    machine = values["machine"]
    about = f"{machine['cores']} cores of {machine['processor']}"
    versions = f"TensorFlow {machine['tensorflow']}, Keras {machine['keras']}"
    made = "" if values["deterministic"] else ", operations that needn't repeat to the bit"
    return "\n".join(["", *tables, f"*Measured on {about}; {versions}{made}.*", ""])


def of_series(series: list[dict[str, Any]]) -> str:
    """Returns the table of what was measured at several sizes."""
    lines = [
        "| setting | measured | size: median | ∝ size to the | n |",
        "| --- | --- | --- | --- | --- |",
    ]
    for line in series:
        medians = zip(line["sizes"], line["medians"], strict=True)
        course = ", ".join(f"{size:,.0f}: {median:.3g}" for size, median in medians)
        name = f"| {line['setting']} | {line['name']}, {line['unit']} "
        repeats = min(len(values) for values in line["values"])
        lines.append(
            f"{name}| of {line['along']}; {course} | **{line['exponent']:.2f}** | {repeats} |"
        )
    return "\n".join(lines) + "\n"


def of_comparisons(comparisons: list[dict[str, Any]]) -> str:
    """Returns the table of some comparisons."""
    lines = [
        "| setting | comparison | target | median | from – to, n | |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for line in comparisons:
        target, met = "", ""
        if line["target"]:
            side, bound = line["target"]
            good = line["median"] <= bound if side == "at most" else line["median"] >= bound
            target, met = (
                f"{'≤' if side == 'at most' else '≥'} {bound}",
                "met" if good else "missed",
            )
        spread = f"{line['least']:.2f}–{line['most']:.2f}, {len(line['ratios'])}"
        name = f"| {line['setting']} | {line['name']} | {target} "
        lines.append(f"{name}| **{line['median']:.2f}** | {spread} | {met} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Renders every page, and draws the figures of stored series."""
    for path in sorted((ROOT / "docs" / "results").glob("*/performance.json")):
        series = storage.read_json(path).get("series", [])
        if series:
            plots.growth(series, path.with_name(_FIGURE))
            print(f"{path.parent.relative_to(ROOT)}: {len(series)} series drawn")
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))):
        text = page.read_text()
        rendered = render(text)
        if rendered != text:
            storage.write_bytes(page, rendered.encode())
            print(f"{page.relative_to(ROOT)}: rendered")


if __name__ == "__main__":
    main()
