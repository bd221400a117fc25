"""A short fuzzing of every target, the same inputs each time; `make fuzz` goes on from here with seeds by chance."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import strategies as st

from fuzz import seeds
from fuzz.harness import LONGEST, Attempt, Tally, Target, fuzz
from fuzz.targets import TARGETS
from gemtune.errors import DataError

SECONDS = 60.0  # of one target on a machine that is very busy: then the rest of its inputs is left out


@pytest.mark.parametrize("name", [name for name, target in TARGETS.items() if target.quick])
def test_hostile_input_is_one_line(name: str, tmp_path: Path) -> None:
    target, tally = TARGETS[name], Tally()
    fuzz(target, tmp_path, 0, target.quick, time.monotonic() + SECONDS, tally)
    assert tally.tried
    found = (f"{fault.kind}\ninput: {fault.value[:LONGEST]}\n{fault.detail}" for fault in tally.faults.values())
    assert not tally.faults, "\n\n".join(found)


@pytest.fixture(scope="module", autouse=True)
def made_before() -> None:
    """What attempts import, and the seeds that take seconds to make, are of no input's time."""
    seeds.run_folder()


def broken(value: list[int], folder: Path) -> None:
    """Refuses rightly, and breaks the rule in two ways."""
    if len(value) > 3:
        raise KeyError("four")
    if 7 in value:
        raise ZeroDivisionError("seven")
    raise DataError("a list of numbers; give another one")


def test_every_kind_of_fault_is_found_and_its_input_is_small(tmp_path: Path) -> None:
    tally = Tally()
    fuzz(Target(st.lists(st.integers(0, 9)), broken, 200), tmp_path, 0, 200, time.monotonic() + 60, tally)
    assert {kind.split()[0]: fault.value for kind, fault in tally.faults.items()} == {
        "KeyError": "[0, 0, 0, 0]",
        "ZeroDivisionError": "[7]",
    }
    assert tally.tried >= 200


def slow(value: int, folder: Path) -> None:
    while value:
        pass


def large(value: int, folder: Path) -> None:
    bytearray(value * 300_000_000)


@pytest.mark.parametrize(("attempt", "seconds", "kind"), [(slow, 0.1, "TooSlow"), (large, 60, "TooLarge")])
def test_time_and_memory_have_a_limit(attempt: Attempt, seconds: float, kind: str, tmp_path: Path) -> None:
    tally = Tally()
    target = Target(st.integers(0, 1), attempt, 5, seconds=seconds, megabytes=100)
    fuzz(target, tmp_path, 0, 5, time.monotonic() + 60, tally)
    assert list(tally.faults) == [kind]


def test_the_same_seed_tries_the_same_inputs(tmp_path: Path) -> None:
    seen: list[list[object]] = []
    for _ in range(2):
        seen.append([])
        target = Target(TARGETS["rows"].inputs, lambda value, folder: seen[-1].append(repr(value)), 1)
        fuzz(target, tmp_path, 5, 30, time.monotonic() + 60, Tally())
    assert seen[0] == seen[1] and len(seen[0]) >= 30
