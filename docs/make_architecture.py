"""Writes the picture in docs/architecture.md from the imports of the source: `make architecture-page`.

A room is a folder or a module directly in src/gemtune. An arrow goes from a room to one that it imports; where a longer
way of arrows leads there too, it is left out, so that the picture stays readable.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "src" / "gemtune"
PAGE = Path(__file__).with_name("architecture.md")
BEGIN, END = "<!-- picture: written by `make architecture-page` -->\n", "<!-- end of the picture -->\n"
OUTSIDE = ("__init__", "__main__")  # the doors: they import what they hand on, and nothing imports them
TORCH = {"torch", "transformers", "peft"}


def room_of(path: Path, package: Path) -> str:
    """
    >>> room_of(Path("gemtune/data/rows.py"), Path("gemtune")), room_of(Path("gemtune/files.py"), Path("gemtune"))
    ('data', 'files')
    """
    return path.relative_to(package).parts[0].removesuffix(".py")


def walk(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node of a tree but those that only a type checker reads: a name there makes no room know another."""
    if isinstance(tree, ast.If) and ast.unparse(tree.test) == "TYPE_CHECKING":
        return
    yield tree
    for child in ast.iter_child_nodes(tree):
        yield from walk(child)


def imported(tree: ast.AST) -> Iterator[str]:
    """The full name of everything that a piece of source imports when it runs, also inside functions.

    >>> list(imported(ast.parse("import os\\ndef f():\\n    from gemtune.data import rows, images")))
    ['os', 'gemtune.data.rows', 'gemtune.data.images']
    """
    for node in walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{name.name}" for name in node.names)


def imports_of(package: Path) -> dict[str, set[str]]:
    """Room -> the other rooms that any of its modules imports."""
    sources = {path: path.read_text(encoding="utf-8") for path in sorted(package.rglob("*.py"))}
    rooms: dict[str, set[str]] = {room_of(path, package): set() for path in sources}
    for path, text in sources.items():
        names = (name.split(".") for name in imported(ast.parse(text)))
        rooms[room_of(path, package)] |= {name[1] for name in names if name[0] == package.name and name[1] in rooms}
    return {room: entered - {room, *OUTSIDE} for room, entered in rooms.items() if room not in OUTSIDE}


def bring_torch(package: Path) -> set[str]:
    """The rooms with a module that imports torch, or what brings it, as soon as it is imported itself."""
    heads = (
        (room_of(path, package), node)
        for path in package.rglob("*.py")
        for node in ast.parse(path.read_text(encoding="utf-8")).body
    )
    plain = ((room, node) for room, node in heads if isinstance(node, ast.Import | ast.ImportFrom))
    return {room for room, node in plain if {name.split(".")[0] for name in imported(node)} & TORCH} - {*OUTSIDE}


def floors(rooms: dict[str, set[str]]) -> list[list[str]]:
    """The rooms by floors, the lowest first: a room stands above every room that it imports.

    >>> floors({"cli": {"data", "files"}, "data": {"files"}, "files": set(), "errors": set()})
    [['errors', 'files'], ['data'], ['cli']]
    """
    sorter = TopologicalSorter(rooms)
    try:
        sorter.prepare()
    except CycleError as error:
        raise SystemExit(f"rooms import each other in a circle: {' -> '.join(error.args[1])}") from error
    levels = []
    while sorter.is_active():
        level = sorted(sorter.get_ready())
        levels.append(level)
        sorter.done(*level)
    return levels


def reachable(rooms: dict[str, set[str]]) -> dict[str, set[str]]:
    """Room -> every room that arrows lead to from it, over others too.

    >>> sorted(reachable({"cli": {"data"}, "data": {"files"}, "files": set()})["cli"])
    ['data', 'files']
    """
    below: dict[str, set[str]] = {}
    for room in TopologicalSorter(rooms).static_order():
        below[room] = rooms[room].union(*(below[entered] for entered in rooms[room]))
    return below


def arrows(rooms: dict[str, set[str]]) -> dict[str, set[str]]:
    """The imports without those that a longer way shows too.

    >>> {room: sorted(to) for room, to in arrows({"cli": {"data", "files"}, "data": {"files"}, "files": set()}).items()}
    {'cli': ['data'], 'data': ['files'], 'files': []}
    """
    below = reachable(rooms)
    return {room: entered - set().union(*(below[other] for other in entered)) for room, entered in rooms.items()}


def purpose(room: str, package: Path) -> str:
    """The first paragraph of a room's docstring, as one line."""
    path = package / room / "__init__.py" if (package / room).is_dir() else package / f"{room}.py"
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    if not docstring:
        raise SystemExit(f"{path}: no docstring; say in a sentence what is in it, for the page of the architecture")
    return " ".join(docstring.split("\n\n")[0].split())


def picture(package: Path) -> str:
    """The picture of a package: a Mermaid drawing, and what each room is for, from the top floor to the lowest."""
    rooms, heavy = imports_of(package), bring_torch(package)
    levels, drawn = floors(rooms), arrows(rooms)
    order = [room for level in reversed(levels) for room in level]
    label = {room: f"{room}/" if (package / room).is_dir() else f"{room}.py" for room in order}
    nodes = [f"    {room}[{label[room]}]{':::torch' if room in heavy else ''}" for room in order]
    edges = [f"    {room} --> {entered}" for room in order for entered in sorted(drawn[room])]
    style = "    classDef torch stroke-width:3px,stroke-dasharray:6 3"
    drawing = ["```mermaid", "flowchart TB", *nodes, *edges, style, "```"]
    table = ["| floor | room | what is in it | imports |", "|---:|---|---|---|"]
    for number in range(len(levels), 0, -1):
        for room in levels[number - 1]:
            entered = ", ".join(f"`{other}`" for other in sorted(rooms[room]))
            table.append(f"| {number} | `{label[room]}` | {purpose(room, package)} | {entered} |")
    return "\n".join([*drawing, "", *table, ""])


def page(text: str, package: Path = PACKAGE) -> str:
    """The text of the page with its picture drawn again."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{picture(package)}{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
