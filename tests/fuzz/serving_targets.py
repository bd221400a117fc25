"""Requests to the server."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from fuzz import seeds
from fuzz.attempts import recipe_for
from fuzz.harness import Target
from fuzz.inputs import as_bytes, mutants, spoiled
from gemtune.tasks import task_of

_REQUESTS: list[Any] = [
    {
        "model": "t",
        "messages": [{"role": "user", "content": "to the beach"}],
        "max_tokens": 4,
        "temperature": 0.5,
        "n": 2,
    },
    {
        "model": "t",
        "messages": [
            {"role": "system", "content": "Be short."},
            {
                "role": "user",
                "content": [{"type": "text", "text": "What?"}, {"type": "image_url", "image_url": {"url": "data:,"}}],
            },
            {"role": "assistant", "content": "This."},
            {"role": "user", "content": "And?"},
        ],
        "stop": ["\n", "."],
        "stream": True,
        "stream_options": {"include_usage": True},
        "logprobs": True,
        "top_logprobs": 3,
        "seed": 7,
    },
    {
        "model": "t",
        "messages": [{"role": "user", "content": "x"}],
        "response_format": {
            "type": "json_schema",
            "json_schema": {
                "name": "s",
                "schema": {
                    "type": "object",
                    "properties": {
                        "a": {"type": "array", "items": {"$ref": "#/$defs/b"}},
                        "c": {"enum": ["x", 1, None]},
                    },
                    "$defs": {"b": {"type": "string", "pattern": "^a+$", "maxLength": 5}},
                    "required": ["a"],
                    "additionalProperties": False,
                },
            },
        },
    },
]
_KEYS = [*_REQUESTS[1], "response_format", "content", "type", "text", "image_url", "schema", "anyOf", "items", "$ref"]


@cache
def _json_replies() -> Any:
    """The grammars of the tiny model's tokenizer."""
    from gemtune.models.families import family_of
    from gemtune.models.loading import load_tokenizer, special_ids
    from gemtune.serving.json_replies import JsonReplies

    model = seeds.models()["gemma3"]
    tokenizer = load_tokenizer(model)
    return JsonReplies(tokenizer, special_ids(tokenizer, family_of(model))["eos_token_id"])


def try_request(value: bytes, folder: Path) -> None:
    """The body of a request becomes a conversation and, where JSON is asked for, a grammar; or it is refused."""
    from gemtune.serving.chat import conversation_of, parsed

    asked = parsed(value)
    conversation_of(asked.messages, task_of(recipe_for("emoji")).asked)
    _json_replies().grammar(asked.response_format)


TARGETS: dict[str, Target] = {
    "requests": Target(
        spoiled(_REQUESTS, _KEYS).map(as_bytes) | mutants([json.dumps(one).encode() for one in _REQUESTS]),
        try_request,
        120,
    ),
}
