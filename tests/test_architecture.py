"""Data flows one way: a module imports only from rows above its own."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[1]

ROWS = (
    ("errors", "seeding", "progress"),
    ("overrides",),
    ("config.section", "journal", "storage", "intervals", "paper"),
    (
        "config.attack",
        "config.audit",
        "config.fast",
        "config.hardware",
        "config.index",
        "config.variation",
    ),
    ("config.network", "config.threat"),
    ("config.method",),
    ("config.experiment",),
    ("config.shipped",),
    ("config",),
    ("figures.style",),
    ("figures.course", "figures.figure1"),
    ("figures.figure2", "figures.figure3", "figures.figure4a", "figures.figure4b"),
    ("figures",),
    ("report",),
    ("claims.base",),
    ("claims.figures", "claims.section4", "claims.section5", "claims.section6"),
    ("claims",),
    ("reproduction", "reproduction.blocks", "reproduction.plan"),
    ("reproduction.as_html", "reproduction.as_markdown", "reproduction.gather"),
    ("reproduction.layout",),
    ("reproduction.page",),
    ("reproduction.write",),
    ("audit", "audit.checks", "audit.page"),
    ("images", "augmentation", "hardware", "traces", "provenance"),
    ("rows", "tfds_store"),
    ("image_folder",),
    ("datasets",),
    ("models.denoising",),
    ("models.applications", "models.resnet", "models.cnn"),
    ("models",),
    ("classifier",),
    (
        "export",
        "fused_step",
        "mixed_precision",
        "replicas",
        "attacks.base",
        "attacks.pairs",
        "audit.gradients",
    ),
    ("engine",),
    ("workers",),
    ("distributed",),
    ("attacks.cw_l2", "attacks.fgsm", "attacks.jsma", "attacks.mim", "attacks.pgd"),
    ("attacks",),
    ("augmented_set", "changed_rows", "losses", "streams"),
    ("preparation", "training"),
    ("trained",),
    ("features", "moved_vectors", "searchers"),
    ("quantised",),
    ("index",),
    ("adaptation", "defences.base", "refreshed_set"),
    ("shared_adaptation", "defences.rmc_traces", "defences.undefended", "defences.nearest"),
    ("defences.rmc",),
    ("defences.rmc_plus", "defences.non_masking"),
    ("defences",),
    ("threats.base", "threats.hindsight"),
    ("threats.histories",),
    ("threats.ascent", "threats.black_box", "threats.pgd_skip", "threats.transfer"),
    ("threats.hop_skip_jump", "threats.noise", "threats.square"),
    ("threats.gmsa", "threats.pgd_nn", "threats.worst_case"),
    ("threats",),
    ("evaluation", "moments", "variations"),
    ("tables",),
    ("threats.runner", "materials", "hparams", "audit.plan", "watching"),
    ("neighbourhood", "opponents", "reproduction.costs"),
    ("illustrations", "strikes"),
    ("console", "pipeline"),
    ("audit.run", "reproduction.run"),
    ("main",),
)
ROW_OF = {module: row for row, modules in enumerate(ROWS) for module in modules}


def _name(path: pathlib.Path) -> str:
    parts = path.relative_to(ROOT / "rmc_tf").with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


FILES = {_name(path): path for path in (ROOT / "rmc_tf").rglob("*.py")}


def _imported(path: pathlib.Path) -> set[str]:
    """Returns the modules of ours that a file imports, wherever in the file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    ours = {name.removeprefix("rmc_tf.") for name in found if name.startswith("rmc_tf.")}
    return ours & FILES.keys() - {_name(path)}


def test_every_module_has_its_row() -> None:
    assert FILES.keys() - {""} == ROW_OF.keys()


@pytest.mark.parametrize("module", ROW_OF)
def test_a_module_imports_only_from_rows_above(module: str) -> None:
    wrong = {name for name in _imported(FILES[module]) if ROW_OF[name] >= ROW_OF[module]}
    assert not wrong
