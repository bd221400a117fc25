"""What other people's code may lean on, and what no line of the source may do."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import gemtune
from gemtune.pipeline import stages
from gemtune.tasks import TASKS, Task

SOURCE = Path(gemtune.__file__).parent
TREES = {
    path.relative_to(SOURCE).as_posix(): ast.parse(path.read_text("utf-8")) for path in sorted(SOURCE.rglob("*.py"))
}
VERBS = ("prepare", "check", "plan", "train", "evaluate", "report", "run")


def test_the_package_exports_nothing_by_accident() -> None:
    """`import gemtune` brings a docstring; its verbs are in gemtune.pipeline.stages."""
    tree = TREES["__init__.py"]
    assert [type(node) for node in tree.body] == [ast.Expr], "write __all__, and a test of it, with the first export"


def test_what_the_package_docstring_shows_is_there() -> None:
    (line,) = re.findall(r"from gemtune\.stages import (.+)", str(gemtune.__doc__))
    for name in line.split(", "):
        assert callable(getattr(stages, name)), name


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_is_a_function_of_a_job(verb: str) -> None:
    first = next(iter(inspect.signature(getattr(stages, verb)).parameters.values()))
    assert (first.name, first.annotation) == ("job", "Job")


def test_every_verb_of_the_command_line_is_known_here() -> None:
    from gemtune.cli.app import app

    names = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}
    assert names == {*VERBS, "new", "show", "generate", "doctor", "tiny"}


def test_a_task_has_the_methods_a_user_writes() -> None:
    for name in ("conversation", "score", "shorten", "apart"):
        assert inspect.getdoc(getattr(Task, name)), name
    assert all(task.metric and task.score is not Task.score for task in TASKS.values())


def unsaid(trees: dict[str, ast.Module]) -> Iterator[str]:
    for path, tree in trees.items():
        for node in tree.body:
            is_definition = isinstance(node, ast.FunctionDef | ast.ClassDef)
            if is_definition and not node.name.startswith("_") and not ast.get_docstring(node):
                yield f"{path} {node.name}"


def test_public_functions_and_classes_have_docstrings() -> None:
    assert set(unsaid(TREES)) == set(), "say in a sentence what it is for"


def is_broad(node: ast.AST) -> bool:
    if not isinstance(node, ast.ExceptHandler):
        return False
    kinds = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
    return any(kind is None or ast.unparse(kind) in ("Exception", "BaseException") for kind in kinds)


def calls(*names: str) -> Callable[[ast.AST], bool]:
    return lambda node: isinstance(node, ast.Call) and ast.unparse(node.func) in names


def imports(*modules: str) -> Callable[[ast.AST], bool]:
    def found(node: ast.AST) -> bool:
        if isinstance(node, ast.Import):
            return any(name.name in modules for name in node.names)
        return isinstance(node, ast.ImportFrom) and node.module in modules

    return found


def passes(keyword: str) -> Callable[[ast.AST], bool]:
    return lambda node: (
        isinstance(node, ast.Call)
        and any(word.arg == keyword and ast.unparse(word.value) != "False" for word in node.keywords)
    )


FORBIDDEN: dict[str, tuple[Callable[[ast.AST], bool], str]] = {
    "broad except": (is_broad, "a broad except hides the next bug; name what the call raises"),
    "trust_remote_code": (passes("trust_remote_code"), "it runs code that came with a model or a data set"),
    "torch.load": (
        calls("torch.load", "torch.save"),
        "a pickle runs code when it is read; checkpoints are safetensors",
    ),
    "pickle": (imports("pickle", "dill", "cloudpickle", "shelve", "marshal"), "a pickle runs code when it is read"),
    "yaml.load": (calls("yaml.unsafe_load", "yaml.full_load"), "YAML tags may name any Python object"),
    "eval": (
        calls("eval", "exec", "compile", "__import__"),
        "text from a file is data; only a user's own task file is code",
    ),
    "shell": (passes("shell"), "a file name in a shell command is code"),
    "os.system": (calls("os.system", "os.popen"), "a file name in a shell command is code"),
    "print": (calls("print"), "stdout is the answer of a verb, for a script to read; say it through `say`"),
    "assert": (lambda node: isinstance(node, ast.Assert), "python -O takes it away; raise a GemtuneError"),
}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_source_file_has(what: str) -> None:
    test, why = FORBIDDEN[what]
    found = [f"{path}:{node.lineno}" for path, tree in TREES.items() for node in ast.walk(tree) if test(node)]  # type: ignore[attr-defined]
    assert not found, why


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ("broad except", "try: f()\nexcept (OSError, Exception): pass"),
        ("broad except", "try: f()\nexcept: pass"),
        ("trust_remote_code", "f(trust_remote_code=True)"),
        ("torch.load", "import torch\ntorch.load('x')"),
        ("pickle", "from pickle import loads"),
        ("eval", "eval('1')"),
        ("shell", "subprocess.run('ls', shell=True)"),
    ],
)
def test_the_rules_see_what_they_forbid(what: str, text: str) -> None:
    assert any(FORBIDDEN[what][0](node) for node in ast.walk(ast.parse(text)))
