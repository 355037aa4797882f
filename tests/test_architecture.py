"""Data flows one way: a folder imports only from those below it."""

import ast
import graphlib
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[1]

COLUMN = (
    "common",
    "config",
    "report",
    "data",
    "search",
    "networks",
    "attacks",
    "training",
    "augmented_set",
    "adaptation",
    "defences",
    "evaluation",
    "threats",
    "experiment",
    "audit",
    "reproduction",
    "service",
    "main",
)
"""From the ground up. docs/architecture.md says what each is."""


def _name(path: pathlib.Path) -> str:
    parts = path.relative_to(ROOT / "rmc_tf").with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


FILES = {_name(path): path for path in (ROOT / "rmc_tf").rglob("*.py")}


def _imported(path: pathlib.Path) -> set[str]:
    """Returns the modules of ours that a file imports, wherever in the file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.removeprefix("rmc_tf.") for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("rmc_tf"):
            module = str(node.module).removeprefix("rmc_tf").removeprefix(".")
            inside = {f"{module}.{alias.name}".removeprefix(".") for alias in node.names}
            files = inside & FILES.keys()
            found |= files if len(files) == len(inside) else files | {module}
    return found & FILES.keys() - {"", _name(path)}


def _folder(module: str) -> str:
    return module.partition(".")[0]


def test_the_column_names_every_folder_and_nothing_else() -> None:
    assert {_folder(module) for module in FILES} - {""} == set(COLUMN)


def test_the_page_has_the_same_column() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    block = page.partition("```\n")[2].partition("```")[0]
    assert tuple(line.split()[0] for line in block.splitlines()) == COLUMN


@pytest.mark.parametrize("module", sorted(FILES.keys() - {""}))
def test_a_folder_imports_only_from_those_below_it(module: str) -> None:
    floor = COLUMN.index(_folder(module))
    above = {name for name in _imported(FILES[module]) if COLUMN.index(_folder(name)) > floor}
    assert not above


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = {module: _imported(path) for module, path in FILES.items() if module}
    # A folder's own `__init__` is loaded before any file of it: what it imports, they can't need.
    graphlib.TopologicalSorter(graph).prepare()
