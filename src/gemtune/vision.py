"""What a frozen vision tower saw, kept on disk: an image goes through the tower once, whatever the run.

The key of an entry is the image's bytes (its name in the data directory), how the processor reads it, and the tower's
weights; so runs over the same images share what they saw. An entry is a safetensors file, written whole or not at all.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from gemtune.batch import MicroBatch
from gemtune.files import cache_folder, sha256_of_text, write_bytes
from gemtune.images import open_rgb, size_of
from gemtune.render import Eyes

TOGETHER = 4  # images a forward pass of the tower; larger batches are no faster on a CPU and cost memory
AHEAD = 2  # such batches that are read from disk while the tower works
VERSION = 2  # of what is kept, and of how it is computed


class TowerView:
    """A model's view of images: from the cache where the tower has seen them, through the frozen tower otherwise.

    `weights` identify the tower's; with `frozen` False nothing is cached and gradients reach the tower.
    """

    def __init__(self, model: Any, eyes: Eyes, data: Path, cache_gb: float, weights: str, frozen: bool = True):
        self.inner = model.model
        self.eyes, self._data, self._limit = eyes, data, cache_gb * 1e9
        reads = repr(sorted(eyes.processor.to_dict().items(), key=str))
        dtype = str(next(self.inner.get_submodule(eyes.sight.tower).parameters()).dtype)
        self._folder = cache_folder() / "seen" / sha256_of_text(str(VERSION), weights, reads, str(eyes.settings), dtype)
        self._frozen = frozen
        self.passes = 0  # images that went through the tower

    def parameters(self) -> Iterator[torch.nn.Parameter]:
        """Those of the tower and of the projector."""
        for name in dict.fromkeys((self.eyes.sight.tower, *self.eyes.sight.projector)):
            yield from self.inner.get_submodule(name).parameters()

    def encoded(self, images: Sequence[str]) -> Any:
        """What the model takes as `mm_encoder_outputs["image"]` for images; gradients stop at the projector."""
        if not self._frozen:
            return self.eyes.sight.project(self.inner, self._through_tower(self._read(images)))
        features = self.features(images)
        device = next(self.inner.parameters()).device
        return self.eyes.sight.project(self.inner, [one.to(device) for one in features])

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
        grids = iter(self._grids(batch.images))
        kinds = (batch.input_ids == self.eyes.token).long()
        places = []
        for ids, kind, spans in zip(
            batch.input_ids.split(batch.lengths, 1), kinds.split(batch.lengths, 1), batch.image_spans, strict=True
        ):
            own = torch.stack([next(grids) for _ in spans]) if spans else None
            places.append(self.inner.get_rope_index(ids, kind, image_grid_thw=own)[0])
        return torch.cat(places, -1)

    def _grids(self, images: Sequence[str]) -> torch.Tensor:
        grid = self.eyes.sight.grid
        sizes = [size_of(self._data / image) for image in images]
        return torch.tensor([grid(self.eyes.processor, size) for size in sizes] if grid else [])

    def prompt_inputs(self, ids: torch.Tensor, images: Sequence[str]) -> dict[str, Any]:
        """What generation needs beside padded prompts (B, T) for all their images, in order."""
        seen: dict[str, Any] = {"mm_encoder_outputs": {"image": self.encoded(images)}}
        kinds = (ids == self.eyes.token).long()
        if self.eyes.sight.both_ways:
            return {**seen, "token_type_ids": kinds}
        if self.eyes.sight.grid:
            return {**seen, "mm_token_type_ids": kinds, "image_grid_thw": self._grids(images)}
        return seen

    def look(self, images: Sequence[str], tick: Callable[[int], None] = lambda done: None) -> None:
        """Shows a frozen tower every image that the cache does not have yet, so that training only reads."""
        if self._frozen and self._limit:
            missing = [image for image in dict.fromkeys(images) if not self._path(image).exists()]
            for done, _ in enumerate(self._seen(missing), 1):
                tick(done)

    def features(self, images: Sequence[str]) -> list[torch.Tensor]:
        """What the tower sees of each image, from before the projector, on the CPU."""
        kept = {image: self._kept(image) for image in dict.fromkeys(images)}
        found = {image: feature for image, feature in kept.items() if feature is not None}
        found |= dict(self._seen([image for image in kept if image not in found]))
        return [found[image] for image in images]

    def _seen(self, images: Sequence[str]) -> Iterator[tuple[str, torch.Tensor]]:
        """Yields images and what the tower makes of them, which the cache keeps; the next are read meanwhile."""
        blocks = [images[start : start + TOGETHER] for start in range(0, len(images), TOGETHER)]
        with ThreadPoolExecutor() as pool:
            read = deque(pool.submit(self._read, block) for block in blocks[:AHEAD])
            for number, block in enumerate(blocks):
                seen = self._through_tower(read.popleft().result())
                read.extend(pool.submit(self._read, later) for later in blocks[number + AHEAD : number + AHEAD + 1])
                for image, feature in zip(block, seen, strict=True):
                    kept = feature.cpu().contiguous()
                    self._keep(image, kept)
                    yield image, kept

    def _read(self, images: Sequence[str]) -> dict[str, torch.Tensor]:
        """Image files as the tower takes them."""
        opened = [open_rgb(self._data / image) for image in images]
        return dict(self.eyes.processor(opened, return_tensors="pt", **self.eyes.settings))

    def _through_tower(self, read: dict[str, torch.Tensor]) -> list[torch.Tensor]:
        """What the tower makes of images; with gradients where it is trained."""
        at = next(self.inner.get_submodule(self.eyes.sight.tower).parameters())
        moved = {k: v.to(at.device, at.dtype if v.is_floating_point() else None) for k, v in read.items()}
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self._frozen):
            seen = self.eyes.sight.see(self.inner, moved)
        self.passes += len(seen)
        return seen

    def _path(self, image: str) -> Path:
        name = Path(image).stem
        return self._folder / name[:2] / f"{name}.safetensors"

    def _kept(self, image: str) -> torch.Tensor | None:
        path = self._path(image)
        try:
            feature = load_file(path)["seen"]
            os.utime(path)  # the least recently used go first
        except (FileNotFoundError, SafetensorError, KeyError):
            return None  # not seen yet, or damaged: it is seen again
        return feature

    def _keep(self, image: str, feature: torch.Tensor) -> None:
        if self._limit:
            write_bytes(self._path(image), save({"seen": feature}))

    def tidy(self) -> None:
        """Removes what was used longest ago, of every model, until the cache is within its limit."""
        files = [(path.stat(), path) for path in self._folder.parent.rglob("*.safetensors")]
        total = sum(stat.st_size for stat, _ in files)
        for stat, path in sorted(files, key=lambda entry: entry[0].st_mtime):
            if total <= self._limit:
                return
            path.unlink(missing_ok=True)
            total -= stat.st_size
