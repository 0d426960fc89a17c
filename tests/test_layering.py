"""The layers of the house: who may import whom, and who may import torch."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import fcdistill

PACKAGE = Path(fcdistill.__file__).parent

LAYERS = [
    {"errors", "machine"},
    {"records"},
    {"config", "storage"},
    {
        "annotations",
        "catalog",
        "catalog_changes",
        "declarations",
        "equality",
        "functions",
        "json_schema",
        "prompts",
        "revalidation",
        "signatures",
        "splits",
        "toolcall_regions",
        "toolcalls",
        "tools",
        "validation",
        "worked_examples",
    },
    {"backends", "models", "traces"},
    {"distillation", "evaluation", "generation"},
    {"export", "reporting"},
    {"cli"},
    {"pytest"},
]
LAYER = {room: number for number, rooms in enumerate(LAYERS) for room in rooms}
STAGES = {"distillation", "evaluation", "generation"}

TORCH_ROOMS = {"distillation", "export", "models"}
TORCH_MODULES = {f"backends.local.{name}" for name in ("continuation", "decoding", "local_backend", "shared_prefix")}
HEAVY = {"accelerate", "datasets", "peft", "torch", "transformers"}


@dataclass(frozen=True)
class Import:
    """One imported name: `target` is dotted, with the package's own name left out of its own modules."""

    target: str
    own: bool
    runs_at_import: bool
    line: int


def modules(package: Path) -> dict[str, Path]:
    """Dotted module name, without the package's own, to its file."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(name: str, path: Path, package: str = "fcdistill") -> Iterator[Import]:
    """All imports of a module, those in functions and for type checking too."""
    base = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    base = [part for part in base if part]

    def visit(node: ast.AST, runs: bool) -> Iterator[Import]:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield named(alias.name, node, runs)
        elif isinstance(node, ast.ImportFrom):
            start = node.module or ""
            if node.level:
                start = ".".join([package, *base[: len(base) + 1 - node.level], *filter(None, [node.module])])
            for alias in node.names:
                yield named(f"{start}.{alias.name}", node, runs)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for child in node.body:
                yield from visit(child, False)
            for child in node.orelse:
                yield from visit(child, runs)
        else:
            deferred = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            for child in ast.iter_child_nodes(node):
                yield from visit(child, runs and not deferred)

    def named(target: str, node: ast.Import | ast.ImportFrom, runs: bool) -> Import:
        own = target == package or target.startswith(package + ".")
        return Import(target.removeprefix(package).lstrip(".") if own else target, own, runs, node.lineno)

    yield from visit(ast.parse(path.read_text(encoding="utf-8")), True)


def may_import_torch(module: str) -> bool:
    return module.split(".")[0] in TORCH_ROOMS or module in TORCH_MODULES


def module_of(target: str, known: dict[str, Path]) -> str:
    """The module that an imported name is or lies in."""
    while target and target not in known:
        target = target.rpartition(".")[0]
    return target


def violations(package: Path) -> list[str]:
    """Every breach of the layers in a package, in words."""
    known = modules(package)
    found = []
    loads: dict[str, set[str]] = {}
    heavy: dict[str, str] = {}
    uses: dict[str, set[str]] = {}
    for module, path in known.items():
        room = module.split(".")[0]
        if module and room not in LAYER:
            found.append(f"{module}: not in the table of layers")
            continue
        loads[module] = {""}
        for each in imports(module, path):
            where = f"{module or '__init__'}:{each.line}"
            if not each.own:
                if each.runs_at_import and each.target.split(".")[0] in HEAVY:
                    heavy[module] = each.target
                continue
            target = module_of(each.target, known)
            target_room = target.split(".")[0]
            if each.runs_at_import:
                parts = target.split(".")
                loads[module] |= {".".join(parts[:count]) for count in range(len(parts) + 1)}
            if target_room in ("", room) or target_room not in LAYER:
                continue
            uses.setdefault(room, set()).add(target_room)
            if not module:
                found.append(f"{where}: the package itself imports {target_room}")
            elif LAYER[target_room] > LAYER[room]:
                found.append(f"{where}: {room} imports {target_room}, which lies above it")
            elif {room, target_room} <= STAGES:
                found.append(f"{where}: stage {room} imports stage {target_room}")
    try:
        list(TopologicalSorter(uses).static_order())
    except CycleError as error:
        found.append(f"rooms import one another in a circle: {error.args[1]}")
    for module in loads:
        if not may_import_torch(module):
            for reached in sorted(reachable(module, loads) & heavy.keys()):
                found.append(f"{module or '__init__'}: loads {heavy[reached]} through {reached}")
    return found


def reachable(module: str, loads: dict[str, set[str]]) -> set[str]:
    """All modules that importing this one runs, its packages and itself included."""
    parts = module.split(".")
    pending = [".".join(parts[:count]) for count in range(len(parts) + 1)]
    seen: set[str] = set()
    while pending:
        current = pending.pop()
        if current not in seen:
            seen.add(current)
            pending += loads.get(current, ())
    return seen


def test_the_package_keeps_its_layers() -> None:
    assert violations(PACKAGE) == []


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"helpers.py": ""}, "helpers: not in the table of layers"),
        ({"records.py": "from fcdistill.storage import x"}, "records:1: records imports storage, which lies above it"),
        ({"records.py": "import fcdistill.cli"}, "records:1: records imports cli, which lies above it"),
        ({"records.py": "from fcdistill import cli"}, "records:1: records imports cli, which lies above it"),
        ({"records.py": "def f():\n    from . import cli"}, "records:2: records imports cli, which lies above it"),
        (
            {"evaluation/scoring.py": "from ..generation import plan", "generation/plan.py": ""},
            "evaluation.scoring:1: stage evaluation imports stage generation",
        ),
        (
            {"catalog.py": "from fcdistill.prompts import x", "prompts.py": "from fcdistill.catalog import y"},
            "rooms import one another in a circle",
        ),
        ({"prompts.py": "import torch.nn"}, "prompts: loads torch.nn through prompts"),
        (
            {"prompts.py": "try:\n    import torch\nexcept ImportError:\n    pass"},
            "prompts: loads torch through prompts",
        ),
        ({"evaluation/runner.py": "class A:\n    import transformers"}, "evaluation.runner: loads transformers"),
        (
            {"models.py": "import torch", "generation/plan.py": "from fcdistill.models import load_model"},
            "generation.plan: loads torch through models",
        ),
        (
            {
                "backends/__init__.py": "from .local import x",
                "backends/local.py": "import torch",
                "backends/base.py": "",
            },
            "backends.base: loads torch through backends.local",
        ),
        ({"__init__.py": "from fcdistill.models import x"}, "__init__:1: the package itself imports models"),
    ],
)
def test_a_breach_is_found(tmp_path: Path, files: dict[str, str], message: str) -> None:
    package = tmp_path / "fcdistill"
    for name in ("__init__.py", "storage.py", "cli.py", "models.py"):
        files.setdefault(name, "")
    for name, text in files.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(text)
    assert any(message in each for each in violations(package)), violations(package)


@pytest.mark.parametrize(
    "files",
    [
        {"prompts.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import transformers"},
        {"catalog.py": "def f():\n    import transformers"},
        {
            "models.py": "import torch",
            "backends/local/decoding.py": "import torch",
            "distillation/losses.py": "import torch",
        },
        {"cli.py": "def train():\n    from fcdistill.models import x", "models.py": "import torch"},
        {"cli.py": "import fcdistill\nfrom fcdistill import __version__"},
    ],
)
def test_what_the_layers_allow_is_no_breach(tmp_path: Path, files: dict[str, str]) -> None:
    package = tmp_path / "fcdistill"
    for name, text in {"__init__.py": "", **files}.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(text)
    assert violations(package) == []


def test_modules_outside_the_torch_rooms_load_neither_torch_nor_transformers() -> None:
    names = sorted(
        f"fcdistill.{name}" if name else "fcdistill" for name in modules(PACKAGE) if not may_import_torch(name)
    )
    assert "fcdistill.cli" in names
    program = (
        "import importlib, sys\n"
        f"for name in {names!r}:\n"
        "    importlib.import_module(name)\n"
        f"    loaded = sorted({HEAVY!r} & sys.modules.keys())\n"
        "    assert not loaded, f'{name} loads {loaded}'\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
