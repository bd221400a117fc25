"""Tables compared: TEDS against another implementation of tree edit distance, pairs against every assignment."""

from __future__ import annotations

import random
from itertools import permutations

import numpy as np
import pytest

from gemtune.metrics.markdown import Cell, Table, read_markdown
from gemtune.metrics.tables import MOST_NODES, _cost, assignment, cell_f1, compare_tables, teds, tree_distance, tree_of

apted = pytest.importorskip("apted")


class Node:
    """A node as apted takes it."""

    def __init__(self, label: Cell | str, children: list[Node] | None = None):
        self.label, self.children = label, children or []


class Costs(apted.Config):  # type: ignore[misc, name-defined]
    def rename(self, one: Node, other: Node) -> float:
        return _cost(one.label, other.label)

    def children(self, node: Node) -> list[Node]:
        return node.children


def node_of(table: Table) -> Node:
    return Node("table", [Node("row", [Node(cell) for cell in row]) for row in table])


def random_table(draw: random.Random) -> Table:
    return tuple(
        tuple(
            Cell(draw.choice(["", "12", "120", "اسم", "اسماء"]), draw.choice([1, 1, 1, 2]))
            for _ in range(draw.randint(1, 4))
        )
        for _ in range(draw.randint(0, 5))
    )


def test_the_distance_is_apteds_on_200_random_tables() -> None:
    draw = random.Random(7)
    for _ in range(200):
        one, other = random_table(draw), random_table(draw)
        expected = apted.APTED(node_of(one), node_of(other), Costs()).compute_edit_distance()
        assert tree_distance(tree_of(one), tree_of(other)) == pytest.approx(expected)


def table(*rows: str) -> Table:
    return tuple(tuple(Cell(text) for text in row.split("|")) for row in rows)


def test_teds_sees_rows_cells_and_spans() -> None:
    truth = table("a|b", "1|2", "3|4")
    assert teds(truth, truth) == 1.0
    assert teds(table("a|b", "1|2"), truth) == pytest.approx(1 - 3 / 10)
    assert teds(table("a|b", "1|2", "3|x"), truth) == pytest.approx(1 - 1 / 10)
    spanned = ((Cell("a", 2), Cell("b")), *truth[1:])
    assert teds(spanned, truth) == pytest.approx(1 - 1 / 10)
    assert teds((), truth) == pytest.approx(1 - 9 / 10)


def test_cells_are_compared_folded() -> None:
    assert cell_f1(table("القاهرة|١٢"), table("القاهره|12")) == 1.0
    assert cell_f1((), ()) == 1.0


def test_each_table_finds_its_own_and_the_rest_get_nothing() -> None:
    first, second = table("name|sum", "Ali|5"), table("year|rain", "2020|13")
    shuffled = compare_tables([second, first], [first, second])
    assert (shuffled.teds, shuffled.tables) == (2.0, 2)
    missed, made_up = compare_tables([second], [first, second]), compare_tables([first, second], [second])
    assert (missed.teds, missed.tables) == (made_up.teds, made_up.tables) == (1.0, 2)
    assert compare_tables([], [first]).teds == compare_tables([first], []).cell_f1 == 0.0
    assert compare_tables([], []).tables == 0


def test_of_a_very_large_table_the_first_rows_are_compared() -> None:
    large = table(*(f"{n}|{n}" for n in range(5_000)))
    assert teds(large, large) == 1.0
    wide = table("|".join(map(str, range(100_000))))
    assert 0 <= teds(wide, table("a|b")) <= 1
    tail = (*large[:MOST_NODES], *table("x|y"))
    assert teds(tail, large) == 1.0, "both have the same first rows"


@pytest.mark.parametrize("shape", [(1, 1), (3, 3), (2, 5), (5, 2), (4, 5)])
def test_no_assignment_is_better(shape: tuple[int, int]) -> None:
    for seed in range(20):
        gains = np.random.default_rng(seed).integers(0, 6, shape).astype(float)
        wide = gains if shape[0] <= shape[1] else gains.T
        best = max(
            sum(wide[row, column] for row, column in enumerate(p))
            for p in permutations(range(wide.shape[1]), wide.shape[0])
        )
        pairs = assignment(gains)
        assert sum(gains[i, j] for i, j in pairs) == best
        assert len(pairs) == len({i for i, _ in pairs}) == len({j for _, j in pairs}) == min(shape)


def test_nothing_has_no_pairs() -> None:
    assert assignment(np.zeros((0, 3))) == assignment(np.zeros((3, 0))) == []


def test_tables_of_html_and_pipes_are_the_same() -> None:
    html = read_markdown("<table><tr><th>a</th></tr><tr><td>1</td></tr></table>").tables
    assert compare_tables(html, read_markdown("| a |\n|---|\n| 1 |").tables).teds == 1.0
