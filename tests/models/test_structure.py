"""The parts of a model are those of transformers and PEFT, with adapters and without."""

from __future__ import annotations

from pathlib import Path

import torch

from gemtune.models.adapters import attach_adapters
from gemtune.models.families import family_of
from gemtune.models.loading import load_model
from gemtune.models.patching import install_kernels
from gemtune.models.structure import choose_head, parts_of, without_adapters
from gemtune.recipe.schema import Lora


def test_the_parts_of_a_plain_model(tiny_model: Path) -> None:
    model = load_model(tiny_model)
    decoder, head, rows = parts_of(model)
    assert without_adapters(model) is model and decoder is model.model
    assert head is model.lm_head.weight and rows is None


def test_the_head_with_its_trained_rows_gives_the_logits_of_the_model(tiny_model: Path) -> None:
    tokens = [105, 106]
    tuned = attach_adapters(load_model(tiny_model), Lora(), family_of(tiny_model), tokens, 0)
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if "token_adapter" in name and parameter.requires_grad:
                parameter.add_(0.5)
    install_kernels(tuned)
    decoder, head, rows = parts_of(tuned)
    ids = torch.tensor([[2, 300, 301, 105, 302]])
    assert rows is not None and decoder is without_adapters(tuned).model
    whole = head.detach().clone()
    whole[rows[0]] = rows[1].detach().to(whole.dtype)
    assert sorted(rows[0].tolist()) == tokens and not torch.equal(whole, head)
    with torch.no_grad():
        hidden = decoder(input_ids=ids).last_hidden_state
        torch.testing.assert_close(hidden @ whole.t(), tuned(input_ids=ids).logits)


def test_a_head_with_adapters_of_its_own_is_left_to_peft(tiny_model: Path) -> None:
    heads = {}
    for targets in ("all-linear", ["q_proj", "lm_head"]):
        lora = Lora(target_modules=targets, token_rows="none")
        heads[str(targets)] = choose_head(attach_adapters(load_model(tiny_model), lora, family_of(tiny_model), [], 0))[
            0
        ]
    assert list(heads.values()) == ["gathered", "logits_to_keep"]
