"""Gemma 3's vision tower and projector -> the second GGUF (mmproj) with which llama.cpp reads images."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from gemtune.errors import ModelError, shown
from gemtune.exporting.gguf_encodings import FILE_TYPES
from gemtune.exporting.gguf_file import Fields, Tensor, write_gguf
from gemtune.exporting.gguf_model import OTHER, VISION
from gemtune.exporting.stored_weights import StoredWeight, stored_weights
from gemtune.models.families import config_of
from gemtune.models.loading import load_image_processor

if TYPE_CHECKING:
    from transformers import Gemma3Config

TOWER, PROJECTOR = VISION
JOINED = 4  # patches each way that become one token, unless the file says otherwise

ONCE = {
    f"{TOWER}embeddings.patch_embedding.weight": "v.patch_embd.weight",
    f"{TOWER}embeddings.patch_embedding.bias": "v.patch_embd.bias",
    f"{TOWER}embeddings.position_embedding.weight": "v.position_embd.weight",
    f"{TOWER}post_layernorm.weight": "v.post_ln.weight",
    f"{TOWER}post_layernorm.bias": "v.post_ln.bias",
    f"{PROJECTOR}mm_input_projection_weight": "mm.input_projection.weight",
    f"{PROJECTOR}mm_soft_emb_norm.weight": "mm.soft_emb_norm.weight",
}
LAYER = {
    "layer_norm1": "ln1",
    "layer_norm2": "ln2",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.out_proj": "attn_out",
    "mlp.fc1": "ffn_up",
    "mlp.fc2": "ffn_down",
}


def write_projector(folder: Path, path: Path, encoding: str) -> Path:
    """Writes the tower and the projector of a Gemma 3 vision model, its matrices as F32 or F16."""
    config: Gemma3Config = config_of(folder)
    weights = {name: weight for name, weight in stored_weights(folder).items() if name.startswith((TOWER, PROJECTOR))}
    names = dict(ONCE)
    for number in range(config.vision_config.num_hidden_layers):
        for kind in ("weight", "bias"):
            names |= {
                f"{TOWER}encoder.layers.{number}.{name}.{kind}": f"v.blk.{number}.{gguf_name}.{kind}"
                for name, gguf_name in LAYER.items()
            }
    unlike = names.keys() ^ weights.keys()
    if unlike:
        raise ModelError(f"{folder}: {min(unlike)} is not in both, its files and llama.cpp's tower; {OTHER}")
    tensors = {gguf_name: _tensor(name, weights[name], encoding) for name, gguf_name in names.items()}
    general: Fields = {
        "general.type": "mmproj",
        "general.file_type": FILE_TYPES[encoding],
    }
    return write_gguf(path, "clip", general | _fields(config, folder), tensors)


def _tensor(name: str, weight: StoredWeight, encoding: str) -> Tensor:
    """The norm before the projector is one of Gemma's, to which llama.cpp adds no 1; the tower's are plain."""
    is_matrix = len(weight.shape) == 2 and "embeddings." not in name
    return Tensor(weight, encoding if is_matrix else "f32", shift=1.0 if "soft_emb_norm" in name else 0.0)


def _fields(config: Gemma3Config, folder: Path) -> Fields:
    vision, processor = config.vision_config, load_image_processor(folder)
    joined = vision.image_size // vision.patch_size // math.isqrt(config.mm_tokens_per_image)
    if vision.hidden_act != "gelu_pytorch_tanh":
        raise ModelError(f"{folder}: vision_config.hidden_act is {shown(vision.hidden_act)}; {OTHER}")
    fields: Fields = {
        "clip.has_vision_encoder": True,
        "clip.projector_type": "gemma3",
        "clip.use_gelu": True,
        "clip.vision.image_size": vision.image_size,
        "clip.vision.patch_size": vision.patch_size,
        "clip.vision.embedding_length": vision.hidden_size,
        "clip.vision.feed_forward_length": vision.intermediate_size,
        "clip.vision.block_count": vision.num_hidden_layers,
        "clip.vision.projection_dim": config.text_config.hidden_size,
        "clip.vision.attention.head_count": vision.num_attention_heads,
        "clip.vision.attention.layer_norm_epsilon": float(vision.layer_norm_eps),
        "clip.vision.image_mean": [float(value) for value in processor.image_mean],
        "clip.vision.image_std": [float(value) for value in processor.image_std],
    }
    return fields if joined == JOINED else fields | {"clip.vision.projector.scale_factor": joined}
