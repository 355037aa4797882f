"""Tables name each evaluation once, with the D' and the stream that the paper means."""

import dataclasses
import itertools
from collections import Counter

import pytest

from rmc_tf.common.errors import UserError
from rmc_tf.config import (
    ColumnConfig,
    ExperimentConfig,
    RowConfig,
    TableConfig,
    ThreatConfig,
    shipped,
)
from rmc_tf.experiment import cells, fitted
from rmc_tf.experiment.cells import Cell
from rmc_tf.report import paper

ATTACKS = ("fgsm", "bim", "pgd", "cw_l2", "jsma")


def experiment(name: str, dataset: str = "digits") -> ExperimentConfig:
    """Returns a shipped config as it is loaded."""
    values = shipped.load(name).get_config(*([dataset] if name != dataset else []))
    return ExperimentConfig.from_dict(values.to_dict())


def laid_out(name: str, dataset: str = "digits") -> cells.Layout:
    """Returns the table of a shipped config."""
    return cells.lay_out(experiment(name, dataset))


def row(table: cells.Layout, title: str, block: str = "") -> tuple[tuple[Cell, ...], ...]:
    """Returns the places of a row."""
    (found,) = (r.cells for r in table.rows if (r.block, r.title) == (block, title))
    return found


def test_table_1_has_five_networks_by_five_defences_by_clean_and_five_attacks() -> None:
    table = laid_out("table1")
    assert Counter(r.block for r in table.rows) == dict.fromkeys({r.block for r in table.rows}, 5)
    assert len(table.rows) == 25 and len(table.columns) == 6
    # Per network: None and DeepNN on six streams; WebNN by both votes and RMC on five streams,
    # and on clean with the D' of each attack.
    assert len(table.cells) == 5 * (2 * 6 + 3 * (5 + 5))


def test_table_1_searches_the_examples_of_the_columns_attack_against_the_rows_network() -> None:
    table = laid_out("table1")
    places = row(table, "RMC", "Adversarially trained w. PGD")
    for attack, (cell,) in zip(ATTACKS, places[1:], strict=True):
        assert cell == Cell("at_pgd", "rmc", (attack,), attack, "at_pgd")


def test_clean_accuracy_is_over_the_d_prime_of_each_attack_where_one_is_searched() -> None:
    table = laid_out("table1")
    clean = row(table, "RMC", "Regularly trained")[0]
    assert [cell.d_prime for cell in clean] == [(attack,) for attack in ATTACKS]
    assert {(cell.stream, cell.source) for cell in clean} == {("clean", "")}
    for title in ("None", "DeepNN"):
        assert [c.d_prime for c in row(table, title, "Regularly trained")[0]] == [()]


def test_table_3_attacks_the_source_networks_and_asks_the_target() -> None:
    table = laid_out("table3")
    sources = [cell.source for (cell,) in row(table, "RMC")[1:]]
    assert sources == ["resnet", "resnet", "wide_resnet", "wide_resnet"]
    assert {cell.network for place in row(table, "RMC") for cell in place} == {"target"}
    assert [c.stream for (c,) in row(table, "None")] == ["clean", "fgsm", "mim", "fgsm", "mim"]
    assert {c.network for (c,) in row(table, "A.T. (FGSM)")} == {"at_fgsm"}
    for (cell,) in row(table, "WebNN")[1:]:
        assert cell.d_prime == (cell.stream,), "D' is of the same attack, on the target itself"


def test_table_6_composes_d_prime_of_the_attack_of_all_and_of_all_but_it() -> None:
    table = laid_out("table6")
    for title, expected in (
        ("Single-Attack D'", lambda own: (own,)),
        ("All-In D'", lambda own: ATTACKS),
        ("Leave-One-Out D'", lambda own: tuple(a for a in ATTACKS if a != own)),
    ):
        assert [c.d_prime for (c,) in row(table, title)] == [expected(own) for own in ATTACKS]


def test_tables_share_the_cells_that_they_have_in_common() -> None:
    one, six = (set(laid_out(name).cells) for name in ("table1", "table6"))
    single = [c for c in six if c.defence == "rmc" and len(c.d_prime) == 1]
    assert len(single) == 5 and set(single) <= one


def test_cells_of_one_network_and_d_prime_follow_each_other() -> None:
    for name in ("table1", "table3", "table6"):
        every = laid_out(name).cells
        assert len(every) == len(set(every))
        for part in (slice(2), slice(3)):
            works = [cell.searched[part] for cell in every]
            changes = sum(a != b for a, b in itertools.pairwise(works))
            assert changes == len(set(works)) - 1


def test_a_config_without_a_table_is_its_defences_by_its_streams() -> None:
    table = laid_out("digits")
    assert table.name == "report" and table.columns == ("clean", "fgsm", "pgd")
    assert [r.title for r in table.rows] == [
        *("None", "DeepNN", "WebNN", "WebNN, label vote", "RMC")
    ]
    for row_ in table.rows:
        for (cell,) in row_.cells:
            assert cell.d_prime == (("pgd",) if cell.defence in _SEARCHES_D_PRIME else ())


_SEARCHES_D_PRIME = ("web_nn", "web_nn_vote", "rmc")


@pytest.mark.parametrize(
    "name",
    [
        *("table1", "table3", "table4", "table5a", "table5b", "table6", "table7"),
        *("threats", "authors_code"),
    ],
)
@pytest.mark.parametrize("dataset", ["digits", "mnist", "fashion_mnist", "cifar10"])
def test_every_table_is_made_for_every_data_set(name: str, dataset: str) -> None:
    config = experiment(name, dataset)
    assert config.dataset.name == dataset and cells.lay_out(config).cells
    if name != "authors_code":
        assert config.table.name == name
        struck = bool(config.table.history)  # each answer is after a history of its own
        many = 500 if struck else 10_000
        assert config.evaluation.points == (many if dataset == "cifar10" else 50)


def test_a_threat_is_up_against_the_defence_and_its_replay_is_a_cell_of_its_own() -> None:
    table = laid_out("threats")
    places = dict(zip(table.columns, row(table, "RMC"), strict=True))
    (attacking,), (replayed,) = places["GMSA-AVG"], places["GMSA-AVG, replayed"]
    assert attacking == Cell("target", "rmc", ("pgd",), "gmsa_avg", "")
    assert replayed == Cell("target", "rmc", ("pgd",), "gmsa_avg", "", replay=True)
    assert {c.network for p in row(table, "A.T. (PGD), RMC") for c in p} == {"at_pgd"}


def test_table_5_is_rmc_plus_at_each_p_q_known_share_and_delta() -> None:
    a, b = laid_out("table5a"), laid_out("table5b")
    assert len(a.cells) == 2 * 3 * 3 and len(b.cells) == 3 * 3 * 3
    assert row(a, "p = 100")[5] == (struck("rmc_plus", before=100, share=0.75, delay=100),)
    assert row(b, "p = 150")[6] == (struck("rmc_plus", before=150, share=1.0, known_share=0.3),)
    assert str(row(b, "p = 50")[0][0]) == (
        "rmc_plus of target with D' by pgd on pgd_skip at p = 50, 30 % known"
    )


def test_cells_of_one_history_follow_each_other_and_never_go_back() -> None:
    for every in (laid_out("table5a").cells, laid_out("table5b").cells):
        for share in (0.5, 0.75, 1.0):
            said = [dict(cell.overrides) for cell in every]
            own = [i for i, each in enumerate(said) if each.get("refresh.share", 0.5) == share]
            assert own == list(range(own[0], own[0] + len(own)))
            before, delay = "threats.pgd_skip.before", "threats.pgd_skip.delay"
            reached = [said[i][before] + said[i].get(delay, 0) for i in own]
            assert reached == sorted(reached)


@pytest.mark.parametrize(
    ("dataset", "rows", "expected"),
    [("digits", 350, [0, 100, 350]), ("cifar10", 9500, [0, 100, 1000, 5000])],
)
def test_table_7_has_the_papers_p_as_far_as_the_test_set_goes(
    dataset: str, rows: int, expected: list[int]
) -> None:
    table = cells.lay_out(fitted.history_within(experiment("table7", dataset), rows))
    assert list(table.columns) == [f"p = {p}" for p in expected]
    assert ("p up to 350" in table.title) == (dataset == "digits")
    for place, p in zip(row(table, "RMC"), expected, strict=True):
        assert place == (struck("rmc", before=p),)
    assert [cell.d_prime for (cell,) in row(table, "Hindsight Adv. Training on Labeled U")] == [
        () for _ in expected
    ]


def test_a_point_that_is_asked_alone_after_a_history_shares_its_adaptation_with_none() -> None:
    for name in ("table5a", "table7"):
        config = experiment(name)
        config = dataclasses.replace(config, rmc=dataclasses.replace(config.rmc, queries_at_once=2))
        with pytest.raises(UserError, match=r"rmc\.queries_at_once=2: after a `before` .* alone"):
            cells.lay_out(config)


def test_how_many_are_answered_at_once_makes_another_cell_of_a_defence_that_adapts() -> None:
    config = experiment("table1")
    at_once = (RowConfig(title="", defence=name, d_prime="all") for name in ("rmc", "none"))
    more = {"rmc.queries_at_once": 4}
    rows = [r for row in at_once for r in (row, dataclasses.replace(row, overrides=more))]
    table = dataclasses.replace(config.table, rows=tuple(rows), columns=config.table.columns[:1])
    one, four, none, same = cells.lay_out(dataclasses.replace(config, table=table)).rows
    assert one.cells != four.cells
    assert none.cells == same.cells, "it shares nothing"
    assert four.title == same.title == "rmc.queries_at_once = 4"


def test_a_defence_without_delta_has_the_same_cell_under_each() -> None:
    config = experiment("table5a")
    rows = tuple(dataclasses.replace(r, defence="rmc") for r in config.table.rows)
    plain = dataclasses.replace(config, table=dataclasses.replace(config.table, rows=rows))
    assert len(cells.lay_out(plain).cells) == 2 * 3


def struck(defence: str, *, share: float | None = None, **threat: float) -> Cell:
    """Returns a cell of PGD-Skip at a time of the history; δ is `share`."""
    said: list[tuple[str, float]] = [("threats.pgd_skip.before", threat.pop("before"))]
    said += [] if share is None else [("refresh.share", share)]
    said += [(f"threats.pgd_skip.{name}", value) for name, value in threat.items()]
    return Cell("target", defence, ("pgd",), "pgd_skip", "", overrides=tuple(said))


def test_figures_3_and_4_share_the_cells_that_they_have_in_common() -> None:
    three, a, b = (set(laid_out(name).cells) for name in ("figure3", "figure4a", "figure4b"))
    own = {Cell("target", "rmc", ("pgd",), "pgd", "target")}
    assert own == three & a and set(laid_out("figure2").cells) == a
    assert b & set(laid_out("table1").cells) == three, "N' = 5|D|, under each attack"
    assert set(laid_out("figure1").cells) <= set(laid_out("table1").cells)


def test_figure_4_crosses_k_and_n_prime_with_the_attacks() -> None:
    a, b = laid_out("figure4a"), laid_out("figure4b")
    assert [r.title for r in a.rows] == [f"K = {k}" for k in (64, 128, 256, 512, 1024)]
    assert [r.title for r in b.rows] == [f"|D'|/|D| = {size}" for size in (2, 3, 5, 9)]
    assert [dict(c.overrides).get("rmc.k") for c in a.cells] == [64, 128, 256, None, 1024]
    few = shipped.of_dataset("digits")
    few = dataclasses.replace(few, rmc=dataclasses.replace(few.rmc, k=8))
    a = cells.lay_out(shipped.made_of("figure4a", few))
    assert [r.title for r in a.rows] == ["K = 2", "K = 4", "K = 8", "K = 16"]
    assert len(b.cells) == 4 * 5 and all(c.d_prime == (c.stream,) for c in b.cells)


@pytest.mark.parametrize("name", ["figure1", "figure2", "figure3", "figure4a", "figure4b"])
@pytest.mark.parametrize("dataset", ["digits", "mnist", "fashion_mnist", "cifar10"])
def test_every_figure_is_made_for_every_data_set(name: str, dataset: str) -> None:
    config = experiment(name, dataset)
    assert config.table.name == name and cells.lay_out(config).cells
    few = 50 if name in ("figure1", "figure4b") else 100
    assert config.evaluation.points == (10_000 if dataset == "cifar10" else few)


def test_table_4_turns_the_papers_over() -> None:
    table, printed = laid_out("table4"), paper.printed("table4")
    assert printed is not None
    assert [r.title for r in table.rows if "label" not in r.title] == printed.columns
    assert [r.title for r in printed.rows] == list(table.columns[:2])
    for (cell,) in row(table, "WebNN"):
        assert cell.d_prime == ("pgd",), "both attackers face the D' of PGD"


def test_a_threat_that_takes_weights_is_refused_where_what_answers_has_no_place_for_them() -> None:
    threats = {
        name: ThreatConfig(threat=name, attack="pgd") for name in ("pgd_skip", "rays", "gmsa_avg")
    }
    base = dataclasses.replace(shipped.of_dataset("digits"), threats=threats)

    def asked(defence: str, stream: str) -> ExperimentConfig:
        columns = tuple(ColumnConfig(title=each, stream=each) for each in ("clean", stream))
        rows = (RowConfig(title=defence, defence=defence, d_prime="given"),)
        return dataclasses.replace(base, table=TableConfig(rows=rows, columns=columns))

    for name in ("private", "private_rmc", "ensemble", "refusing_ensemble", "smoothed"):
        for stream in ("pgd_skip", "gmsa_avg"):
            with pytest.raises(UserError, match=f"columns={stream}: {name} answers by other net"):
                cells.lay_out(asked(name, stream))
        assert cells.lay_out(asked(name, "pgd")).cells and cells.lay_out(asked(name, "rays")).cells
    assert cells.lay_out(asked("cleansing", "pgd_skip")).cells, "its network is a copy, trained on"
