"""A frozen vision tower's features, cached on disk: an image goes through the tower once, whatever the run.

The key of an entry is the image's bytes (its name in the data directory), how the processor reads it, and the tower's
own weights; so runs over the same images share their features, and so do models that have the same tower. An entry is
a safetensors file, written whole or not at all.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from itertools import groupby, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from gemtune.data.images import open_rgb, size_of
from gemtune.errors import GemtuneError
from gemtune.files import cache_folder, sha256_of_text, writable_cache, write_bytes
from gemtune.models.families.base import GridFamily, Pixels
from gemtune.models.image_tokens import ImageTokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel
    from transformers.modeling_outputs import BaseModelOutputWithPooling

    from gemtune.training.batching import MicroBatch

BATCH = 4  # images per forward pass of the tower; larger batches are no faster on a CPU and cost memory
AHEAD = 2  # such batches that are read from disk while the tower works
CACHE_VERSION = 3  # of what is cached, and of how it is computed
TEXT_KEYS = ("text_config", "_name_or_path", "dtype")  # of a model's config: they do not change a feature

Rows = Sequence[Sequence[str]]  # of each conversation: the paths of its images in the data directory
ModelInputs = dict[str, object]  # keyword arguments of a forward pass or of generate()


class ImageKey(NamedTuple):
    """An image, and whether it is processed as one that is alone in its conversation."""

    path: str
    alone: bool


class ImageFeatures:
    """The features of images under one model: from the cache, or through the frozen tower where they are not there yet.

    With `frozen` False nothing is cached and gradients reach the tower.
    """

    def __init__(
        self, model: PreTrainedModel, tokenizer: ImageTokenizer, data: Path, cache_gb: float, frozen: bool = True
    ):
        self.core = model.model
        self.tokenizer, self.family = tokenizer, tokenizer.family
        self._data, self._limit, self._frozen = data, cache_gb * 1e9, frozen
        self.passes = 0  # images that went through the tower

    @cached_property
    def _folder(self) -> Path:
        """Where the entries of this tower are: models of several sizes may have the same one."""
        config = self.core.config.to_dict()
        processor = repr(sorted(self.tokenizer.processor.to_dict().items(), key=str))
        tower = repr(sorted((name, value) for name, value in config.items() if name not in TEXT_KEYS))
        key = sha256_of_text(str(CACHE_VERSION), processor, str(self.tokenizer.settings), tower)
        digest = hashlib.sha256(key.encode())
        projector = tuple(f"{name}." for name in self.family.projector)
        for name, weight in self.core.get_submodule(self.family.tower).state_dict().items():
            if not f"{self.family.tower}.{name}".startswith(projector):
                digest.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
                digest.update(weight.cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
        return cache_folder() / "seen" / digest.hexdigest()

    def parameters(self) -> Iterator[torch.nn.Parameter]:
        """Those of the tower and of the projector."""
        for name in dict.fromkeys((self.family.tower, *self.family.projector)):
            yield from self.core.get_submodule(name).parameters()

    def projected(self, rows: Rows) -> BaseModelOutputWithPooling:
        """What the model takes as `mm_encoder_outputs["image"]` for rows' images; gradients stop at the projector."""
        keys, device = self.keys(rows), next(self.core.parameters()).device
        if self._frozen:
            features = [feature.to(device) for feature in self.features(rows)]
        else:
            alike = (list(group) for _, group in groupby(keys, lambda key: key.alone))
            features = [feature for group in alike for feature in self._through_tower(self._preprocess(group))]
        sizes = (size_of(self._data / key.path) for key in keys)
        with self._in_type_of(features[0]):
            return self.family.project(self.core, features, sizes)

    def _in_type_of(self, feature: torch.Tensor) -> AbstractContextManager[object]:
        """A projector that is trained has fp32 masters; its products are in the type of the features."""
        weights = (weight for name in self.family.projector for weight in self.core.get_submodule(name).parameters())
        if any(weight.dtype == torch.float32 for weight in weights) and feature.dtype != torch.float32:
            return torch.autocast(feature.device.type, feature.dtype)
        return nullcontext()

    def batch_inputs(self, batch: MicroBatch) -> ModelInputs:
        """What a forward pass over a micro-batch with images needs beside its tokens."""
        inputs: ModelInputs = {"mm_encoder_outputs": {"image": self.projected(batch.images)}}
        if self.family.bidirectional:
            inputs["image_spans"] = batch.image_spans
        if isinstance(self.family, GridFamily):
            inputs["position_ids"] = self._positions(batch, self.family)
        return inputs

    def _positions(self, batch: MicroBatch, family: GridFamily) -> torch.Tensor:
        """Time, row and column of every token, each document from 0: (3, 1, T)."""
        kinds = (batch.input_ids == self.tokenizer.token_id).long()
        positions = []
        for ids, kind, images in zip_longest(
            batch.input_ids.split(batch.lengths, 1), kinds.split(batch.lengths, 1), batch.images, fillvalue=()
        ):
            grids = self._grids([images], family) if images else None
            positions.append(self.core.get_rope_index(ids, kind, image_grid_thw=grids)[0])
        return torch.cat(positions, -1)

    def _grids(self, rows: Rows, family: GridFamily) -> torch.Tensor:
        sizes = [size_of(self._data / path) for row in rows for path in row]
        return torch.tensor([family.grid(self.tokenizer.processor, size) for size in sizes])

    def prompt_inputs(self, ids: torch.Tensor, rows: Rows) -> ModelInputs:
        """What generation needs beside padded prompts (B, T) for the images of each."""
        inputs: ModelInputs = {"mm_encoder_outputs": {"image": self.projected(rows)}}
        kinds = (ids == self.tokenizer.token_id).long()
        if self.family.bidirectional:
            return {**inputs, "token_type_ids": kinds}
        if isinstance(self.family, GridFamily):
            return {**inputs, "mm_token_type_ids": kinds, "image_grid_thw": self._grids(rows, self.family)}
        return inputs

    @cached_property
    def not_kept(self) -> str | None:
        """Why the features of a frozen tower cannot be cached, or None where they can."""
        try:
            writable_cache()
        except GemtuneError as error:
            return str(error)
        return None

    def warm_up(self, rows: Rows, tick: Callable[[int, int], None] = lambda total, done: None) -> None:
        """Runs a frozen tower on every image that is not cached yet, so that training only reads."""
        if self._frozen and self._limit and not self.not_kept:
            missing = [key for key in dict.fromkeys(self.keys(rows)) if not self._path(key).exists()]
            for done, _ in enumerate(self._encode(missing), 1):
                tick(len(missing), done)

    def features(self, rows: Rows) -> list[torch.Tensor]:
        """The tower's features of each image of each row, from before the projector, on the CPU."""
        keys = self.keys(rows)
        cached = {key: self._load(key) for key in dict.fromkeys(keys)}
        features = {key: feature for key, feature in cached.items() if feature is not None}
        features |= dict(self._encode([key for key in cached if key not in features]))
        return [features[key] for key in keys]

    def keys(self, rows: Rows) -> list[ImageKey]:
        """The cache keys of rows' images, in order."""
        return [ImageKey(path, self.tokenizer.alone(row)) for row in rows for path in row]

    def _encode(self, keys: Sequence[ImageKey]) -> Iterator[tuple[ImageKey, torch.Tensor]]:
        """Yields images and their features, which go into the cache; the next images are read meanwhile."""
        kinds = [[key for key in keys if key.alone is alone] for alone in (True, False)]
        blocks = [kind[start : start + BATCH] for kind in kinds for start in range(0, len(kind), BATCH)]
        with ThreadPoolExecutor() as pool:
            queue = deque(pool.submit(self._preprocess, block) for block in blocks[:AHEAD])
            for number, block in enumerate(blocks):
                features = self._through_tower(queue.popleft().result())
                queue.extend(pool.submit(self._preprocess, later) for later in blocks[number + AHEAD :][:1])
                for key, feature in zip(block, features, strict=True):
                    on_cpu = feature.cpu().contiguous()
                    self._store(key, on_cpu)
                    yield key, on_cpu

    def _preprocess(self, keys: Sequence[ImageKey]) -> Pixels:
        """Image files as the tower takes them; all are alone in their rows, or none is."""
        images = [open_rgb(self._data / key.path) for key in keys]
        return self.family.preprocess(self.tokenizer.processor, images, keys[0].alone, self.tokenizer.settings)

    def _through_tower(self, pixels: Pixels) -> list[torch.Tensor]:
        """The features of images; with gradients where the tower is trained."""
        weight = next(self.core.get_submodule(self.family.tower).parameters())
        on_device = {
            name: value.to(weight.device, weight.dtype if value.is_floating_point() else None)
            for name, value in pixels.items()
        }
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self._frozen):
            features = self.family.encode(self.core, on_device)
        self.passes += len(features)
        return features

    def _path(self, key: ImageKey) -> Path:
        name = Path(key.path).stem
        return self._folder / name[:2] / f"{name}{'' if key.alone else '-beside-others'}.safetensors"

    def _load(self, key: ImageKey) -> torch.Tensor | None:
        if self.not_kept:
            return None
        path = self._path(key)
        try:
            feature: torch.Tensor = load_file(path)["seen"]
            os.utime(path)  # the least recently used are removed first
        except (FileNotFoundError, SafetensorError, KeyError):
            return None  # not cached yet, or damaged: it is computed again
        return feature

    def _store(self, key: ImageKey, feature: torch.Tensor) -> None:
        if self._limit and not self.not_kept:
            write_bytes(self._path(key), save({"seen": feature}))

    def evict(self) -> None:
        """Removes the entries used longest ago, of every model, until the cache is within its limit."""
        if self.not_kept:
            return
        files = [(path.stat(), path) for path in self._folder.parent.rglob("*.safetensors")]
        total = sum(stat.st_size for stat, _ in files)
        for stat, path in sorted(files, key=lambda entry: entry[0].st_mtime):
            if total <= self._limit:
                return
            path.unlink(missing_ok=True)
            total -= stat.st_size
