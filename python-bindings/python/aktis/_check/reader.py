"""Reads a script for the names of Ray that it uses, without running it.

Names are followed from their imports (``import ray as r``, ``from ray.data import read_parquet``), datasets from what makes
them (``ds = ray.data.range(3)``) through the methods that give datasets again, and parameters that are annotated with a type.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

from .things import Elements, Instance, Missing, Named, Remote, Thing, attribute, called, module
from .verdicts import Finding, NotLiteral, Verdict, judge_call, judge_options

#: Packages whose names are looked at.
_ROOTS = ("ray", "aktis")


def findings_in(source: str) -> list[Finding]:
    """What a script uses, in the order of its lines.

    Raises:
        SyntaxError: the source is no Python.
    """
    reader = _Reader()
    reader.visit(ast.parse(source))
    return sorted(reader.findings, key=lambda finding: (finding.line, finding.column))


class _Reader(ast.NodeVisitor):
    def __init__(self) -> None:
        self.findings: list[Finding] = []
        #: What names mean, innermost scope last.
        self.scopes: list[dict[str, Thing | None]] = [{}]

    # Names

    def bind(self, name: str, thing: Thing | None) -> None:
        self.scopes[-1][name] = thing

    def known(self, name: str) -> Thing | None:
        for scope in reversed(self.scopes):
            if name in scope:
                return scope[name]
        return None

    def found(self, node: ast.AST, verdict: Verdict) -> None:
        line, column = getattr(node, "lineno", 1), getattr(node, "col_offset", 0)
        self.findings.append(Finding(line, column + 1, verdict))

    def noted(self, node: ast.AST, thing: Thing | None) -> Thing | None:
        """Reports what a name stands for, once."""
        verdict = thing.verdict() if thing is not None else None
        if verdict is not None:
            self.found(node, verdict)
        return thing

    # Imports

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            if alias.name.split(".")[0] not in _ROOTS:
                continue
            thing = module(alias.name)
            if isinstance(thing, Missing):
                self.noted(alias, thing)
            if alias.asname is not None:
                self.bind(alias.asname, thing)
            else:
                self.bind(alias.name.split(".")[0], module(alias.name.split(".")[0]))

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        if node.level or not node.module or node.module.split(".")[0] not in _ROOTS:
            return
        owner = module(node.module)
        if isinstance(owner, Missing):
            self.noted(node, owner)
        for alias in node.names:
            thing = owner if isinstance(owner, Missing) else attribute(owner, alias.name)
            if not isinstance(owner, Missing) and not _is_module(thing):
                self.noted(alias, thing)
            self.bind(alias.asname or alias.name, thing)

    # Scopes

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self.define(node, "task")

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self.define(node, "task")

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        for base in node.bases:
            self.evaluate(base)
        self.define(node, "actor")

    def define(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef, what: str) -> None:
        made: Thing | None = None
        for decorator in node.decorator_list:
            made = self.decorated(decorator, what) or made
        self.bind(node.name, made)
        self.scopes.append({})
        if not isinstance(node, ast.ClassDef):
            self.bind_parameters(node.args)
        for statement in node.body:
            self.visit(statement)
        self.scopes.pop()

    def bind_parameters(self, arguments: ast.arguments) -> None:
        for default in [*arguments.defaults, *arguments.kw_defaults]:
            self.evaluate(default)
        for argument in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]:
            declared = self.evaluate(argument.annotation)
            is_class = isinstance(declared, Named) and isinstance(declared.value, type)
            self.bind(argument.arg, Instance(declared.value) if is_class else None)  # type: ignore[union-attr]

    def decorated(self, decorator: ast.expr, what: str) -> Thing | None:
        """What ``@ray.remote`` and ``@ray.remote(num_cpus=2)`` make of a function or class; options are checked as such."""
        call = decorator if isinstance(decorator, ast.Call) else None
        thing = self.evaluate(call.func if call else decorator)
        if not isinstance(thing, Named) or thing.path not in ("aktis.remote", "aktis.method"):
            if call:
                self.arguments(call)
            return None
        kind = "method" if thing.path == "aktis.method" else what
        if call:
            self.check(call, lambda given: judge_options(kind, given))
        return Remote(kind)

    # Statements

    def visit_Assign(self, node: ast.Assign) -> None:
        value = self.evaluate(node.value)
        for target in node.targets:
            self.assign(target, value)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self.assign(node.target, self.evaluate(node.value))

    def visit_For(self, node: ast.For) -> None:
        value = self.evaluate(node.iter)
        self.assign(node.target, Instance(value.of) if isinstance(value, Elements) else None)
        for statement in [*node.body, *node.orelse]:
            self.visit(statement)

    def assign(self, target: ast.expr, value: Thing | None) -> None:
        if isinstance(target, ast.Name):
            self.bind(target.id, value)
        elif isinstance(target, (ast.Tuple, ast.List)):
            for part in target.elts:
                self.assign(part, Instance(value.of) if isinstance(value, Elements) else None)
        else:
            self.evaluate(target)

    def generic_visit(self, node: ast.AST) -> None:
        if isinstance(node, ast.expr):
            self.evaluate(node)
        else:
            super().generic_visit(node)

    # Expressions

    def evaluate(self, node: ast.expr | None) -> Thing | None:
        """What an expression stands for, if that is something of Ray's; reports the names in it."""
        if isinstance(node, ast.Name):
            return self.known(node.id)
        if isinstance(node, ast.Attribute):
            owner = self.evaluate(node.value)
            return self.noted(node, attribute(owner, node.attr)) if owner is not None else None
        if isinstance(node, ast.Call):
            return self.call(node)
        if isinstance(node, ast.Subscript):
            owner = self.evaluate(node.value)
            self.evaluate(node.slice)
            return Instance(owner.of) if isinstance(owner, Elements) else None
        if isinstance(node, ast.Await):
            return self.evaluate(node.value)
        if node is not None:
            for child in ast.iter_child_nodes(node):
                self.visit(child)
        return None

    def call(self, node: ast.Call) -> Thing | None:
        function = self.evaluate(node.func)
        if isinstance(function, Remote) and function.is_options:
            self.check(node, lambda given: judge_options(function.kind, given))
            return Remote(function.kind)
        if isinstance(function, Instance) and callable(call := getattr(function.of, "__call__", None)):  # noqa: B004
            # As a processor is: what it gives is known by what it says that it returns.
            self.arguments(node)
            return called(Named(function.of.__name__, call))
        if isinstance(function, Named):
            if function.path == "aktis.remote" and node.args and not node.keywords:
                # f = ray.remote(f)
                self.arguments(node)
                return Remote("actor" if _is_class_name(node.args[0]) else "task")
            self.check(node, lambda given: judge_call(function, given))
            return called(function)
        self.arguments(node)
        return None

    def check(self, node: ast.Call, judge: Callable[[dict[str, Any]], list[Verdict]]) -> None:
        self.arguments(node)
        given = {keyword.arg: _literal(keyword.value) for keyword in node.keywords if keyword.arg}
        places = {keyword.arg: keyword.value for keyword in node.keywords if keyword.arg}
        for verdict in judge(given):
            self.found(places.get(verdict.argument or "", node), verdict)

    def arguments(self, node: ast.Call) -> None:
        for argument in [*node.args, *(keyword.value for keyword in node.keywords)]:
            self.evaluate(argument)


def _literal(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return NotLiteral


def _is_module(thing: Thing | None) -> bool:
    return isinstance(thing, Named) and thing.is_module


def _is_class_name(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id[:1].isupper()
