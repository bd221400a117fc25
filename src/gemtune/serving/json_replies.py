"""Replies in JSON: a mask over the next token that lets nothing else through, and a second look at the whole reply."""

from __future__ import annotations

import json
import threading
from functools import cached_property
from typing import TYPE_CHECKING

import jsonschema_rs
import llguidance
import numpy as np
import torch

from gemtune.errors import RequestError, shown

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from gemtune.files import JsonObject
    from gemtune.serving.chat import ResponseFormat

SPACES = r"\n? {0,16}"  # between JSON's signs; without a bound a model could go on with spaces for ever
FIELD = "response_format"


class JsonReplies:
    """The grammars of a tokenizer's replies."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, stop_ids: list[int]):
        self._tokenizer, self._stop_ids = tokenizer, stop_ids
        self._reading = threading.Lock()

    def read_words(self) -> None:
        """Reads the words, where that was not done: 7 s and 0.3 GB for Gemma's 262,144; then a mask takes 0.05 ms."""
        with self._reading:
            _ = self._words

    @cached_property
    def _words(self) -> llguidance.LLTokenizer:
        return llguidance.LLTokenizer(self._tokenizer.backend_tokenizer.to_str(), eos_token=self._stop_ids)

    def grammar(self, wanted: ResponseFormat) -> JsonGrammar | None:
        """The mask of one reply; None for plain text; RequestError for a schema that cannot be held to, all of it."""
        if wanted.type == "text":
            return None
        schema = schema_of(wanted)
        try:
            grammar = llguidance.LLMatcher.grammar_from_json_schema(schema, overrides={"whitespace_pattern": SPACES})
        except ValueError as error:  # a number beyond 64 bits
            raise RequestError(f"{FIELD}: this schema cannot be held to: {str(error)[:300]}", FIELD) from error
        is_wrong, faults = llguidance.LLMatcher.validate_grammar_with_warnings(grammar, self._words)
        if is_wrong or faults:
            raise RequestError(f"{FIELD}: this schema cannot be held to: {' '.join(faults)[:300]}", FIELD)
        try:
            _validator(schema)
        except (ValueError, jsonschema_rs.ValidationError) as error:
            raise RequestError(f"{FIELD}: no valid JSON schema: {str(error)[:300]}", FIELD) from error
        return JsonGrammar(llguidance.LLMatcher(self._words, grammar, log_level=0))

    def check(self, wanted: ResponseFormat, text: str) -> None:
        """RequestError where a reply is not what was asked for: by another reader than the one that made the mask."""
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise RequestError(f"{FIELD}: the reply is no JSON: {error}", FIELD, status=500) from error
        for fault in _validator(schema_of(wanted)).iter_errors(value):
            raise RequestError(f"{FIELD}: the reply is not of the schema: {shown(str(fault))}", FIELD, status=500)


def schema_of(wanted: ResponseFormat) -> JsonObject:
    """The schema of a reply; `json_object` is any object."""
    return wanted.json_schema.schema_ if wanted.json_schema else {"type": "object"}


def _validator(schema: JsonObject) -> jsonschema_rs.Validator:
    return jsonschema_rs.validator_for(schema, retriever=_refuse_address)


def _refuse_address(address: str) -> JsonObject:
    raise ValueError(f"{address}: this server opens no address")


class JsonGrammar:
    """What may come next in one reply in JSON."""

    def __init__(self, matcher: llguidance.LLMatcher):
        self._matcher = matcher

    def mask(self, scores: torch.Tensor) -> torch.Tensor:
        """The scores (1, V), -inf for each token that may not come next; RequestError where that is too much work."""
        bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        if self._matcher.is_error():
            raise RequestError(f"{FIELD}: {self._matcher.get_error()[:300]}; give a simpler schema", FIELD)
        allowed = np.zeros(scores.shape[-1], bool)  # the head may have more rows than the tokenizer has words
        flags = np.unpackbits(bits, count=min(len(bits) * 8, len(allowed)), bitorder="little")
        allowed[: len(flags)] = flags
        return scores.masked_fill(~torch.from_numpy(allowed).to(scores.device), -torch.inf)

    def accept(self, token: int) -> None:
        """Remembers the token that came."""
        self._matcher.consume_token(token)
