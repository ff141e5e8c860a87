"""Imports run downward only: the layers of the package as a table, checked on the source."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "nervcodec"

LAYERS = (
    {"cli"},
    {"compare"},
    {"improver", "estimator"},
    {"verification"},
    {"encoder", "decoder", "info", "loader"},
    {"coder"},
    {"planning"},
    {"assembly"},
    {"executors"},
    {"scan", "reports", "preview", "clip", "targets", "jobs", "effort"},
    {"rate_control", "training", "inference"},
    {"fast"},
    {"models", "metrics", "segments", "video", "config", "files"},
    {"bitstream"},
    {"errors", "version", "samples", "ahead"},
)
"""Units of the package, from the top down; a unit imports itself and lower layers only."""

RANK = {unit: rank for rank, layer in enumerate(LAYERS) for unit in layer}

FACE = "__init__"
"""The public face imports everything, and nothing imports it."""

ONLY_IN = {"av": {"video", "compare"}, "click": {"cli"}, "rich": {"cli"}}
"""Libraries that are confined to some units."""

NEVER_IN = {
    "bitstream": {"torch", "av", "click"},
    "info": {"torch", "av"},
    "config": {"torch", "av"},
    "rate_control": {"torch", "av"},
}
"""Libraries that a unit must do without."""

FORBIDDEN = {
    (unit, target)
    for unit in ("decoder", "clip", "loader", "targets")
    for target in ("training", "encoder", "rate_control", "jobs", "executors")
}
"""Pairs of units that stay apart though their layers would allow it."""


def unit_of(path: Path) -> str:
    return path.relative_to(ROOT).with_suffix("").parts[0]


def sources() -> list[Path]:
    return sorted(ROOT.rglob("*.py"))


def for_type_checking(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.If)
        and isinstance(node.test, ast.Name)
        and node.test.id == "TYPE_CHECKING"
    )


def nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those that only a type checker sees."""
    for child in ast.iter_child_nodes(tree):
        if for_type_checking(child):
            assert isinstance(child, ast.If)
            for other in child.orelse:
                yield other
                yield from nodes(other)
            continue
        yield child
        yield from nodes(child)


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and full name of each module that a file imports, wherever in it."""
    package = ("nervcodec", *path.relative_to(ROOT).parts[:-1])
    for node in nodes(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*base, *([node.module] if node.module else [])))
            if module == "nervcodec":  # from nervcodec import x: x is a unit or the face's
                units = (alias.name for alias in node.names)
                yield from ((node.lineno, f"nervcodec.{name}") for name in units)
            else:
                yield node.lineno, module


def edges() -> Iterator[tuple[str, str, str, str]]:
    """Place of an import, the importing unit, the library and the unit of it that is imported."""
    for path in sources():
        for line, module in imports(path):
            library, *rest = module.split(".")
            yield (
                f"{path.relative_to(ROOT.parent)}:{line} imports {module}",
                unit_of(path),
                library,
                rest[0] if rest else FACE,
            )


def test_every_unit_has_its_layer() -> None:
    units = {unit_of(path) for path in sources()} - {FACE}
    assert units == set(RANK), "the table of layers and the package differ"


def test_the_check_sees_the_imports() -> None:
    """Or all that follows would pass on nothing."""
    found = {(unit, target) for _, unit, library, target in edges() if library == "nervcodec"}
    assert {("encoder", "training"), ("clip", "inference"), ("models", "bitstream")} <= found
    assert {unit for _, unit, library, _ in edges() if library == "av"} == {"video", "compare"}
    assert {unit for _, unit, library, _ in edges() if library == "click"} == {"cli"}


def test_imports_run_downward_only() -> None:
    wrong = [
        place
        for place, unit, library, target in edges()
        if library == "nervcodec"
        and unit not in (FACE, target)
        and not (target in RANK and RANK[unit] < RANK[target])
    ]
    assert not wrong, "\n".join(wrong)


def test_units_that_stay_apart() -> None:
    wrong = [
        place
        for place, unit, library, target in edges()
        if library == "nervcodec" and (unit, target) in FORBIDDEN
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("library", ONLY_IN)
def test_confined_libraries(library: str) -> None:
    wrong = [p for p, unit, lib, _ in edges() if lib == library and unit not in ONLY_IN[library]]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("unit", NEVER_IN)
def test_units_do_without_libraries(unit: str) -> None:
    wrong = [place for place, u, library, _ in edges() if u == unit and library in NEVER_IN[unit]]
    assert not wrong, "\n".join(wrong)


def test_the_face_imports_no_library_by_itself() -> None:
    eager = {module.split(".")[-1] for _, module in imports(ROOT / "__init__.py")}
    assert eager & {"torch", "av", "encoder", "decoder", "info", "verification"} == set()


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import nervcodec", ("torch", "av", "click", "constriction", "numpy")),
        ("import nervcodec.info", ("torch", "av", "click")),
        ("from nervcodec import probe", ("torch", "av")),
        ("import nervcodec.cli.main", ("torch", "av", "numpy", "rich")),
        ("import nervcodec.cli.info", ("torch", "av", "rich")),
        ("import nervcodec.bitstream.stream", ("torch", "av")),
        ("import nervcodec.rate_control", ("torch", "av")),
        ("import nervcodec.decoder", ("nervcodec.training", "nervcodec.encoder", "click")),
    ],
)
def test_what_is_loaded_with(statement: str, absent: tuple[str, ...]) -> None:
    """In a fresh interpreter, with what the imported libraries import themselves."""
    code = f"{statement}\nimport sys\nprint([m for m in {absent!r} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT.parent
    )
    assert done.stdout.strip() == "[]"
