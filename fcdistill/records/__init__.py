"""The records that the stages exchange: one frozen pydantic model per line of a file.

Structure is stored, never rendered text, because teacher and student may speak other dialects. `messages` and `tools`
have OpenAI's shape, so that a traces file loads unchanged as a `transformers`/TRL data set; `expected` and `calls` hold
bare calls. Nothing here reads files (`storage`) or judges content (`validation`).
"""

from pydantic import BaseModel

from fcdistill.records.base import Record
from fcdistill.records.conversation import (
    Behaviour,
    Category,
    FinishReason,
    FunctionCall,
    FunctionTool,
    Message,
    ModelRef,
    ToolCall,
    ToolsInPrompt,
    ToolSpec,
)
from fcdistill.records.evaluation import (
    CALL_ERRORS,
    Answer,
    Baseline,
    CallConfusion,
    CallError,
    Distribution,
    EvalCase,
    GateCheck,
    GateVerdict,
    OfficialDisagreement,
    PairedComparison,
    ParseError,
    Prediction,
    Rate,
    Report,
    SavedPrediction,
    Score,
    ScoreError,
)
from fcdistill.records.runs import Manifest
from fcdistill.records.traces import (
    CellCoverage,
    Check,
    GenerationStats,
    Outcome,
    PlannedKept,
    Reject,
    SeedRequest,
    StageCount,
    Trace,
    TraceMeta,
    WorkedExample,
)
from fcdistill.records.training import MetricsLine, TeacherReport, TokenFigures

__all__ = [
    "Answer",
    "Baseline",
    "Behaviour",
    "CALL_ERRORS",
    "CallConfusion",
    "CallError",
    "Category",
    "CellCoverage",
    "Check",
    "Distribution",
    "EvalCase",
    "FinishReason",
    "FunctionCall",
    "FunctionTool",
    "GateCheck",
    "GateVerdict",
    "OfficialDisagreement",
    "GenerationStats",
    "Manifest",
    "Message",
    "MetricsLine",
    "ModelRef",
    "Outcome",
    "PairedComparison",
    "ParseError",
    "PlannedKept",
    "Prediction",
    "RECORD_TYPES",
    "Rate",
    "Record",
    "Reject",
    "Report",
    "SavedPrediction",
    "Score",
    "ScoreError",
    "SeedRequest",
    "StageCount",
    "TeacherReport",
    "TokenFigures",
    "ToolCall",
    "ToolSpec",
    "ToolsInPrompt",
    "Trace",
    "TraceMeta",
    "WorkedExample",
]

RECORD_TYPES: dict[str, type[BaseModel]] = {
    "baseline": Baseline,
    "eval_case": EvalCase,
    "generation_stats": GenerationStats,
    "manifest": Manifest,
    "metrics_line": MetricsLine,
    "outcome": Outcome,
    "prediction": Prediction,
    "reject": Reject,
    "report": Report,
    "saved_prediction": SavedPrediction,
    "score": Score,
    "seed_request": SeedRequest,
    "teacher_report": TeacherReport,
    "tool_call": ToolCall,
    "tool_spec": ToolSpec,
    "trace": Trace,
    "worked_example": WorkedExample,
}
"""File stem under `schemas/records/` to the record's type."""
