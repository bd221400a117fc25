"""A model folder -> its tokenizer, its image processor and the plain transformers model, quantised where asked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError

from gemtune.errors import MissingExtra, ModelError
from gemtune.models.families import family_of
from gemtune.models.families.base import Family, ImageProcessor, VisionFamily

if TYPE_CHECKING:
    from transformers import BitsAndBytesConfig, PreTrainedModel, PreTrainedTokenizerBase

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32, "fp16": torch.float16}


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a model folder; ModelError when it cannot be loaded."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder}: its tokenizer cannot be loaded ({str(error).splitlines()[0]})") from error


def load_image_processor(folder: Path) -> ImageProcessor:
    """The image processor of a model folder, by Pillow; ModelError when it cannot be loaded."""
    from transformers import AutoImageProcessor

    try:
        return AutoImageProcessor.from_pretrained(folder, backend="pil")
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder}: its image processor cannot be loaded ({str(error).splitlines()[0]})") from error


def special_ids(tokenizer: PreTrainedTokenizerBase, family: Family) -> dict[str, int | list[int]]:
    """What a generation config says of a tokenizer: `bos_token_id`, `pad_token_id` and the list `eos_token_id`."""
    stops = [tokenizer.convert_tokens_to_ids(token) for token in family.stop_tokens]
    return {"bos_token_id": tokenizer.bos_token_id, "pad_token_id": tokenizer.pad_token_id, "eos_token_id": stops}


def load_model(
    folder: Path, *, device: str = "cpu", precision: str = "fp32", quantize: str = "none"
) -> PreTrainedModel:
    """The stock transformers model of a folder, in eval mode: weights in bf16 or fp32, or NF4 linear layers of its text
    part. `models.patching.install_kernels` puts gemtune's kernels in; packed batches need its attention.
    """
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    # fp16: fp32 weights under autocast keep the residual stream in fp32.
    dtype = torch.float32 if precision == "fp16" else DTYPES[precision]
    vision = family_of(folder).vision
    quantized: dict[str, object] = {}
    if quantize == "nf4":
        compute = torch.bfloat16 if precision == "bf16" else torch.float32
        quantized = {"quantization_config": _nf4(compute, vision), "device_map": {"": device}}
    auto = AutoModelForImageTextToText if vision else AutoModelForCausalLM
    try:
        model = auto.from_pretrained(folder, dtype=dtype, use_safetensors=True, **quantized)
    except (OSError, ValueError, SafetensorError) as error:
        raise ModelError(f"{folder}: its weights cannot be loaded ({str(error).splitlines()[0]})") from error
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            # bitsandbytes 0.50.2 re-packs such layers at the first evaluation and then loses every gradient.
            module.support_avx512bf16_for_cpu = False
    return (model if quantized else model.to(device)).eval()


def _nf4(compute: torch.dtype, vision: VisionFamily | None) -> BitsAndBytesConfig:
    """NF4 for the linear layers of the text part; head, tower and projector stay as they are."""
    try:
        import bitsandbytes  # noqa: F401
    except ImportError as error:
        raise MissingExtra("quantize: nf4", "qlora") from error
    from transformers import BitsAndBytesConfig

    untouched = (vision.tower, *vision.projector) if vision else ()
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=compute,
        bnb_4bit_quant_storage=compute,
        # Of 4 bits, too, despite its name; matched from the start of a module's name.
        llm_int8_skip_modules=[*(f"model.{name}" for name in untouched), "lm_head"],
    )
