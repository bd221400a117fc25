"""`gemtune serve`: runs behind OpenAI's chat completions, by the engine that is asked for."""

from __future__ import annotations

import contextlib
import importlib.util
import tempfile
from collections.abc import Sequence
from pathlib import Path

from gemtune.errors import GemtuneError, MissingExtra, RunError, did_you_mean
from gemtune.exporting.formats import formats_of
from gemtune.pipeline.job import Job
from gemtune.pipeline.served import api_of
from gemtune.pipeline.served_gguf import GGUF, gguf_api
from gemtune.pipeline.vllm import hand_over
from gemtune.run_contents import EXPORT

GEMTUNE, LLAMA_CPP, VLLM = ENGINES = ("gemtune", "llama.cpp", "vllm")
PACKAGES = ("starlette", "uvicorn", "llguidance", "jsonschema_rs")


def run_and_format(name: str) -> tuple[str, str | None]:
    """The run that a user names, and the format of its artifact where that is named.

    >>> run_and_format("runs/emoji"), run_and_format("runs/emoji/export/merged")
    (('runs/emoji', None), ('runs/emoji', 'merged'))
    """
    path = Path(name)
    if path.parent.name != EXPORT:
        return name, None
    (format_,) = formats_of([path.name])
    return str(path.parents[1]), format_


def engine_of(engine: str | None, formats: Sequence[str | None]) -> str:
    """The engine that serves artifacts of such formats (None: the run itself), llama.cpp where none is asked for.

    >>> engine_of(None, [None]), engine_of(None, ["gguf-q8_0"])
    ('gemtune', 'llama.cpp')
    """
    named = [format_ for format_ in formats if format_]
    engine = engine or (LLAMA_CPP if named else GEMTUNE)
    if engine not in ENGINES:
        move = did_you_mean(engine, ENGINES, f"engines are {', '.join(ENGINES)}")
        raise GemtuneError(f"no engine {engine!r} to serve with{move}")
    for format_ in named:
        if engine != LLAMA_CPP or not format_.startswith(GGUF):
            raise RunError(f"{format_}: llama.cpp alone serves an artifact, a GGUF; name the run, or export it to gguf")
    return engine


def serve(
    models: Sequence[tuple[Job, str | None]],
    *,
    engine: str | None = None,
    host: str = "127.0.0.1",
    port: int = 8000,
    token_file: str | None = None,
    batch: int = 8,
    queue: int = 64,
) -> None:
    """Serves runs until a signal, each under its name; of a model also the format of its artifact may be given."""
    engine, jobs = engine_of(engine, [format_ for _, format_ in models]), [job for job, _ in models]
    if engine == VLLM:
        return hand_over(jobs, host, port, token_file)
    require_packages()
    from gemtune.serving import bearer, server

    say = jobs[0].say
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(server.listening(host, port))  # what can fail soon, before the model is loaded
        token = bearer.token_for(host, token_file, say)
        images = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gemtune-")))
        if engine == LLAMA_CPP:
            api = gguf_api(models, images, batch=batch, queue=queue, stack=stack)
        else:
            api = api_of(jobs, images, batch=batch, queue=queue)
        say(f"serving {', '.join(api.models)} at {server.address_of(listener)} (Ctrl-C stops it)")
        server.run(api.app(token, server.names_for(host)), listener)


def require_packages() -> None:
    """MissingExtra where what `serve` needs is not installed."""
    if not all(importlib.util.find_spec(name) for name in PACKAGES):
        raise MissingExtra("gemtune serve", "serve")
