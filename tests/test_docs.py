"""What the pages say is so."""

import collections
import json
import os
import pathlib
import pkgutil
import re
import shutil
import subprocess
import sys

import numpy as np
import PIL.Image
import pytest

from rmc_tf.data.datasets import Dataset
from rmc_tf.report.page import markdown
from tools import render_docs

ROOT = pathlib.Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
# The others are what a run writes.
WRITTEN = [page for page in PAGES if not (page.parent / "provenance.json").exists()]


def test_the_ten_lines_of_the_readme_run(
    trained: tuple[pathlib.Path, str], data_dir: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    code = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert code is not None
    lines = code[1].replace("RMCConfig(k=512)", "RMCConfig(k=512, primed_rows=2)")  # sooner
    assert lines != code[1]
    shutil.copy(trained[0], tmp_path / "my_model.keras")
    environment = os.environ | {"TFDS_DATA_DIR": str(data_dir), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", lines],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert re.match(r"[0-9] \[", done.stdout)
    assert (tmp_path / "state.npz").exists()


def test_the_readme_brings_a_model_a_folder_arrays_and_a_tf_data_set(
    trained: tuple[pathlib.Path, str],
    digits: Dataset,
    data_dir: pathlib.Path,
    tmp_path: pathlib.Path,
) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    ten_lines = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert ten_lines is not None
    begin = (
        ten_lines[1].partition("d_prime =")[0].replace("load(", 'load(channels="luminance", path=')
    )
    pieces = dict(re.findall(r"<!-- runs: ([\w.]+) -->\n\n```python\n(.*?)```", text, re.DOTALL))
    assert list(pieces) == ["model", "folder", "arrays", "tf.data"]
    shutil.copy(trained[0], tmp_path / "my_model.keras")
    images, labels, _ = digits.train.rows(np.arange(120))
    for row, (image, label) in enumerate(zip(images, labels, strict=True)):
        folder = tmp_path / "photos" / ("test" if row > 100 else "train") / str(label)
        folder.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(image[..., 0]).save(folder / f"{row}.png")
    np.savez(tmp_path / "mine.npz", images=images[..., 0], labels=labels)
    gray = 'classifier = rmc_tf.Classifier.load("my_model.keras")\n'
    ends = {"folder": "len(d_prime) == 5 * 101", "tf.data": "len(d_prime) == 5 * 101"}
    ends["arrays"] = "len(d_prime) == 5 * 120"
    code = ["import keras", "import numpy as np", begin]
    for name, piece in pieces.items():
        code += [gray if name == "arrays" else "", piece]
        code += [f"assert {ends[name]}"] if name in ends else []
        code += ['classifier = rmc_tf.Classifier.load("my_model.keras", channels="luminance")']
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", "\n".join(code)],
        cwd=tmp_path,
        env=os.environ | {"TFDS_DATA_DIR": str(data_dir), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"9\d\.\d %|100\.0 %", done.stdout), done.stdout


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_table_is_that_of_its_stored_results(page: pathlib.Path) -> None:
    assert render_docs.render(page.read_text()) == page.read_text()


def test_a_table_of_a_reproduction_can_be_quoted_by_itself() -> None:
    quoted = markdown(*render_docs.of_results("reproduction_digits/table1")).strip()
    assert quoted == (ROOT / "docs" / "results" / "table1" / "table.md").read_text().strip()


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_number_is_typed_but_those_whose_source_is_listed(page: pathlib.Path) -> None:
    listed = json.loads((ROOT / "docs" / "given.json").read_text())
    of_the_page = listed.get(str(page.relative_to(ROOT)), {})
    typed = collections.Counter(render_docs.typed(page.read_text()))
    assert typed == {number: len(sources) for number, sources in of_the_page.items()}


def test_what_a_typed_number_has_from_a_file_stands_there() -> None:
    listed = json.loads((ROOT / "docs" / "given.json").read_text())
    assert set(listed) <= {str(page.relative_to(ROOT)) for page in WRITTEN}
    for numbers in listed.values():
        for source in [source for each in numbers.values() for source in each]:
            file, _, setting = source.partition(": ")
            if "/" in file:
                assert setting and setting in (ROOT / file).read_text(), source


@pytest.mark.parametrize(
    ("text", "typed"),
    [
        ("It has 70 % right, 4 to 20 points more.", ["70 %", "4 to 20 points"]),
        ("It takes 1.5 times as long, or\n12 minutes.", ["1.5 times", "12 minutes"]),
        ("nearer 1.1, at recall .58, and 78.2 GiB", ["1.1", ".58", "78.2 GiB"]),
        ("**98** % in 12ms, 8 × faster, 10-fold", ["98 %", "12ms", "8 ×", "10-fold"]),
        ("98% of 100 test points, 3 µs, 40 days", ["98%", "100 test points", "3 µs", "40 days"]),
        ("20 images a second, 7 rows/s", ["20 images a second", "7 rows/s"]),
        ("3 × 10 steps of 32×32 pixels, 16 × 2 h of 8-bit rows, PGD-10", ["2 h"]),
        ("`k=0.5` of section 4.1, with TensorFlow 2.20 and ScaNN\n1.4.2", []),
        ("```\nx --rate=0.5\n```\n[a](b-0.5.md) Table 1, 1,797 digits, ResNet-32", []),
        ("<!-- results: x -->\n\n| 98.0 % |\n\n<!-- end -->\n9 ms", ["9 ms"]),
    ],
)
def test_a_number_is_typed_unless_it_is_rendered_or_code_or_a_name(
    text: str, typed: list[str]
) -> None:
    assert render_docs.typed(text) == typed


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_to_a_file_leads_somewhere(page: pathlib.Path) -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if "://" not in link:
            base = ROOT if link.startswith("/") else page.parent
            assert (base / link.lstrip("/")).exists(), link


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_that_a_page_names_exists(page: pathlib.Path) -> None:
    named = re.findall(r"\b(?:rmc_tf|tools|tests|configs|docs)/[\w./]*\w/?", page.read_text())
    places = {name for name in named if name == name.lower()}  # configs/NAME.py is any of them
    assert not {name for name in places if not (ROOT / name).exists()}


def test_the_names_of_algorithm_1_in_the_readme_are_in_the_code() -> None:
    table = (ROOT / "README.md").read_text().partition("## Algorithm 1 in the code")[2]
    cells = [line.split("|")[3] for line in table.splitlines() if line.startswith("|")]
    names = [name for cell in cells for name in re.findall(r"`([\w.]+)`", cell)]
    assert len(names) >= 6
    for name in names:
        assert callable(pkgutil.resolve_name(f"rmc_tf.{name}")), name


def test_every_measurement_has_a_line_in_the_list_of_its_folder() -> None:
    folder = ROOT / "tools" / "performance"
    listed = re.findall(r"^  (\w+) ", (folder / "__init__.py").read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(file.stem for file in folder.glob("[!_]*.py"))


def test_every_line_of_algorithm_1_is_named_in_the_code() -> None:
    text = "\n".join(path.read_text() for path in (ROOT / "rmc_tf").rglob("*.py"))
    named = set()
    for first, last in re.findall(r"[Ll]ines? (\d+)(?:[–-](\d+))?", text):
        named |= set(range(int(first), int(last or first) + 1))
    assert set(range(1, 24)) <= named
