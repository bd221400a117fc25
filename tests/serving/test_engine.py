"""The engine without a server: a batch that fails ends nothing but itself."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import torch

from gemtune.errors import RequestError
from gemtune.models.families import family_of
from gemtune.models.loading import load_model, load_tokenizer
from gemtune.recipe.schema import Evaluate
from gemtune.rendering.renderer import Renderer
from gemtune.serving.engine import Engine, Served, Ticket
from gemtune.serving.replies import Reply, Sampling
from gemtune.serving.torch_replies import generate
from serving.live import wait_for


class Failing:
    """A model that fails at batches of more rows than it takes, or at all of them."""

    def __init__(self, model: Any, error: Exception, rows: int):
        self.model, self.error, self.rows, self.device = model, error, rows, model.device

    def generate(self, input_ids: torch.Tensor, **inputs: Any) -> torch.Tensor:
        if len(input_ids) > self.rows:
            raise self.error
        return self.model.generate(input_ids=input_ids, **inputs)


@pytest.fixture(scope="module")
def renderer(tiny_model: Path) -> Renderer:
    return Renderer(load_tokenizer(tiny_model), family_of(tiny_model))


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> Any:
    return load_model(tiny_model)


def served_by(renderer: Renderer) -> Served:
    return Served("m", 0, renderer, Evaluate(), lambda prompt: None)  # type: ignore[arg-type,return-value]


def engine_of(model: Any, rows: int, say: Any = print, most_waiting: int = 8) -> Engine:
    return Engine(generate=partial(generate, model), rows=rows, most_waiting=most_waiting, say=say)


def ticket(served: Served, told: list[Any]) -> Ticket:
    reply = Reply(renderer=served.renderer, sampling=Sampling(0.0, 1.0, 0, limit=3), tell=told.append)
    return Ticket(served, [2, 105, 200], [], [reply])


@contextlib.contextmanager
def running(engine: Engine, tickets: list[Ticket]) -> Iterator[None]:
    """The engine with tickets that all waited before it began."""
    for each in tickets:
        engine.submit(each)
    thread = Thread(target=engine.run)
    thread.start()
    try:
        yield
    finally:
        engine.close()
        thread.join(30)
    assert not thread.is_alive()


def test_where_memory_runs_out_tickets_are_answered_one_after_the_other(renderer: Renderer, model: Any) -> None:
    full = torch.OutOfMemoryError("CUDA out of memory")
    served, told = served_by(renderer), [list[Any]() for _ in range(3)]
    with running(engine_of(Failing(model, full, 1), 8), [ticket(served, out) for out in told]):
        wait_for(lambda: all(out and out[-1].finish for out in told))
    assert told[0] == told[1] == told[2]


def test_a_ticket_that_memory_does_not_hold_says_so_and_the_next_is_answered(renderer: Renderer, model: Any) -> None:
    failing = Failing(model, MemoryError(), 0)
    served, first, second = served_by(renderer), list[Any](), list[Any]()
    engine = engine_of(failing, 1)
    with running(engine, [ticket(served, first)]):
        wait_for(lambda: bool(first))
        failing.rows = 1
        engine.submit(ticket(served, second))
        wait_for(lambda: bool(second) and bool(second[-1].finish))
    (error,) = first
    assert isinstance(error, RequestError) and error.status == 503 and "lower max_tokens" in str(error)


def test_a_bug_is_said_without_the_request_and_the_server_goes_on(renderer: Renderer, model: Any) -> None:
    failing, said = Failing(model, ValueError("the prompt was: my secret"), 0), list[str]()
    served, first, second = served_by(renderer), list[Any](), list[Any]()
    engine = engine_of(failing, 1, said.append)
    with running(engine, [ticket(served, first)]):
        wait_for(lambda: bool(first))
        failing.rows = 1
        engine.submit(ticket(served, second))
        wait_for(lambda: bool(second) and bool(second[-1].finish))
    assert first[0].status == 500 and "ValueError" in str(first[0])
    assert len(said) == 1 and "ValueError in" in said[0] and "secret" not in said[0] + str(first[0])


def test_a_ticket_that_left_while_it_waited_is_not_answered(renderer: Renderer, model: Any) -> None:
    engine, served, told = engine_of(model, 1, most_waiting=2), served_by(renderer), list[Any]()
    left, other = ticket(served, told), ticket(served, out := list[Any]())
    for each in (left, other):
        engine.submit(each)
    with pytest.raises(RequestError, match="2 requests wait already"):
        engine.submit(ticket(served, []))
    engine.leave(left)
    with running(engine, []):
        wait_for(lambda: bool(out) and bool(out[-1].finish))
    assert told == [] and engine.tokens == 3
