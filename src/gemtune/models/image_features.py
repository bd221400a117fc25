"""What a frozen vision tower saw, kept on disk: an image goes through the tower once, whatever the run.

The key of an entry is the image's bytes (its name in the data directory), how the processor reads it, and the tower's
own weights; so runs over the same images share what they saw, and models that have the same tower. An entry is a
safetensors file, written whole or not at all.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from itertools import groupby, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from gemtune.data.images import open_rgb, size_of
from gemtune.files import cache_folder, sha256_of_text, write_bytes
from gemtune.models.image_tokens import Eyes
from gemtune.models.sight import Pixels

if TYPE_CHECKING:
    from gemtune.training.batching import MicroBatch

TOGETHER = 4  # images a forward pass of the tower; larger batches are no faster on a CPU and cost memory
AHEAD = 2  # such batches that are read from disk while the tower works
VERSION = 3  # of what is kept, and of how it is computed
OF_THE_TEXT = ("text_config", "_name_or_path", "dtype")  # in a model's config

Rows = Sequence[Sequence[str]]  # of each conversation: the paths of its images in the data directory


class Look(NamedTuple):
    """An image, and whether it is seen as one that is alone in its conversation."""

    path: str
    alone: bool


class TowerView:
    """A model's view of images: from the cache where the tower has seen them, through the frozen tower otherwise.

    With `frozen` False nothing is cached and gradients reach the tower.
    """

    def __init__(self, model: Any, eyes: Eyes, data: Path, cache_gb: float, frozen: bool = True):
        self.inner = model.model
        self.eyes, self._data, self._limit = eyes, data, cache_gb * 1e9
        self._frozen = frozen
        self.passes = 0  # images that went through the tower

    @cached_property
    def _folder(self) -> Path:
        """Where the entries of this tower are, as it reads images: models of several sizes may have the same one."""
        sight, config = self.eyes.sight, self.inner.config.to_dict()
        reads = repr(sorted(self.eyes.processor.to_dict().items(), key=str))
        tower = repr(sorted((name, value) for name, value in config.items() if name not in OF_THE_TEXT))
        digest = hashlib.sha256(sha256_of_text(str(VERSION), reads, str(self.eyes.settings), tower).encode())
        for name, weight in self.inner.get_submodule(sight.tower).state_dict().items():
            if not f"{sight.tower}.{name}".startswith(tuple(f"{projector}." for projector in sight.projector)):
                digest.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
                digest.update(weight.cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
        return cache_folder() / "seen" / digest.hexdigest()

    def parameters(self) -> Iterator[torch.nn.Parameter]:
        """Those of the tower and of the projector."""
        for name in dict.fromkeys((self.eyes.sight.tower, *self.eyes.sight.projector)):
            yield from self.inner.get_submodule(name).parameters()

    def encoded(self, rows: Rows) -> Any:
        """What the model takes as `mm_encoder_outputs["image"]` for rows' images; gradients stop at the projector."""
        looks, at = self._looks(rows), next(self.inner.parameters()).device
        if self._frozen:
            features = [feature.to(at) for feature in self.features(rows)]
        else:
            alike = (list(some) for _, some in groupby(looks, lambda look: look.alone))
            features = [feature for some in alike for feature in self._through_tower(self._read(some))]
        return self.eyes.sight.project(self.inner, features, (size_of(self._data / look.path) for look in looks))

    def inputs(self, batch: MicroBatch) -> dict[str, Any]:
        """What a forward pass over a micro-batch with images needs beside its tokens."""
        seen: dict[str, Any] = {"mm_encoder_outputs": {"image": self.encoded(batch.images)}}
        if self.eyes.sight.both_ways:
            seen["image_spans"] = batch.image_spans
        if self.eyes.sight.grid:
            seen["position_ids"] = self._positions(batch)
        return seen

    def _positions(self, batch: MicroBatch) -> torch.Tensor:
        """Time, row and column of every token, each document from 0: (3, 1, T)."""
        kinds = (batch.input_ids == self.eyes.token).long()
        places = []
        for ids, kind, images in zip_longest(
            batch.input_ids.split(batch.lengths, 1), kinds.split(batch.lengths, 1), batch.images, fillvalue=()
        ):
            own = self._grids([images]) if images else None
            places.append(self.inner.get_rope_index(ids, kind, image_grid_thw=own)[0])
        return torch.cat(places, -1)

    def _grids(self, rows: Rows) -> torch.Tensor:
        grid = self.eyes.sight.grid
        sizes = [size_of(self._data / path) for row in rows for path in row]
        return torch.tensor([grid(self.eyes.processor, size) for size in sizes] if grid else [])

    def prompt_inputs(self, ids: torch.Tensor, rows: Rows) -> dict[str, Any]:
        """What generation needs beside padded prompts (B, T) for the images of each."""
        seen: dict[str, Any] = {"mm_encoder_outputs": {"image": self.encoded(rows)}}
        kinds = (ids == self.eyes.token).long()
        if self.eyes.sight.both_ways:
            return {**seen, "token_type_ids": kinds}
        if self.eyes.sight.grid:
            return {**seen, "mm_token_type_ids": kinds, "image_grid_thw": self._grids(rows)}
        return seen

    def look(self, rows: Rows, tick: Callable[[int, int], None] = lambda total, done: None) -> None:
        """Shows a frozen tower every image that the cache does not have yet, so that training only reads."""
        if self._frozen and self._limit:
            missing = [look for look in dict.fromkeys(self._looks(rows)) if not self._path(look).exists()]
            for done, _ in enumerate(self._seen(missing), 1):
                tick(len(missing), done)

    def features(self, rows: Rows) -> list[torch.Tensor]:
        """What the tower sees of each image of each row, from before the projector, on the CPU."""
        looks = self._looks(rows)
        kept = {look: self._kept(look) for look in dict.fromkeys(looks)}
        found = {look: feature for look, feature in kept.items() if feature is not None}
        found |= dict(self._seen([look for look in kept if look not in found]))
        return [found[look] for look in looks]

    def _looks(self, rows: Rows) -> list[Look]:
        return [Look(path, self.eyes.alone(row)) for row in rows for path in row]

    def _seen(self, looks: Sequence[Look]) -> Iterator[tuple[Look, torch.Tensor]]:
        """Yields images and what the tower makes of them, which the cache keeps; the next are read meanwhile."""
        kinds = [[look for look in looks if look.alone is alone] for alone in (True, False)]
        blocks = [kind[start : start + TOGETHER] for kind in kinds for start in range(0, len(kind), TOGETHER)]
        with ThreadPoolExecutor() as pool:
            read = deque(pool.submit(self._read, block) for block in blocks[:AHEAD])
            for number, block in enumerate(blocks):
                seen = self._through_tower(read.popleft().result())
                read.extend(pool.submit(self._read, later) for later in blocks[number + AHEAD : number + AHEAD + 1])
                for look, feature in zip(block, seen, strict=True):
                    kept = feature.cpu().contiguous()
                    self._keep(look, kept)
                    yield look, kept

    def _read(self, looks: Sequence[Look]) -> Pixels:
        """Image files as the tower takes them; all are alone in their rows, or none is."""
        opened = [open_rgb(self._data / look.path) for look in looks]
        return self.eyes.sight.read(self.eyes.processor, opened, looks[0].alone, self.eyes.settings)

    def _through_tower(self, read: Pixels) -> list[torch.Tensor]:
        """What the tower makes of images; with gradients where it is trained."""
        at = next(self.inner.get_submodule(self.eyes.sight.tower).parameters())
        moved = {k: v.to(at.device, at.dtype if v.is_floating_point() else None) for k, v in read.items()}
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self._frozen):
            seen = self.eyes.sight.see(self.inner, moved)
        self.passes += len(seen)
        return seen

    def _path(self, look: Look) -> Path:
        name = Path(look.path).stem
        return self._folder / name[:2] / f"{name}{'' if look.alone else '-beside-others'}.safetensors"

    def _kept(self, look: Look) -> torch.Tensor | None:
        path = self._path(look)
        try:
            feature = load_file(path)["seen"]
            os.utime(path)  # the least recently used go first
        except (FileNotFoundError, SafetensorError, KeyError):
            return None  # not seen yet, or damaged: it is seen again
        return feature

    def _keep(self, look: Look, feature: torch.Tensor) -> None:
        if self._limit:
            write_bytes(self._path(look), save({"seen": feature}))

    def tidy(self) -> None:
        """Removes what was used longest ago, of every model, until the cache is within its limit."""
        files = [(path.stat(), path) for path in self._folder.parent.rglob("*.safetensors")]
        total = sum(stat.st_size for stat, _ in files)
        for stat, path in sorted(files, key=lambda entry: entry[0].st_mtime):
            if total <= self._limit:
                return
            path.unlink(missing_ok=True)
            total -= stat.st_size
