"""The notebook of the docs runs from top to bottom, and shows what it printed and drew."""

import pathlib

import nbformat
import pytest

from tools import run_notebook

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).parents[2]


def kinds(notebook: nbformat.NotebookNode) -> list[set[str]]:
    """Returns of each cell with code what it gives: words, pictures."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return [{each.output_type for each in cell.outputs} for cell in code]


def test_the_quickstart_runs_and_its_outputs_are_kept() -> None:
    stored = nbformat.read(ROOT / "docs" / "quickstart.ipynb", nbformat.NO_CONVERT)
    nbformat.validate(stored)
    shown = kinds(stored)
    assert (
        sum("stream" in each for each in shown) >= 6
        and sum("display_data" in each for each in shown) == 2
    )
    assert kinds(run_notebook.run(stored, ROOT)) == shown
