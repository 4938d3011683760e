"""The tree of errors is the one that is drawn."""

from __future__ import annotations

import ast
import errno
import re
from pathlib import Path

import mtad
from mtad import errors
from mtad.errors import BindError, CommandError, ConfigError, MtadError, Problem


def drawn() -> dict[str, str | None]:
    """Return each class of the drawing with its parent."""
    parents: dict[str, str | None] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        if match := re.match(r"    ((?:│   |    )*(?:[├└]── )?)(\w+Error)\b", line):
            depth = len(match[1]) // 4
            path[depth:] = [match[2]]
            parents[match[2]] = path[depth - 1] if depth else None
    return parents


def real(root: type[MtadError], parent: str | None = None) -> dict[str, str | None]:
    """Return the classes of mtad.errors from ``root`` down, each with its parent."""
    tree: dict[str, str | None] = {root.__name__: parent}
    for child in root.__subclasses__():
        if child.__module__ == errors.__name__:
            tree |= real(child, root.__name__)
    return tree


def test_the_drawing_is_the_tree() -> None:
    assert drawn() == real(MtadError)


def test_every_error_of_the_module_is_in_the_tree() -> None:
    classes = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, BaseException)
    }
    assert classes == set(drawn())


def test_help_is_part_of_the_text_where_there_is_some() -> None:
    assert str(MtadError("no")) == "no"
    assert str(MtadError("no", help="do that")) == "no (do that)"


def test_bind_error_names_its_errno() -> None:
    assert BindError("no", errno=errno.EADDRINUSE).code == "EADDRINUSE"
    assert BindError("no", errno=99_999).code == "99999"


def test_command_error_is_a_server_error_of_json_rpc() -> None:
    assert -32099 <= CommandError("no").code <= -32000


def test_config_error_has_a_line_for_each_problem() -> None:
    file = Path("a.yaml")
    problems = [
        Problem(file, 0, "", "is empty"),
        Problem(file, 3, "log.level", "expected a level", "write info"),
    ]
    assert str(ConfigError(problems)).splitlines() == [
        "a.yaml: is empty",
        "a.yaml:3: log.level: expected a level",
        "    help: write info",
    ]


def raised_again(source: str) -> set[str]:
    """Return the names of what is made once, when the module is imported, and raised after that."""
    tree = ast.parse(source)
    made = {
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    raised = [node.exc for node in ast.walk(tree) if isinstance(node, ast.Raise) and node.exc]
    names = {
        one.id
        for exc in raised
        for one in ([exc.body, exc.orelse] if isinstance(exc, ast.IfExp) else [exc])
        if isinstance(one, ast.Name)
    }
    return made & names


def test_no_error_is_raised_twice() -> None:
    """Its traceback would grow each time, and keep alive whatever the frames know of."""
    assert raised_again("A = Error(1)\ndef f(x):\n    raise Error(2) if x else A") == {"A"}
    sources = list(Path(mtad.__file__).parent.rglob("*.py"))
    assert len(sources) > 100
    assert {path.name: found for path in sources if (found := raised_again(path.read_text()))} == {}
