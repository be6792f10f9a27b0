"""Small faults that can be put into a module, each in a tree of its own."""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
}
_ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
}


@dataclass(frozen=True)
class Mutant:
    """A module with one fault.

    Attributes:
        path: of the module's file.
        node: which one of the module's tree, in the order of ``ast.walk``.
        choice: which of the faults that the node can have.
    """

    path: Path
    line: int
    fault: str
    node: int
    choice: int

    def tree(self) -> ast.Module:
        """The module's code with the fault in it."""
        tree = ast.parse(self.path.read_text())
        place = list(ast.walk(tree))[self.node]
        _, changed = list(_faults(place))[self.choice]
        _put(tree, place, changed)
        return ast.fix_missing_locations(tree)


def mutants(path: Path) -> list[Mutant]:
    """Every small fault of a module, but in docstrings and in what only type checkers and programs read."""
    tree = ast.parse(path.read_text())
    aside = _aside(tree)
    return [
        Mutant(path, line, fault, number, choice)
        for number, node in enumerate(ast.walk(tree))
        if (line := getattr(node, "lineno", 0)) not in aside
        for choice, (fault, _) in enumerate(_faults(node))
    ]


def _aside(tree: ast.Module) -> set[int]:
    lines: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.stmt) and _is_aside(node):
            lines |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return lines


def _is_aside(node: ast.stmt) -> bool:
    match node:
        case ast.Expr(value=ast.Constant()) | ast.Assert():
            return True
        case ast.If(test=test):
            return any(word in ast.unparse(test) for word in ("__main__", "TYPE_CHECKING"))
        case _:
            return False


def _faults(node: ast.AST) -> Iterator[tuple[str, ast.AST | None]]:
    """What a node may become, and how that is called; None for nothing."""
    match node:
        case ast.Compare(ops=[op, *_]) if type(op) in _COMPARISONS:
            changed = copy.deepcopy(node)
            changed.ops[0] = _COMPARISONS[type(op)]()
            yield f"{ast.unparse(node)} → {ast.unparse(changed)}", changed
        case ast.BoolOp():
            changed_bool = copy.deepcopy(node)
            changed_bool.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
            yield f"{ast.unparse(node)} → {ast.unparse(changed_bool)}", changed_bool
        case ast.UnaryOp(op=ast.Not()):
            yield f"{ast.unparse(node)} → {ast.unparse(node.operand)}", node.operand
        case ast.BinOp(op=op) if type(op) in _ARITHMETIC:
            changed_sum = copy.deepcopy(node)
            changed_sum.op = _ARITHMETIC[type(op)]()
            yield f"{ast.unparse(node)} → {ast.unparse(changed_sum)}", changed_sum
        case ast.Constant(value=bool(value)):
            yield f"{value} → {not value}", ast.Constant(not value)
        case ast.Constant(value=int(number)):
            yield f"{number} → {number + 1}", ast.Constant(number + 1)
        case ast.Constant(value=str(text)) if text:
            yield f"{text[:40]!r} → ''", ast.Constant("")
        case ast.IfExp():
            yield f"{ast.unparse(node)} → {ast.unparse(node.body)}", node.body
        case ast.Return(value=value) if value is not None:
            yield f"{ast.unparse(node)} → return None", ast.Return(ast.Constant(None))
        case ast.Raise():
            yield f"{ast.unparse(node)} → pass", ast.Pass()
        case ast.Expr(value=ast.Call() | ast.Yield() | ast.YieldFrom()):
            yield f"{ast.unparse(node)} → pass", ast.Pass()
        case ast.If():
            for value in (True, False):
                test = ast.Constant(value)
                changed_if = ast.If(test, copy.deepcopy(node.body), copy.deepcopy(node.orelse))
                yield f"if {ast.unparse(node.test)} → if {value}", changed_if


def _put(tree: ast.Module, place: ast.AST, changed: ast.AST | None) -> None:
    for parent in ast.walk(tree):
        for name, value in ast.iter_fields(parent):
            if value is place:
                setattr(parent, name, changed)
            elif isinstance(value, list):
                for index, item in enumerate(value):
                    if item is place:
                        value[index] = changed
