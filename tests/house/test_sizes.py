"""A file reads in one sitting, and the repository stays small. Exceptions are listed here, each with its reason."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.repository import project_files, python_files, relative

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
MAX_ARGUMENTS = 8
MAX_BYTES = 2**20

LONG_FILES: dict[str, str] = {}
LONG_FUNCTIONS: dict[str, str] = {}
MANY_ARGUMENTS: dict[str, str] = {
    "nbtorch/kernels/reference.py::lattice_sum": "an operator's signature: each tensor has its own gradient",
    "nbtorch/kernels/blocks.py::lattice_sum": "the same signature",
    "nbtorch/kernels/dispatch.py::lattice_sum": "the same signature",
    "nbtorch/kernels/jacobian.py::lattice_jvp": "the same signature, and the tangents",
}
# Device functions take bare pointers and numbers: the compiler's language has no settings objects.
DEVICE_CODE = "triton.jit"
LARGE_FILES: dict[str, str] = {
    "tests/golden/images.npz": "the original program's images, compressed; nothing replaces them",
}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(path: Path) -> Iterator[tuple[str, Function]]:
    """("file::Class.function", node) of every function and method in a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return ((f"{relative(path)}::{name}", node) for name, node in _functions_in(tree, ""))


def _functions_in(parent: ast.AST, prefix: str) -> Iterator[tuple[str, Function]]:
    for node in ast.iter_child_nodes(parent):
        name = f"{prefix}{node.name}" if isinstance(node, Function | ast.ClassDef) else ""
        if isinstance(node, Function):
            yield name, node
        yield from _functions_in(node, f"{name}." if name else prefix)


def function_lines(node: Function) -> int:
    """Lines of code of a function, its docstring not counted: explaining costs nothing."""
    assert node.end_lineno is not None
    docstring = node.body[0] if ast.get_docstring(node, clean=False) is not None else None
    explained = 0 if docstring is None or docstring.end_lineno is None else docstring.end_lineno - docstring.lineno + 1
    return node.end_lineno - node.lineno + 1 - explained


def is_device_code(node: Function) -> bool:
    """Whether Triton compiles the function for a GPU."""
    return any(ast.unparse(decorator) == DEVICE_CODE for decorator in node.decorator_list)


def argument_count(node: Function) -> int:
    arguments = node.args
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    return sum(argument.arg not in ("self", "cls") for argument in named)


def check(measured: dict[str, int], limit: int, excused: dict[str, str]) -> None:
    """Nothing above the limit that is not excused, and no excuse that is not needed any more."""
    above = {name: size for name, size in measured.items() if size > limit}
    too_large = {name: size for name, size in above.items() if name not in excused}
    assert not too_large, f"over {limit}: {too_large}"
    assert not set(excused) - set(above), "excuses that nothing needs"


def test_no_python_file_is_too_long_to_read_in_one_sitting() -> None:
    lines = {relative(path): len(path.read_text(encoding="utf-8").splitlines()) for path in python_files()}
    check(lines, MAX_FILE_LINES, LONG_FILES)


def test_no_function_is_too_long() -> None:
    found = (item for path in python_files() for item in functions(path))
    check({name: function_lines(node) for name, node in found}, MAX_FUNCTION_LINES, LONG_FUNCTIONS)


def test_no_function_of_the_packages_has_too_many_arguments() -> None:
    found = (item for path in python_files("nbtorch", "refine") for item in functions(path))
    ours = {name: argument_count(node) for name, node in found if not is_device_code(node)}
    check(ours, MAX_ARGUMENTS, MANY_ARGUMENTS)


def test_no_large_file_is_committed() -> None:
    check({relative(path): path.stat().st_size for path in project_files()}, MAX_BYTES, LARGE_FILES)


SAMPLE = """
class A:
    def f(self, a, /, b, *args, c, **more):
        '''One.

        Two.
        '''
        return a
"""


def test_a_docstring_costs_no_lines_and_self_is_no_argument(tmp_path: Path) -> None:
    path = tmp_path / "code.py"
    path.write_text(SAMPLE)
    ((name, node),) = functions(path)
    assert name.endswith("code.py::A.f")
    assert (function_lines(node), argument_count(node)) == (2, 3)


def test_a_file_over_the_limit_and_an_unneeded_excuse_are_found() -> None:
    check({"f": 2}, 1, {"f": "long for a reason"})
    with pytest.raises(AssertionError, match="over 1"):
        check({"f": 2}, 1, {})
    with pytest.raises(AssertionError, match="excuses"):
        check({"f": 1}, 1, {"f": "was long once"})
