"""A model folder -> its tokenizer, its image processor and the plain transformers model, quantised where asked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from PIL import Image

from gemtune.errors import MissingExtra, ModelError
from gemtune.models.boundary import loading, without_hub_kernels
from gemtune.models.families import config_of, family_of
from gemtune.models.families.base import Family, ImageProcessor, VisionFamily
from gemtune.models.weights import require_size, require_whole, stored_tensors

if TYPE_CHECKING:
    from transformers import (
        AutoModelForCausalLM,
        AutoModelForImageTextToText,
        BitsAndBytesConfig,
        PreTrainedModel,
        PreTrainedTokenizerBase,
    )

MOST_SIDE = 10_000  # pixels of an image as a model sees it
TRIAL = (64, 48)  # pixels of the image with which an image processor is tried
DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32, "fp16": torch.float16}


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a model folder, or of an adapter's, which has no config; ModelError when it cannot be loaded."""
    from transformers import AutoTokenizer

    if (folder / "config.json").exists():
        family_of(folder)  # refuses what names code of its own
    with loading(f"{folder}: its tokenizer"):
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        tokenizer.decode(tokenizer("Hello")["input_ids"])  # what is spoiled may be seen only when it is used
    return tokenizer


def load_image_processor(folder: Path) -> ImageProcessor:
    """The image processor of a model folder, by Pillow; ModelError when it cannot be loaded."""
    from transformers import AutoImageProcessor

    with loading(f"{folder}: its image processor"):
        processor = AutoImageProcessor.from_pretrained(folder, backend="pil", trust_remote_code=False)
        _require_sides(processor, folder)
        processor([Image.new("RGB", TRIAL)], return_tensors="pt")  # as for the tokenizer
    return processor


def _require_sides(processor: ImageProcessor, folder: Path) -> None:
    """ModelError for a processor that would make an image larger than any model sees."""
    for name in ("size", "crop_size"):
        sizes = getattr(processor, name, None) or {}
        for side in ("height", "width"):
            if sizes.get(side) is not None and not 0 < sizes[side] <= MOST_SIDE:
                raise ModelError(
                    f"{folder}: its image processor: {name}.{side} is {sizes[side]}; gemtune takes sides of up to "
                    f"{MOST_SIDE} pixels: fetch the model again, or give another one"
                )


def special_ids(tokenizer: PreTrainedTokenizerBase, family: Family) -> dict[str, int | list[int]]:
    """What a generation config says of a tokenizer: `bos_token_id`, `pad_token_id` and the list `eos_token_id`."""
    stops = [tokenizer.convert_tokens_to_ids(token) for token in family.stop_tokens]
    return {"bos_token_id": tokenizer.bos_token_id, "pad_token_id": tokenizer.pad_token_id, "eos_token_id": stops}


def empty_model(folder: Path) -> PreTrainedModel:
    """The model that a folder's config describes, without memory for its weights."""
    with loading(folder / "config.json"), torch.device("meta"):
        return _auto(folder).from_config(config_of(folder), trust_remote_code=False)


def _auto(folder: Path) -> type[AutoModelForCausalLM | AutoModelForImageTextToText]:
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    return AutoModelForImageTextToText if family_of(folder).vision else AutoModelForCausalLM


def load_model(
    folder: Path,
    *,
    device: str = "cpu",
    precision: str = "fp32",
    quantize: str = "none",
    say: Callable[[str], None] = print,
) -> PreTrainedModel:
    """The stock transformers model of a folder, in eval mode: its weights in the precision, or NF4 linear layers of its
    text part. `models.patching.install_kernels` puts gemtune's kernels in; packed batches need its attention.

    Every weight comes from the folder's files, or ModelError says which does not; `say` is told what else they hold.
    """
    from transformers import GenerationConfig

    dtype, vision = DTYPES[precision], family_of(folder).vision
    settings: dict[str, object] = {}
    if quantize == "nf4":
        settings["quantization_config"] = _nf4(dtype, vision)
    if quantize == "nf4" or device == "cuda":  # tensor by tensor: host memory need not hold them all
        settings["device_map"] = {"": device}
    with loading(f"{folder}: its weights"):
        require_size(stored_tensors(folder), sum(p.numel() for p in empty_model(folder).parameters()), folder)
        model, info = _auto(folder).from_pretrained(
            folder,
            config=config_of(folder),
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=False,
            attn_implementation="sdpa",
            output_loading_info=True,
            **settings,
        )
    require_whole(info["missing_keys"], info["unexpected_keys"], folder)
    if info["unexpected_keys"]:
        say(f"{folder}: {len(info['unexpected_keys'])} tensors are not used, first {min(info['unexpected_keys'])}")
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            # bitsandbytes 0.50.2 re-packs such layers at the first evaluation and then loses every gradient.
            module.support_avx512bf16_for_cpu = False
    # The recipe says how replies are made; what a folder says of it would fill the gaps of that for base alone.
    model.generation_config = GenerationConfig()
    return (model if "device_map" in settings else model.to(device)).eval()


def _nf4(compute: torch.dtype, vision: VisionFamily | None) -> BitsAndBytesConfig:
    """NF4 for the linear layers of the text part; head, tower and projector stay as they are."""
    try:
        with without_hub_kernels():
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
