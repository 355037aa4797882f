"""Runs a notebook from top to bottom, and keeps what it prints and draws.

python tools/run_notebook.py docs/quickstart.ipynb
"""

import pathlib
import sys

import nbclient
import nbformat

ROOT = pathlib.Path(__file__).resolve().parents[1]


def run(notebook: nbformat.NotebookNode, folder: pathlib.Path) -> nbformat.NotebookNode:
    """Returns a notebook with its outputs; of warnings and progress nothing is kept.

    Args:
      notebook: its cells, in order.
      folder: the working directory of its kernel, from which it imports rmc_tf.

    Raises:
      nbclient.exceptions.CellExecutionError: a cell failed.
    """
    client = nbclient.NotebookClient(
        notebook, timeout=600, resources={"metadata": {"path": str(folder)}}
    )
    client.execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # when it ran: another line of each difference
        if "outputs" in cell:
            cell.outputs = [each for each in cell.outputs if each.get("name") != "stderr"]
    return notebook


def main(path: pathlib.Path) -> None:
    """Runs a notebook, and writes it with its outputs."""
    notebook = run(nbformat.read(path, nbformat.NO_CONVERT), ROOT)
    nbformat.write(notebook, path)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
