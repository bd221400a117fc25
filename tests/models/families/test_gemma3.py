"""Gemma 3: why gemtune isolates packed rows with images itself."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers
from packaging.version import Version
from transformers import AutoModelForImageTextToText


@pytest.mark.skipif(Version(transformers.__version__) < Version("5.23"), reason="transformers 5.20 isolates them")
def test_upstream_does_not_isolate_packed_rows_with_images(gemma: Path) -> None:
    """transformers 5.23: packing by restarted positions is lost when images are there. Fails when that is mended."""
    torch.manual_seed(0)
    stock = AutoModelForImageTextToText.from_pretrained(gemma, attn_implementation="sdpa").eval()
    image = stock.config.image_token_id
    documents = [
        torch.tensor([[2, 300, image, image, image, image, 301, 302]]),
        torch.tensor([[2, 303, 304, 305, 306]]),
    ]
    pixels = torch.randn(1, 3, 56, 56)
    ids = torch.cat(documents, 1)
    places = torch.cat([torch.arange(d.shape[1]) for d in documents])[None]
    kinds = (ids == image).long()
    with torch.no_grad():
        packed = stock(ids, pixel_values=pixels, position_ids=places, token_type_ids=kinds, use_cache=False).logits
        alone = stock(documents[1], use_cache=False).logits
    assert not torch.allclose(packed[:, -5:], alone, atol=1e-3)
