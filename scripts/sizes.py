"""What is too large to be read at one look: `python scripts/sizes.py` lists it and exits with 1.

Files of src/ have at most 400 lines, classes 200, functions 50; no statement lies deeper than three
blocks inside its function; functions take at most six arguments, but for the fields of a record.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[1] / "src"
FILE, CLASS, FUNCTION, DEPTH, ARGUMENTS = 400, 200, 50, 3, 6
Function = ast.FunctionDef | ast.AsyncFunctionDef
BLOCKS = (ast.If, ast.For, ast.While, ast.With, ast.Try, ast.Match)


def lines(node: ast.ClassDef | Function) -> int:
    return node.end_lineno - node.lineno + 1


def depth(node: ast.AST) -> int:
    """How many blocks lie around the innermost statement; `elif` is none of its own."""
    deepest = 0
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Function | ast.ClassDef | ast.Lambda):
            continue
        alternative = (
            isinstance(node, ast.If) and isinstance(child, ast.If) and child in node.orelse
        )
        inside = 1 if isinstance(child, BLOCKS) and not alternative else 0
        deepest = max(deepest, inside + depth(child))
    return deepest


def arguments(node: Function) -> int:
    if any("register_to_config" in ast.unparse(decorator) for decorator in node.decorator_list):
        return 0  # a record of diffusers
    given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    return len([argument for argument in given if argument.arg not in ("self", "cls")])


def problems(text: str) -> Iterator[tuple[int, str]]:
    """(line, what is too large there), for the text of one file."""
    if text.count("\n") > FILE:
        yield 1, f"file of {text.count(chr(10))} lines, at most {FILE}"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ClassDef) and lines(node) > CLASS:
            yield node.lineno, f"class {node.name} of {lines(node)} lines, at most {CLASS}"
        if isinstance(node, Function):
            if lines(node) > FUNCTION:
                yield node.lineno, f"{node.name}() of {lines(node)} lines, at most {FUNCTION}"
            if depth(node) > DEPTH:
                yield node.lineno, f"{node.name}() is {depth(node)} blocks deep, at most {DEPTH}"
            if arguments(node) > ARGUMENTS:
                yield node.lineno, f"{node.name}() takes {arguments(node)}, at most {ARGUMENTS}"


def main() -> int:
    count = 0
    for path in sorted(SOURCE.rglob("*.py")):
        for line, problem in sorted(problems(path.read_text())):
            print(f"{path.relative_to(SOURCE.parent)}:{line}: {problem}")
            count += 1
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main())
