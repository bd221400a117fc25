"""Copies among the rows: which are dropped, and which questions are so close that they stay in one group."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from gemtune.errors import RowError
from gemtune.preparation.candidates import mixed
from gemtune.preparation.near_duplicates import Questions
from gemtune.preparation.row_store import RowStore
from gemtune.preparation.scratch import Mask, repeats, without


def without_exact_copies(store: RowStore, remaining: Mask) -> Mask:
    """The rows without those whose id an earlier, different row has, and without those that repeat an earlier row."""
    content, ids = store.hashes("content"), store.hashes("id")
    same_id, first = repeats(lambda part: ids[part], remaining & (ids != 0), store.folder)
    differs = content[same_id] != content[first]
    for row, other in zip(same_id[differs].tolist(), first[differs].tolist(), strict=True):
        error = RowError("duplicate id", f"{store.where(other)} has this id and says something else")
        store.refuse(store.where(row), error)
    remaining = without(remaining, same_id[differs])
    later, first = repeats(lambda part: content[part], remaining, store.folder)
    for row, other in zip(later.tolist(), first.tolist(), strict=True):
        store.drop(store.where(row), "duplicate", f"the same as {store.where(other)}")
    return without(remaining, later)


def without_near_copies(store: RowStore, questions: Questions, remaining: Mask) -> Mask:
    """The rows without those that ask the question of an earlier one, or nearly so, and have its answer."""
    asked, answers, dropped = questions.hashes, store.hashes("answer"), []
    later, first = repeats(lambda part: mixed(asked[part] + mixed(answers[part])), remaining, store.folder)
    for row, other in zip(later.tolist(), first.tolist(), strict=True):
        store.drop(store.where(row), "near duplicate", f"similarity 1.00 with {store.where(other)}")
    remaining = without(remaining, later)
    neighbours, kept = questions.neighbours(), dict[tuple[int, int], int]()
    for row in sorted(row for rows in questions.rows_of(remaining, {*neighbours}).values() for row in rows):
        question, answer = int(asked[row]), int(answers[row])
        near = next((pair for pair in neighbours[question] if (pair.other, answer) in kept), None)
        if near is None:
            kept[question, answer] = row
            continue
        dropped.append(row)
        other = store.where(kept[near.other, answer])
        store.drop(store.where(row), "near duplicate", f"similarity {near.similarity:.2f} with {other}")
    return without(remaining, np.array(dropped, np.int64))


def join_groups(store: RowStore, questions: Questions, rows: Mask) -> None:
    """Puts rows whose questions are the same, or nearly so, into one group, whatever the order of the rows."""
    groups, (later, first) = store.hashes("group"), questions.repeats
    is_split = groups[later] != groups[first]
    nearby = {question for pair in questions.near for question in (pair.question, pair.other)}
    rows_of = questions.rows_of(rows, nearby | {*questions.hashes[later[is_split]].tolist()})
    joined = _Joined()
    for members in rows_of.values():
        for row in members:
            joined.join(int(groups[row]), int(groups[members[0]]))
    for pair in questions.near:
        joined.join(*(int(groups[rows_of[question][0]]) for question in (pair.question, pair.other)))
    chosen_of = joined.chosen()
    changed = [row for found, _ in store.rows_with("group", chosen_of, rows) for row in found.tolist()]
    names = {int(groups[row]): row for row in changed}
    for row in changed:
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
