"""Does a server lose anything under 64 clients, of whom a third leave? And how fast is it, beside transformers serve?

Each client is the `openai` package with one request at a time, streamed, of 4 prompts of the emoji recipe. A third of
the requests leave after their third piece. Both servers have the same base model in the same precision, one after the
other; gemtune serves it as `base` of a run. Then twice as many clients ask gemtune's as may wait there.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles

import openai

from benchmarks.compare.environments import call, python_of
from benchmarks.compare.results import table
from benchmarks.machine import CORES, ROOT, WORK, write_page
from gemtune.data.conversation import read_conversations
from gemtune.files import read_json, write_json
from gemtune.pipeline.job import Job

TOKENS = 16  # of a reply, at most
LEAVES_AFTER = 3  # pieces
PROMPTS = 4
QUEUE = 64  # that may wait in gemtune's server
GRACE = 15  # seconds that requests may take after the time is over
PAST = 10  # seconds of twice as many clients
LATER = 1.0  # seconds by which a request was sent later, so that it should not be answered earlier
PORT = 18_431
START = 300  # seconds to load a model
BODY = """\
{clients} clients for {seconds} s, replies of up to {tokens} tokens, greedy; a third of the requests leave after
{leaves} pieces. First piece and whole reply are timed at the client, which waits in the queue meanwhile.

{table}

- Lost: requests that neither ended nor left, or whose reply ended without a reason.
- Overtaken: a request that was sent {later:g} s later got its first piece earlier.
- Another's: replies that are not what the same server says to the same prompt when nobody else asks. `gemtune serve`
  answers several at once, and in bf16 two tokens that are almost equally likely can change places.
- Unfinished: not yet answered {grace} s after the time was over.
- Tokens/s: of replies, and of the requests that left.

Past the limit: {past}
"""


@dataclass
class Load:
    """What the clients of a server saw."""

    whole: list[float] = field(default_factory=list)  # seconds of the replies that ended
    first: list[float] = field(default_factory=list)  # ... until their first piece
    started: list[tuple[float, float]] = field(default_factory=list)  # when a request was sent, and had its first piece
    said: list[str] = field(default_factory=list)  # of all requests, also of those that left
    left: int = 0
    refused: list[float] = field(default_factory=list)  # seconds until a 429
    unfinished: int = 0
    lost: list[str] = field(default_factory=list)
    texts: list[tuple[str, str]] = field(default_factory=list)  # prompt, reply
    seconds: float = 0.0

    @property
    def overtaken(self) -> int:
        """Requests that had their first piece after one that was sent LATER."""
        firsts = sorted(self.started)
        return sum(any(sent + LATER < later and first < own for later, first in firsts) for sent, own in firsts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=120, help="of load on each server (120)")
    parser.add_argument("--clients", type=int, default=64, help="at the same time (64)")
    parser.add_argument("--past", type=float, default=PAST, help=f"seconds with twice the limit's clients ({PAST})")
    parser.add_argument("--run", type=Path, help="a trained run instead of one of two steps; its base model is asked")
    parser.add_argument("--alone", action="store_true", help="gemtune alone, without transformers serve")
    args = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": str(CORES), "MKL_NUM_THREADS": str(CORES), "HF_HUB_OFFLINE": "1"}
    run = args.run or trained()
    job = Job(run, say=lambda text: None)
    prompts = [conversation.messages for conversation in read_conversations(job.run.part("test"))][:PROMPTS]
    messages = [[{"role": message.role, "content": message.text} for message in turn[:-1]] for turn in prompts]
    gemtune = [sys.executable, "-m", "gemtune", "serve", str(run), "--port", str(PORT), "--queue", str(QUEUE)]
    arms = {"gemtune serve": (gemtune, "base")}
    if not args.alone:
        folder = stock_folder(job)
        kind = {"bf16": "bfloat16", "fp32": "float32", "fp16": "float16"}[job.precision]
        serve = [
            "-m",
            "transformers.cli.transformers",
            "serve",
            str(folder),
            "--host",
            "127.0.0.1",
            "--port",
            str(PORT),
        ]
        stock = [python_of("transformers-serve"), *serve, "--device", job.device, "--dtype", kind]
        arms["transformers serve"] = (stock, str(folder))
    rows, past = [], ""
    for name, (command, model) in arms.items():
        with server(command) as url:
            alone = [asyncio.run(asked(url, model, prompt)) for prompt in messages]
            load = asyncio.run(under_load(url, model, messages, args.clients, args.seconds))
            if name == "gemtune serve":
                past = described_past(asyncio.run(under_load(url, model, messages, 2 * QUEUE, args.past)))
        rows.append([name, *described(load, {str(p): text for p, text in zip(messages, alone, strict=True)}, job)])
        print(rows[-1], past, flush=True)
    heads = (
        "server | replies | left | lost | overtaken | another's | unfinished | tokens/s | first piece: p50, p95 s | "
        "whole reply: p50, p95 s"
    )
    settings = {"clients": args.clients, "seconds": f"{args.seconds:g}", "tokens": TOKENS, "leaves": LEAVES_AFTER}
    settings |= {"later": LATER, "grace": GRACE, "past": past}
    write_page(__file__, "Serving many clients", BODY.format(table=table(heads, rows), **settings))


def trained() -> Path:
    """A run of two steps on the emoji rows; only its base model is asked."""
    recipe = str(ROOT / "recipes" / "emoji.yaml")
    call(sys.executable, "-m", "gemtune", "train", recipe, "train.max_steps=2", f"runs_dir={WORK}", "name=serve")
    return WORK / "serve"


def stock_folder(job: Job) -> Path:
    """The base model's folder as transformers serve takes it: with a chat template, and no image processor's name."""
    from gemtune.models.families import chat_template

    folder = WORK / "serve-stock"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(job.weights_folder, folder, copy_function=os.link)
    config = read_json(folder / "tokenizer_config.json")
    (folder / "tokenizer_config.json").unlink()
    write_json(folder / "tokenizer_config.json", {k: v for k, v in config.items() if k != "processor_class"})
    template = re.sub(r"{%-? *(end)?generation *-?%}", "", chat_template(job.family))
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    return folder


@contextmanager
def server(command: list[str]) -> Iterator[str]:
    """A server that has answered once, and its address; it is ended at the end of the block."""
    url = f"http://127.0.0.1:{PORT}/v1"
    with open(WORK / "serve.log", "w") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:  # noqa: S603
        try:
            wait_for(url, process)
            yield url
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()


def wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    client, end = openai.OpenAI(base_url=url, api_key="none", max_retries=0), time.monotonic() + START
    while time.monotonic() < end and process.poll() is None:
        try:
            client.models.list()
            return
        except openai.APIStatusError:
            return  # it answers; transformers serve has no list without the Hub's cache
        except openai.APIConnectionError:
            time.sleep(0.5)
    raise SystemExit(f"the server did not start: {WORK / 'serve.log'} says why")


async def asked(url: str, model: str, messages: list[dict[str, str]]) -> str:
    async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
        answer = await client.chat.completions.create(
            model=model, messages=messages, max_tokens=TOKENS, temperature=0, timeout=START
        )
    return (answer.choices[0].message.content or "").strip()


async def under_load(url: str, model: str, prompts: list, clients: int, seconds: float) -> Load:
    load, start = Load(), time.monotonic()
    async with asyncio.TaskGroup() as group:
        for number in range(clients):
            group.create_task(client_of(load, url, model, prompts, number, start + seconds))
    load.seconds = time.monotonic() - start
    return load


async def client_of(load: Load, url: str, model: str, prompts: list, number: int, end: float) -> None:
    """One client: the next request when the last has ended, until the time is over."""
    chance = random.Random(number)  # noqa: S311 (for a study, not for a secret)
    last = asyncio.get_running_loop().time() + end - time.monotonic() + GRACE
    plain = openai.DefaultAsyncHttpxClient(verify=False)  # no TLS here, and certificates take long to read
    async with openai.AsyncOpenAI(
        base_url=url, api_key="none", max_retries=0, timeout=START, http_client=plain
    ) as client:
        while time.monotonic() < end:
            try:
                async with asyncio.timeout_at(last):
                    await one_request(load, client, model, chance.choice(prompts), leaves=chance.random() < 1 / 3)
            except TimeoutError:
                load.unfinished += 1


async def one_request(load: Load, client: openai.AsyncOpenAI, model: str, prompt: list, leaves: bool) -> None:
    asked_at, text, reason, first, pieces = time.monotonic(), "", None, 0.0, 0
    try:
        stream = await client.chat.completions.create(
            model=model, messages=prompt, max_tokens=TOKENS, temperature=0, stream=True
        )
        async for chunk in stream:
            for choice in chunk.choices:
                reason = choice.finish_reason or reason
                if choice.delta.content:
                    first = first or time.monotonic()
                    text, pieces = text + choice.delta.content, pieces + 1
            if leaves and pieces >= LEAVES_AFTER:
                await stream.close()
                load.left += 1
                break
    except openai.RateLimitError:
        load.refused.append(time.monotonic() - asked_at)
        await asyncio.sleep(1)  # as its Retry-After says
        return
    except openai.OpenAIError as error:
        load.lost.append(f"{type(error).__name__}: {error}")
        return
    if first:
        load.started.append((asked_at, first))
    load.said.append(text)
    if leaves and pieces >= LEAVES_AFTER:
        return
    if reason is None:
        load.lost.append("no reason at its end")
        return
    load.whole.append(time.monotonic() - asked_at)
    load.first.append((first or time.monotonic()) - asked_at)
    load.texts.append((str(prompt), text.strip()))


def described(load: Load, alone: dict[str, str], job: Job) -> list[str]:
    """A row of the table; tokens are counted by the model's own tokenizer."""
    others = sum(alone[prompt] != text for prompt, text in load.texts)
    for fault in load.lost[:3]:
        print(f"lost: {fault[:200]}", flush=True)
    tokens = sum(map(len, job.tokenizer(load.said, add_special_tokens=False)["input_ids"]))
    times = [
        f"{median(values):.1f}, {quantiles(values, n=20)[-1]:.1f}" if len(values) > 1 else ""
        for values in (load.first, load.whole)
    ]
    counts = [len(load.whole), load.left, len(load.lost), load.overtaken]
    ends = [f"{others} of {len(load.texts)}", str(load.unfinished), f"{tokens / load.seconds:.1f}"]
    return [*map(str, counts), *ends, *times]


def described_past(load: Load) -> str:
    """What came of more clients than may wait."""
    slowest, counts = max(load.refused, default=0), (len(load.whole), load.left, len(load.lost), load.unfinished)
    return (
        f"{2 * QUEUE} clients for {load.seconds:.0f} s, of which {QUEUE} may wait. {len(load.refused)} requests were "
        f"refused with 429, after {slowest:.2f} s at most; {{}} were answered, {{}} left, {{}} lost, {{}} unfinished."
    ).format(*counts)


if __name__ == "__main__":
    main()
