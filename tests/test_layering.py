"""The layers of the house: who may import whom, and who may import torch."""

import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import fcdistill

PACKAGE = Path(fcdistill.__file__).parent

# Per package its rooms, in layers: a room imports from its own layer and from those before it, and nothing imports in a
# circle. Packages that are not named here have no order of their own, but no circles either.
LAYERS: dict[str, list[set[str]]] = {
    "": [
        {"errors", "machine"},
        {"records"},
        {"config", "storage"},
        {"prompts", "toolcalls", "tools"},
        {"backends", "models", "traces"},
        {"distillation", "evaluation", "generation"},
        {"evidence", "reporting"},
        {"cli"},
        {"pytest"},
    ],
    "backends": [{"base"}, {"constrained", "openai", "scripted"}, {"local"}],
    "distillation": [
        {"batches", "eval_mode", "packed", "placement", "student", "tokenizers"},
        {"losses"},
        {"signals"},
        {"callbacks", "examples", "objective"},
        {"preparation"},
        {"launch", "on_policy", "sizing", "teacher"},
        {"answer_gaps", "student_model"},
        {"trainer"},
        {"run"},
    ],
    "generation": [
        {"verification"},
        {"execution", "plan"},
        {"journal", "scaffold"},
        {"dataset"},
        {"teacher"},
        {"context", "derive", "imports"},
        {"assembly"},
        {"generator"},
        {"pipeline"},
    ],
}
STAGES = {"distillation", "evaluation", "generation"}
MOST_FILES = 15

TORCH_ROOMS = {"distillation", "models"}
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


def level(package: str, room: str) -> int | None:
    """The layer of a room within its package; None where it has none."""
    return next((number for number, rooms in enumerate(LAYERS.get(package, [])) if room in rooms), None)


def violations(package: Path) -> list[str]:
    """Every breach of the layers in a package, in words."""
    known = modules(package)
    found = []
    loads: dict[str, set[str]] = {}
    heavy: dict[str, str] = {}
    uses: dict[str, dict[str, set[str]]] = {}
    for module, path in known.items():
        for home, room in places(module):
            if home in LAYERS and level(home, room) is None:
                found.append(f"{module}: {room} is not in the table of layers of {home or 'the package'}")
        loads[module] = {""}
        for each in imports(module, path):
            where = f"{module or '__init__'}:{each.line}"
            if not each.own:
                if each.runs_at_import and each.target.split(".")[0] in HEAVY:
                    heavy[module] = each.target
                continue
            target = module_of(each.target, known)
            if each.runs_at_import:
                parts = target.split(".")
                loads[module] |= {".".join(parts[:count]) for count in range(len(parts) + 1)}
            found += misplaced(module, target, where, uses)
    for home, graph in uses.items():
        try:
            list(TopologicalSorter(graph).static_order())
        except CycleError as error:
            found.append(f"rooms of {home or 'the package'} import one another in a circle: {error.args[1]}")
    for module in loads:
        if not may_import_torch(module):
            for reached in sorted(reachable(module, loads) & heavy.keys()):
                found.append(f"{module or '__init__'}: loads {heavy[reached]} through {reached}")
    return found


def places(module: str) -> Iterator[tuple[str, str]]:
    """Every package that a module lies in, with the room of that package which holds it."""
    parts = module.split(".") if module else []
    for count, room in enumerate(parts):
        yield ".".join(parts[:count]), room


def misplaced(module: str, target: str, where: str, uses: dict[str, dict[str, set[str]]]) -> Iterator[str]:
    """What an import breaks; rooms that use one another are noted per package."""
    if not target:
        return
    if not module:
        yield f"{where}: the package itself imports {target.split('.')[0]}"
        return
    for (home, room), (other_home, other) in zip(places(module), places(target), strict=False):
        if home != other_home:
            return
        if room == other:
            continue
        uses.setdefault(home, {}).setdefault(room, set()).add(other)
        ours, theirs = level(home, room), level(home, other)
        if ours is not None and theirs is not None and theirs > ours:
            yield f"{where}: {room} imports {other}, which lies above it"
        elif not home and {room, other} <= STAGES:
            yield f"{where}: stage {room} imports stage {other}"
        return


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


def test_the_tables_name_no_room_that_is_not_there() -> None:
    known = modules(PACKAGE)
    for home, layers in LAYERS.items():
        assert sorted(room for rooms in layers for room in rooms) == rooms_of(home, known)
    assert all(any(name.split(".")[0] == room for name in known) for room in TORCH_ROOMS)
    assert TORCH_MODULES <= known.keys()


def rooms_of(home: str, known: dict[str, Path]) -> list[str]:
    return sorted({room for module in known for where, room in places(module) if where == home})


def test_no_two_modules_have_one_basename_and_no_folder_overflows() -> None:
    paths = [path for path in PACKAGE.rglob("*.py") if path.name not in ("__init__.py", "__main__.py")]
    assert [name for name, count in Counter(path.name for path in paths).items() if count > 1] == []
    assert [str(home) for home, count in Counter(path.parent for path in paths).items() if count > MOST_FILES] == []


def test_no_two_classes_of_a_stage_have_one_name() -> None:
    for stage in sorted(STAGES):
        classes = Counter(
            node.name
            for path in (PACKAGE / stage).rglob("*.py")
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.ClassDef)
        )
        assert [name for name, count in classes.items() if count > 1] == []


def test_tests_lie_where_the_modules_lie() -> None:
    """A test module is named for a module of the same folder, or for what several modules do together."""
    known = {name for name, path in modules(PACKAGE).items() if path.name != "__init__.py"}
    here = Path(__file__).parent
    for path in here.rglob("test_*.py"):
        parts = path.relative_to(here).with_suffix("").parts
        name = ".".join((*parts[:-1], parts[-1].removeprefix("test_")))
        twin = [module for module in known if module.rpartition(".")[2] == parts[-1].removeprefix("test_")]
        assert not twin or name in known or parts[0] == "evals", f"{path} belongs beside {twin}"


def test_tests_import_absolutely_and_nothing_from_test_modules() -> None:
    """What several test modules need lies in a module beside them or in a conftest."""
    here = Path(__file__).parent
    for path in here.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                assert not node.level, f"{path}:{node.lineno} is a relative import"
                parts = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
                test_modules = [part for part in parts if part.startswith("test_")]
                assert parts[0] != "tests" or not test_modules, f"{path}:{node.lineno} imports from {test_modules}"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"helpers.py": ""}, "helpers: helpers is not in the table of layers of the package"),
        (
            {"generation/helpers/words.py": ""},
            "generation.helpers.words: helpers is not in the table of layers of generation",
        ),
        ({"records.py": "from fcdistill.storage import x"}, "records:1: records imports storage, which lies above it"),
        ({"records.py": "import fcdistill.cli"}, "records:1: records imports cli, which lies above it"),
        ({"records.py": "from fcdistill import cli"}, "records:1: records imports cli, which lies above it"),
        ({"records.py": "def f():\n    from . import cli"}, "records:2: records imports cli, which lies above it"),
        (
            {"evaluation/scoring.py": "from ..generation.plan import plan", "generation/plan/plan.py": ""},
            "evaluation.scoring:1: stage evaluation imports stage generation",
        ),
        (
            {"tools.py": "from fcdistill.prompts import x", "prompts.py": "from fcdistill.tools import y"},
            "rooms of the package import one another in a circle",
        ),
        (
            {
                "generation/plan/plan.py": "from fcdistill.generation.teacher import prompter",
                "generation/teacher/prompter.py": "",
            },
            "generation.plan.plan:1: plan imports teacher, which lies above it",
        ),
        (
            {
                "generation/plan/plan.py": "from fcdistill.generation.plan import edges",
                "generation/plan/edges.py": "from fcdistill.generation.plan.plan import x",
            },
            "rooms of generation.plan import one another in a circle",
        ),
        ({"prompts.py": "import torch.nn"}, "prompts: loads torch.nn through prompts"),
        (
            {"prompts.py": "try:\n    import torch\nexcept ImportError:\n    pass"},
            "prompts: loads torch through prompts",
        ),
        ({"evaluation/runner.py": "class A:\n    import transformers"}, "evaluation.runner: loads transformers"),
        (
            {"models.py": "import torch", "generation/plan/plan.py": "from fcdistill.models import load_model"},
            "generation.plan.plan: loads torch through models",
        ),
        (
            {
                "backends/__init__.py": "from .local.decoding import x",
                "backends/local/decoding.py": "import torch",
                "backends/base.py": "",
            },
            "backends.base: loads torch through backends.local.decoding",
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
        {"tools.py": "def f():\n    import transformers"},
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
