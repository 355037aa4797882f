"""What the pages say is so."""

import importlib.util
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def test_the_ten_lines_of_the_readme_run(
    trained: tuple[pathlib.Path, str], data_dir: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    code = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert code is not None
    shutil.copy(trained[0], tmp_path / "my_model.keras")
    environment = os.environ | {"TFDS_DATA_DIR": str(data_dir), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code[1]],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert re.match(r"[0-9] \[", done.stdout)
    assert (tmp_path / "state.npz").exists()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_table_is_that_of_its_stored_results(page: pathlib.Path) -> None:
    tool = ROOT / "tools" / "render_docs.py"
    spec = importlib.util.spec_from_file_location("render_docs", tool)
    assert spec is not None
    assert spec.loader is not None
    render_docs = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(render_docs)
    assert render_docs.render(page.read_text()) == page.read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_to_a_file_leads_somewhere(page: pathlib.Path) -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if "://" not in link:
            base = ROOT if link.startswith("/") else page.parent
            assert (base / link.lstrip("/")).exists(), link


def test_every_line_of_algorithm_1_is_named_in_the_code() -> None:
    text = "\n".join(path.read_text() for path in (ROOT / "rmc_tf").rglob("*.py"))
    named = set()
    for first, last in re.findall(r"[Ll]ines? (\d+)(?:[–-](\d+))?", text):
        named |= set(range(int(first), int(last or first) + 1))
    assert set(range(1, 24)) <= named
