"""A model folder -> an ONNX folder in the layout that Transformers.js and optimum load without a network."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from gemtune.errors import MissingExtra, ModelError
from gemtune.files import JsonObject, os_errors, write_json
from gemtune.models.boundary import config_values
from gemtune.models.families import config_of

if TYPE_CHECKING:
    from transformers import Gemma3TextConfig

GRAPHS = "onnx"  # the folder of the graphs
WEBGPU = "model_int8"  # the graph that Transformers.js takes there, where it is beside another
DTYPES = {"model": "fp32", "model_quantized": "q8", WEBGPU: "int8"}  # how Transformers.js calls a graph's file
CONTEXT = 4096  # positions of the tables of rotations, 2 kB each; more only makes the file longer
COPIED = ("generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
WINDOWS = {"full_attention", "sliding_attention"}


def write_onnx(model: Path, folder: Path, graphs: Mapping[str, str]) -> None:
    """Writes graphs of a Gemma 3 text model, by their names in DTYPES and their forms in FORMS.

    `{"model_quantized": "q8"}` gives onnx/model_quantized.onnx and its weights beside it.
    """
    try:
        from gemtune.exporting.onnx_forms import FORMS
        from gemtune.exporting.onnx_graph import write_decoder
        from gemtune.exporting.stored_weights import stored_weights
    except ImportError as error:
        raise MissingExtra("an ONNX export", "onnx") from error

    config = text_config(model)
    context = min(CONTEXT, config.max_position_embeddings)
    weights = stored_weights(model)
    with os_errors(folder):
        (folder / GRAPHS).mkdir(parents=True, exist_ok=True)
        for name, form in graphs.items():
            write_decoder(folder / GRAPHS / f"{name}.onnx", config, weights, FORMS[form], context)
        for name in COPIED:
            if (model / name).is_file():
                shutil.copyfile(model / name, folder / name)
    settings: JsonObject = {
        "dtype": DTYPES[next(iter(graphs))],
        "use_external_data_format": {f"{name}.onnx": 1 for name in graphs},
    }
    if WEBGPU in graphs:
        settings["device_config"] = {"webgpu": {"dtype": DTYPES[WEBGPU]}}
    values: JsonObject = {**config_values(model), "max_position_embeddings": context, "dtype": "float32"}
    write_json(folder / "config.json", {**values, "transformers.js_config": settings})


def text_config(model: Path) -> Gemma3TextConfig:
    """The config of a model whose every detail the graph has; ModelError says which one it lacks."""
    config = config_of(model)
    if config.model_type != "gemma3_text":
        raise ModelError(
            f"{model}: of type {config.model_type}; ONNX is written for gemma3_text alone: export gguf, or merged"
        )
    rotations = {values["rope_type"] for values in config.rope_parameters.values()}
    for key, there, known in (
        ("layer_types", set(config.layer_types), WINDOWS),
        ("rope_type", rotations, {"default", "linear"}),
        ("hidden_activation", {config.hidden_activation}, {"gelu_pytorch_tanh"}),
        ("attention_bias", {config.attention_bias}, {False}),
        ("final_logit_softcapping", {config.final_logit_softcapping}, {None}),
        ("attn_logit_softcapping", {config.attn_logit_softcapping}, {None}),
        ("use_bidirectional_attention", {config.use_bidirectional_attention}, {False, None}),
    ):
        if not there <= known:
            raise ModelError(
                f"{model}: {key} is {', '.join(map(str, there - known))}; the ONNX graph knows "
                f"{', '.join(sorted(map(str, known)))}: export gguf, or merged"
            )
    return config
