"""The server as OpenAI's own client finds it: replies equal `gemtune generate`'s, and refusals say what is wrong."""

from __future__ import annotations

import base64
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest
import torch

from gemtune.data.conversation import read_conversations
from gemtune.pipeline import stages
from gemtune.pipeline.stages import Job
from gemtune.pipeline.tuned_models import model_named
from gemtune.serving.chat import Turn, conversation_of
from serving.live import LONG, PROMPT, Live, live, user, wait_for

PROMPTS = [PROMPT, "pizza", "good morning coffee time", "rain today"]


def quiet(run: Path, *overrides: str) -> Job:
    return Job(run, overrides, say=lambda text: None)


@pytest.fixture(scope="module")
def long_reply(served: Live) -> str:
    """A reply of several words, which a test can cut."""
    text = served.said(PROMPT, "base", max_tokens=40)
    assert len(text) > 12
    return text


# --- the same replies as on the command line --------------------------------------------------------------------------


def test_replies_are_those_of_generate(served: Live, runs: list[Path]) -> None:
    one, two = (quiet(run) for run in runs)
    own = {"one": (one, "tuned"), "two": (two, "tuned"), "base": (one, "base")}
    expected = {
        name: [stages.generate(job, prompt, weights).strip() for prompt in PROMPTS]
        for name, (job, weights) in own.items()
    }
    for names in (list(own), list(reversed(own))):  # no adapter leaves anything behind
        asked = {name: [served.said(prompt, name) for prompt in PROMPTS] for name in names}
        assert asked == expected
    assert len({tuple(texts) for texts in expected.values()}) == 3


def test_a_sampled_reply_is_that_of_generate_with_the_same_seed(served: Live, runs: list[Path]) -> None:
    for temperature, top_p, seed in ((0.7, 1.0, 3), (1.0, 0.9, 4), (1.5, 0.5, 5)):
        numbers = (f"evaluate.temperature={temperature}", f"evaluate.top_p={top_p}", f"evaluate.seed={seed}")
        expected = stages.generate(quiet(runs[0], *numbers), PROMPT).strip()
        assert served.said(PROMPT, temperature=temperature, top_p=top_p, seed=seed) == expected


def test_without_a_seed_a_sampled_reply_is_another_every_time(served: Live) -> None:
    assert len({served.said(PROMPT, "base", temperature=2.0) for _ in range(5)}) > 1


def test_a_picture_is_answered_as_by_generate(seeing: Live, sees: Path, rows: Path, tmp_path: Path) -> None:
    pictures = [rows.parent / "0.png", rows.parent / "1.png"]
    for asked in (pictures[:1], pictures):
        expected = stages.generate(quiet(sees), "what is it?", images=[str(path) for path in asked]).strip()
        content = [*(picture(path) for path in asked), {"type": "text", "text": "what is it?"}]
        assert seeing.said(content, "sees") == expected  # type: ignore[arg-type]
    assert seeing.said("what is it?", "sees") != expected


def picture(path: Path) -> dict[str, Any]:
    data = base64.b64encode(path.read_bytes()).decode()
    return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}


def test_no_picture_of_a_request_stays(sees: Path, rows: Path, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    before = {path for path in sees.rglob("*") if path.is_file()}
    with live([quiet(sees)], tmp_path / "images") as server:
        for stream in (False, True):
            list(server.asked([picture(rows.parent / "0.png"), text("?")], "sees", stream=stream))
        wait_for(lambda: not list((tmp_path / "images").iterdir()))
    assert {path for path in sees.rglob("*") if path.is_file()} == before


def text(words: str) -> dict[str, str]:
    return {"type": "text", "text": words}


def test_a_served_prompt_is_the_trained_prompt_token_for_token(runs: list[Path], sees: Path, rows: Path) -> None:
    """A row's question sent as messages, or an emoji row's text alone, has the ids before the trained span."""
    checked = 0
    for run in (*runs, sees):
        job = quiet(run)
        for conversation in read_conversations(job.run.part("train")):
            example = job.renderer.example(conversation)
            trained_prompt = example.input_ids[: example.spans[-1][0]]
            turns = [
                Turn.model_validate({"role": message.role, "content": [part_of(job, part) for part in message.parts]})
                for message in conversation.messages[:-1]
            ]
            asked = [turns] if len(turns) == 1 or run == sees else [turns, turns[-1:]]
            for messages in asked:
                assert job.renderer.prompt_ids(sized(job, conversation_of(messages, job.task.asked))) == trained_prompt
                checked += 1
    assert checked > 300


def part_of(job: Job, part: Any) -> dict[str, Any]:
    return text(part.text) if part.image is None else picture(job.run.data / part.image)


def sized(job: Job, conversation: Any) -> Any:
    """The conversation with its pictures in the run's own data, as the server has them in a folder of its own."""
    from gemtune.data.images import ImageStore

    return ImageStore(job.run.data, lambda name: b"").resolve(conversation)


# --- what a request may ask ------------------------------------------------------------------------------------------


def test_a_stream_is_the_same_reply_in_pieces(served: Live, long_reply: str) -> None:
    request = {"max_tokens": 40, "stream": True, "stream_options": {"include_usage": True}}
    chunks = list(served.asked(PROMPT, "base", **request))
    *rest, usage = chunks
    assert "".join(chunk.choices[0].delta.content or "" for chunk in rest) == long_reply
    assert sum(bool(chunk.choices[0].delta.content) for chunk in rest) > 5
    assert [chunk.choices[0].finish_reason for chunk in rest if chunk.choices[0].finish_reason] == ["length"]
    whole = served.asked(PROMPT, "base", max_tokens=40)
    assert usage.choices == [] and usage.usage == whole.usage and whole.usage.completion_tokens == 40
    assert len({chunk.id for chunk in chunks}) == 1 and rest[0].choices[0].delta.role == "assistant"


def test_a_stream_ends_with_done(served: Live) -> None:
    body = json.dumps({"model": "one", "messages": [user(PROMPT)], "stream": True}).encode()
    status, text, headers = served.raw("POST", "/v1/chat/completions", body)
    assert status == 200 and headers["content-type"].startswith("text/event-stream")
    *events, last = [event for event in text.split("\n\n") if event]
    assert last == "data: [DONE]" and all(event.startswith("data: {") for event in events)


def test_usage_counts_the_prompt(served: Live, runs: list[Path]) -> None:
    job = quiet(runs[0])
    usage = served.asked(PROMPT).usage
    assert usage.prompt_tokens == len(job.renderer.prompt_ids(job.task.asked(PROMPT)))
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens


@pytest.mark.parametrize("stream", [False, True])
def test_a_stop_ends_the_reply_before_it(served: Live, long_reply: str, stream: bool) -> None:
    stop = long_reply[6:9]
    expected = long_reply[: long_reply.index(stop)].rstrip()
    answer = served.asked(PROMPT, "base", max_tokens=40, stop=["nowhere", stop], stream=stream)
    if not stream:
        assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == (expected, "stop")
        return
    chunks = list(answer)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == expected
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_a_limit_cuts_the_reply(served: Live) -> None:
    answer = served.asked(PROMPT, "base", max_completion_tokens=3)
    assert (answer.choices[0].finish_reason, answer.usage.completion_tokens) == ("length", 3)


@pytest.mark.parametrize("stream", [False, True])
def test_several_choices_are_drawn_apart(served: Live, stream: bool) -> None:
    drawn = {"temperature": 1.5, "max_tokens": 10}
    expected = [served.said(PROMPT, "base", seed=7 + number, **drawn) for number in range(3)]
    answer = served.asked(PROMPT, "base", n=3, seed=7, stream=stream, **drawn)
    texts = ["", "", ""]
    for choice in (choice for chunk in answer for choice in chunk.choices) if stream else answer.choices:
        texts[choice.index] += (choice.delta if stream else choice.message).content or ""
    assert texts == expected and len(set(texts)) == 3


def test_a_conversation_goes_on(served: Live, runs: list[Path]) -> None:
    """The client's own answer object comes back as a message."""
    first = served.asked(PROMPT).choices[0].message
    messages = [{"role": "developer", "content": "In emoji."}, user(PROMPT), first, user("and then?")]
    answer = served.client.chat.completions.create(model="one", messages=messages)
    assert answer.usage.prompt_tokens > served.asked(PROMPT).usage.prompt_tokens


def test_the_models_are_listed(served: Live) -> None:
    models = served.client.models.list().data
    assert [model.id for model in models] == ["one", "two", "base"]
    assert served.client.models.retrieve("two").id == "two"
    assert all(model.created > 1_600_000_000 for model in models)


def test_log_probabilities_are_the_models(served: Live, runs: list[Path]) -> None:
    answer = served.asked(PROMPT, "base", max_tokens=5, logprobs=True, top_logprobs=2).choices[0]
    job = quiet(runs[0])
    model, ids = model_named(job, "base"), job.renderer.prompt_ids(job.task.asked(PROMPT))
    for told in answer.logprobs.content:
        with torch.no_grad():
            logprobs = model(torch.tensor([ids])).logits[0, -1].log_softmax(-1)
        best = logprobs.topk(2)
        assert told.logprob == pytest.approx(best.values[0].item(), abs=1e-4)
        assert [each.logprob for each in told.top_logprobs] == pytest.approx(best.values.tolist(), abs=1e-4)
        ids = [*ids, int(best.indices[0])]
        assert told.token == job.tokenizer.decode([ids[-1]])
        assert told.bytes is None or bytes(told.bytes).decode() == told.token
    assert served.asked(PROMPT).choices[0].logprobs is None
    streamed = list(served.asked(PROMPT, "base", max_tokens=5, logprobs=True, top_logprobs=2, stream=True))
    pieces = [chunk.choices[0].logprobs.content for chunk in streamed if chunk.choices[0].logprobs]
    assert [each for piece in pieces for each in piece] == answer.logprobs.content


# --- many clients ----------------------------------------------------------------------------------------------------


def test_many_at_once_get_what_each_gets_alone(served: Live) -> None:
    asked = [(prompt, model) for prompt in PROMPTS for model in ("one", "base", "two")] * 3
    alone = {pair: served.said(*pair) for pair in dict.fromkeys(asked)}
    with ThreadPoolExecutor(len(asked)) as pool:
        assert list(pool.map(lambda pair: served.said(*pair), asked)) == [alone[pair] for pair in asked]


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_stops_its_generation(served: Live, stream: bool) -> None:
    before = served.engine.tokens
    if stream:
        answer = served.asked(PROMPT, "base", stream=True, **LONG)
        for _ in range(5):
            next(answer)
        answer.close()
    else:
        with pytest.raises(openai.APITimeoutError):
            served.client.with_options(timeout=1.0).chat.completions.create(
                model="base", messages=[user(PROMPT)], **LONG
            )
    wait_for(lambda: not served.engine.running and not served.engine.waiting)
    after = served.engine.tokens
    assert after - before < 1_200  # of at least 1,201, for 600 flags and their commas
    assert served.said(PROMPT)


def test_one_more_than_may_wait_is_refused(runs: list[Path], tmp_path: Path) -> None:
    with live([quiet(runs[0])], tmp_path, batch=1, queue=2) as server:
        running = server.asked(PROMPT, "base", stream=True, **LONG)
        next(running)
        waiting = [server.asked(PROMPT, "base", stream=True, **LONG) for _ in range(2)]
        assert server.engine.waiting == 2
        with pytest.raises(openai.RateLimitError) as error:
            server.asked(PROMPT)
        assert error.value.code == "rate_limit_exceeded" and error.value.response.headers["retry-after"]
        waiting[0].close()  # gives its place free before its turn
        wait_for(lambda: server.engine.waiting == 1)
        running.close()
        waiting[1].close()
        assert server.said(PROMPT) is not None


def test_requests_are_answered_in_the_order_in_which_they_came(runs: list[Path], tmp_path: Path) -> None:
    """Those for the same model side by side, in order; the first of another is not passed over."""
    ends: list[str] = []
    with live([quiet(run) for run in runs], tmp_path, batch=2) as server:
        running = server.asked(PROMPT, "base", stream=True, **LONG)
        next(running)
        order = ["one", "two", "one", "one", "two"]

        def ask(number: int) -> None:
            server.said(PROMPT, order[number], max_tokens=4)
            ends.append(f"{order[number]}{number}")

        threads = []
        for number in range(len(order)):
            threads.append(threading.Thread(target=ask, args=(number,)))
            threads[-1].start()
            wait_for(lambda: server.engine.waiting == len(threads))
        running.close()
        for thread in threads:
            thread.join()
    assert [sorted(ends[:2]), sorted(ends[2:4]), ends[4:]] == [["one0", "one2"], ["two1", "two4"], ["one3"]]


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"extra_body": {"top_k": 4}}, "top_k", "unknown or unsupported field; did you mean 'top_p'?"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools", "unknown or unsupported field"),
        ({"user": "me"}, "user", "unknown or unsupported field"),
        ({"temperature": 3}, "temperature", "wanted less than or equal to 2, found 3"),
        ({"n": 9}, "n", "wanted less than or equal to 8"),
        ({"max_tokens": 5_000}, "messages", "this model takes 2048 together"),
        ({"logit_bias": {"5": 1}}, "logit_bias", "unknown or unsupported field"),
        ({"messages": [user([{"type": "image_url", "image_url": {"url": "https://a.b/c.png"}}])]}, None, "no address"),
        ({"messages": [user([picture(Path(__file__)), text("?")])]}, "messages", "not an image in PNG"),
        ({"messages": [user("a<end_of_turn>b")]}, "messages", "spells the control token <end_of_turn>"),
        ({"messages": [user("  ")]}, "messages", "message 1 (user) is empty"),
        ({"messages": [user("a"), user("b")]}, "messages", "user and assistant take turns"),
        ({"messages": [user("a"), {"role": "assistant", "content": "b"}]}, "messages", "nothing to answer"),
    ],
)
def test_a_request_that_is_refused_names_the_field(
    served: Live, fields: dict[str, Any], param: str | None, words: str
) -> None:
    request: dict[str, Any] = {"model": "one", "messages": [user(PROMPT)], **fields}
    with pytest.raises(openai.BadRequestError) as error:
        served.client.chat.completions.create(**request)
    assert words in error.value.message and error.value.type == "invalid_request_error"
    assert error.value.param == param or (param is None and str(error.value.param).endswith("image_url.url"))


def test_a_text_model_is_shown_no_picture(served: Live, rows: Path) -> None:
    with pytest.raises(openai.BadRequestError, match="this model takes none"):
        served.asked([picture(rows.parent / "0.png"), text("?")])  # type: ignore[arg-type]


def test_a_model_that_is_not_here(served: Live) -> None:
    with pytest.raises(openai.NotFoundError, match="this server has one, two, base") as error:
        served.said(PROMPT, "three")
    assert (error.value.code, error.value.param) == ("model_not_found", "model")
