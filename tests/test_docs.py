"""The pages say what is there: paths, functions, commands, make targets, links; what is generated has not drifted."""

import ast
import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from fcdistill.cli import app
from tests.cli.projects import invoke
from tests.paths import ROOT

FRONT = ("README.md", "CONTRIBUTING.md", "SECURITY.md")
PAGES = sorted([*FRONT, *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))])
INNER = sorted(
    path.relative_to(ROOT).as_posix() for name in ("data", "evals", "schemas") for path in (ROOT / name).rglob("*.md")
)
THEIRS = {".github/workflows/tool-calls.yml", "evals/home/baseline.json"}
"""Files that pages tell a team to have in its own repository."""

_FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`([^`\n]+)`")
_PATH = re.compile(r"(?<![\w/.*-])((?:\.ci|\.github|data|docs|evals|fcdistill|schemas|tests)/[\w./-]*\w/?)(?:::(\w+))?")
_LINK = re.compile(r"\]\(([^)\s]+)\)|(?:src|href)=\"([^\"]+)\"")
_MAKE = re.compile(r"\bmake ([a-z][\w-]*)")
_COMMAND = re.compile(r"(?:^|[\s/(;&])fcdistill ((?:[a-z][\w-]*)(?: .*)?)$")
_MOST_LINES = 180
_MOST_BYTES = 300_000

each_page = pytest.mark.parametrize("page", [*PAGES, *INNER])


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def code_of(page: str) -> Iterator[str]:
    """Every piece of inline code, and every line of a fenced block without its comment."""
    text = text_of(page)
    for block in _FENCE.findall(text):
        for line in block.splitlines()[1:-1]:
            yield re.sub(r"(^|\s)#.*", "", line)
    yield from _CODE.findall(_FENCE.sub("", text))


def headings_of(page: Path) -> set[str]:
    """The anchors that GitHub gives to the headings of a page."""
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    titles = [re.sub(r"[`*]|\[|\]\([^)]*\)", "", title) for title in re.findall(r"^#+ (.+)$", text, re.MULTILINE)]
    return {re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-") for title in titles}


def names_in(module: Path) -> set[str]:
    """The functions, classes and annotated tables of a module."""
    body = ast.parse(module.read_text(encoding="utf-8")).body
    tables = (node.target for node in body if isinstance(node, ast.AnnAssign))
    return {node.name for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef)} | {
        target.id for target in tables if isinstance(target, ast.Name)
    }


def commands() -> dict[str, Any]:
    """Every command by its words, as the command line itself knows them."""
    found: dict[str, Any] = {}
    top: Any = typer.main.get_command(app)
    for name, command in top.commands.items():
        found[name] = command
        found |= {f"{name} {part}": each for part, each in getattr(command, "commands", {}).items()}
    return found


def problem_of(line: str) -> str:
    """What the command line would not know of a line that follows `fcdistill`."""
    known = commands()
    words = line.split()
    name = " ".join(words[:2]) if " ".join(words[:2]) in known else words[0]
    if name not in known:
        return f"no command {name}"
    if hasattr(known[name], "commands") and words[1:] and words[1][0] not in "[.":
        alternatives = words[1].split("|")
        return "".join(f"no command {name} {part}" for part in alternatives if f"{name} {part}" not in known)
    flags = {flag for parameter in known[name].params for flag in parameter.opts}
    return "".join(f"{name} has no {word}" for word in words if word.startswith("--") and word not in flags)


@each_page
def test_paths_and_functions_exist(page: str) -> None:
    missing = []
    for path, name in _PATH.findall(text_of(page)):
        if path in THEIRS:
            continue
        if not (ROOT / path).exists():
            missing.append(path)
        elif name and name not in names_in(ROOT / path):
            missing.append(f"{path}::{name}")
    assert missing == []


@each_page
def test_commands_exist_with_their_flags(page: str) -> None:
    lines = [found.group(1) for code in code_of(page) if (found := _COMMAND.search(code))]
    assert [problem for line in lines if (problem := problem_of(line))] == []


def test_commands_are_found_in_pages() -> None:
    """The test above would pass where no command is recognised."""
    named = {found.group(1).split()[0] for page in FRONT for code in code_of(page) if (found := _COMMAND.search(code))}
    assert {"init", "generate", "train", "eval", "call"} <= named
    assert problem_of("evaluate x.yaml") and problem_of("eval --nowhere x") and problem_of("models drop")
    assert not problem_of("eval home.yaml --constrained") and not problem_of("models list|pull")


@each_page
def test_make_targets_exist(page: str) -> None:
    targets = set(re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert {target for code in code_of(page) for target in _MAKE.findall(code)} - targets == set()


@each_page
def test_links_lead_somewhere(page: str) -> None:
    broken = []
    for link in (first or second for first, second in _LINK.findall(_FENCE.sub("", text_of(page)))):
        if link.startswith(("http://", "https://", "mailto:")):
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        if not target.exists() or (anchor and anchor not in headings_of(target)):
            broken.append(link)
    assert broken == []


def test_the_front_page_is_short_and_leads_to_every_other() -> None:
    text = text_of("README.md")
    assert len(text.splitlines()) <= _MOST_LINES
    links = {(first or second).partition("#")[0] for first, second in _LINK.findall(text)}
    assert set(PAGES) - links == {"README.md"}


def test_the_tools_of_the_front_page_draft_a_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A newcomer copies them, and finds the files that the next commands name."""
    text = text_of("README.md")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tools.json").write_text(text.split("```json\n")[1].split("```")[0], encoding="utf-8")
    assert invoke("init", "tools.json", "--out", "home") == 0
    named = set(re.findall(r"\bhome/[\w.]+\.(?:yaml|jsonl)", text))
    assert named == {"home/fcdistill.yaml", "home/cases.jsonl"}
    assert all((tmp_path / name).is_file() for name in named)


def test_the_commands_page_is_what_the_code_says() -> None:
    write = ["-m", "typer", "fcdistill.cli", "utils", "docs", "--name", "fcdistill", "--title", "All commands"]
    done = subprocess.run([sys.executable, *write], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert text_of("docs/cli.md").strip() == done.stdout.strip(), "run `make docs`"


def test_the_picture_is_what_its_command_draws() -> None:
    path = ROOT / "docs/draw.py"
    spec = importlib.util.spec_from_file_location("draw", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    assert module.PICTURE.read_text(encoding="utf-8") == module.draw(), "run `make docs`"


def test_images_are_small() -> None:
    images = sorted((ROOT / "docs/images").iterdir())
    assert images and [path.name for path in images if path.stat().st_size > _MOST_BYTES] == []
