"""How does the source compare with other projects: sizes, types, docstrings, names? Prints a Markdown table.

`--tree PATH` (repeatable) adds the checkout of another project, whose package is found in PATH or PATH/src; where there
are several, `--tree PATH=PACKAGE` names its folder. Nothing is imported or run; the last column says how each row is
counted.
"""

from __future__ import annotations

import argparse
import ast
import io
import re
import subprocess
import tokenize
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from statistics import median, quantiles

ROOT = Path(__file__).resolve().parents[2]
LONG = 40  # lines of a function
BRANCHES = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.IfExp, ast.BoolOp, ast.ExceptHandler, ast.match_case)
# What a value was done to, or whose it is, where a noun would say what it is; words that are also nouns are not listed.
BARE_WORDS = {"answered", "asked", "found", "given", "kept", "known", "made", "named", "said", "taken", "wanted"}
BARE_WORDS |= {"ours", "own", "some", "theirs"}
NO_PACKAGE = {"benchmarks", "docs", "examples", "scripts", "test", "tests"}

Function = ast.FunctionDef | ast.AsyncFunctionDef
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True)
class Checkout:
    """A project's folder and the folder of its package in it."""

    root: Path
    package: Path

    @classmethod
    def of(cls, text: str) -> Checkout:
        """Of PATH or PATH=PACKAGE."""
        path, _, package = text.partition("=")
        root = Path(path).resolve()
        if package:
            return cls(root, root / package)
        inits = [*root.glob("src/*/__init__.py"), *root.glob("*/__init__.py")]
        packages = [init.parent for init in inits if init.parent.name not in NO_PACKAGE]
        if len(packages) != 1:
            names = ", ".join(str(folder.relative_to(root)) for folder in packages) or "none"
            raise SystemExit(f"{root}: wanted one package, found {names}; name it: --tree {path}=FOLDER")
        return cls(root, packages[0])

    @property
    def name(self) -> str:
        command = ["git", "-C", str(self.root), "log", "-1", "--format=%h"]
        commit = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()  # noqa: S603
        return f"{self.package.name} {commit}".strip()

    @cached_property
    def texts(self) -> dict[Path, str]:
        """Every module of the package."""
        return {path: path.read_text(encoding="utf-8") for path in sorted(self.package.rglob("*.py"))}

    @cached_property
    def trees(self) -> dict[Path, ast.Module]:
        return {path: ast.parse(text) for path, text in self.texts.items()}

    @cached_property
    def functions(self) -> list[Function]:
        """Every function and method, nested ones too."""
        return [node for tree in self.trees.values() for node in ast.walk(tree) if isinstance(node, FUNCTIONS)]

    @cached_property
    def methods(self) -> set[Function]:
        classes = [node for tree in self.trees.values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
        return {node for owner in classes for node in owner.body if isinstance(node, FUNCTIONS)}

    @cached_property
    def tests(self) -> dict[Path, str]:
        """Every module below a folder `tests`, and every test_*.py elsewhere, but in a virtual environment."""
        paths = [
            path
            for path in self.root.rglob("*.py")
            if not any(part.startswith(".") for part in path.relative_to(self.root).parts)
            and ("tests" in path.relative_to(self.root).parts[:-1] or path.name.startswith("test_"))
        ]
        return {path: path.read_text(encoding="utf-8") for path in paths}

    @cached_property
    def lines(self) -> int:
        return sum(len(text.splitlines()) for text in self.texts.values())

    def per_thousand(self, count: int) -> str:
        return f"{1000 * count / self.lines:.1f}"

    def parameters(self, function: Function) -> list[ast.arg]:
        """Of all kinds, without the self or cls of a method."""
        arguments = function.args
        named = [*arguments.posonlyargs, *arguments.args]
        if function in self.methods and named and named[0].arg in ("self", "cls"):
            named = named[1:]
        return [*named, *arguments.kwonlyargs, *filter(None, (arguments.vararg, arguments.kwarg))]


# --- one function per row: its docstring is the last column -----------------------------------------------------------


def files_and_lines(checkout: Checkout) -> str:
    """modules of the package and all their lines, blank ones and comments too"""
    return f"{len(checkout.texts)} / {checkout.lines:,}"


def file_lengths(checkout: Checkout) -> str:
    """lines of a module"""
    lengths = [len(text.splitlines()) for text in checkout.texts.values()]
    return f"{median(lengths):g} / {max(lengths)}"


def function_lengths(checkout: Checkout) -> str:
    """lines from `def` to the end of the body, without decorators and docstring; methods and nested functions too"""
    lengths = [_length(function) for function in checkout.functions]
    return f"{median(lengths):g} / {_p90(lengths):.0f} / {max(lengths)}"


def long_functions(checkout: Checkout) -> str:
    """share of the functions, counted as above"""
    return _share(sum(_length(function) > LONG for function in checkout.functions), len(checkout.functions))


def branches(checkout: Checkout) -> str:
    """1 + if, for, while, conditional expressions, and / or, except, case, and for in comprehensions, per function"""
    counts = [
        1 + sum(isinstance(node, (*BRANCHES, ast.comprehension)) for node in ast.walk(function))
        for function in checkout.functions
    ]
    return f"{_p90(counts):.0f}"


def most_parameters(checkout: Checkout) -> str:
    """of one function, all kinds, without self and cls"""
    return str(max(len(checkout.parameters(function)) for function in checkout.functions))


def docstrings(checkout: Checkout) -> str:
    """share of the functions and classes at the top of a module whose names have no leading underscore"""
    public = [
        node
        for tree in checkout.trees.values()
        for node in tree.body
        if isinstance(node, (*FUNCTIONS, ast.ClassDef)) and not node.name.startswith("_")
    ]
    return _share(sum(ast.get_docstring(node) is not None for node in public), len(public))


def doctest_lines(checkout: Checkout) -> str:
    """lines that begin with >>>"""
    return str(sum(len(re.findall(r"^\s*>>>", text, re.MULTILINE)) for text in checkout.texts.values()))


def annotations(checkout: Checkout) -> str:
    """share of the parameters, without self and cls, and of the functions, `__init__` included"""
    parameters = [parameter for function in checkout.functions for parameter in checkout.parameters(function)]
    annotated = sum(parameter.annotation is not None for parameter in parameters)
    returns = sum(function.returns is not None for function in checkout.functions)
    return f"{_share(annotated, len(parameters))} / {_share(returns, len(checkout.functions))}"


def any_types(checkout: Checkout) -> str:
    """the word Any, imports of it included"""
    return checkout.per_thousand(sum(len(re.findall(r"\bAny\b", text)) for text in checkout.texts.values()))


def bare_locals(checkout: Checkout) -> str:
    """share of the names that functions assign, each name once per function, that are in BARE_WORDS of this script"""
    names = [name for function in checkout.functions for name in {*_assigned(function)}]
    return _share(sum(name in BARE_WORDS for name in names), len(names))


def comments(checkout: Checkout) -> str:
    """comment tokens, those behind code too"""
    return checkout.per_thousand(sum(_comments(text) for text in checkout.texts.values()))


def flat_modules(checkout: Checkout) -> str:
    """modules in the package itself without `__init__`, and its folders"""
    modules = [path for path in checkout.texts if path.parent == checkout.package and path.name != "__init__.py"]
    folders = [path for path in checkout.package.iterdir() if path.is_dir() and path.name != "__pycache__"]
    return f"{len(modules)} / {len(folders)}"


def import_cycles(checkout: Checkout) -> str:
    """whether imports at the top of modules, those for type checking left out, go in a circle; the first such circle"""
    modules = {_dotted(path, checkout.package): path for path in checkout.texts}
    graph = {name: {*_imports(checkout.trees[path], name, path, modules)} - {name} for name, path in modules.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return " < ".join(error.args[1])
    return "none"


def test_functions(checkout: Checkout) -> str:
    """functions named test_ in test modules"""
    pattern = re.compile(r"^\s*(?:async )?def test_", re.MULTILINE)
    return str(sum(len(pattern.findall(text)) for text in checkout.tests.values()))


def test_ratio(checkout: Checkout) -> str:
    """lines of test modules over lines of the package"""
    return f"{sum(len(text.splitlines()) for text in checkout.tests.values()) / checkout.lines:.2f}"


def golden_losses(checkout: Checkout) -> str:
    """whether a folder `golden` or `losses` lies below tests/"""
    return _yes(any(path.is_dir() and path.name in ("golden", "losses") for path in checkout.root.glob("tests/**/*")))


def pages(checkout: Checkout) -> str:
    """whether such a file lies in the root, docs/ or .github/"""
    folders = (checkout.root, checkout.root / "docs", checkout.root / ".github")
    names = {path.stem.lower() for folder in folders if folder.is_dir() for path in folder.iterdir() if path.is_file()}
    return f"{_yes('changelog' in names)} / {_yes('contributing' in names)}"


def workflows(checkout: Checkout) -> str:
    """YAML files in .github/workflows"""
    return str(len([*checkout.root.glob(".github/workflows/*.y*ml")]))


def pre_commit(checkout: Checkout) -> str:
    """whether .pre-commit-config.yaml is there"""
    return _yes((checkout.root / ".pre-commit-config.yaml").exists())


def public_names(checkout: Checkout) -> str:
    """of `__all__` in the package's `__init__`; without one, the public names that it defines or imports"""
    tree = checkout.trees.get(checkout.package / "__init__.py", ast.Module([], []))
    names: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module != "__future__":
            names |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, (*FUNCTIONS, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            targets = {name.id for name in ast.walk(node) if isinstance(name, ast.Name) and name.id == "__all__"}
            if targets:
                return str(len([word for word in ast.walk(node.value) if isinstance(word, ast.Constant)]))
    return str(len([name for name in names if not name.startswith("_")]))


ROWS: dict[str, Callable[[Checkout], str]] = {
    "files / lines": files_and_lines,
    "file, median / longest": file_lengths,
    "function, median / p90 / longest": function_lengths,
    f"functions over {LONG} lines": long_functions,
    "branches per function, p90": branches,
    "most parameters": most_parameters,
    "public names with a docstring": docstrings,
    "doctest lines": doctest_lines,
    "parameters / returns annotated": annotations,
    "`Any` per 1,000 lines": any_types,
    "locals that are bare participles or pronouns": bare_locals,
    "comments per 1,000 lines": comments,
    "modules flat in the package / folders beside": flat_modules,
    "import cycles": import_cycles,
    "test functions": test_functions,
    "test lines : source lines": test_ratio,
    "golden losses": golden_losses,
    "changelog / contributing": pages,
    "CI workflows": workflows,
    "pre-commit": pre_commit,
    "names importable from the package": public_names,
}

# --- helpers ----------------------------------------------------------------------------------------------------------


def _length(function: Function) -> int:
    lines = (function.end_lineno or function.lineno) - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function, clean=False) is None:
        return lines
    return lines - ((first.end_lineno or first.lineno) - first.lineno + 1)


def _p90(values: list[int]) -> float:
    return quantiles(values, n=10, method="inclusive")[-1]


def _share(count: int, total: int) -> str:
    return f"{100 * count / total:.1f} %" if 0 < count < total else f"{100 * count // max(total, 1)} %"


def _yes(is_there: bool) -> str:
    return "yes" if is_there else "no"


def _assigned(function: Function) -> Iterator[str]:
    """The names that a function assigns in its own body, comprehensions included, nested functions and classes not."""
    nodes: list[ast.AST] = [*function.body]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        if not isinstance(node, (*FUNCTIONS, ast.ClassDef, ast.Lambda)):
            nodes.extend(ast.iter_child_nodes(node))


def _comments(text: str) -> int:
    return sum(token.type == tokenize.COMMENT for token in tokenize.generate_tokens(io.StringIO(text).readline))


def _dotted(path: Path, package: Path) -> str:
    return ".".join(path.relative_to(package.parent).with_suffix("").parts).removesuffix(".__init__")


def _imports(tree: ast.Module, module: str, path: Path, modules: dict[str, Path]) -> Iterator[str]:
    """The modules of the project that a module imports when it is imported itself."""
    for node in tree.body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom):
            parts = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
            start = parts[: len(parts) - node.level + 1] if node.level else []
            source = ".".join([*start, *filter(None, [node.module])])
            names = (f"{source}.{alias.name}" for alias in node.names)
            yield from (name if name in modules else source for name in names if {name, source} & modules.keys())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tree", action="append", default=[], metavar="PATH[=PACKAGE]", help="another checkout")
    checkouts = [Checkout(ROOT, ROOT / "src" / "gemtune"), *map(Checkout.of, parser.parse_args().tree)]
    print("| |", " | ".join(checkout.name for checkout in checkouts), "| counted |")
    print("|---|" + "---:|" * len(checkouts) + "---|")
    for name, measure in ROWS.items():
        print(f"| {name} |", " | ".join(measure(checkout) for checkout in checkouts), f"| {measure.__doc__} |")


if __name__ == "__main__":
    main()
