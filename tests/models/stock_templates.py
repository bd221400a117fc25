"""The chat templates that the models on the Hub come with; TRL carries some of them."""

from __future__ import annotations

from importlib.resources import files

TRL = files("trl") / "chat_templates"
IMAGES_FIRST = (
    "{%% for content in message['content'] | selectattr('type', 'equalto', 'image') %%}{{ '%s' }}{%% endfor %%}"
)
STOCK = {  # by model type
    "gemma3_text": (TRL / "gemma3.jinja").read_text(encoding="utf-8"),
    "qwen3": (TRL / "qwen3.jinja").read_text(encoding="utf-8"),
    "gemma3": (TRL / "gemma3.jinja").read_text(encoding="utf-8"),
    "llava": "<bos>{% for message in messages %}{{ message['role'].upper() + ': '}}"
    + IMAGES_FIRST % "<image>\\n"
    + "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}{{ content['text'] + ' '}}"
    "{% endfor %}{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}",
    "llava_onevision": "{% for message in messages %}{{'<|im_start|>' + message['role'] + ' '}}"
    + IMAGES_FIRST % "<image>"
    + "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}{{ '\\n' + content['text'] }}"
    "{% endfor %}{{'<|im_end|>'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}",
    "qwen3_vl": (TRL / "qwen3_vl.jinja").read_text(encoding="utf-8"),
}
