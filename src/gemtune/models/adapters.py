"""What is trained of a model and what is saved of it: LoRA adapters, or every weight."""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from gemtune.errors import ModelError
from gemtune.files import read_json, read_object, write_json
from gemtune.models.boundary import loading
from gemtune.models.families import FAMILIES, chat_template
from gemtune.models.families.base import Family, Settings, VisionFamily
from gemtune.models.loading import empty_model
from gemtune.recipe.schema import Lora

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

TOKENIZER_FILES = (
    "processor_config.json",
    "preprocessor_config.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)
# What `_pattern` writes; a pattern of another form is not matched, as it could take for ever.
_PATTERN = re.compile(r"\.\*language_model\\\.\.\*\\\.\(\w+(\|\w+)*\)(\|\.\*\\\.[\w.]+\\\.\.\*\\\.\(\w+(\|\w+)*\))?")
_PATTERN_KEYS = ("exclude_modules", "layers_pattern", "rank_pattern", "alpha_pattern", "target_parameters")


def require_targets(targets: Sequence[str], folder: Path) -> None:
    """ModelError where the model of a folder has no linear layer of such a name; only its config is read."""
    _require_linear(targets, empty_model(folder))


def _require_linear(targets: Sequence[str], model: nn.Module) -> None:
    names = {name.rsplit(".", 1)[-1] for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    unknown = [target for target in targets if target not in names]
    if unknown:
        raise ModelError(
            f"lora.target_modules: no linear layer is called '{unknown[0]}'; there are {', '.join(sorted(names))}"
        )


def attach_adapters(
    model: PreTrainedModel, lora: Lora, family: Family, token_ids: list[int], seed: int, trains: str = "text"
) -> PeftModel:
    """A PEFT model with fp32 LoRA adapters and trained token rows, the same for the same seed.

    `trains` is vision.trains: with `projector` the adapter's file holds that whole layer, with `tower` adapters of it.
    """
    from peft import LoraConfig, get_peft_model

    targets = list(family.linear) if lora.target_modules == "all-linear" else list(lora.target_modules)
    _require_linear(targets, model)
    config = LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=_pattern(targets, family.vision, trains) if family.vision else targets,
        task_type="CAUSAL_LM",
        trainable_token_indices={"embed_tokens": token_ids} if token_ids else None,
        modules_to_save=_projector(model, family.vision) if family.vision and trains != "text" else None,
    )
    torch.manual_seed(seed)
    tuned = get_peft_model(model, config, autocast_adapter_dtype=True)
    _to_masters(tuned)
    return tuned


def _pattern(targets: list[str], vision: VisionFamily, trains: str) -> str:
    """Layers of the text part by name, as a pattern: a tower has layers of the same names."""
    pattern = rf".*language_model\..*\.({'|'.join(map(re.escape, targets))})"
    if trains == "tower":
        pattern += rf"|.*\.{vision.tower_blocks}\..*\.({'|'.join(vision.tower_linear)})"
    return pattern


def _projector(model: PreTrainedModel, vision: VisionFamily) -> list[str]:
    """The projector's modules as PEFT wants them: the modules of a list one by one."""
    names: list[str] = []
    for path in vision.projector:
        module, name = model.model.get_submodule(path), path.rsplit(".", 1)[-1]
        names += [f"{name}.{number}" for number in range(len(module))] if isinstance(module, nn.ModuleList) else [name]
    return names


def train_every_weight(model: PreTrainedModel, family: Family, trains: str) -> None:
    """Full training: every weight of the text part, and what `trains` (vision.trains) says of tower and projector."""
    model.requires_grad_(True)
    if family.vision and trains != "tower":
        model.model.get_submodule(family.vision.tower).requires_grad_(False)
        for name in family.vision.projector:
            model.model.get_submodule(name).requires_grad_(trains == "projector")
    _to_masters(model)


def _to_masters(model: nn.Module) -> None:
    """Trained weights in fp32: bf16 loses updates below half its step, which at a rate of 2e-5 are five of six."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


def load_adapter(model: PreTrainedModel, folder: Path) -> PeftModel:
    """The base model with a saved adapter, in eval mode; ModelError when it is none that gemtune writes."""
    from peft import PeftModel

    require_own_adapter(folder, FAMILIES[model.config.model_type].vision)
    with loading(f"{folder}: the adapter"):
        return PeftModel.from_pretrained(model, folder).eval()


def has_token_rows(folder: Path) -> bool:
    """Whether a saved adapter has trained rows of the embedding."""
    return bool(read_object(folder / "adapter_config.json").get("trainable_token_indices"))


def add_adapter(model: PeftModel, folder: Path, name: str) -> None:
    """Another saved adapter of the same base model, beside those that are there; none of them becomes active."""
    require_own_adapter(folder, FAMILIES[model.config.model_type].vision)
    with loading(f"{folder}: the adapter"):
        model.load_adapter(folder, name)
    model.eval()


@contextlib.contextmanager
def active_adapter(model: PeftModel, name: str) -> Iterator[None]:
    """The model with one of its adapters, for as long as the block lasts."""
    model.set_adapter(name, inference_mode=True)
    yield


@contextlib.contextmanager
def without_adapter(model: PeftModel) -> Iterator[None]:
    """The base model inside, for as long as the block lasts."""
    with model.disable_adapter():
        yield


def require_own_adapter(folder: Path, vision: VisionFamily | None) -> None:
    """ModelError for an adapter whose config holds patterns that gemtune does not write: one can take for ever."""
    path = folder / "adapter_config.json"
    if not (folder / "adapter_model.safetensors").is_file() or not path.is_file():
        raise ModelError(f"{folder}: no adapter (adapter_config.json and adapter_model.safetensors) in it; train again")
    config = read_json(path)
    targets = config.get("target_modules") if isinstance(config, dict) else None
    is_known = isinstance(targets, list) and all(isinstance(name, str) and name.isidentifier() for name in targets)
    if isinstance(targets, str):
        is_known = vision is not None and _PATTERN.fullmatch(targets) is not None
    patterns = [key for key in _PATTERN_KEYS if config.get(key)] if is_known else []
    if not is_known or patterns or config.get("peft_type") != "LORA":
        place = patterns[0] if patterns else "peft_type" if is_known else "target_modules"
        raise ModelError(f"{path}: {place} is not as gemtune writes it; train again, or give the adapter that it made")


def save_tuned(
    model: PreTrainedModel | PeftModel,
    base: Path,
    family: Family,
    ids: Mapping[str, int | list[int]],
    folder: Path,
    settings: Settings,
) -> None:
    """Writes an adapter (or a whole model), with the base folder's tokenizer, chat template and stop tokens.

    An adapter loads with plain `PeftModel.from_pretrained`, a whole model with `AutoModelForCausalLM.from_pretrained`.
    `settings` of the image processor that differ from its config go into the saved config.
    The tokenizer's files are copied: loading it would take 0.34 GB when memory is at its fullest.
    """
    from peft import PeftModel
    from transformers import GenerationConfig

    if isinstance(model, PeftModel):
        # save_embedding_layers="auto" would ask the Hub about the base model.
        model.save_pretrained(folder, save_embedding_layers=False)
        (folder / "README.md").unlink()  # a model card's empty template
        _sort_names(folder / "adapter_config.json")
    else:
        model.save_pretrained(folder)
    GenerationConfig(**ids).save_pretrained(folder)
    copy_tokenizer(base, family, folder, settings)


def copy_tokenizer(base: Path, family: Family, folder: Path, settings: Settings) -> None:
    """The files of a base folder's tokenizer and image processor, with the family's chat template."""
    for path in (base / name for name in TOKENIZER_FILES):
        if path.is_file():
            shutil.copyfile(path, folder / path.name)
    if settings:
        _save_settings(folder, settings)
    (folder / "chat_template.jinja").write_text(chat_template(family), encoding="utf-8")


def _sort_names(path: Path) -> None:
    """Puts the names of layers, which PEFT keeps in a set, in order: the same adapter is the same bytes."""
    config = read_json(path)
    is_names = {
        key: isinstance(value, list) and all(isinstance(name, str) for name in value) for key, value in config.items()
    }
    write_json(path, {key: sorted(value) if is_names[key] else value for key, value in config.items()})


def _save_settings(folder: Path, settings: Settings) -> None:
    """Puts settings into an image processor's config, which is a file or a section of the processor's."""
    alone, whole = folder / "preprocessor_config.json", folder / "processor_config.json"
    if alone.is_file():
        write_json(alone, {**read_json(alone), **settings})
    config = read_json(whole) if whole.is_file() else {}
    if "image_processor" in config:
        write_json(whole, {**config, "image_processor": {**config["image_processor"], **settings}})
