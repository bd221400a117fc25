"""Tables compared: by tree edits (TEDS) and by their cells, each with the table of the truth that it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rapidfuzz import fuzz
from rapidfuzz.distance import Levenshtein

from gemtune.metrics.arabic import fold
from gemtune.metrics.markdown import Cell, Table
from gemtune.metrics.statistics import Floats
from gemtune.metrics.text import overlap

MOST_NODES = 300  # of a table that TEDS compares: 0.4 s for two of them; of a larger one, the rows that come first


def cell_f1(reply: Table, truth: Table) -> float:
    """F1 of the texts of cells that are not empty, wherever they stand.

    >>> cell_f1(((Cell("a"), Cell("b")),), ((Cell("a"),), (Cell("c"),)))
    0.5
    """
    return overlap(_texts(reply), _texts(truth))["f1"]


def _texts(table: Table) -> list[str]:
    return [text for row in table for cell in row if (text := fold(cell.text))]


def teds(reply: Table, truth: Table) -> float:
    """1 minus the tree edit distance over the nodes of the larger table (Zhong et al. 2020): table, rows, cells.

    A cell with other spans is another cell; one with other text costs the share of it that differs. <th> is <td>.

    >>> round(teds(((Cell("a"), Cell("b")),), ((Cell("a"), Cell("c")),)), 3)
    0.75
    """
    before, after = _cut(reply), _cut(truth)
    if before == after:
        return 1.0
    nodes = max(_nodes(before), _nodes(after))
    return 1.0 - tree_distance(tree_of(before), tree_of(after)) / nodes


def _cut(table: Table) -> Table:
    """The first rows, folded, of as many nodes as are compared."""
    rows: list[tuple[Cell, ...]] = []
    nodes = 1
    for row in table:
        nodes += 1 + len(row)
        if nodes > MOST_NODES and rows:
            break
        rows.append(tuple(Cell(fold(cell.text, "arabic"), cell.columns, cell.rows) for cell in row[:MOST_NODES]))
    return tuple(rows)


def _nodes(table: Table) -> int:
    return 1 + len(table) + sum(map(len, table))


@dataclass(frozen=True)
class Tree:
    """A tree by its nodes in postorder: what each is, and its first leaf's number."""

    labels: tuple[Cell | str, ...]
    first_leaves: tuple[int, ...]


def tree_of(table: Table) -> Tree:
    """A table as a tree: its rows, and their cells."""
    labels: list[Cell | str] = []
    leaves: list[int] = []
    for row in table:
        start = len(labels)
        labels += row
        leaves += range(start, len(labels))
        labels.append("row")
        leaves.append(start)
    return Tree((*labels, "table"), (*leaves, 0))


def _cost(before: Cell | str, after: Cell | str) -> float:
    """Of making one node of another."""
    if isinstance(before, str) or isinstance(after, str):
        return float(before != after)
    if (before.columns, before.rows) != (after.columns, after.rows):
        return 1.0
    return Levenshtein.normalized_distance(before.text, after.text)


def tree_distance(before: Tree, after: Tree) -> float:
    """Zhang and Shasha's edit distance of ordered trees: 1 for a node more or less, `_cost` for another one."""
    first, second = before.first_leaves, after.first_leaves
    costs = [[_cost(one, other) for other in after.labels] for one in before.labels]
    trees = [[0.0] * len(second) for _ in first]  # distances of the subtrees that end in two nodes
    for i in _key_roots(first):
        for j in _key_roots(second):
            _fill(i, j, first, second, costs, trees)
    return trees[-1][-1]


def _key_roots(first_leaves: Sequence[int]) -> list[int]:
    """The last node of each first leaf, in order."""
    return sorted({leaf: node for node, leaf in enumerate(first_leaves)}.values())


def _fill(
    i: int, j: int, first: Sequence[int], second: Sequence[int], costs: list[list[float]], trees: list[list[float]]
) -> None:
    """The distances of all subtrees along the leftmost paths of two key roots."""
    top, left = first[i], second[j]
    width = j - left + 1
    forest = [[float(column) for column in range(width + 1)]]
    for node in range(top, i + 1):
        above, line = forest[-1], [float(node - top + 1)]
        is_path, cost, tree = first[node] == top, costs[node], trees[node]
        detached = forest[first[node] - top]
        for column, other in enumerate(range(left, j + 1)):
            best = min(above[column + 1], line[column]) + 1.0
            if is_path and second[other] == left:
                best = min(best, above[column] + cost[other])
                tree[other] = best
            else:
                best = min(best, detached[second[other] - left] + tree[other])
            line.append(best)
        forest.append(line)


@dataclass(frozen=True)
class TableScores:
    """Of all tables of a page: sums over pairs, and how many there are with those that were missed or made up."""

    teds: float
    cell_f1: float
    tables: int


def compare_tables(reply: Sequence[Table], truth: Sequence[Table]) -> TableScores:
    """Every table against the one of the truth that it is most like by text, each once; the others get 0."""
    if tuple(reply) == tuple(truth):
        return TableScores(float(len(truth)), float(len(truth)), len(truth))
    texts = [" ".join(_texts(table)) for table in truth]
    likeness = [[fuzz.ratio(" ".join(_texts(table)), text) for text in texts] for table in reply]
    pairs = assignment(np.array(likeness, float).reshape(len(reply), len(truth)))
    return TableScores(
        sum(teds(reply[i], truth[j]) for i, j in pairs),
        sum(cell_f1(reply[i], truth[j]) for i, j in pairs),
        max(len(reply), len(truth)),
    )


def assignment(gains: Floats) -> list[tuple[int, int]]:
    """The pairs (row, column), each row and column at most once and as many as there can be, of the greatest gain.

    The Hungarian method with potentials, of cubic time.

    >>> assignment(np.array([[9.0, 8.0], [8.0, 1.0]]))
    [(0, 1), (1, 0)]
    """
    if gains.shape[0] > gains.shape[1]:
        return sorted((row, column) for column, row in assignment(gains.T))
    rows, columns = gains.shape
    row_of = np.full(columns + 1, -1)  # the last column is where a search starts
    rows_price, columns_price = np.zeros(rows), np.zeros(columns + 1)
    for row in range(rows):
        row_of[columns] = row
        column, seen = columns, np.zeros(columns + 1, bool)
        least, came_from = np.full(columns, np.inf), np.full(columns, columns)
        while row_of[column] >= 0:
            seen[column] = True
            reach = -gains[row_of[column]] - rows_price[row_of[column]] - columns_price[:columns]
            nearer = ~seen[:columns] & (reach < least)
            least[nearer], came_from[nearer] = reach[nearer], column
            following = int(np.where(seen[:columns], np.inf, least).argmin())
            step = least[following]
            rows_price[row_of[seen]] += step
            columns_price[seen] -= step
            least[~seen[:columns]] -= step
            column = following
        while column != columns:
            row_of[column] = row_of[came_from[column]]
            column = came_from[column]
    return sorted((int(row), column) for column, row in enumerate(row_of[:columns]) if row >= 0)
