"""What a row and a column of a table override, for their own cells alone.

A cell has the result of an experiment that is set so. Where an override makes no
difference to a cell, the cell is the same as without it.
"""

from collections.abc import Callable, Mapping
from typing import Any

from rmc_tf import defences, threats
from rmc_tf.common.errors import UserError
from rmc_tf.config import AugmentedSetConfig, ColumnConfig, ExperimentConfig, K, RowConfig
from rmc_tf.config.section import require

_GROUPS = (
    "augmented_set",
    "cleansing",
    "index",
    "private",
    "refresh",
    "refusing",
    "rmc",
    "smoothing",
    "threats",
)
"""What can be another in a cell. Data and networks are the experiment's."""
_WHOLE = ("rmc.profile", "rmc.fast", "augmented_set.attacks")
"""Of those, what can't: a profile is the experiment's, and a row says by `d_prime` whose examples
D' holds."""

_TITLES: Mapping[str, Callable[[Any], str]] = {
    "threats.before": lambda p: f"p = {p}",
    "refresh.share": lambda share: f"δ = {share:g}",
    "threats.delay": lambda q: f"q = {q}",
    "threats.known_share": lambda share: f"{100 * share:g} % known",
    K: lambda k: f"K = {k}",
    "augmented_set.adversarial_per_row": lambda each: f"|D'|/|D| = {1 + each:g}",
}
"""In the order in which the paper's Tables 5 and 7 and Figure 4 name them."""


def merged(row: RowConfig, column: ColumnConfig) -> dict[str, Any]:
    """Returns what a row and a column override together.

    Raises:
      UserError: both override the same setting, or one that a table can't override there.
    """
    both = {**row.overrides, **column.overrides}
    rule = f"a table can override settings of {', '.join(_GROUPS)}; for another network add one "
    rule += "to `networks`"
    for path, value in both.items():
        can_be = path.partition(".")[0] in _GROUPS and not path.startswith(_WHOLE)
        require(can_be, f"table.*.overrides.{path}", value, rule)
    for path, value in column.overrides.items():
        where = f"table.columns.*.overrides.{path}"
        rule = f"the row has {row.overrides.get(path)}; leave it to one of them"
        require(path not in row.overrides, where, value, rule)
        rule = f"this column's stream is {column.stream}; name its own threat"
        own = not path.startswith("threats.") or path.split(".")[1] == column.stream
        require(own, where, value, rule)
    return both


def augmented_set_of(config: ExperimentConfig, overrides: Mapping[str, Any]) -> AugmentedSetConfig:
    """Returns how D' is made where so much is overridden."""
    own = {p: v for p, v in overrides.items() if p.startswith("augmented_set.")}
    return config.overridden(own).augmented_set


def felt(
    overrides: Mapping[str, Any], defence: str, stream: str, config: ExperimentConfig
) -> dict[str, Any]:
    """Returns those overrides of its row and column that make a difference to a cell."""
    plain, kept = _depends_on(defence, stream, config), {}
    for path, value in overrides.items():
        if path.startswith("threats."):
            matters = path.split(".")[1] == stream
        else:
            try:
                alone = config.overridden({path: value})
                matters = _depends_on(defence, stream, alone) != plain
            except UserError:  # it is only valid with the others
                matters = True
        if matters:
            kept[path] = tuple(value) if isinstance(value, list) else value  # as JSON has it
    return kept


def _depends_on(defence: str, stream: str, config: ExperimentConfig) -> list[Any]:
    """Returns the settings that the cells of a defence and a stream depend on."""
    spec, threat = defences.find(defence), config.threats.get(stream)
    threat_searches = threat is not None and threats.find(threat).searches
    # A threat may search D' where the defence doesn't.
    searched = threat_searches or spec.searches == "augmented_set"
    return [
        spec.depends_on(config),
        searched and config.augmented_set.to_dict(),
        threat_searches and config.rmc.k,
    ]


def title_of(overrides: Mapping[str, Any]) -> str:
    """Returns what some overrides say, as the paper calls them where it has them."""
    named = {_kind_of(path): (path, value) for path, value in overrides.items()}
    known = [title(named[kind][1]) for kind, title in _TITLES.items() if kind in named]
    others = [f"{path} = {value}" for kind, (path, value) in named.items() if kind not in _TITLES]
    return ", ".join([*known, *others])


def _kind_of(path: str) -> str:
    """Returns the path of a setting; without the name of the threat, of which a cell has one."""
    group, *_, name = path.split(".")
    return f"threats.{name}" if group == "threats" else path
