"""The loss of a batch: over its labelled tokens alone, each document seen by itself."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import cross_entropy

from gemtune.kernels.cross_entropy import labelled_cross_entropy
from gemtune.kernels.fp16 import rounded
from gemtune.kernels.patch import hidden_at
from gemtune.models.image_features import ImageFeatures
from gemtune.models.structure import choose_head, parts_of, without_adapters
from gemtune.rendering.renderer import IGNORE
from gemtune.training.batching import MicroBatch

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from transformers import PreTrainedModel

# A ready-made mask stops transformers from building one; our attention isolates documents by `document_lengths`.
NO_MASK = torch.ones(1, 1, 1, 1, dtype=torch.bool)


def labelled_loss(
    model: PreTrainedModel, batch: MicroBatch, features: ImageFeatures | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """The summed loss in nats over a batch's labelled tokens, and how many the model's first choice got right."""
    inputs = {
        "input_ids": batch.input_ids,
        "attention_mask": NO_MASK.to(batch.input_ids.device),
        "document_lengths": batch.lengths,
        "use_cache": False,
        "position_ids": batch.position_ids,
        **(features.batch_inputs(batch) if features and batch.images else {}),
    }
    if choose_head(model)[0] != "gathered":
        logits = without_adapters(model)(logits_to_keep=batch.positions, **inputs).logits[0].float()  # (P, V)
        loss = cross_entropy(logits, batch.targets, ignore_index=IGNORE, reduction="sum")
        return loss, (logits.argmax(-1) == batch.targets).sum()
    decoder, head, rows = parts_of(model)
    hidden = hidden_at(decoder, batch.positions, **inputs)  # (P, H)
    softcap = getattr(decoder.config.get_text_config(), "final_logit_softcapping", None)
    device = head.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else head.dtype
    with torch.autocast(device, enabled=False):  # it would round the whole head again for every chunk of tokens
        return labelled_cross_entropy(rounded(hidden, dtype), head.to(dtype), batch.targets, rows=rows, softcap=softcap)


def summed_loss(
    model: PreTrainedModel,
    batches: Iterable[MicroBatch],
    autocast: Callable[[], AbstractContextManager[None]],
    features: ImageFeatures | None = None,
) -> tuple[float, int]:
    """Nats over batches and their labelled tokens, in eval mode; the model goes back to the mode it was in."""
    was_training = model.training
    model.eval()
    total, labelled = 0.0, 0
    try:
        with torch.no_grad(), autocast():
            for batch in batches:
                total += labelled_loss(model, batch.to(model.device), features)[0].item()
                labelled += batch.labelled
    finally:
        model.train(was_training)
    return total, labelled
