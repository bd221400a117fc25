"""A model folder -> the GGUF of its language model: the fields and tensors that llama.cpp computes it from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gemtune.errors import ModelError, listed, shown
from gemtune.exporting.gguf_encodings import FILE_TYPES, matrix_encoding
from gemtune.exporting.gguf_file import Fields, Tensor, write_gguf
from gemtune.exporting.gguf_vocabulary import vocabulary
from gemtune.exporting.stored_weights import StoredWeight, stored_weights
from gemtune.exporting.texts import without_marks
from gemtune.models.families import chat_template, config_of, family_of

if TYPE_CHECKING:
    from transformers import Gemma3TextConfig, PretrainedConfig, Qwen3Config

VISION = ("vision_tower.", "multi_modal_projector.")  # the rest of a vision model
OTHER = "export it as merged: the programs that read that take the model's own config"
# What llama.cpp takes for Gemma 3 where a file says nothing, and one from before 2026 whatever it says.
PERIOD, LOCAL_BASE = 6, 10_000.0  # each sixth layer sees the whole text; the rotation of the others
LAYERS_OF_27B = 62  # the one size whose attention is not scaled by its heads' width

ATTENTION = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
}
EMBEDDING, HEAD = "embed_tokens.weight", "lm_head.weight"  # plain names
MLP = {"mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}


@dataclass(frozen=True)
class Architecture:
    """One of llama.cpp's architectures."""

    name: str
    fields: Callable[[PretrainedConfig], Fields]  # of the text config, without the architecture's name in front
    differences: Callable[[PretrainedConfig], Mapping[str, tuple[object, object]]]
    layer: Mapping[str, str]  # a layer's weights, and what llama.cpp calls them
    norm_shift: float  # what llama.cpp has in its file and the model adds itself


def _gemma3_fields(config: Gemma3TextConfig) -> Fields:
    rope = config.rope_parameters["full_attention"]
    fields: Fields = {"attention.sliding_window": config.sliding_window, "rope.freq_base": float(rope["rope_theta"])}
    if rope["rope_type"] == "linear":
        fields |= {"rope.scaling.type": "linear", "rope.scaling.factor": float(rope["factor"])}
    if (period := _period(config)) != PERIOD:
        fields["attention.sliding_window_pattern"] = period
    if (base := float(config.rope_parameters["sliding_attention"]["rope_theta"])) != LOCAL_BASE:
        fields["rope.freq_base_swa"] = base
    return fields


def _period(config: Gemma3TextConfig) -> int:
    """Each how many layers one sees the whole text, by the first that does."""
    layers: list[str] = config.layer_types
    return layers.index("full_attention") + 1 if "full_attention" in layers else max(PERIOD, len(layers) + 1)


def _gemma3_differences(config: Gemma3TextConfig) -> Mapping[str, tuple[object, object]]:
    """What of a config llama.cpp cannot be told: by its key, the value and the one that is built in."""
    layers, period = config.num_hidden_layers, _period(config)
    regular = ["full_attention" if number % period == 0 else "sliding_attention" for number in range(1, layers + 1)]
    scalar = config.hidden_size // config.num_attention_heads if layers == LAYERS_OF_27B else config.head_dim
    rope_type = config.rope_parameters["full_attention"]["rope_type"]
    return {
        "layer_types": (config.layer_types, regular),
        "rope_parameters.sliding_attention.rope_type": (
            config.rope_parameters["sliding_attention"]["rope_type"],
            "default",
        ),
        "rope_parameters.full_attention.rope_type": (rope_type, "linear" if rope_type == "linear" else "default"),
        "query_pre_attn_scalar": (config.query_pre_attn_scalar, scalar),
        "hidden_activation": (config.hidden_activation, "gelu_pytorch_tanh"),
        "attention_bias": (config.attention_bias, False),
        "attn_logit_softcapping": (config.attn_logit_softcapping, None),
        "final_logit_softcapping": (config.final_logit_softcapping, None),
        "use_bidirectional_attention": (config.use_bidirectional_attention, False),
    }


def _qwen3_fields(config: Qwen3Config) -> Fields:
    return {"rope.freq_base": float(config.rope_parameters["rope_theta"])}


def _qwen3_differences(config: Qwen3Config) -> Mapping[str, tuple[object, object]]:
    return {
        "layer_types": (config.layer_types, ["full_attention"] * config.num_hidden_layers),
        "rope_parameters.rope_type": (config.rope_parameters["rope_type"], "default"),
        "hidden_act": (config.hidden_act, "silu"),
        "attention_bias": (config.attention_bias, False),
    }


GEMMA3 = Architecture(
    "gemma3",
    _gemma3_fields,
    _gemma3_differences,
    {
        **ATTENTION,
        **MLP,
        "post_attention_layernorm": "post_attention_norm",
        "pre_feedforward_layernorm": "ffn_norm",
        "post_feedforward_layernorm": "post_ffw_norm",
    },
    norm_shift=1.0,
)
QWEN3 = Architecture(
    "qwen3", _qwen3_fields, _qwen3_differences, {**ATTENTION, **MLP, "post_attention_layernorm": "ffn_norm"}, 0.0
)
ARCHITECTURES = {"gemma3_text": GEMMA3, "gemma3": GEMMA3, "qwen3": QWEN3}  # by the model_type of transformers


def write_language_model(folder: Path, path: Path, encoding: str) -> Path:
    """Writes the language model of a folder as a GGUF with matrices of an encoding, a key of FILE_TYPES.

    ModelError where llama.cpp knows no such model, or would compute something else than it.
    """
    config, family = config_of(folder), family_of(folder)
    architecture, text = architecture_of(config, folder), config.get_text_config()
    weights = {name: weight for name, weight in stored_weights(folder).items() if not name.startswith(VISION)}
    names = _tensor_names(architecture, text.num_hidden_layers, is_tied=config.tie_word_embeddings)
    _require_same(weights, names, folder)
    tokens, count = vocabulary(folder, family, weights[EMBEDDING].shape[0])
    head = names.get(HEAD, names[EMBEDDING])
    tensors: dict[str, Tensor] = {}
    for name, gguf_name in names.items():
        weight = weights[name]
        if len(weight.shape) == 1:  # every norm, and nothing else
            tensors[gguf_name] = Tensor(weight, "f32", shift=architecture.norm_shift)
        else:
            stored = matrix_encoding(encoding, gguf_name, weight.shape[-1], text.num_hidden_layers, head)
            tensors[gguf_name] = Tensor(weight, stored, count if name in (EMBEDDING, HEAD) else None)
    general: Fields = {
        "general.type": "model",
        "general.file_type": FILE_TYPES[encoding],
        "general.quantization_version": 2,
        "tokenizer.chat_template": without_marks(chat_template(family)),
    }
    fields = {f"{architecture.name}.{key}": value for key, value in (_sizes(text) | architecture.fields(text)).items()}
    return write_gguf(path, architecture.name, general | fields | tokens, tensors)


def architecture_of(config: PretrainedConfig, folder: Path) -> Architecture:
    """llama.cpp's architecture for a model; ModelError where it has none that computes the same."""
    architecture = ARCHITECTURES.get(config.model_type)
    if architecture is None:
        raise ModelError(
            f"{folder}: gemtune writes no GGUF of a {config.model_type} model, only of {listed(ARCHITECTURES)}; {OTHER}"
        )
    for key, (value, built_in) in architecture.differences(config.get_text_config()).items():
        if value != built_in:
            raise ModelError(
                f"{folder}: {key} is {shown(value)}; llama.cpp computes with {shown(built_in)}, whatever a GGUF says: "
                f"{OTHER}"
            )
    return architecture


def _tensor_names(architecture: Architecture, layers: int, *, is_tied: bool) -> dict[str, str]:
    """The weights of a language model, and what llama.cpp calls them."""
    names = {EMBEDDING: "token_embd.weight", "norm.weight": "output_norm.weight"}
    for number in range(layers):
        names |= {
            f"layers.{number}.{name}.weight": f"blk.{number}.{gguf_name}.weight"
            for name, gguf_name in architecture.layer.items()
        }
    return names if is_tied else names | {HEAD: "output.weight"}


def _require_same(weights: Mapping[str, StoredWeight], names: Mapping[str, str], folder: Path) -> None:
    """ModelError where a folder's weights are not those of the architecture."""
    missing, unknown = names.keys() - weights.keys(), weights.keys() - names.keys() - {HEAD}
    if missing or unknown:
        what = f"has no {min(missing)}" if missing else f"holds {min(unknown)}, which llama.cpp does not know"
        raise ModelError(f"{folder}: {what}; {OTHER}")


def _sizes(config: PretrainedConfig) -> Fields:
    return {
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "block_count": config.num_hidden_layers,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": config.num_key_value_heads,
        "attention.key_length": config.head_dim,
        "attention.value_length": config.head_dim,
        "attention.layer_norm_rms_epsilon": float(config.rms_norm_eps),
    }
