"""A budget is never passed, by however many workers."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.scripted_teacher import ScriptedTeacher, always, listed
from documents.teacher.conftest import QUICK, Pages
from gemtune.documents.teacher import Ledger, TeacherError, Usage, forecast
from gemtune.documents.teacher.budget import Budget, Estimate, cost_of, size_of
from gemtune.recipe.document_sections import Teacher

Serve = Callable[..., ScriptedTeacher]
PRICED = {"model": "m", "input_price": 1.0, "output_price": 10.0}


def priced(**keys: object) -> Teacher:
    return Teacher(**PRICED, **keys)  # type: ignore[arg-type]


def test_eight_workers_stop_before_the_budget(tmp_path: Path, pages: Pages, serve: Serve) -> None:
    """A reply costs about 0.0002 and may cost 0.0102: no more than that is left when they stop."""
    many = Pages(pages.folder.root, 60)
    pages.truth_of.update(many.truth_of)
    server = serve(latency=0.02)
    budget = 0.015
    teacher = priced(url=server.url, max_tokens=1000, concurrency=8, budget=budget)
    with pytest.raises(TeacherError, match=r"teacher.budget of 0.015 is reached: 0.0\d+ is spent or reserved"):
        many.ask(teacher)
    charged = sum(line.input + line.output * 10 for line in server.served) / 1e6
    assert budget - 0.0105 < charged <= budget
    assert Ledger(many.folder.ledger_file).total("m").cost == pytest.approx(charged)
    many.assert_the_ledger_is_right()
    with pytest.raises(TeacherError, match="is reached"):
        many.ask(teacher)
    after = sum(line.input + line.output * 10 for line in server.served) / 1e6
    assert after <= budget, "nor by another start"
    replies = many.ask(teacher.model_copy(update={"budget": 1.0}))
    assert len(server.served) == 60 and all(reply.value for reply in replies)


def test_without_prices_tokens_are_counted(pages: Pages, serve: Serve) -> None:
    many = Pages(pages.folder.root, 30)
    pages.truth_of.update(many.truth_of)
    server = serve()
    with pytest.raises(TeacherError, match=r"teacher.budget_tokens of 800 is reached"):
        many.ask(Teacher(url=server.url, model="m", max_tokens=500, budget_tokens=800))
    assert 0 < sum(line.input + line.output for line in server.served) <= 800


def test_what_may_have_been_charged_counts(pages: Pages, serve: Serve) -> None:
    server = serve(always("dropped"))
    with pytest.raises(TeacherError, match="is reached"):
        pages.ask(priced(url=server.url, max_tokens=1000, budget=0.025))
    assert len(server.served) == 2
    assert Ledger(pages.folder.ledger_file).total("m").open == 2


def test_a_reservation_waits_for_what_is_under_way(tmp_path: Path) -> None:
    budget = Budget(priced(budget=0.01), Ledger(tmp_path / "none"))
    most = Usage(0, 600)
    budget.reserve(most)
    waiting = threading.Thread(target=budget.reserve, args=(most,))
    waiting.start()
    waiting.join(0.05)
    assert waiting.is_alive()
    budget.settle(most, Usage(0, 100))
    waiting.join(5)
    assert not waiting.is_alive()


def test_an_estimate_is_above_all_before_it_knows_and_near_after(tmp_path: Path, pages: Pages) -> None:
    estimate, size = Estimate(priced(max_tokens=9), Ledger(tmp_path / "none")), size_of(pages.requests()[0])
    assert estimate.mean("fields") is None
    assert estimate.most("fields", 1000) == Usage(1100, 9)
    estimate.learn("fields", 1000, Usage(200, 5))
    estimate.learn("fields", 1000, Usage(100, 3))
    assert estimate.most("fields", 1000) == estimate.most("fields", 500) == Usage(220 + 1, 9)
    assert estimate.most("fields", 2000) == Usage(440 + 1, 9)
    assert estimate.mean("fields") == Usage(150, 4)
    assert estimate.most("content", size).input > size


def test_a_cost_needs_both_prices() -> None:
    assert cost_of(Usage(10, 10), Teacher(input_price=1.0)) is None
    with pytest.raises(ValueError, match="wanted input_price and output_price for a budget"):
        Teacher(budget=1.0)


def test_the_price_is_known_from_one_page(pages: Pages, serve: Serve) -> None:
    server = serve(listed("429 in the body"))
    teacher = priced(url=server.url)
    there = forecast(pages.requests(), teacher, pages.folder, say=lambda line: None, patience=QUICK)
    [one] = [line for line in server.served if line.charged]
    assert there.replies == 2 and there.usage == Usage(2 * one.input, 2 * one.output)
    assert there.cost == pytest.approx(2 * (one.input + 10 * one.output) / 1e6)
    again = forecast(pages.requests(), teacher, pages.folder, say=lambda line: None, patience=QUICK)
    assert again == there and len(server.served) == 2
    pages.ask(teacher)
    assert pages.said == [str(there)]
