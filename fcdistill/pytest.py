"""A pytest plugin: the fixture `tool_eval`, with which a team tests its student like any other code.

    def test_student(tool_eval):
        assert tool_eval("home.yaml", baseline="evals/baseline.json", min_accuracy=0.9).passed

Installed, it is there; where plugins are not loaded by themselves, `pytest_plugins = ["fcdistill.pytest"]` loads it. It
says how an evaluation meets pytest, and leaves evaluating to the stage. Every pytest on a machine with this package
imports this module, so it imports nothing else until a test asks.
"""

import contextlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from fcdistill.config import EvalConfig
    from fcdistill.evaluation.runner import Evaluation
    from fcdistill.records import Report, Score

__all__ = ["ToolEval", "ToolEvalResult", "tool_eval"]

_EVALUATIONS = pytest.StashKey[dict[str, "Evaluation"]]()
_SHOWN_FAILURES = 10


@dataclass(frozen=True, repr=False)
class ToolEvalResult:
    """What an evaluation found.

    Attributes:
        report: the figures, and the gate's verdict where it has a rule.
        scores: the verdict on each scored case.
        out: the directory with report.md, report.html, junit.xml, report.json and predictions.jsonl.
        has_gate: whether there is anything to pass: `min_accuracy` or `baseline`.
    """

    report: "Report"
    scores: "tuple[Score, ...]"
    out: Path
    has_gate: bool

    @property
    def passed(self) -> bool:
        """Whether every case has an answer and the gate passes.

        Raises:
            ConfigError: there is no gate, so that nothing could fail.
        """
        __tracebackhide__ = True
        from fcdistill.errors import ConfigError
        from fcdistill.evaluation.runner import exit_code

        if not self.has_gate:
            raise ConfigError(
                "tool_eval was given nothing to judge by, so that every model would pass",
                required="min_accuracy, baseline or both",
                fix="write tool_eval(..., min_accuracy=0.9), or assert on the figures in .report",
            )
        return exit_code(self.report) == 0

    def __repr__(self) -> str:
        """One line, which pytest shows where an assertion on it fails."""
        from fcdistill.reporting.tables import render_headline

        gate = "" if self.report.gate is None else f"; gate {'passed' if self.report.gate.passed else 'FAILED'}"
        return f"<{render_headline(self.report)}{gate}; {self.out / 'report.md'}>"

    def __str__(self) -> str:
        """The figures, the verdict and the first wrong cases."""
        from fcdistill.reporting.tables import render_plain

        plain = render_plain(self.report, self.scores, max_failures=_SHOWN_FAILURES)
        return f"{plain}\nReport: {self.out / 'report.md'}, {self.out / 'report.html'}"


class ToolEval:
    """Evaluates models and saved predictions; what `tool_eval` gives a test.

    Args:
        request: of the test, whose report shows the results where it fails.
        directory: where evaluations lie that name no directory of their own.
    """

    def __init__(self, request: pytest.FixtureRequest, directory: Path) -> None:
        self._request = request
        self._directory = directory

    def __repr__(self) -> str:
        """The fixture's name, which reads as the call where pytest explains an assertion."""
        return "tool_eval"

    def __call__(self, config: str | os.PathLike[str] | None = None, **fields: Any) -> ToolEvalResult:
        """Evaluate, once per session for one configuration: tests that only judge by other rules share the answers.

        Relative paths start at pytest's root directory.

        Args:
            config: a YAML file with a section `eval`; without it, `fields` say everything.
            fields: of the section `eval` (`cases`, `tools`, `model`, `predictions`, ...) and of its gate
                (`min_accuracy`, `baseline`, `max_drop`, `alpha`, `allow_mismatch`); they replace those of the file.
                Without a file and `out`, the evaluation lies in pytest's temporary directory.

        Returns:
            The figures. The test fails at once, with what was found and how to fix it, where there are none.
        """
        __tracebackhide__ = True
        from fcdistill.errors import FcdistillError

        with contextlib.chdir(self._request.config.rootpath):
            try:
                result = self._evaluated(config, fields)
            except FcdistillError as error:
                pytest.fail(str(error), pytrace=False)
        self._request.node.add_report_section("call", "tool_eval", str(result))
        return result

    def _evaluated(self, config: str | os.PathLike[str] | None, fields: dict[str, Any]) -> ToolEvalResult:
        from fcdistill.config import GateConfig
        from fcdistill.evaluation.runner import with_verdict
        from fcdistill.reporting.report_files import write_reports
        from fcdistill.storage import write_json

        settings = self._settings(config, fields)
        without_gate = settings.model_copy(update={"gate": GateConfig()})
        evaluations = self._request.config.stash.setdefault(_EVALUATIONS, {})
        key = without_gate.model_dump_json()
        is_new = key not in evaluations
        if is_new:
            evaluations[key] = _evaluate(settings, without_gate)
        judged = with_verdict(evaluations[key], settings.gate)
        out = settings.out.absolute()
        if is_new or settings.gate.is_on:  # a test without a gate leaves another's verdict on disk
            write_json(out / "report.json", judged.report.model_dump(mode="json"))
            write_reports(out, judged.report, judged.scores, judged.predictions, judged.suite.cases)
        return ToolEvalResult(judged.report, judged.scores, out, settings.gate.is_on)

    def _settings(self, config: str | os.PathLike[str] | None, fields: dict[str, Any]) -> "EvalConfig":
        from fcdistill.config import GateConfig, load_config, parse_config
        from fcdistill.storage import sha256_json

        given: dict[str, Any] = json.loads(json.dumps(fields, default=os.fspath))
        gate = {name: given.pop(name) for name in GateConfig.model_fields if name in given}
        if config is not None:
            given |= {f"gate.{name}": value for name, value in gate.items()}
            return load_config(Path(config), "eval", [f"{name}={json.dumps(value)}" for name, value in given.items()])
        given.setdefault("out", str(self._directory / sha256_json(given)[:12]))
        if gate:
            given["gate"] = {**given.get("gate", {}), **gate}
        return parse_config(given, "eval", "tool_eval")


@pytest.fixture
def tool_eval(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ToolEval:
    """Evaluates tool calls: give it a config file or fields of the section `eval`, and assert on what it returns.

    For example `assert tool_eval(cases=..., tools=..., model="runs/home/student", min_accuracy=0.9).passed`.
    """
    return ToolEval(request, tmp_path_factory.getbasetemp() / "tool_eval")


def _evaluate(settings: "EvalConfig", without_gate: "EvalConfig") -> "Evaluation":
    """Ask and score; what can't be judged is refused before a model is loaded."""
    from fcdistill.cli.console import opened
    from fcdistill.evaluation.runner import check_inputs, run_eval

    check_inputs(settings)
    backend = None if settings.model is None else opened(settings.model)
    try:
        return run_eval(without_gate, backend)
    finally:
        if backend is not None:
            backend.close()
