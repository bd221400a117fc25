"""The messages of gemtune's errors as its source has them, and the next moves that they name."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from gemtune import errors

SRC = Path(errors.__file__).parent
LEAST, SHORTEST = 12, 4  # characters that tell a message from the others, all together and in one piece
HOLE = "…"  # what is put in where the program runs
VERBS = (
    "accept|add|check|choose|close|convert|copy|count|cut|delete|download|drop|end|evaluate|fetch|fill|free|give|keep|list"
    "|lower|make|mend|move|name|prepare|put|quote|raise|reinstall|remove|rename|return|run|save|say|see|set|split|start"
    "|train|unpack|use|wait|write|zip"
)
MOVE = re.compile(
    rf"(?:^|[;:,] |\bor |\band |\bthen )(?:{VERBS})\b(?!\.)|\bwanted |\bnames one|`gemtune|pip install"
    r"|\b[a-z]+\.[a-z_]+: [a-z\[{]"  # a key with a value
)
# Access: what a file is opened for, with a move for each errno. A ValueError of the schema becomes a RecipeError.
MAKERS = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, Exception)}
MAKERS |= {"Access"}

Names = dict[str, tuple[str, ast.AST]]  # a name -> the file where it is, and what it stands for


def moves() -> dict[str, str]:
    """Text -> place of every string that an error is made of and that names a next move, with holes for values.

    Those in the call that makes the error, and in the variables, constants and functions that it names.
    """
    trees = {path.relative_to(SRC).as_posix(): ast.parse(path.read_text("utf-8")) for path in sorted(SRC.rglob("*.py"))}
    shared = {name: (file, value) for file, tree in trees.items() for name, value in named(tree.body)}
    found: dict[str, str] = {}
    for file, tree in trees.items():
        here = shared | {name: (file, value) for name, value in named(tree.body)}
        functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
        for place, names in [(tree, here), *((f, here | variables(file, f)) for f in functions)]:
            for call in ast.walk(place):
                if isinstance(call, ast.Call) and is_maker(file, call.func):
                    found.update(strings(file, ast.Tuple(list(call.args)), names, depth=2))
    return {text: place for text, place in found.items() if " " in text and MOVE.search(text)}


def named(body: Iterable[ast.AST]) -> Iterator[tuple[str, ast.AST]]:
    """What the names of a module, or of a function's statements, stand for."""
    for node in body:
        if isinstance(node, ast.FunctionDef):
            yield node.name, node
        elif isinstance(node, ast.Assign | ast.AnnAssign | ast.NamedExpr) and node.value:
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                if isinstance(target, ast.Name):
                    yield target.id, node.value


def variables(file: str, function: ast.FunctionDef) -> Names:
    return {name: (file, value) for name, value in named(part for part in ast.walk(function) if part is not function)}


def is_maker(file: str, function: ast.expr) -> bool:
    name = function.id if isinstance(function, ast.Name) else ""
    return name in MAKERS or (name == "ValueError" and file == "recipe/schema.py")


def strings(file: str, node: ast.AST, names: Names, depth: int) -> Iterator[tuple[str, str]]:
    """(text, place) of the strings in an expression, and in what it names."""
    inner: Iterable[ast.AST] = ast.iter_child_nodes(node)
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value, f"{file}:{node.lineno}"
    elif isinstance(node, ast.JoinedStr):
        yield (
            "".join(getattr(part, "value", "") if isinstance(part, ast.Constant) else HOLE for part in node.values),
            (f"{file}:{node.lineno}"),
        )
        inner = [part.value for part in node.values if isinstance(part, ast.FormattedValue)]
    elif depth and isinstance(node, ast.Name) and node.id in names:
        other, value = names[node.id]
        is_documented = isinstance(value, ast.FunctionDef) and ast.get_docstring(value)
        inner = []
        for part in value.body[1:] if is_documented else [value]:
            yield from strings(other, part, names, depth - 1)
    for child in inner:
        yield from strings(file, child, names, depth)


def text_of(words: str, texts: Iterable[str]) -> str | None:
    """The text of the source that a table's words are of: they have most in common with it, and less with any other."""
    scores = sorted(((_common(words, text), text) for text in texts), reverse=True)
    (best, text), (second, _) = scores[:2]
    return text if best >= LEAST and best > second else None


def _common(words: str, text: str) -> float:
    """How many characters a message's words have in common with a text: all of theirs, or its pieces between holes."""
    if words in text:
        return max(LEAST, len(words)) + (words == text)
    pieces = [piece.strip(" :;") for piece in text.split(HOLE)]
    return sum(len(piece) for piece in pieces if len(piece) >= SHORTEST and piece in words)
