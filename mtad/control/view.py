"""How results are shown: sections that a command names, laid out as blocks of text.

A section says where something is in a result (``sessions.active``: a path of keys); ``lay_out``
makes blocks of it, whose cells are text; a renderer only has to draw blocks. The daemon draws
them as plain text, mtactl on a terminal as tables.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mtad.control.values import Form, look_up, show


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: the path of its cells in a row, and its title.

    ``otherwise`` is the path of what is shown where there is nothing at the first.
    """

    path: str
    title: str
    form: Form = "value"
    otherwise: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows at ``rows``; ``empty`` is said when these are there, and none, ``title`` before any.

    With ``nested`` each item that a row has at that key makes a row, with its outer row's members.
    """

    rows: str
    columns: tuple[Column, ...]
    nested: str = ""
    empty: str = ""
    title: str = ""


@dataclass(frozen=True, slots=True)
class Fields:
    """The members of the object at ``path`` ("": the result itself), one a line."""

    path: str = ""
    title: str = ""
    forms: tuple[tuple[str, Form], ...] = ()
    without: tuple[str, ...] = ("ok",)


@dataclass(frozen=True, slots=True)
class Text:
    """The text, or the list of texts, at ``path``, as it is.

    ``title`` goes before it; ``empty`` is said when the list is there, and empty.
    """

    path: str
    title: str = ""
    empty: str = ""


@dataclass(frozen=True, slots=True)
class Errors:
    """What went wrong in the rows at ``rows``, each with its hint."""

    rows: str


@dataclass(frozen=True, slots=True)
class Line:
    """The result itself, an item of a stream, as one line of its ``columns``."""

    columns: tuple[Column, ...]


Section = Table | Fields | Text | Errors | Line


@dataclass(frozen=True, slots=True)
class Grid:
    """A block of rows under titles; ``numeric`` columns go to the right."""

    titles: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class Pairs:
    """A block of names and values."""

    title: str
    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Lines:
    """A block of lines."""

    title: str
    lines: tuple[str, ...]


Block = Grid | Pairs | Lines


def lay_out(view: Sequence[Section], result: Mapping[str, Any]) -> list[Block]:
    """Return the blocks that show ``result``; a section with nothing to say makes none."""
    return [block for section in view for block in _LAYOUTS[type(section)](section, result)]


def _table(section: Table, result: Mapping[str, Any]) -> Iterator[Block]:
    rows = list(_rows(section, result))
    if rows:
        if section.title:
            yield Lines("", (f"{section.title}:",))
        cells = [[_cell(row, column) for column in section.columns] for row in rows]
        yield Grid(
            tuple(column.title for column in section.columns),
            tuple(
                tuple(
                    show(cell, column.form)
                    for cell, column in zip(row, section.columns, strict=True)
                )
                for row in cells
            ),
            tuple(
                column.form not in {"time", "age"} and all(map(_is_number, numbers))
                for column, numbers in zip(section.columns, zip(*cells, strict=True), strict=True)
            ),
        )
    elif section.empty and look_up(result, section.rows) is not None:
        yield Lines("", (section.empty,))


def _cell(row: Mapping[str, Any], column: Column) -> Any:
    found = look_up(row, column.path)
    return look_up(row, column.otherwise) if found is None and column.otherwise else found


def _is_number(cell: object) -> bool:
    return isinstance(cell, int | float | None) and not isinstance(cell, bool)


def _rows(section: Table, result: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for row in look_up(result, section.rows) or ():
        if section.nested:
            yield from ({**row, **inner} for inner in row.get(section.nested) or ())
        else:
            yield row


def _fields(section: Fields, result: Mapping[str, Any]) -> Iterator[Block]:
    found = look_up(result, section.path) if section.path else result
    forms = dict(section.forms)
    pairs = tuple(
        (name, show(value, forms.get(name, "value")))
        for name, value in _flat(found or {}, "", forms)
        if name not in section.without
    )
    if pairs:
        yield Pairs(section.title, pairs)


def _flat(
    value: Mapping[str, Any], prefix: str, whole: Container[str]
) -> Iterator[tuple[str, Any]]:
    for name, member in value.items():
        if isinstance(member, Mapping) and member and prefix + name not in whole:
            yield from _flat(member, f"{prefix}{name}.", whole)
        else:
            yield prefix + name, member


def _text(section: Text, result: Mapping[str, Any]) -> Iterator[Block]:
    found = look_up(result, section.path)
    texts = found if isinstance(found, list) else [] if found is None else [found]
    lines = tuple(line for text in texts for line in show(text).splitlines())
    if lines:
        yield Lines(section.title, lines)
    elif section.empty and found is not None:
        yield Lines("", (section.empty,))


def _errors(section: Errors, result: Mapping[str, Any]) -> Iterator[Block]:
    lines = []
    for row in look_up(result, section.rows) or ():
        error = row.get("error")
        if error:
            lines.append(f"{row.get('name')}: {error.get('text')}")
            if error.get("hint"):
                lines.append(f"    help: {error['hint']}")
    if lines:
        yield Lines("", tuple(lines))


def _line(section: Line, result: Mapping[str, Any]) -> Iterator[Block]:
    cells = (show(_cell(result, column), column.form) for column in section.columns)
    yield Lines("", ("  ".join(cells),))


_LAYOUTS: dict[type[Any], Callable[[Any, Mapping[str, Any]], Iterator[Block]]] = {
    Table: _table,
    Fields: _fields,
    Text: _text,
    Errors: _errors,
    Line: _line,
}
