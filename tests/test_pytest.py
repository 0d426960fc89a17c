"""The plugin in pytest sessions of its own, on saved predictions and scripts."""

import json
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path

import pytest

from tests.cli.projects import invoke, json_lines
from tests.paths import ROOT

pytest_plugins = ["pytester"]

SUITE = 'dict(cases="cases.jsonl", tools="tools.json", predictions="predictions.jsonl")'


def timer(minutes: int) -> dict[str, object]:
    return {"name": "set_timer", "arguments": {"minutes": minutes}}


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    """Three cases; the saved predictions get the third wrong, the script all three right."""
    parameters = {"type": "object", "properties": {"minutes": {"type": "integer"}}, "required": ["minutes"]}
    cases = [
        {
            "id": f"c{n}",
            "messages": [{"role": "user", "content": f"{n} minutes"}],
            "behaviour": "call",
            "expected": [[timer(n)]],
            "category": "simple",
        }
        for n in (1, 2, 3)
    ]
    files = {
        "tools.json": json.dumps([{"name": "set_timer", "parameters": parameters}]),
        "cases.jsonl": json_lines(cases),
        "predictions.jsonl": json_lines([{"id": f"c{n}", "text": json.dumps(timer(min(n, 2)))} for n in (1, 2, 3)]),
        "answers.jsonl": json_lines([{"request": f"{n} minutes", "text": json.dumps(timer(n))} for n in (1, 2, 3)]),
        "home.yaml": "eval: {cases: cases.jsonl, tools: tools.json, out: runs/eval, predictions: predictions.jsonl}\n",
    }
    for name, text in files.items():
        (pytester.path / name).write_text(text)
    return pytester


def run(project: pytest.Pytester, body: str, *arguments: str) -> pytest.RunResult:
    project.makepyfile(test_student=f"SUITE = {SUITE}\n{textwrap.dedent(body)}")
    return project.runpytest_inprocess("-p", "fcdistill.pytest", "-p", "no:cacheprovider", *arguments)


def test_a_student_passes_and_fails_with_what_is_needed_to_act(project: pytest.Pytester) -> None:
    ended = run(
        project,
        """
        def test_good(tool_eval):
            assert tool_eval(**SUITE, min_accuracy=0.5).passed

        def test_bad(tool_eval):
            assert tool_eval(**SUITE, min_accuracy=0.9).passed
        """,
    )
    ended.assert_outcomes(passed=1, failed=1)
    ended.stdout.fnmatch_lines(
        [
            "E*where False = <Call accuracy 66.7% (20.8–93.9%), 2 of 3 cases right; gate FAILED; *report.md>.passed",
            "E*where <Call accuracy 66.7% * = tool_eval(*min_accuracy=0.9)",
            "*Captured tool_eval call*",
            "Call accuracy 66.7% (20.8–93.9%), 2 of 3 cases right",
            "Gate: FAILED",
            "  min_accuracy FAILED: call accuracy is 66.7%, and at least 90.0% is required",
            "c3: wrong_value set_timer.minutes: expected 3, got 2",
            "Report: *report.md, *report.html",
        ]
    )


def test_answers_are_asked_once_and_judged_by_each_tests_rules(project: pytest.Pytester) -> None:
    ended = run(
        project,
        """
        from fcdistill.backends import ScriptedBackend

        MODEL = dict(backend="scripted", answers="answers.jsonl")
        SCRIPTED = dict(cases="cases.jsonl", tools="tools.json", model=MODEL)
        asked = []

        def test_model(tool_eval, monkeypatch):
            complete = ScriptedBackend.complete

            def counted(self, requests, settings):
                asked.append(len(requests))
                return complete(self, requests, settings)

            monkeypatch.setattr(ScriptedBackend, "complete", counted)
            first = tool_eval(**SCRIPTED, min_accuracy=0.9)
            assert first.passed
            plain = tool_eval(**SCRIPTED)
            assert plain.out == first.out and plain.report.gate is None and plain.report.call_accuracy.value == 1
            assert '"rule": "min_accuracy"' in (first.out / "report.json").read_text()
            assert tool_eval(**SCRIPTED, min_accuracy=1.0).report.gate.passed

        def test_later(tool_eval):
            assert tool_eval(**SCRIPTED).report.by_tool["set_timer"].value == 1
            assert asked == [3]
            assert not tool_eval(**SUITE, min_accuracy=1.0).passed
        """,
    )
    ended.assert_outcomes(passed=2)


def test_a_baseline_is_honoured_and_other_conditions_are_refused(project: pytest.Pytester) -> None:
    perfect = json_lines([{"id": f"c{n}", "text": json.dumps(timer(n))} for n in (1, 2, 3)])
    (project.path / "perfect.jsonl").write_text(perfect)
    suite = ["--cases", "cases.jsonl", "--tools", "tools.json", "--out", "o", "--predictions", "perfect.jsonl"]
    assert invoke("eval", *suite, "--write-baseline", "base.json") == 0
    ended = run(
        project,
        """
        def test_change(tool_eval):
            result = tool_eval(**SUITE, baseline="base.json", alpha=0.6, max_drop=0)
            assert not result.passed and result.report.gate.regressed_ids == ("c3",)

        def test_other(tool_eval):
            tool_eval(**SUITE, limit=2, baseline="base.json")
        """,
    )
    ended.assert_outcomes(passed=1, failed=1)
    ended.stdout.fnmatch_lines(["*was measured under other conditions: cases_sha256 was *", "Fix: *--write-baseline*"])
    ended.stdout.no_fnmatch_line("*Traceback*")


def test_a_config_file_says_what_to_evaluate_from_wherever_pytest_runs(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.mkdir("below"))
    ended = run(
        project,
        """
        from pathlib import Path

        def test_student(tool_eval):
            result = tool_eval(Path("home.yaml"), min_accuracy=0.6, limit=2)
            assert result.passed and result.report.num_cases == 2
            assert result.out == Path(__file__).parent / "runs/eval"
            assert {"report.html", "junit.xml", "report.json"} <= {path.name for path in result.out.iterdir()}
        """,
        "--rootdir",
        str(project.path),
        str(project.path / "test_student.py"),
    )
    ended.assert_outcomes(passed=1)


MISUSES = {
    "tool_eval(**SUITE).passed": "tool_eval was given nothing to judge by",
    "tool_eval(**SUITE, min_acuracy=0.9)": "min_acuracy: unknown field. ",
    "tool_eval(cases='none.jsonl', tools='tools.json', predictions='x.jsonl')": "cases none.jsonl does not exist",
    "tool_eval(cases='cases.jsonl', tools='tools.json')": "give exactly one of model and predictions",
    "tool_eval('none.yaml', min_accuracy=0.9)": "config none.yaml does not exist",
}


def test_misuse_is_explained(project: pytest.Pytester) -> None:
    tests = [f"def test_{number}(tool_eval):\n    assert {call}\n" for number, call in enumerate(MISUSES)]
    ended = run(project, "\n".join(tests))
    ended.assert_outcomes(failed=len(MISUSES))
    ended.stdout.fnmatch_lines([line for found in MISUSES.values() for line in (f"*{found}*", "*Fix: *")])


def test_an_incomplete_evaluation_does_not_pass(project: pytest.Pytester) -> None:
    lines = (project.path / "predictions.jsonl").read_text().splitlines(keepends=True)
    (project.path / "predictions.jsonl").write_text("".join(lines[:2]))
    ended = run(project, "def test_student(tool_eval):\n    assert tool_eval(**SUITE, min_accuracy=0.5).passed\n")
    ended.assert_outcomes(failed=1)
    ended.stdout.fnmatch_lines(["Incomplete: 1 of 3 cases have no answer (c3)"])


def test_loading_the_plugin_imports_nothing_else_of_the_kit() -> None:
    program = (
        "import pytest, sys, fcdistill.pytest\n"
        "print(sorted(name for name in sys.modules if name.startswith('fcdistill') or name in ('torch', 'pydantic')))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "['fcdistill', 'fcdistill.pytest']"


def test_the_plugin_loads_by_itself_and_beside_that_once(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["pytest11"]
    assert declared == {"fcdistill.pytest": "fcdistill.pytest"}
    installed = tmp_path / "installed"
    info = installed / "installed_plugin-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: installed-plugin\nVersion: 1\n")
    (info / "entry_points.txt").write_text(
        "[pytest11]\n" + "".join(f"{name} = {at}\n" for name, at in declared.items())
    )
    monkeypatch.setenv("PYTHONPATH", f"{installed}:{ROOT}")
    project.makeconftest('pytest_plugins = ["fcdistill.pytest"]\n')
    project.makepyfile(test_student="def test_there(tool_eval):\n    pass\n")
    project.runpytest_subprocess().assert_outcomes(passed=1)
