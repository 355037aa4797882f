"""What section 5 says of Tables 4 and 5, and of PGD-Skip."""

from collections.abc import Iterator, Sequence

from rmc_tf.claims.base import (
    Claim,
    Difference,
    Differences,
    Places,
    compared,
    in_column,
    in_row,
    untestable,
)
from rmc_tf.report import Table

_TRAINED = "Adversarially trained w. PGD"
_REGULAR = "Regularly trained"


def _less_hurt(
    harmed: Sequence[str], others: Sequence[str], before: str, after: str
) -> Differences:
    """Some rows lose more than others from one column to another."""

    def differences(table: Table) -> Iterator[Difference]:
        places = Places(table)
        for row in harmed:
            for other in others:
                if not all(places.has(title, before, after) for title in (row, other)):
                    continue
                ends = [(places.share(r, before), places.share(r, after)) for r in (row, other)]
                values = [f"{100 * b.value:.1f} → {100 * a.value:.1f}" for b, a in ends]
                (b1, a1), (b2, a2) = ends
                what = f"loss of {row} − loss of {other}"
                yield Difference(what, " against ".join(values), (b1 - a1) - (b2 - a2))

    return differences


def _misled(table: Table) -> Iterator[Difference]:
    """None against each defence by neighbours, under PGD-NN."""
    for row in ("DeepNN", "WebNN"):
        yield from in_column("PGD-NN", "None", row, margin=0.05)(table)


def by_share(table: Table) -> Iterator[tuple[str, list[str]]]:
    """Yields each δ, and the columns of Table 5 under it."""
    for share in dict.fromkeys(column.partition(", ")[0] for column in table.columns):
        yield share, [c.partition(", ")[2] for c in table.columns if c.startswith(f"{share}, ")]


def _recovers(table: Table) -> Iterator[Difference]:
    """Each q above 0 against q = 0."""
    places = Places(table)
    for row in places.rows:
        for share, delays in by_share(table):
            for later in delays[1:]:
                what = f"{row}, {share}: {later} − {delays[0]}"
                yield places.larger(
                    what, (row, f"{share}, {later}"), (row, f"{share}, {delays[0]}")
                )


def _fewer_known(table: Table) -> Iterator[Difference]:
    """The least that is known against the most."""
    places = Places(table)
    for row in places.rows:
        for share, known in by_share(table):
            if len(known) > 1:
                what = f"{row}, {share}: {known[0]} − {known[-1]}"
                columns = (f"{share}, {known[0]}", f"{share}, {known[-1]}")
                yield places.larger(what, (row, columns[0]), (row, columns[1]))


def _partly_known(partial: Table, delayed: Table) -> Iterator[Difference]:
    """Each share that is known against all that is, at the same p and δ, and no delay."""
    some, every = Places(partial), Places(delayed)
    for row in some.rows:
        for share, known in by_share(partial):
            for column in known:
                if every.has(row, f"{share}, q = 0"):
                    yield compared(
                        f"{row}, {share}: {column} − all known",
                        some.share(row, f"{share}, {column}"),
                        every.share(row, f"{share}, q = 0"),
                    )


def _as_adversarial_training(delayed: Table, partial: Table, table1: Table) -> Iterator[Difference]:
    """RMC+ where it withstands against a network trained by PGD without it, under PGD."""
    trained = Places(table1, _TRAINED)
    if not trained.has("None", "PGD"):
        return
    other = trained.share("None", "PGD")
    for table in (delayed, partial):
        places = Places(table)
        for row in places.rows:
            for column in table.columns:
                if not column.endswith("q = 0"):
                    what = f"{row}, {column}: RMC+ − A.T. (PGD)"
                    yield compared(what, places.share(row, column), other, margin=0.05)


def _defeated(table: Table) -> Iterator[Difference]:
    """RMC's first column, where the attacker knows no point since there is none, and the rest."""
    places = Places(table)
    for column in table.columns[1:] if "RMC" in places.rows else ():
        first = table.columns[0]
        yield places.larger(f"RMC: {first} − {column}", ("RMC", first), ("RMC", column))


def _above_none(table7: Table, table1: Table) -> Iterator[Difference]:
    """RMC under PGD-Skip after each p > 0, against the regularly trained network under PGD."""
    places, regular = Places(table7), Places(table1, _REGULAR)
    for column in table7.columns[1:]:
        if places.has("RMC", column) and regular.has("None", "PGD"):
            what = f"{column}: RMC under PGD-Skip − None under PGD"
            yield compared(what, places.share("RMC", column), regular.share("None", "PGD"))


_HELD = "Under PGD-Skip RMC is still better than no defence"

CLAIMS = (
    Claim(
        "DeepNN and WebNN fail under PGD-NN (they are not more than 5 points above None)",
        "section 5.1",
        ("table4",),
        _misled,
    ),
    Claim(
        "PGD-NN hurts WebNN most",
        "Table 4",
        ("table4",),
        _less_hurt(("WebNN", "WebNN, label vote"), ("None", "DeepNN", "RMC"), "PGD", "PGD-NN"),
    ),
    Claim(
        "RMC, too, is degraded by PGD-NN",
        "section 5.1",
        ("table4",),
        in_row("RMC", "PGD", "PGD-NN"),
    ),
    Claim(
        "RMC loses much less by PGD-NN than the other defences",
        "section 5.1",
        ("table4",),
        _less_hurt(("DeepNN", "WebNN", "WebNN, label vote"), ("RMC",), "PGD", "PGD-NN"),
    ),
    Claim(
        "RMC withstands PGD-NN (it is more robust than None)",
        "section 5.1",
        ("table4",),
        in_column("PGD-NN", "RMC", "None"),
    ),
    Claim("PGD-Skip defeats RMC", "section 5.2", ("table7",), _defeated),
    Claim(_HELD, "section 5.2", ("table7", "table1"), _above_none),
    untestable(
        "A larger learning rate of the local adaptation, too, defends against PGD-Skip",
        "section 5.2",
        ("table5a",),
        "the paper prints no number for it, and chooses the other way, RMC+",
    ),
    Claim(
        "RMC+ recovers once the attack comes q ≥ 50 points later",
        "section 5.2",
        ("table5a",),
        _recovers,
    ),
    Claim(
        "RMC+ withstands an attacker who knows less than 70 % of the points (against one who knows "
        "all)",
        "section 5.2",
        ("table5b", "table5a"),
        _partly_known,
    ),
    Claim(
        "RMC+ is better the fewer points are known",
        "section 5.2",
        ("table5b",),
        _fewer_known,
    ),
    Claim(
        "Where it withstands, RMC+ is mostly as good as adversarial training or better (not more "
        "than 5 points below)",
        "section 5.2",
        ("table5a", "table5b", "table1"),
        _as_adversarial_training,
    ),
    # Of our own table of threats, where the same is seen at every query.
    Claim(
        "PGD-Skip defeats RMC", "section 5.2", ("threats",), in_row("RMC", "transfer", "PGD-Skip")
    ),
    Claim(_HELD, "section 5.2", ("threats",), in_column("PGD-Skip", "RMC", "None")),
)
