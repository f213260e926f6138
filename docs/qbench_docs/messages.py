"""Messages of qbench, extracted from its source: every ``UserError``, every reason for a skipped or
failed case, and every finding of the doctor."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

from qbench_docs.cells import code, table, text

ROOT = Path(__file__).parent.parent.parent
ERRORS = {"UserError": 2, "MeterError": 2, "SharedGpu": 2, "MachineryError": 3}
"""Exit code by the name of the error."""
OUTCOMES = {
    "Unsupported": "skipped",
    "NoSource": "skipped",
    "PrepareError": "prepare_failed",
    "Unavailable": "not here",
    **{status: status for status in ("skipped", "prepare_failed", "error")},  # of Known messages
}
"""Outcome of a case or backend, by the name of the exception or answer of its adapter."""
TABLES = re.compile("missing|_MISSING|NEVER")
"""Names of an adapter's tables of reasons."""
Names = Mapping[str, ast.expr]


class Message(NamedTuple):
    """Text and remedy of a message, with ``<name>`` for values; ``kind``: key of ``ERRORS`` or
    ``OUTCOMES``."""

    kind: str
    says: str
    fix: str


def message_table(names: str) -> str:
    """Table of the errors of modules or packages, such as ``qbench.spec.suite qbench.data``."""
    rows = [m for m in _messages_of(names) if m.kind in ERRORS]
    return table(
        ("message", "remedy", "exit code"),
        ((code(m.says), _fix(m), str(ERRORS[m.kind])) for m in rows),
    )


def reason_table(names: str) -> str:
    """Table of the reasons for skipped or failed cases and unavailable backends of modules."""
    rows = [m for m in _messages_of(names) if m.kind in OUTCOMES]
    return table(
        ("outcome", "reason", "remedy"),
        ((OUTCOMES[m.kind], code(m.says), _fix(m)) for m in rows),
    )


def _fix(message: Message) -> str:
    """Remedy of a message; "" if it consists of placeholders only."""
    return text(message.fix) if message.fix.strip("… ") else ""


def _messages_of(names: str) -> list[Message]:
    """Distinct messages of the named modules and of all modules in named packages."""
    return list(
        dict.fromkeys(
            message
            for name in names.split()
            for module in sources()
            if module == name or module.startswith(f"{name}.")
            for message in messages(module)
        )
    )


def check_table(_: str = "") -> str:
    """Table of the checks of ``qbench doctor``: name, why it matters, and remedy."""
    found: dict[str, tuple[list[str], list[str]]] = {}
    for module in sources():
        if module.startswith("qbench.machine.doctor.") or module == "qbench.machine.lock":
            for check, why, fix in _checks(module):
                for words, kept in zip((why, fix), found.setdefault(check, ([], [])), strict=True):
                    if words.strip("… ") and words not in kept:
                        kept.append(words)
    return table(
        ("check", "why it matters", "remedy"),
        (
            (text(check), "<br>".join(map(text, whys)), "<br>".join(map(code, fixes)))
            for check, (whys, fixes) in found.items()
        ),
    )


@cache
def sources() -> dict[str, Path]:
    """Files of qbench and its adapters, by module."""
    found = {}
    for folder, base in ((ROOT / "qbench", ROOT), (ROOT / "backends", ROOT / "backends")):
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(base).with_suffix("").parts
            found[".".join(parts).removesuffix(".__init__")] = path
    return found


@cache
def messages(module: str) -> tuple[Message, ...]:
    """Messages of a module, in source order."""
    tree = ast.parse(sources()[module].read_text(encoding="utf-8"))
    return tuple(_messages(tree, module.startswith("qbench_") or module == "qbench.kit.adapter"))


def _messages(tree: ast.Module, adapter: bool) -> Iterator[Message]:
    outer = _assigned(tree)
    functions = {n.name: n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)}
    for function in (tree, *functions.values()):
        names = {**outer, **_assigned(function)}
        for node in _own(function):
            kind = _called(node)
            if isinstance(node, ast.Call) and (kind in ERRORS or kind in OUTCOMES):
                yield from (m for m in _said(kind, node, names, functions) if _is_sentence(m.says))
            if isinstance(node, ast.Call) and kind == "Known" and len(node.args) == 3:
                _, status, says = (_words(argument, names) for argument in node.args)
                yield Message(status, re.sub(r"\{\d\}", "…", says), "")
            if isinstance(node, ast.Call) and kind == "check_known":
                yield Message("UserError", _words(node.args[2], names), "…")
            if adapter:
                given = _reasons(node, _gives_reasons(function))
                said = [_words(reason, names).replace("{value}", "<value>") for reason in given]
                yield from (Message("Unsupported", says, "") for says in said if _is_sentence(says))


def _reasons(node: ast.AST, returned: bool) -> list[ast.expr]:
    """Expressions in which an adapter gives reasons: returned by a function, or in its tables
    ``missing`` and ``options``."""
    match node:
        case ast.Return(ast.expr() as value) if returned:
            return [value]
        case ast.Assign([ast.Name(name)], ast.Dict() as table) if TABLES.match(name):
            inner = [part for part in ast.walk(table) if isinstance(part, ast.Dict)]
            return [value for part in inner for value in part.values]
        case ast.Call(ast.Name("Only"), [_, reason]):
            return [reason]
        case _:
            return []


def _said(
    kind: str, call: ast.Call, names: Names, functions: Mapping[str, ast.FunctionDef]
) -> Iterator[Message]:
    match call.args:
        case [ast.Starred(ast.Call(ast.Name(name))), *_]:  # UserError(*_explain(...))
            for node in ast.walk(functions[name]):
                if isinstance(node, ast.Return) and isinstance(node.value, ast.Tuple):
                    inner = _assigned(functions[name])
                    says, fix = (_words(e, {**names, **inner}) for e in node.value.elts)
                    yield Message(kind, says, fix)
        case [says, fix, *_]:
            no_fix = kind in ("PrepareError", "NoSource")  # an operator, an outcome
            yield Message(kind, _words(says, names), "" if no_fix else _words(fix, names))
        case [says]:
            yield Message(kind, _words(says, names), "")
        case _:
            pass


def _checks(module: str) -> Iterator[tuple[str, str, str]]:
    tree = ast.parse(sources()[module].read_text(encoding="utf-8"))
    outer = _assigned(tree)
    for function in (n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)):
        names = {**outer, **_assigned(function)}
        for node in _own(function):
            if isinstance(node, ast.Call) and _called(node) in ("Finding", "judged"):
                given = [_words(arg, names) for arg in node.args]
                check, _, _, why, fix = [*given, "", "", ""][:5]
                if check != "<check>":  # the function that makes findings
                    yield check, why, fix


def _called(node: ast.AST) -> str:
    """Name of the called function; "" if the node is no call of a plain name."""
    return node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""


def _own(function: ast.AST) -> Iterator[ast.AST]:
    """Nodes of a function in source order, without those of nested functions."""
    for child in ast.iter_child_nodes(function):
        if not isinstance(child, ast.FunctionDef):
            yield child
            yield from _own(child)


def _gives_reasons(function: ast.AST) -> bool:
    """Whether a function returns a reason or None."""
    returns = getattr(function, "returns", None)
    return returns is not None and ast.unparse(returns) == "str | None"


def _is_sentence(says: str) -> bool:
    """Whether the text has words of its own and not only placeholders."""
    return len(re.findall(r"(?<![<\w])[a-z]+", says)) > 1


def _assigned(function: ast.AST) -> dict[str, ast.expr]:
    """First value that is assigned to each local name."""
    found: dict[str, ast.expr] = {}
    for node in _own(function):
        if isinstance(node, ast.ImportFrom) and node.module in sources():
            there = _constants(node.module)
            found.update({n.asname or n.name: there[n.name] for n in node.names if n.name in there})
        if not isinstance(node, ast.Assign):
            continue
        target, value = node.targets[0], node.value
        pairs = [(target, value)]
        if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
            pairs = list(zip(target.elts, value.elts, strict=False))
        for name, given in pairs:
            if isinstance(name, ast.Name):
                found.setdefault(name.id, given)
    return found


@cache
def _constants(module: str) -> dict[str, ast.expr]:
    """Constants of a module by name."""
    tree = ast.parse(sources()[module].read_text(encoding="utf-8"))
    return {
        target.id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        if isinstance(target := node.targets[0], ast.Name)
    }


def _words(node: ast.expr, names: Names) -> str:
    """Text of an expression, as far as the source determines it."""
    match node:
        case ast.Constant(str(words)):
            return words
        case ast.Constant():
            return ""
        case ast.JoinedStr():
            return "".join(_words(part, names) for part in node.values)
        case ast.FormattedValue():
            return _filled(node.value, names)
        case ast.BinOp(left, ast.Add(), right):
            return _words(left, names) + _words(right, names)
        case ast.IfExp(body=body, orelse=orelse):
            either = [_words(part, names) for part in (body, orelse)]
            return " / ".join(word for word in dict.fromkeys(either) if word.strip())
        case ast.BoolOp(values=values):
            return _words(values[-1], names)
        case ast.Name(name) if name in names and isinstance(
            names[name], ast.Constant | ast.JoinedStr | ast.BinOp | ast.IfExp
        ):
            return _words(names[name], {key: names[key] for key in names if key != name})
        case ast.Call(ast.Name("nearest")):
            return "It names the nearest known one, and all that are known."
        case _:
            return _filled(node, names)


def _filled(node: ast.expr, names: Names) -> str:
    """Placeholder for a value: its text if it is constant, otherwise its name."""
    match node:
        case ast.Name(name):
            known = names.get(name)
            return str(known.value) if isinstance(known, ast.Constant) else f"<{name}>"
        case ast.Attribute(attr=name):
            return f"<{name.strip('_')}>"
        case ast.IfExp() | ast.Constant(str()) | ast.Call(ast.Name("nearest")):
            return _words(node, names)
        case _:
            return "…"
