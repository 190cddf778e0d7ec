"""How the package is built, in figures: rooms, the imports between them, functions, types, tests.

    python benchmarks/structure.py            # of this checkout
    python benchmarks/structure.py OLD .      # of two, side by side

A room is what stands directly in `esmcls/`: a folder or a file. Imports are those of esmcls within itself, also inside
functions and for type checkers alone. Lines of a function are counted from `def`, its docstring's among them or not.
Nothing is imported, so any checkout can be measured; `tests/test_structure.py` holds the targets.
"""

from __future__ import annotations

import ast
import configparser
import functools
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TypeVar

ROOT = Path(__file__).resolve().parents[1]
LONG = 60
"""Lines that no function should have more of."""
GROUND = {"errors", "types", "files", "programs", "sources", "text_files", "version", "moved"}
"""Rooms that know nothing of proteins, and that every room may well import."""
Node = TypeVar("Node", bound=ast.AST)
Function = ast.FunctionDef | ast.AsyncFunctionDef
Graph = Mapping[str, set[str]]
"""Module, or room -> those that it imports."""


@dataclass(frozen=True)
class Module:
    """A source file."""

    name: str
    path: Path
    text: str
    tree: ast.Module

    @classmethod
    def read(cls, path: Path, folder: Path) -> Module:
        """Read a file below `folder`, whose name is that of the package."""
        text = path.read_text(encoding="utf-8")
        parts = path.relative_to(folder.parent).with_suffix("").parts
        return cls(".".join(parts).removesuffix(".__init__"), path, text, ast.parse(text))

    @property
    def lines(self) -> int:
        """Physical lines."""
        return len(self.text.splitlines())

    def nodes(self, kind: type[Node]) -> Iterator[Node]:
        """Yield all nodes of a kind."""
        return (node for node in self._all_nodes if isinstance(node, kind))

    def functions(self) -> Iterator[Function]:
        """Yield all functions and methods."""
        return (node for node in self._all_nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))

    @functools.cached_property
    def _all_nodes(self) -> list[ast.AST]:
        return list(ast.walk(self.tree))


def modules_below(folder: Path) -> list[Module]:
    """Return the modules of a folder and of those in it, by name."""
    return sorted((Module.read(path, folder) for path in folder.rglob("*.py")), key=lambda module: module.name)


def room_of(module: str) -> str:
    """Return the room of a module.

    >>> room_of("esmcls.cache.store"), room_of("esmcls.errors")
    ('cache', 'errors')
    """
    return module.split(".")[1]


def files_of_folders(folder: Path) -> Counter[str]:
    """Return how many modules each folder has besides `__init__`; the root's name is its own."""
    paths = [path for path in folder.rglob("*.py") if path.stem != "__init__"]
    return Counter(path.parent.relative_to(folder.parent).as_posix() for path in paths)


def imports(modules: list[Module]) -> dict[str, set[str]]:
    """Return which modules of the package each imports; the package itself, which imports all, is left out."""
    names = {module.name for module in modules}
    roots = {name.partition(".")[0] for name in names}
    return {module.name: _imported(module, names) - {module.name} for module in modules if module.name not in roots}


def _imported(module: Module, names: set[str]) -> set[str]:
    candidates = {alias.name for node in module.nodes(ast.Import) for alias in node.names}
    for node in module.nodes(ast.ImportFrom):
        submodules = {f"{node.module}.{alias.name}" for alias in node.names} & names
        candidates |= submodules or {str(node.module)}
    return {name for name in candidates & names if "." in name}


def between_rooms(graph: Graph) -> dict[str, set[str]]:
    """Return which modules of other rooms each module imports."""
    return {name: {other for other in targets if room_of(other) != room_of(name)} for name, targets in graph.items()}


def of_rooms(graph: Graph) -> dict[str, set[str]]:
    """Return which other rooms each room imports from."""
    rooms: dict[str, set[str]] = {room_of(name): set() for name in graph}
    for name, targets in between_rooms(graph).items():
        rooms[room_of(name)] |= {room_of(target) for target in targets}
    return rooms


def circles(graph: Graph) -> list[list[str]]:
    """Return the groups that import one another, directly or not.

    >>> circles({"a": {"b"}, "b": {"a"}, "c": {"a"}})
    [['a', 'b']]
    """
    reached = {name: _reached(graph, name) for name in graph}
    groups = {tuple(sorted(other for other in reached[name] if name in reached[other])) for name in graph}
    return sorted(list(group) for group in groups if len(group) > 1)


def _reached(graph: Graph, start: str) -> set[str]:
    reached: set[str] = set()
    waiting = [start]
    while waiting:
        new = graph.get(waiting.pop(), set()) - reached
        reached |= new
        waiting += new
    return reached


def room_order(checkout: Path) -> dict[str, int]:
    """Return each room's place in the order of the contract in setup.cfg, the first 0; empty without one."""
    parser = configparser.ConfigParser()
    parser.read(checkout / "setup.cfg", encoding="utf-8")
    layers = parser.get("importlinter:contract:rooms", "layers", fallback="").split("\n")
    lines = [line.replace("|", " ").replace(":", " ").split() for line in reversed(layers) if line]
    return {room: place for place, line in enumerate(lines) for room in line}


def climbs(graph: Graph, order: Mapping[str, int]) -> list[tuple[str, str]]:
    """Return the imports from a room that comes later."""
    pairs = [(name, target) for name, targets in between_rooms(graph).items() for target in sorted(targets)]
    return [(name, target) for name, target in pairs if order[room_of(target)] > order[room_of(name)]]


def length(function: Function, docstring: bool = True) -> int:
    """Return the lines of a function."""
    lines = _lines(function)
    has_docstring = ast.get_docstring(function, clean=False) is not None
    return lines - _lines(function.body[0]) if has_docstring and not docstring else lines


def _lines(node: ast.stmt) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def annotations(module: Module) -> list[ast.expr]:
    """Return the annotations of arguments, results and names."""
    written = [node.annotation for node in module.nodes(ast.arg)]
    written += [function.returns for function in module.functions()]
    written += [node.annotation for node in module.nodes(ast.AnnAssign)]
    return [annotation for annotation in written if annotation is not None]


def says_any(annotation: ast.expr) -> bool:
    """Return whether `Any` is in an annotation."""
    return any(isinstance(node, ast.Name) and node.id == "Any" for node in ast.walk(annotation))


def casts(module: Module) -> int:
    """Return how often a type is claimed by `cast`."""
    return sum(isinstance(node.func, ast.Name) and node.func.id == "cast" for node in module.nodes(ast.Call))


def packed_assignments(module: Module) -> int:
    """Return how many assignments give several names several values, one of them neither a name nor a constant."""
    both = [(node.targets[0], node.value) for node in module.nodes(ast.Assign)]
    values = [value.elts for target, value in both if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple)]
    return sum(any(not isinstance(value, ast.Name | ast.Constant) for value in packed) for packed in values)


def what_docstrings(module: Module) -> int:
    """Return how many docstrings begin with "What"."""
    documented = [module.tree, *module.functions(), *module.nodes(ast.ClassDef)]
    return sum((ast.get_docstring(node) or "").startswith("What ") for node in documented)


def figures(checkout: Path) -> dict[str, str]:
    """Return all figures of a checkout, as they are printed."""
    return {**_folders(checkout), **_arrows(checkout), **_code(checkout)}


def _folders(checkout: Path) -> dict[str, str]:
    files = files_of_folders(checkout / "esmcls")
    root = files.pop("esmcls")
    fullest = ", ".join(f"{folder.removeprefix('esmcls/')} {count}" for folder, count in files.most_common(4))
    return {"files at the root": str(root), "fullest folders": fullest}


def _arrows(checkout: Path) -> dict[str, str]:
    graph = imports(modules_below(checkout / "esmcls"))
    order = room_order(checkout)
    above = {name: {target for target in targets if room_of(target) not in GROUND} for name, targets in graph.items()}
    return {
        "arrows: module to module of another room": _both(_arrows_of_modules, graph, above),
        "arrows: module to another room": _both(_arrows_to_rooms, graph, above),
        "arrows: room to room": _both(_arrows_of_rooms, graph, above),
        "imports that climb": str(len(climbs(graph, order))) if order else "no order is stated",
        "circles of modules": _sizes(circles(graph)),
        "circles of rooms": _sizes(circles(of_rooms(graph))),
    }


def _both(count: Callable[[Graph], int], graph: Graph, above: Graph) -> str:
    return f"{count(graph)} ({count(above)} not to the ground)"


def _arrows_of_modules(graph: Graph) -> int:
    return sum(map(len, between_rooms(graph).values()))


def _arrows_to_rooms(graph: Graph) -> int:
    return sum(len({room_of(target) for target in targets}) for targets in between_rooms(graph).values())


def _arrows_of_rooms(graph: Graph) -> int:
    return sum(map(len, of_rooms(graph).values()))


def _sizes(groups: list[list[str]]) -> str:
    return f"{len(groups)} (of {', '.join(str(len(group)) for group in groups)})" if groups else "0"


def _code(checkout: Path) -> dict[str, str]:
    modules = modules_below(checkout / "esmcls") + modules_below(checkout / "cli")
    tests = [Module.read(path, checkout / "tests") for path in (checkout / "tests").glob("*.py")]
    functions = [function for module in modules for function in module.functions()]
    lengths = [length(function) for function in functions]
    without = [length(function, docstring=False) for function in functions]
    written = [annotation for module in modules for annotation in annotations(module)]
    lines = sum(module.lines for module in modules)
    largest = sorted(modules, key=lambda module: -module.lines)[:3]
    return {
        "lines, and of tests for each": f"{lines:,}, {sum(module.lines for module in tests) / lines:.2f}",
        "largest modules": ", ".join(f"{module.name.removeprefix('esmcls.')} {module.lines}" for module in largest),
        "functions, median lines": f"{len(functions):,}, {median(lengths):g} (less docstring {median(without):g})",
        f"functions over {LONG} lines": f"{_over(lengths)} (less docstring {_over(without)})",
        "annotations with Any": f"{sum(map(says_any, written)) / len(written):.1%}",
        "casts": _total(casts, modules),
        "lines with has_terms": str(
            sum("has_terms" in line for module in modules for line in module.text.splitlines())
        ),
        "packed assignments": _total(packed_assignments, modules),
        'docstrings that begin "What"': _total(what_docstrings, modules),
    }


def _over(lengths: list[int]) -> int:
    return sum(lines > LONG for lines in lengths)


def _total(count: Callable[[Module], int], modules: list[Module]) -> str:
    return str(sum(map(count, modules)))


def main() -> None:
    """Print the figures, a column for each checkout."""
    columns = [figures(Path(name).resolve()) for name in sys.argv[1:] or [str(ROOT)]]
    widths = [max(map(len, column.values())) for column in columns]
    for name in columns[0]:
        cells = [f"{column[name]:<{width}}" for column, width in zip(columns, widths, strict=True)]
        print(f"{name:<42}", "  ".join(cells).rstrip())


if __name__ == "__main__":
    main()
