"""Base + adapter -> one folder of weights under the base's own names, tensor by tensor: memory holds one of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from gemtune.errors import ModelError
from gemtune.exporting.shards import SHARD_BYTES, write_shards
from gemtune.files import read_object
from gemtune.models.adapters import require_own_adapter
from gemtune.models.boundary import loading
from gemtune.models.families import family_of
from gemtune.models.loading import empty_model
from gemtune.models.weights import PEFT, StoredTensor, plain_name, stored_tensors, tensors_of, weight_files

ADAPTER = "adapter_model.safetensors"
_A, _B, _ROWS = ".lora_A.weight", ".lora_B.weight", ".token_adapter.trainable_tokens_delta"
_HEAD, _EMBEDDING = "lm_head.weight", "embed_tokens.weight"


@dataclass(frozen=True)
class Tuned:
    """What a training made of a base model: a file of adapters or of whole tensors, and what they need besides."""

    file: Path
    scale: float = 1.0  # of LoRA: alpha / r
    token_ids: Sequence[int] = ()  # the rows of the embedding that were trained


@dataclass(frozen=True)
class Merged:
    """What was put into a base model."""

    tensors: int
    adapters: int = 0
    token_rows: int = 0
    replaced: int = 0  # tensors that were trained whole


def tuned_adapter(folder: Path, base: Path) -> Tuned:
    """The adapter in a folder that gemtune wrote; ModelError where it is of a form that cannot be merged so."""
    require_own_adapter(folder, family_of(base).vision)
    path = folder / "adapter_config.json"
    config = read_object(path)
    special = [key for key in ("use_rslora", "use_dora", "fan_in_fan_out", "lora_bias") if config.get(key)]
    rows = config.get("trainable_token_indices")
    ids = next(iter(rows.values()), []) if isinstance(rows, dict) else rows or []
    is_plain = not special and isinstance(ids, list) and all(isinstance(token, int) and token >= 0 for token in ids)
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if not is_plain or not isinstance(rank, int) or rank < 1 or not isinstance(alpha, int | float):
        place = special[0] if special else "r, lora_alpha or trainable_token_indices"
        raise ModelError(f"{path}: {place} is not as gemtune writes it; train again, or give the adapter that it made")
    return Tuned(folder / ADAPTER, alpha / rank, ids)


def write_merged(
    base: Path,
    tuned: Tuned | None,
    folder: Path,
    shard_bytes: int = SHARD_BYTES,
    tick: Callable[[int, int], None] = lambda done, total: None,
) -> Merged:
    """Writes the base's weights with what was trained into a folder: names, shapes and types as the base has them.

    Sums are formed in fp32 and rounded once, to the type of the base's tensor. ModelError where the adapter holds what
    the base has no tensor for.
    """
    tensors = stored_tensors(base)
    file_of = {name: path for path in weight_files(base) for name in tensors_of(path)}
    changes = _changes(tensors, tuned, _is_tied(base)) if tuned else {}

    def value(name: str) -> Tensor:
        weight = _read(file_of[name], name)
        return changes[name](weight).to(weight.dtype) if name in changes else weight

    write_shards(folder, tensors, value, shard_bytes, tick)
    kinds = Counter(type(change) for change in changes.values())
    rows = len(tuned.token_ids) if tuned and kinds[_Rows] else 0
    return Merged(len(tensors), kinds[_LowRank], rows, kinds[_Whole])


@dataclass(frozen=True)
class _LowRank:
    """weight + scale * B A."""

    file: Path
    module: str
    scale: float

    def __call__(self, weight: Tensor) -> Tensor:
        a, b = (_read(self.file, self.module + end).float() for end in (_A, _B))  # (r, in), (out, r)
        return weight.float() + (b @ a) * self.scale


@dataclass(frozen=True)
class _Rows:
    """The weight with some rows replaced: PEFT's `delta` holds the rows themselves."""

    file: Path
    name: str
    ids: Sequence[int]

    def __call__(self, weight: Tensor) -> Tensor:
        rows = _read(self.file, self.name).to(weight.dtype)  # (k, H)
        return weight.index_copy(0, torch.tensor(self.ids), rows)


@dataclass(frozen=True)
class _Whole:
    """Another tensor in its place."""

    file: Path
    name: str

    def __call__(self, weight: Tensor) -> Tensor:
        return _read(self.file, self.name)


_Change = _LowRank | _Rows | _Whole


def _changes(base: Mapping[str, StoredTensor], tuned: Tuned, is_tied: bool) -> dict[str, _Change]:
    """The base's tensors that training changed, each with its change; every trained one is in it, or ModelError."""
    trained, names = tensors_of(tuned.file), _targets(base, is_tied)
    changes: dict[str, _Change] = {}
    unmatched = []
    for name in trained:
        if name.endswith(_B) and name.removesuffix(_B) + _A in trained:
            continue  # with its A
        target, change = _change(name, tuned)
        targets = names.get(plain_name(target), [])
        is_free = bool(targets) and not changes.keys() & set(targets)
        if is_free and all(_fits(trained, name, base[target].shape, tuned) for target in targets):
            changes |= dict.fromkeys(targets, change)
        else:
            unmatched.append(target.removeprefix(PEFT))
    if unmatched:
        tied = "; a head that is the embedding (tied) takes no adapter of its own" if is_tied else ""
        raise ModelError(
            f"{tuned.file}: {len(unmatched)} of {len(trained)} trained tensors fit no tensor of the base model, first "
            f"{unmatched[0]}{tied}; give the model that it was trained on"
        )
    return changes


def _targets(base: Mapping[str, StoredTensor], is_tied: bool) -> dict[str, list[str]]:
    """Plain name -> the base's tensor: none where two have it, both where a tied head is stored, too."""
    names: dict[str, list[str]] = {}
    for name in base:
        names[plain_name(name)] = [] if plain_name(name) in names else [name]
    if is_tied:
        head = names.pop(_HEAD, [])
        names.get(_EMBEDDING, []).extend(head)
    return names


def _change(name: str, tuned: Tuned) -> tuple[str, _Change]:
    """The tensor that a trained one changes, as an adapter's file calls it, and how."""
    if name.endswith(_A):
        module = name.removesuffix(_A)
        return f"{module}.weight", _LowRank(tuned.file, module, tuned.scale)
    if name.endswith(_ROWS):
        return f"{name.removesuffix(_ROWS)}.weight", _Rows(tuned.file, name, tuned.token_ids)
    return name, _Whole(tuned.file, name)


def _fits(trained: Mapping[str, StoredTensor], name: str, shape: tuple[int, ...], tuned: Tuned) -> bool:
    """Whether a change has the shape of the base's tensor."""
    own = trained[name].shape
    if name.endswith(_A):
        other = trained.get(name.removesuffix(_A) + _B)
        return other is not None and len(own) == len(other.shape) == 2 and (other.shape[0], own[1]) == shape
    if name.endswith(_ROWS):
        return own == (len(tuned.token_ids), *shape[1:]) and all(token < shape[0] for token in tuned.token_ids)
    return own == shape


def _read(path: Path, name: str) -> Tensor:
    """One tensor; the file is opened for it alone, so that what was read before does not stay mapped."""
    with loading(path), safe_open(path, "pt") as file:
        tensor: Tensor = file.get_tensor(name)
        return tensor


def _is_tied(folder: Path) -> bool:
    """Whether the head's weight is the embedding's."""
    model = empty_model(folder)
    return model.get_output_embeddings().weight is model.get_input_embeddings().weight
