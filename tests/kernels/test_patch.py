"""Patched models compute what stock ones do, whatever transformers calls its parameters, and can be restored."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, Gemma3ForCausalLM
from transformers.models.gemma3.modeling_gemma3 import Gemma3Attention

from gemtune.kernels.patch import choose_forwards, install, install_head, restore
from gemtune.models.families.gemma3 import tiny_text_config, write_tiny_text, write_tiny_vision
from gemtune.models.loading import load_model

CACHE_NAMES = {"past_key_values", "cache"}  # of transformers up to 5.23, and since


CACHE = next(name for name in inspect.signature(Gemma3Attention.forward).parameters if name in CACHE_NAMES)


class OwnCacheName(Gemma3Attention):
    """Attention as a transformers to come may write it: with a parameter that nobody here has heard of."""

    def forward(self, hidden_states: Any, position_embeddings: Any, kv: Any = None, **kwargs: Any) -> Any:  # type: ignore[override]
        kwargs |= {} if kv is None else {CACHE: kv}
        return super().forward(hidden_states, position_embeddings, **kwargs)


def _lora_pair(attention: type | None = None) -> list[torch.nn.Module]:
    """The same LoRA twice, as PEFT has it and sped up; attentions of another class where one is given."""
    models = []
    for _ in range(2):
        torch.manual_seed(0)
        model = get_peft_model(
            Gemma3ForCausalLM(tiny_text_config(200)).eval(),
            LoraConfig(r=4, target_modules=["q_proj", "k_proj", "v_proj", "o_proj"], init_lora_weights=False),
        )
        for module in model.modules():
            if attention is not None and type(module) is Gemma3Attention:
                module.__class__ = attention
        models.append(model.eval())
    return [models[0], install(models[1])]


@pytest.mark.parametrize("attention, name", [(None, "past_key_values"), (None, "cache"), (OwnCacheName, CACHE)])
def test_generation_sees_its_past_whatever_the_cache_is_called(
    monkeypatch: pytest.MonkeyPatch, attention: type | None, name: str
) -> None:
    """The second token's logits from a cache equal those of the whole text, through every name of a cache."""
    stock, ours = _lora_pair(attention)
    for layer in ours.model.model.layers:
        layer.register_forward_pre_hook(
            lambda _, args, kwargs: (args, {name if key in CACHE_NAMES else key: v for key, v in kwargs.items()}),
            with_kwargs=True,
        )
    ids = torch.randint(0, 200, (1, 12))
    with torch.no_grad():
        past = ours(input_ids=ids[:, :-1], use_cache=True)
        cached = ours(input_ids=ids[:, -1:], past_key_values=past.past_key_values, use_cache=True).logits
        torch.testing.assert_close(cached[:, -1], stock(input_ids=ids).logits[:, -1], rtol=1e-4, atol=1e-5)


def test_a_forward_with_a_parameter_unknown_here_is_kept_and_named() -> None:
    stock, ours = _lora_pair(OwnCacheName)
    kept, why = choose_forwards(ours)
    assert kept == ["OwnCacheName"] and "OwnCacheName.forward of transformers" in why and "takes kv, unknown" in why
    assert type(ours.model.model.layers[0].self_attn) is OwnCacheName
    assert choose_forwards(_lora_pair()[1])[0] == []
    ids = torch.randint(0, 200, (2, 12))
    torch.testing.assert_close(ours(input_ids=ids).logits, stock(input_ids=ids).logits, rtol=1e-5, atol=1e-5)


def inputs_of(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """A row of tokens, with an image where the model takes one."""
    ids = torch.randint(110, 200, (1, 12), generator=torch.Generator().manual_seed(0))
    if not hasattr(model.config, "image_token_id"):
        return {"input_ids": ids}
    image = torch.randn(1, 3, 56, 56, generator=torch.Generator().manual_seed(1))
    ids[0, 3:7] = model.config.image_token_id
    kinds = (ids == model.config.image_token_id).long()
    return {"input_ids": ids, "pixel_values": image, "token_type_ids": kinds}


def with_lora(model: torch.nn.Module) -> torch.nn.Module:
    """With adapters of the text part and a trained token row, the same each time."""
    torch.manual_seed(0)
    config = LoraConfig(
        r=4,
        target_modules=r"(?!.*vision).*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)",
        init_lora_weights=False,
        trainable_token_indices={"embed_tokens": [106]},
    )
    return get_peft_model(model, config).eval()


def description(model: torch.nn.Module) -> list[tuple[object, ...]]:
    """What makes a model its own: the classes, hooks and attributes of its modules, and their configs' attention."""
    return [
        (
            name,
            type(module),
            len(module._forward_pre_hooks),
            sorted(vars(module)),
            getattr(getattr(module, "config", None), "_attn_implementation", None),
        )
        for name, module in model.named_modules()
    ]


@pytest.mark.parametrize("write", [write_tiny_text, write_tiny_vision])
def test_restore_leaves_the_model_of_transformers_and_peft(
    passes: None, tmp_path: Path, write: Callable[[Path], Path]
) -> None:
    folder = write(tmp_path / "model")
    kind = AutoModelForCausalLM if write is write_tiny_text else AutoModelForImageTextToText
    stock = with_lora(kind.from_pretrained(folder, attn_implementation="sdpa"))
    ours = install(with_lora(load_model(folder)))
    inputs = inputs_of(stock)
    assert description(ours) != description(stock)
    ours(**inputs).logits.square().mean().backward()
    layers = ours.get_base_model().get_decoder().layers
    assert not layers[0].self_attn.q_proj.base_layer.weight.is_contiguous(), "the weights are grouped"

    assert restore(ours) is ours
    assert description(ours) == description(stock)
    ours_state, stock_state = ours.state_dict(), stock.state_dict()
    assert ours_state.keys() == stock_state.keys()
    for name, value in ours_state.items():
        assert torch.equal(value, stock_state[name]), name
        assert value.is_contiguous() and value.untyped_storage().nbytes() == value.nbytes, name
    with torch.no_grad():
        assert torch.equal(ours(**inputs).logits, stock(**inputs).logits)
        merged = [model.merge_and_unload() for model in (ours, stock)]
        assert torch.equal(*(model(**inputs).logits for model in merged))


def test_a_head_is_installed_once(tmp_path: Path) -> None:
    model = load_model(write_tiny_text(tmp_path / "model"))
    install_head(model.get_output_embeddings())
    model = with_lora(model)  # PEFT wraps the head, which has a hook
    hooks = [len(module._forward_pre_hooks) for module in model.modules()]
    install_head(model.get_output_embeddings())
    assert [len(module._forward_pre_hooks) for module in model.modules()] == hooks
    assert sum(hooks) == 1


def test_a_merged_model_can_be_restored(passes: None, tmp_path: Path) -> None:
    """As an export does: its weights are views of what the adapters have left."""
    folder = write_tiny_text(tmp_path / "model")
    ours = install(with_lora(load_model(folder)))
    stock = with_lora(AutoModelForCausalLM.from_pretrained(folder, attn_implementation="sdpa"))
    inputs = inputs_of(stock)
    with torch.no_grad():
        ours(**inputs)
        ours, stock = restore(ours.merge_and_unload()), stock.merge_and_unload()
        assert description(ours) == description(stock)
        assert all(weight.untyped_storage().nbytes() == weight.nbytes for weight in ours.parameters())
        assert torch.equal(ours(**inputs).logits, stock(**inputs).logits)
