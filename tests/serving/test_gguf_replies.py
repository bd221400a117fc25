"""GGUF artifacts behind the same door, in real llama.cpp: replies equal `gemtune generate`'s."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import psutil
import pytest

from exporting.gguf_models import write_text_model, write_vision_model
from gemtune.data.conversation import Part, read_conversations
from gemtune.exporting.gguf_folder import open_gguf_folder
from gemtune.pipeline import stages
from gemtune.pipeline.stages import Job
from serving.conftest import trained
from serving.live import PROMPT, Live, live_gguf, user, wait_for

pytest.importorskip("gguf", reason="the gguf extra is optional")
pytest.importorskip("xllamacpp", reason="the gguf extra is optional")


def quiet(run: Path) -> Job:
    return Job(run, say=lambda text: None)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with artifacts, of the tuned model in fp32 and of the base model in bf16."""
    folder = tmp_path_factory.mktemp("gguf")
    train = {"max_steps": 3, "max_length": 512, "precision": "fp32", "device": "cpu", "learning_rate": 0.001}
    run = trained(folder, "one", write_text_model(folder / "model"), train=train)
    stages.export(quiet(run), ["gguf-f32"], limit=2)
    stages.export(quiet(run), ["gguf-bf16"], "base", limit=2)
    return run


@pytest.fixture(scope="module")
def served(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with live_gguf([(quiet(run), "gguf-f32")], tmp_path_factory.mktemp("images")) as server:
        yield server


@pytest.fixture(scope="module")
def endless(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """The base model, one reply at a time, with two requests that may wait."""
    with live_gguf([(quiet(run), "gguf-bf16")], tmp_path_factory.mktemp("images"), batch=1, queue=2) as server:
        yield server


def children() -> set[psutil.Process]:
    return set(psutil.Process().children())


def prompts(run: Path) -> list[str]:
    rows = read_conversations(quiet(run).run.part("test"))
    return [row.messages[-2].text.rpartition("\n")[2] for row in rows]


def test_replies_are_those_of_generate(served: Live, endless: Live, run: Path) -> None:
    """Alone, several at once, and in pieces."""
    job, asked = quiet(run), prompts(run)[:8]
    tuned = [stages.generate(job, prompt).strip() for prompt in asked]
    assert len(set(tuned)) > 3
    assert [served.said(prompt) for prompt in asked] == tuned
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(served.said, asked)) == tuned
    base = [stages.generate(job, prompt, "base").strip() for prompt in asked[:2]]
    assert [endless.said(prompt) for prompt in asked[:2]] == base
    for prompt, reply in zip(asked, tuned, strict=True):
        *pieces, last = served.asked(prompt, stream=True, stream_options={"include_usage": True})
        assert "".join(piece.choices[0].delta.content or "" for piece in pieces) == reply
        assert pieces[-1].choices[0].finish_reason in ("stop", "length") and last.usage.completion_tokens > 0


def test_counts_and_ends_are_those_of_the_other_engine(served: Live, endless: Live, run: Path) -> None:
    whole = endless.asked(PROMPT, max_tokens=30)
    assert (whole.choices[0].finish_reason, whole.usage.completion_tokens) == ("length", 30)
    text = whole.choices[0].message.content
    assert len(text) > 8
    cut = endless.asked(PROMPT, max_tokens=30, stop=[text[4:7]])
    assert cut.choices[0].message.content == text[: text.index(text[4:7])].strip()
    assert cut.choices[0].finish_reason == "stop" and cut.usage.completion_tokens < 30
    assert cut.usage.prompt_tokens == whole.usage.prompt_tokens == len(quiet(run).renderer.prompt_ids(_asked(run)))


def _asked(run: Path) -> Any:
    return quiet(run).task.asked(PROMPT)


def test_a_seed_draws_the_same_reply_again(endless: Live) -> None:
    hot = {"temperature": 1.5, "max_tokens": 12}
    first, again, other = (endless.said(PROMPT, seed=seed, **hot) for seed in (-5, -5, 6))
    assert first == again != other
    choices = endless.asked(PROMPT, seed=-5, n=3, **hot).choices
    assert [choice.index for choice in choices] == [0, 1, 2] and choices[0].message.content == first
    assert len({choice.message.content for choice in choices}) == 3


@pytest.mark.parametrize("fields", [{"logprobs": True}, {"response_format": {"type": "json_object"}}])
def test_what_the_engine_cannot_do_is_refused_by_name(served: Live, fields: dict[str, Any]) -> None:
    (name,) = fields
    with pytest.raises(openai.BadRequestError, match=f"{name}: this server's engine cannot do that") as refused:
        served.asked(PROMPT, **fields)
    assert (refused.value.param, refused.value.code) == (name, "unsupported_parameter")
    assert served.said(PROMPT, response_format={"type": "text"}, logprobs=False) == served.said(PROMPT)


def test_the_door_is_the_same(served: Live) -> None:
    body = json.dumps({"model": "one", "messages": [user(PROMPT)]}).encode()
    status, answer, _ = served.raw("POST", "/v1/chat/completions", body, {"host": "evil.example"})
    assert status == 403 and "is not this server's" in answer["error"]["message"]
    assert [model.id for model in served.client.models.list().data] == ["one"]
    with pytest.raises(openai.BadRequestError, match="this model takes 2048 together"):
        served.asked("beach " * 5_000)


def test_while_llama_cpp_hangs_the_queue_is_kept_and_the_server_can_end(run: Path, tmp_path: Path) -> None:
    before = children()
    with live_gguf([(quiet(run), "gguf-bf16")], tmp_path, batch=1, queue=2) as server, ThreadPoolExecutor(3) as pool:
        (child,) = children() - before
        child.suspend()
        streams = [pool.submit(server.asked, PROMPT, stream=True)]
        wait_for(lambda: bool(server.engine.running))
        for waiting in (1, 2):
            streams.append(pool.submit(server.asked, PROMPT, stream=True))
            wait_for(lambda waiting=waiting: server.engine.waiting == waiting)  # type: ignore[misc]
        with pytest.raises(openai.RateLimitError, match="2 requests wait already"):
            server.asked(PROMPT)
        for stream in streams:
            stream.result().close()
        wait_for(lambda: not server.engine.waiting)
    assert children() == before


def test_when_llama_cpp_dies_its_requests_say_so_and_the_next_is_answered(run: Path, tmp_path: Path) -> None:
    said: list[str] = []
    before = children()
    with live_gguf([(Job(run, say=said.append), "gguf-bf16")], tmp_path) as server:
        (child,) = children() - before
        child.suspend()
        stream = server.asked(PROMPT, stream=True)
        wait_for(lambda: bool(server.engine.running))
        child.kill()
        with pytest.raises(openai.APIError, match=r"llama\.cpp failed at this request"):
            list(stream)
        assert server.said(PROMPT, max_tokens=4)
        wait_for(lambda: not server.engine.running)
    assert any("broke off: its process ended; the next request loads it again" in line for line in said)
    assert children() == before


def test_a_picture_is_seen(tmp_path_factory: pytest.TempPathFactory, rows: Path) -> None:
    """By the projector beside the model: the reply is the runtime's own to the same prompt."""
    folder = tmp_path_factory.mktemp("sees")
    run = trained(folder, "sees", write_vision_model(folder / "model"), task="messages", data={"source": str(rows)})
    job = quiet(run)
    stages.export(job, ["gguf-f32"], "base", limit=1)
    row = next(row for row in read_conversations(job.run.part("train")) if row.image_paths)
    with open_gguf_folder(job.run.artifact("gguf-f32")) as runtime:
        paths = [job.run.data / path for path in row.image_paths]
        pieces = runtime.stream(job.renderer.prompt_ids(row), paths, n_predict=12, temperature=0.0)
        expected = "".join(piece["content"] for piece in pieces).strip()
    messages = [
        {"role": message.role, "content": [_given(job, part) for part in message.parts]}
        for message in row.messages[:-1]
    ]
    with live_gguf([(job, None)], folder) as server:
        answer = server.client.chat.completions.create(model="sees", messages=messages, max_tokens=12)
        assert answer.choices[0].message.content == expected


def _given(job: Job, part: Part) -> dict[str, Any]:
    if part.image is None:
        return {"type": "text", "text": part.text}
    data = base64.b64encode((job.run.data / part.image).read_bytes()).decode()
    return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}
