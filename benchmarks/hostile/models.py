"""Model folders and adapters."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from benchmarks.hostile.place import REFUSED, USUAL, Command, Kind, Place, edit, seal

Tensors = dict[str, NDArray[np.generic]]
CHECK = ("check", "t.yaml")
EVIL = "from pathlib import Path\nPath({!r}).write_text('ran')\nclass C: pass\n"
CONFIGS = [
    *(
        "[]",
        "{",
        "[" * 100_000,
        '{"model_type": ["gemma3_text"]}',
        '{"model_type": "gemma3_text", "hidden_size": "wide"}',
    ),
    *(
        '{"model_type": "gemma3_text", "num_hidden_layers": 1000000000}',
        '{"model_type": "gemma3_text", "quantization_config": {"a": 1}}',
    ),
]
TOKENIZERS = [
    ("tokenizer.json", "{}"),
    ("tokenizer.json", "[" * 100_000),
    ("tokenizer_config.json", '{"model_max_length": [1]}'),
]
TEMPLATES = [
    "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "{{ 'a' * 3000000000 }}",
    "{{ 'a' | center(3000000000) }}",
    "{{ messages | tojson(indent=1000000000) }}",
    "{{ messages[0].role.x.y }}",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
]
WEIGHTS: dict[str, Callable[[Tensors], Tensors]] = {
    "no tensor in it": lambda tensors: {},
    "all tensors renamed": lambda tensors: {f"x.{name}": value for name, value in tensors.items()},
    "one tensor less": lambda tensors: {
        name: value for name, value in tensors.items() if "layers.1.mlp.up" not in name
    },
    "whole numbers": lambda tensors: {name: value.astype(np.int8) for name, value in tensors.items()},
    "complex numbers": lambda tensors: {name: value.astype(np.complex64) for name, value in tensors.items()},
    "tensors of another shape": lambda tensors: {
        name: np.concatenate([value, value]) for name, value in tensors.items()
    },
}
INDEXES = [
    "[]",
    "{}",
    json.dumps({"weight_map": {"a": "../model.safetensors"}}),
    json.dumps({"weight_map": {"a": "\0"}}),
]


def checked(place: Place, vision: bool = False) -> Path:
    """A copy of a model, which the recipe names."""
    place.emoji()
    place.recipe(model="model")
    return place.model_copy(vision)


def code(place: Place) -> Iterator[Command]:
    """A folder with a program: asked, somebody says yes."""
    folder = checked(place)
    (folder / "evil.py").write_text(EVIL.format(str(place / "ran")))
    for model_type in ("evil", "gemma3_text"):
        edit(
            folder / "config.json",
            model_type=model_type,
            auto_map={"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.C"},
        )
        edit(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.C", None]})
        yield CHECK


def kernel(place: Place) -> Iterator[Command]:
    edit(checked(place) / "config.json", _attn_implementation="org/kernel", attn_implementation="org/kernel")
    yield CHECK


def weights(change: Callable[[Tensors], Tensors]) -> Callable[[Place], Iterator[Command]]:
    def commands(place: Place) -> Iterator[Command]:
        path = checked(place) / "model.safetensors"
        save_file(change(load_file(path)), path, {"format": "pt"})
        yield CHECK

    return commands


def headless(place: Place) -> Iterator[Command]:
    edit(checked(place) / "config.json", tie_word_embeddings=False)
    yield CHECK


def replaced(texts: list[tuple[str, str]]) -> Callable[[Place], Iterator[Command]]:
    """One file after the other is another."""

    def commands(place: Place) -> Iterator[Command]:
        folder = checked(place)
        for name, text in texts:
            before = (folder / name).read_bytes() if (folder / name).exists() else None
            (folder / name).write_text(text, encoding="utf-8")
            yield CHECK
            (folder / name).unlink() if before is None else (folder / name).write_bytes(before)

    return commands


def indexes(place: Place) -> Iterator[Command]:
    folder = checked(place)
    (folder / "model.safetensors").rename(place / "model.safetensors")
    for text in INDEXES:
        (folder / "model.safetensors.index.json").write_text(text)
        yield CHECK


def pattern(place: Place) -> Iterator[Command]:
    """An adapter whose modules are named by a pattern that never ends."""
    adapter = place.project_copy() / "adapter"
    edit(adapter / "adapter_config.json", target_modules="(([a-z_.0-9]+)+)+Z")
    seal(adapter)
    yield ("generate", "runs/t", "hello")


def kinds() -> Iterator[Kind]:
    ran = lambda place: "code of the folder ran" if (place / "ran").exists() else ""  # noqa: E731
    yield Kind(
        "model: code beside it, and yes to every question",
        code,
        f"{REFUSED} or {USUAL}",
        "ran",
        wrong=ran,
        answers="y\n" * 1000,
    )
    yield Kind("model: a config that names a kernel of the Hub", kernel, USUAL, "ImportError, or fetched code")
    for what, change in WEIGHTS.items():
        yield Kind(f"model: weights with {what}", weights(change), then="trained on random ones, or traceback")
    yield Kind("model: no head of its own, and none tied", headless, then="trained on a random one")
    yield Kind(
        f"model: {len(CONFIGS)} spoiled configs",
        replaced([("config.json", text) for text in CONFIGS]),
        then="38 of 65 tracebacks",
    )
    yield Kind(f"model: {len(TOKENIZERS)} spoiled tokenizers", replaced(TOKENIZERS), then="20 of 33 tracebacks")
    yield Kind(
        f"model: {len(TEMPLATES)} hostile chat templates",
        replaced([("chat_template.jinja", text) for text in TEMPLATES]),
        then="hangs, 2,500 MB, tracebacks",
    )
    yield Kind("model: an index that points outside its folder, or is none", indexes, then="traceback")
    yield Kind("adapter: modules by a pattern", pattern, then="no end")
