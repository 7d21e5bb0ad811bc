"""The house as ARCHITECTURE draws it: imports point down, packages on one floor do not know each other."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "audiogen_cli"
FLOORS = (
    {"config", "errors"},
    {"ops"},
    {"quantizers"},
    {"conditioners", "data", "formats"},
    {"models"},
    {"hub", "metrics"},
    {"pipelines", "training"},
    {"cli"},
    {"__init__", "__main__"},
)
LEVEL = {name: level for level, floor in enumerate(FLOORS) for name in floor}
HEAVY = {"torch", "transformers", "numpy", "soundfile", "soxr", "scipy", "tokenizers", "accelerate", "huggingface_hub"}
WITHOUT_TWIN = {
    "__init__.py": "the public names; tests/test_architecture.py and tests/test_readme.py use them",
    "__main__.py": "two lines; tests/test_readme.py runs the command",
    "data/words.py": "lists of words; tests/data/test_captions.py widens captions with them",
    "models/codec.py": "what encodec and spectral share; their tests hold its arithmetic",
    "errors.py": "a tree without behaviour; tests/cli/test_main.py holds its exit codes",
}
FILES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))


def floor_of(module: str) -> str:
    """`audiogen_cli.models.lm` -> models; the package itself -> __init__."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def module_of(file: Path) -> str:
    parts = ("audiogen_cli", *file.with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(file: Path, top_level_only: bool = False) -> Iterator[str]:
    """Every module that a file imports, in functions and for type checking too unless told otherwise.

    The version, a constant that needs nothing, is everybody's.
    """
    tree = ast.parse((PACKAGE / file).read_text(encoding="utf-8"))
    for node in tree.body if top_level_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            names = (alias.name for alias in node.names if (node.module, alias.name) != ("audiogen_cli", "__version__"))
            yield from (submodule(str(node.module), name) for name in names)


def submodule(module: str, name: str) -> str:
    """`from a.b import c` imports a.b.c where that is a file or a folder, else a.b."""
    path = ROOT / f"{module}.{name}".replace(".", "/")
    return f"{module}.{name}" if path.is_dir() or path.with_suffix(".py").is_file() else module


def ours(file: Path, top_level_only: bool = False) -> set[str]:
    return {name for name in imports(file, top_level_only) if name.split(".")[0] == "audiogen_cli"}


@pytest.mark.parametrize("file", FILES, ids=str)
def test_imports_point_down(file: Path) -> None:
    own = floor_of(module_of(file)) if file.name != "__main__.py" else "__main__"
    for name in ours(file):
        other = floor_of(name)
        if other == "__init__":
            assert own in ("cli", "__main__"), f"{file} imports the package's public names from below"
        else:
            below = LEVEL[other] < LEVEL[own]
            assert below or other == own or {own, other} == {"config", "errors"}, f"{file} imports {name}"


def test_every_package_stands_on_a_floor() -> None:
    names = {file.parts[0].removesuffix(".py") for file in FILES}
    assert names <= set(LEVEL)


@pytest.mark.parametrize("name", ["config.py", "errors.py"])
def test_the_ground_floor_is_the_standard_library(name: str) -> None:
    for module in imports(Path(name)):
        assert module.split(".")[0] in sys.stdlib_module_names or module == "audiogen_cli.errors"


def test_no_import_goes_in_a_circle() -> None:
    graph = {module_of(file): ours(file, top_level_only=True) for file in FILES}
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, f"circle: {' -> '.join([*path, module])}"
        if module not in done:
            for name in graph.get(module, ()):
                visit(name, (*path, module))
            done.add(module)

    for module in graph:
        visit(module, ())


@pytest.mark.parametrize(
    "script",
    [
        "import audiogen_cli; assert 'generate' in dir(audiogen_cli)",
        "run('--help')",
        "run('generate', '--help')",
        "run('train', 'lm', '--help')",
        "run('generate', '')",
        "run('models', 'list')",
    ],
)
def test_what_computes_nothing_imports_nothing_heavy(script: str) -> None:
    code = f"""
import sys

def run(*arguments):
    from audiogen_cli.cli.main import app
    app(arguments, standalone_mode=False)

try:
    {script}
finally:
    heavy = {HEAVY!r} & set(sys.modules)
    assert not heavy, heavy
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0, result.stderr


def test_the_public_names_are_there() -> None:
    import audiogen_cli

    for name in audiogen_cli.__all__:
        assert getattr(audiogen_cli, name) is not None
    with pytest.raises(AttributeError):
        audiogen_cli.no_such_name  # noqa: B018


def test_the_version_is_that_of_the_project() -> None:
    import tomllib

    import audiogen_cli

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == audiogen_cli.__version__


@pytest.mark.parametrize("file", [file for file in FILES if file.name != "__init__.py"], ids=str)
def test_every_file_has_its_twin_among_the_tests(file: Path) -> None:
    twin = ROOT / "tests" / file.parent / f"test_{file.name}"
    assert str(file) in WITHOUT_TWIN or twin.is_file(), f"write {twin.relative_to(ROOT)}"


@pytest.mark.parametrize("file", FILES, ids=str)
def test_public_signatures_are_annotated(file: Path) -> None:
    for node in ast.walk(ast.parse((PACKAGE / file).read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            bare = [a.arg for a in arguments if a.annotation is None and a.arg not in ("self", "cls")]
            assert not bare and node.returns is not None, f"{file}: {node.name} {bare}"


def test_only_the_command_line_speaks() -> None:
    for file in FILES:
        if file.parts[0] != "cli":
            calls = [n for n in ast.walk(ast.parse((PACKAGE / file).read_text())) if isinstance(n, ast.Call)]
            assert not [c for c in calls if isinstance(c.func, ast.Name) and c.func.id == "print"], file


def test_nobody_imports_what_typer_keeps_to_itself() -> None:
    for file in FILES:
        assert not {name for name in imports(file) if name.split(".")[0] == "click"}, file
