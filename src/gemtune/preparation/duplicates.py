"""Copies among the rows: which are dropped, and which questions are so close that they stay in one group."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from gemtune.errors import RowError
from gemtune.preparation.candidates import mixed
from gemtune.preparation.near_duplicates import Questions
from gemtune.preparation.row_store import Hashes, Numbers, RowStore


def without_exact_copies(store: RowStore, remaining: Numbers) -> Numbers:
    """The rows without those whose id an earlier, different row has, and without those that repeat an earlier row."""
    content = store.hashes("content")
    same_id, first = _repeats(store.hashes("id"), remaining[store.hashes("id") != 0])
    differs = content[same_id] != content[first]
    for row, other in zip(same_id[differs].tolist(), first[differs].tolist(), strict=True):
        error = RowError("duplicate id", f"{store.where(other)} has this id and says something else")
        store.refuse(store.where(row), error)
    remaining = np.setdiff1d(remaining, same_id[differs], assume_unique=True)
    later, first = _repeats(content, remaining)
    for row, other in zip(later.tolist(), first.tolist(), strict=True):
        store.drop(store.where(row), "duplicate", f"the same as {store.where(other)}")
    return np.setdiff1d(remaining, later, assume_unique=True)


def _repeats(hashes: Hashes, rows: Numbers) -> tuple[Numbers, Numbers]:
    """The rows with the hash of an earlier row, and for each of them the first such row."""
    _, first, inverse = np.unique(hashes[rows], return_index=True, return_inverse=True)
    firsts = rows[first[inverse]]
    return rows[firsts != rows], firsts[firsts != rows]


def without_near_copies(store: RowStore, questions: Questions, remaining: Numbers) -> Numbers:
    """The rows without those that ask the question of an earlier one, or nearly so, and have its answer."""
    answers, dropped = store.hashes("answer"), []
    later, first = _repeats(mixed(questions.hashes + mixed(answers)), remaining)
    for row, other in zip(later.tolist(), first.tolist(), strict=True):
        store.drop(store.where(row), "near duplicate", f"similarity 1.00 with {store.where(other)}")
    remaining = np.setdiff1d(remaining, later, assume_unique=True)
    neighbours, kept = questions.neighbours(), dict[tuple[int, int], int]()
    for row in sorted(row for rows in questions.rows_of(remaining, {*neighbours}).values() for row in rows):
        question, answer = int(questions.hashes[row]), int(answers[row])
        near = next((pair for pair in neighbours[question] if (pair.other, answer) in kept), None)
        if near is None:
            kept[question, answer] = row
            continue
        dropped.append(row)
        other = store.where(kept[near.other, answer])
        store.drop(store.where(row), "near duplicate", f"similarity {near.similarity:.2f} with {other}")
    return np.setdiff1d(remaining, dropped, assume_unique=True)


def join_groups(store: RowStore, questions: Questions, rows: Numbers) -> None:
    """Puts rows whose questions are the same, or nearly so, into one group, whatever the order of the rows."""
    groups, asked = store.hashes("group"), questions.hashes
    _, first, inverse = np.unique(asked[rows], return_index=True, return_inverse=True)
    is_split = groups[rows[first[inverse]]] != groups[rows]
    nearby = {question for pair in questions.near for question in (pair.question, pair.other)}
    rows_of = questions.rows_of(rows, nearby | {*asked[rows[is_split]].tolist()})
    joined = _Joined()
    for members in rows_of.values():
        for row in members:
            joined.join(int(groups[row]), int(groups[members[0]]))
    for pair in questions.near:
        joined.join(*(int(groups[rows_of[question][0]]) for question in (pair.question, pair.other)))
    chosen_of = joined.chosen()
    changed = rows[np.isin(groups[rows], np.fromiter(chosen_of, np.uint64, len(chosen_of)))]
    names = {int(groups[row]): row for row in changed.tolist()}
    for row in changed.tolist():
        chosen = chosen_of[int(groups[row])]
        if chosen != groups[row]:
            store.regroup(row, chosen, store.conversation(names[chosen])["group"])


class _Joined:
    """Hashes of groups in disjoint sets."""

    def __init__(self) -> None:
        self._parents: dict[int, int] = {}

    def _root(self, group: int) -> int:
        while (parent := self._parents.setdefault(group, group)) != group:
            group = self._parents[group] = self._parents.setdefault(parent, parent)
        return group

    def join(self, group: int, other: int) -> None:
        self._parents[self._root(group)] = self._root(other)

    def chosen(self) -> dict[int, int]:
        """Group -> the group of its set that stands for all of it.

        A second hash chooses it: by the first, which is where the group lies in the split, sets would be held out more.
        """
        members: dict[int, list[int]] = defaultdict(list)
        for group in self._parents:
            members[self._root(group)].append(group)
        best = {root: groups[int(np.argmin(mixed(np.array(groups, np.uint64))))] for root, groups in members.items()}
        return {group: best[root] for root, groups in members.items() for group in groups}
