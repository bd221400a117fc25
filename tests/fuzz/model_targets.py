"""Model folders, adapters and chat templates."""

from __future__ import annotations

import contextlib
import json
import shutil
from functools import cache
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from PIL import Image

from fuzz import seeds
from fuzz.attempts import TURNS, copied, recipe_for
from fuzz.harness import Target
from fuzz.inputs import File, as_bytes, mutants, spoiled, spoiled_files, texts
from gemtune.data.conversation import Conversation, Message, Part
from gemtune.worker import Worker, WorkerError


@st.composite
def _model_files(draw: st.DrawFn, patterns: tuple[str, ...]) -> tuple[str, File]:
    name = draw(st.sampled_from(["gemma3", "gemma3-vision"]))
    return name, draw(spoiled_files(lambda: seeds.files_of(seeds.models()[name], *patterns)))


def try_name(value: str, folder: Path) -> None:
    """What a recipe calls its model."""
    from gemtune.models.hub import find_model

    find_model(value, lambda line: None, weights=False)


def try_config(value: tuple[str, File], folder: Path) -> None:
    """The config of a model folder, and the model that it describes."""
    from gemtune.models.families import config_of, family_of
    from gemtune.models.loading import empty_model

    name, file = value
    model = copied(seeds.models()[name], folder, file)
    config_of(model)
    family_of(model)
    empty_model(model)


def try_tokenizer(value: tuple[str, File], folder: Path) -> None:
    """The tokenizer and image processor of a model folder, and what is asked of them."""
    from gemtune.models.families import config_of, family_of
    from gemtune.models.image_tokens import ImageTokenizer
    from gemtune.models.loading import load_image_processor, load_tokenizer, special_ids
    from gemtune.models.token_rows import known_tokens
    from gemtune.rendering.renderer import Renderer

    name, file = value
    model = copied(seeds.models()[name], folder, file)
    family = family_of(model)
    tokenizer = load_tokenizer(model)
    special_ids(tokenizer, family), known_tokens(tokenizer, family)
    question, images = [Part(text="to the beach")], None
    if family.vision:
        processor = load_image_processor(model)
        images = ImageTokenizer(config_of(model), processor, family.vision, recipe_for("emoji").vision)
        family.vision.preprocess(processor, [Image.new("RGB", (64, 48))], True, {})
        question.append(Part(image="a.png", size=(64, 48)))
    messages = (Message("user", tuple(question)), Message.of("assistant", "🏖️"))
    Renderer(tokenizer, family, "all", images).example(Conversation(messages, "emoji", "", "", "f"))


def try_weights(value: bytes, folder: Path) -> None:
    """The weights of a model folder, in one file or by an index."""
    from gemtune.models.loading import load_model

    model = seeds.models()["gemma3"]
    for path in model.iterdir():
        shutil.copyfile(path, folder / path.name)
    (folder / "model.safetensors").write_bytes(value)
    load_model(folder, say=lambda line: None)


def _weight_files() -> list[bytes]:
    return [(seeds.models()["gemma3"] / "model.safetensors").read_bytes()]


@st.composite
def _weights(draw: st.DrawFn) -> bytes:
    """A file of weights whose header is spoiled in places, or a mutant of header and bytes."""
    data = _weight_files()[0]
    size = int.from_bytes(data[:8], "little")
    if draw(st.booleans()):
        return draw(mutants([data[: size + 8]])) + data[size + 8 :]
    header = as_bytes(draw(spoiled([json.loads(data[8 : size + 8])], ["dtype", "shape", "data_offsets"])))
    return len(header).to_bytes(8, "little") + header + data[size + 8 :]


def try_index(value: bytes, folder: Path) -> None:
    """The index of weights in several files."""
    from gemtune.models.weights import stored_tensors

    (folder / "model.safetensors.index.json").write_bytes(value)
    shutil.copyfile(seeds.models()["gemma3"] / "model.safetensors", folder / "a.safetensors")
    stored_tensors(folder)


_INDEX = {"metadata": {"total_size": 5}, "weight_map": {"x": "a.safetensors", "y": "a.safetensors"}}


@cache
def _base_model() -> Any:
    from gemtune.models.loading import load_model

    return load_model(seeds.models()["gemma3"], say=lambda line: None)


def try_adapter(value: File, folder: Path) -> None:
    """An adapter of somebody else's, on a model that is whole."""
    from gemtune.models.adapters import load_adapter

    adapter = seeds.run_folder() / "adapter"
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copyfile(adapter / name, folder / name)
    (folder / value.name).write_bytes(value.data)
    model = _base_model()
    try:
        load_adapter(model, folder).unload()
    finally:
        vars(model).pop("peft_config", None)


def _adapter_files() -> dict[str, bytes]:
    return seeds.files_of(seeds.run_folder() / "adapter", "adapter_*", most=10**6)


_TEMPLATES = [
    "{{ bos_token }}{% for m in messages %}<turn>{{ m.role }}\n{{ m.content | trim }}<end>\n{% endfor %}",
    "{%- if messages[0]['role'] == 'system' -%}{{ messages[0].content }}{%- set rest = messages[1:] -%}{%- endif -%}",
    "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}",
    "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "{{ 'a' * 3000000000 }}{{ messages | tojson(indent=9) }}{{ raise_exception('x') }}{{ strftime_now('%Y') }}",
    "{{ ''.__class__.__mro__ }}{{ messages.__class__ }}{{ cycler.__init__.__globals__ }}{{ lipsum() }}",
    "{% set ns = namespace(n=0) %}{% generation %}{{ ns.n }}{% endgeneration %}{{ 2 ** 99999 }}{{ '%d' % 10 ** 5000 }}",
]


@cache
def _template_worker() -> Worker:
    from gemtune.rendering import stock_template

    return Worker(f"{stock_template.__name__}:render", seconds=1.0, memory=stock_template.MEMORY)


def try_template(value: bytes, folder: Path) -> None:
    """A chat template is rendered in the child process that `check` renders it in."""
    request = {
        "template": value.decode("utf-8", "replace"),
        "conversations": [TURNS],
        "special_tokens": {"bos_token": "<bos>", "eos_token": "<eos>"},
    }
    with contextlib.suppress(WorkerError):  # `check` says it in a line
        _template_worker()(request)


TARGETS: dict[str, Target] = {
    "names": Target(st.builds("".join, st.lists(texts(), min_size=1, max_size=3)), try_name, 50),
    "configs": Target(_model_files(("config.json",)), try_config, 30),
    "tokenizers": Target(
        _model_files(("tokenizer*.json", "preprocessor_config.json", "processor_config.json")), try_tokenizer, 15
    ),
    "weights": Target(_weights(), try_weights, 15),
    "indexes": Target(spoiled([_INDEX], list(_INDEX)).map(as_bytes) | mutants([as_bytes(_INDEX)]), try_index, 100),
    "adapters": Target(spoiled_files(_adapter_files), try_adapter, 15),
    "templates": Target(mutants([seed.encode() for seed in _TEMPLATES]), try_template, 20, seconds=10.0),
}
