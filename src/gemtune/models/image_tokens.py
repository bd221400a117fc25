"""The image token of a vision-language model, and how many of them an image takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gemtune.data.conversation import Part
from gemtune.errors import RowError
from gemtune.models.sight import PAN_AND_SCAN, Sight, tokens_of
from gemtune.recipe.schema import Vision


class Eyes:
    """What a renderer needs of a model that sees: which token is an image's, and how many of them an image is."""

    def __init__(self, config: Any, processor: Any, sight: Sight, vision: Vision):
        self.token, self.name = tokens_of(config), sight.token
        self.processor, self.sight = processor, sight
        self._config = config
        self.settings = {"do_pan_and_scan": True, **PAN_AND_SCAN} if vision.pan_and_scan else {}

    def alone(self, images: Sequence[Any]) -> bool:
        """Whether a conversation's images are read as one that is alone; where that differs from one of several."""
        return len(images) == 1 or not self.sight.alone_differs

    def texts(self, images: Sequence[Part]) -> list[str]:
        """What stands for each image of a conversation in its text."""
        alone, texts = self.alone(images), []
        for part in images:
            if part.size is None:
                raise RowError("bad image", f"{part.image!r} has no size; prepare the data again")
            texts.append(self.sight.text(self._config, self.processor, part.size, alone, self.settings))
        return texts

    def count(self, images: Sequence[Part]) -> int:
        """How many tokens of the model a conversation's images are."""
        return "".join(self.texts(images)).count(self.name)

    def seen_at(self, images: Sequence[Part]) -> list[str]:
        """The size of each image of a conversation, and the size at which the model sees it."""
        sizes, alone = [part.size or (0, 0) for part in images], self.alone(images)
        shown = [self.sight.shown(self.processor, size, alone) for size in sizes]
        return [f"{w}x{h} to {to_w}x{to_h}" for (w, h), (to_w, to_h) in zip(sizes, shown, strict=True)]
