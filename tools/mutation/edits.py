"""Small edits of a source file: comparisons, numbers, booleans, operators, removed statements, swapped arguments."""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from dataclasses import dataclass

OPERATORS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE,
    ast.Gt: ast.GtE,
    ast.Eq: ast.NotEq,
    ast.In: ast.NotIn,
    ast.Is: ast.IsNot,
    ast.And: ast.Or,
    ast.BitAnd: ast.BitOr,
    ast.Add: ast.Sub,
    ast.Mult: ast.Div,
    ast.FloorDiv: ast.Mod,
}
OPERATORS |= {other: one for one, other in OPERATORS.items()}
PAIRS = (
    ("min", "max"),
    ("amin", "amax"),
    ("argmin", "argmax"),
    ("cummin", "cummax"),
    ("clamp_min", "clamp_max"),
    ("minimum", "maximum"),
    ("floor", "ceil"),
    ("any", "all"),
)
NAMES = dict(PAIRS) | {other: one for one, other in PAIRS}
COMMUTATIVE = ("min", "max", "minimum", "maximum")
REMOVABLE = (ast.Expr, ast.AugAssign, ast.Assign, ast.Raise, ast.Delete, ast.Continue, ast.Break)


@dataclass(frozen=True)
class Edit:
    """One edit: the bytes from `start` to `end` become `text`.

    Attributes:
        line: 1-based line of the source on which it starts.
    """

    line: int
    start: int
    end: int
    text: str

    def apply(self, source: bytes) -> bytes:
        """The edited source; all else stays as it was."""
        return source[: self.start] + self.text.encode() + source[self.end :]


def edits(source: bytes) -> list[Edit]:
    """All edits of a Python file, in the order of the source."""
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    found = {
        Edit(
            node.lineno, starts[node.lineno - 1] + node.col_offset, starts[node.end_lineno - 1] + node.end_col_offset, t
        )
        for node in _nodes(ast.parse(source))
        for t in _texts(node)
    }
    return sorted(found, key=lambda edit: (edit.start, edit.end, edit.text))


def _nodes(node: ast.AST) -> Iterator[ast.AST]:
    """Statements and expressions that run: no annotation, decorator, docstring, import or text of a message."""
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list"):
            continue
        for child in value if isinstance(value, list) else [value]:
            unsuited = isinstance(child, (ast.JoinedStr, ast.Import, ast.ImportFrom)) or _is_docstring(child)
            if isinstance(child, ast.AST) and not unsuited:
                if isinstance(child, (ast.stmt, ast.expr)):
                    yield child
                yield from _nodes(child)


def _is_docstring(node: object) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _texts(node: ast.AST) -> Iterator[str]:
    """What may stand in the place of `node`."""
    if isinstance(node, REMOVABLE) and not _binds_name(node):
        yield "pass"
    elif isinstance(node, ast.Constant):
        yield from _constants(node.value)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.Not, ast.USub)):
        yield f"({ast.unparse(node.operand)})"
    elif isinstance(node, ast.Compare):
        for i, operator in enumerate(node.ops):
            yield from _changed(node, "ops", [*node.ops[:i], _other(operator), *node.ops[i + 1 :]])
    elif isinstance(node, (ast.BinOp, ast.BoolOp)) and type(node.op) in OPERATORS:
        yield from _changed(node, "op", _other(node.op))
    elif isinstance(node, ast.Name) and node.id in NAMES:
        yield NAMES[node.id]
    elif isinstance(node, ast.Attribute) and node.attr in NAMES:
        yield from _changed(node, "attr", NAMES[node.attr])
    elif isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] not in COMMUTATIVE:
        for i in range(len(node.args) - 1):
            yield from _changed(node, "args", [*node.args[:i], node.args[i + 1], node.args[i], *node.args[i + 2 :]])


def _binds_name(node: ast.stmt) -> bool:
    """Whether the statement gives a name its value: without it a NameError is all there is to find."""
    return isinstance(node, ast.Assign) and any(isinstance(target, (ast.Name, ast.Tuple)) for target in node.targets)


def _constants(value: object) -> list[str]:
    if isinstance(value, bool):
        return [repr(not value)]
    if isinstance(value, int):
        return [repr(value + 1), repr(value - 1)]
    return [repr(value * 2)] if isinstance(value, float) and value else []


def _other(operator: ast.AST) -> ast.AST:
    return OPERATORS.get(type(operator), type(operator))()


def _changed(node: ast.expr, field: str, value: object) -> Iterator[str]:
    """The source of `node` with `value` for `field`, unless that changes nothing."""
    other = copy.copy(node)
    setattr(other, field, value)
    before, after = ast.unparse(node), ast.unparse(other)
    if before != after:
        yield f"({after})" if isinstance(node, (ast.Compare, ast.BinOp, ast.BoolOp)) else after
