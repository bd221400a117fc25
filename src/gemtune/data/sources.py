"""Rows: every source a recipe can name, read as (where, row), one row at a time.

`where` is short enough for a report: `emoji.csv:12` (the line a row starts on, CSV and JSON Lines), `sql.json[12]`
(the row's number from 1, JSON arrays and Parquet), `user/name[12]` (a Hub data set).
"""

from __future__ import annotations

import glob
import itertools
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from gemtune.data import llamafactory
from gemtune.data.columnar import has_times, plain_rows
from gemtune.data.columns import renamed_rows
from gemtune.data.formats import CONVERSIONS, SUFFIXES, format_name, format_of, suffix_of
from gemtune.data.paths import existing, expanded, is_there, matching, refuse_special, walk
from gemtune.data.rows import FileRows, Row, Rows
from gemtune.errors import DataError, MissingExtra, RowError, did_you_mean, listed
from gemtune.files import READING, os_errors

if TYPE_CHECKING:
    from gemtune.recipe.schema import DataSource, Recipe

Refuse = Callable[[str, RowError], None]  # where a broken row is, and what is wrong with it
LoadDataset = Callable[..., Iterable[Row]]  # datasets.load_dataset, or a fake of it

_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")
_HUB_ROWS = 32  # read at a time
_HUB_METADATA = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json")
_HUB_MOVES: dict[type[Exception], str] = {
    FileNotFoundError: "check the id (huggingface.co/datasets/{id}); a private or gated one needs `hf auth login`",
    ConnectionError: "check the network, or download its files and name their folder as data.source",
    ValueError: "set data.hub_config and data.hub_split to ones it has",
    RuntimeError: "gemtune never runs a data set's own code: download its files, or its Parquet version, and name them",
}


def read_rows(
    data: DataSource, *, load_dataset: LoadDataset | None = None, refuse: Refuse | None = None
) -> Iterator[tuple[str, Row]]:
    """Yields (where, row) with the columns renamed by `data.columns`, at most `data.limit` of them; reads as it yields.

    DataError names file, line and the next move; MissingExtra says how to get `datasets` for a Hub data set. `refuse`
    is told of broken rows where `data.bad_rows` is drop; without it they are errors.
    """
    entry, data = _entry(data)
    rows = _hub_rows(data, load_dataset) if is_hub(data) else _whole_rows(_file_rows(data), data, refuse)
    if entry:
        rows = llamafactory.standard_rows(rows, entry)
    path = expanded(data.source, "data.source")
    several = not is_hub(data) and not (is_there(path) and path.is_file())
    yield from itertools.islice(renamed_rows(rows, data.columns, several), data.limit)


def _whole_rows(rows: FileRows, data: DataSource, refuse: Refuse | None) -> Rows:
    for where, row in rows:
        if not isinstance(row, DataError):
            yield where, row
        elif refuse is None:
            raise row
        elif data.bad_rows == "fail":
            raise DataError(f"{row}, or set data.bad_rows: drop to leave such rows out") from row
        else:
            refuse(where, RowError("broken row", str(row).removeprefix(f"{where}: ")))


def is_hub(data: DataSource, folder: Path = Path()) -> bool:
    """Whether a source is a Hub data set: where data.format says so, and for a user/name that is nothing in `folder`.

    >>> from gemtune.recipe.schema import DataSource
    >>> is_hub(DataSource(source="BelleGroup/train_0.5M_CN")), is_hub(DataSource(source="emoji/train.csv"))
    (True, False)
    """
    if data.format != "auto" or format_name(Path(data.source)):
        return data.format == "hub"
    if not _HUB_ID.fullmatch(data.source):
        return False
    path = folder / data.source
    return not is_there(path) and not is_there(path.parent)


def source_files(data: DataSource) -> list[Path]:
    """The local files that decide what the rows are, for a fingerprint: none for a Hub data set."""
    entry, data = _entry(data)
    if is_hub(data):
        return []
    return ([entry.info] if entry else []) + _files(data)[1]


def source_for(recipe: Recipe, path: str) -> DataSource:
    """How to read a file given to `evaluate` or `generate`, all of it: as that source of the recipe, or as all of them.

    DataError when it is none of the sources and they are read in different ways.

    >>> from gemtune.recipe.schema import Recipe
    >>> mails = {"source": "mails.csv", "columns": {"text": "body"}, "limit": 9}
    >>> recipe = Recipe(name="e", task="emoji", data=[mails])
    >>> new = source_for(recipe, "new.csv")
    >>> new.source, new.columns, new.limit
    ('new.csv', {'text': 'body'}, None)
    >>> source_for(Recipe(name="e", task="emoji", data=[mails, {"source": "chats.csv"}]), "new.csv")
    Traceback (most recent call last):
    gemtune.errors.DataError: new.csv: how to read it is not clear: mails.csv and chats.csv differ in data.columns; \
wanted one of these sources, or sources that agree
    """
    for data in recipe.data:
        if path == data.source or (not is_hub(data) and _resolved(path) == _resolved(data.source)):
            return data.model_copy(update={"limit": None})
    first = recipe.data[0]
    for key in ("columns", "layout", "images", "download_images", "download_private", "encoding"):
        if any(getattr(data, key) != getattr(first, key) for data in recipe.data):
            names = " and ".join(listed(data.source for data in recipe.data).rsplit(", ", 1))
            raise DataError(
                f"{path}: how to read it is not clear: {names} differ in data.{key}; wanted one of these sources, or "
                "sources that agree"
            )
    return first.model_copy(update={"source": path, "format": "auto", "limit": None})


def _resolved(path: str) -> Path:
    return expanded(path, "data.source").resolve()


def _entry(data: DataSource) -> tuple[llamafactory.Entry | None, DataSource]:
    """The dataset_info.json entry that a source names, if any, and the source that it stands for."""
    path, mark, name = data.source.partition("#")
    info = expanded(path, "data.source")
    with os_errors(info, READING):
        is_folder = info.is_dir() and (info / llamafactory.INFO).exists()
        is_literal = bool(mark) and is_there(expanded(data.source, "data.source"))
    info = info / llamafactory.INFO if is_folder else info
    names_entry = info.name == llamafactory.INFO or (bool(mark) and info.suffix == ".json")
    if data.format == "hub" or is_literal or not names_entry:
        return None, data
    if not info.exists():
        raise DataError(_missing(info))
    if name:
        return llamafactory.read_entry(info, name, data)
    names = llamafactory.entry_names(info)
    if names:
        raise DataError(f"{info}: holds several data sets; name one, data.source: {path}#NAME, of {listed(names)}")
    if is_folder:  # written by Dataset.save_to_disk: read as any other folder
        return None, data
    raise DataError(f"{info}: no LLaMA-Factory entries in it; wanted {{name: {{file_name: ...}}, ...}}")


def _undecoded(*args: str | None, **options: object) -> Iterable[Row]:
    """datasets.load_dataset, with pictures as their bytes or path: one that is damaged then costs its row alone.

    Times come in Arrow's tables: one that Python has no value for would end the stream.
    """
    import datasets

    rows = datasets.load_dataset(*args, **options)
    if not isinstance(rows, datasets.IterableDataset) or not rows.features:
        return rows
    rows = rows.decode(False)
    if not any(map(has_times, rows.features.arrow_schema.types)):
        return rows
    return (row for table in rows.with_format("arrow").iter(batch_size=_HUB_ROWS) for row in plain_rows(table))


def _hub_rows(data: DataSource, load_dataset: LoadDataset | None) -> Rows:
    errors: tuple[type[Exception], ...] = (OSError, ValueError, RuntimeError)
    if load_dataset is None:
        try:
            import datasets
            import huggingface_hub.errors
        except ImportError as error:
            raise MissingExtra(f"the Hub data set {data.source}", "hub") from error
        load_dataset = _undecoded
        errors = (*errors, datasets.exceptions.DatasetsError, huggingface_hub.errors.HTTPError)
    number = 0
    try:
        for row in load_dataset(data.source, data.hub_config, split=data.hub_split, streaming=True):
            number += 1
            yield f"{data.source}[{number}]", dict(row)
    except errors as error:
        problem = " ".join(str(error).split())[:300] or type(error).__name__
        move = next((move for kind, move in _HUB_MOVES.items() if isinstance(error, kind)), _HUB_MOVES[ConnectionError])
        raise DataError(
            f"Hub data set {data.source!r} ({data.hub_config or 'default'}, {data.hub_split}): {problem}; "
            + move.format(id=data.source)
        ) from error
    if not number:
        raise DataError(f"Hub data set {data.source!r}: no rows in its split {data.hub_split!r}; set data.hub_split")


def _file_rows(data: DataSource) -> FileRows:
    base, files = _files(data)
    for path in files:
        name = path.relative_to(base).as_posix()
        count = 0
        for where, row in format_of(path, data.format).read(path, name, data.encoding):
            count += 1
            yield where, row
        if not count:
            raise DataError(f"{path}: {_nothing(path)}; wanted at least one row: check how the file was written")


def _nothing(path: Path) -> str:
    return "the file is empty" if not path.stat().st_size else "no rows in it"


def _files(data: DataSource) -> tuple[Path, list[Path]]:
    """The files of a source, and the folder that their short names are relative to."""
    path = expanded(data.source, "data.source")
    with os_errors(path, READING):
        if not path.exists():
            path = next(filter(is_there, (existing(path), Path(str(path).replace("\\", "/")))), path)
        if path.is_dir():
            base, files = path, _in_folder(path, data.format)
        elif path.exists():
            base, files = path.parent, [path]
        else:
            base, files = matching(path)
            files = [file for file in files if file.name not in _HUB_METADATA]
        for file in files:
            refuse_special(file)
    if not files:
        raise DataError(_missing(path))
    return base, files


def _in_folder(folder: Path, format_wanted: str) -> list[Path]:
    """The files with a suffix of the format, or of any format, in the folder and below; hidden ones are skipped."""
    paths = [Path(place, name) for place, names in walk(folder) for name in names]
    paths = [path for path in paths if not path.name.startswith(".") and path.name not in _HUB_METADATA]
    files = [path for path in paths if (name := format_name(path)) and format_wanted in ("auto", name)]
    if not files:
        suffixes = sorted({suffix_of(path) or path.name for path in paths})
        move = next((f"; {CONVERSIONS[suffix]}" for suffix in suffixes if suffix in CONVERSIONS), "")
        raise DataError(f"{folder}: no file in it ends in one of {', '.join(SUFFIXES)}; found {listed(suffixes)}{move}")
    return sorted(files)


def _missing(path: Path) -> str:
    """The message about a path that does not exist, with the nearest one that does."""
    with os_errors(path, READING):
        folder = next(parent for parent in path.parents if parent.is_dir())
        names = sorted(child.name for child in folder.iterdir() if not child.name.startswith("."))
    name = path.relative_to(folder).parts[0]
    problem = "matches no file" if glob.has_magic(name) else "no such file or folder"
    hub = "" if format_name(path) else " (a Hub data set? set data.format: hub and give its id, user/name)"
    return f"{path}: {problem}{hub}{did_you_mean(name, names, f'{folder.resolve()} holds {listed(names)}')}"
