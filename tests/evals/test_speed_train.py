"""The training benchmark's command line, and a whole run of fcdistill's contenders on tiny models."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import train
from summary import CONTENDERS

from fcdistill.errors import ConfigError, FcdistillError, MissingDependencyError
from fcdistill.records import FunctionTool, Message, ModelRef, ToolCall, ToolSpec, Trace, TraceMeta
from fcdistill.storage import write_jsonl

OURS = [name for name, contender in CONTENDERS.items() if contender.side == "fcdistill"]


@pytest.fixture
def traces(tmp_path: Path) -> Path:
    """Requests for one tool, of different lengths."""
    parameters = {"type": "object", "properties": {"room": {"type": "string"}}}
    tool = FunctionTool(function=ToolSpec(name="set_light", description="Switch a light.", parameters=parameters))
    rooms = ["kitchen", "living room", "bath", "hall", "garage", "office"]
    records = [
        Trace(
            id=f"trace-{room}",
            messages=(
                Message(role="user", content=f"Light in the {room}, please!"),
                Message.calling([ToolCall(name="set_light", arguments={"room": room})]),
            ),
            tools=(tool,),
            split_group=room,
            meta=TraceMeta(source="import", category="simple", plan_cell="test", teacher=ModelRef(model="test")),
        )
        for room in rooms
    ]
    write_jsonl(tmp_path / "traces.jsonl", records)
    return tmp_path / "traces.jsonl"


def flags(traces: Path, *others: str) -> list[str]:
    return ["--traces", str(traces), "--device", "cpu", *others]


def test_by_default_everything_is_measured_but_the_aligned_teacher(traces: Path) -> None:
    plan = train.parse(flags(traces))
    assert set(plan.contenders) == CONTENDERS.keys() - {"fcdistill-kd-aligned"}
    assert plan.tunings == ("lora", "full")
    assert (plan.rounds, plan.settings.num_steps) == (3, 3)
    assert plan.settings.num_examples == 48
    assert plan.settings.teacher == plan.settings.student


def test_quick_is_a_default_that_flags_override(traces: Path) -> None:
    quick = train.parse(flags(traces, "--quick"))
    assert (quick.tunings, quick.rounds, quick.settings.num_steps) == (("lora",), 1, 2)
    assert set(quick.contenders) < CONTENDERS.keys()
    other = train.parse(flags(traces, "--quick", "--tuning", "full", "--rounds", "2", "--contenders", "trl-gkd"))
    assert (other.tunings, other.rounds, other.contenders) == (("full",), 2, ("trl-gkd",))


@pytest.mark.parametrize(
    ("others", "message"),
    [
        (["--contenders", "trl-sft", "unsloth"], "there is no 'unsloth'"),
        (["--rounds", "0"], "--rounds is 0"),
        (["--steps", "0"], "--steps is 0"),
        (["--micro-batch", "3"], "--micro-batch is 3, but an optimizer step has 16"),
        (["--examples-per-step", "24", "--examples-per-pack", "16"], "--examples-per-pack is 16"),
        (["--examples-per-pack", "0"], "--examples-per-pack is 0"),
        (["--peer-python", "/nowhere/python"], "--peer-python /nowhere/python"),
    ],
)
def test_unusable_flags_are_named(traces: Path, others: Sequence[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        train.main(flags(traces, *others))


def test_missing_traces_are_named() -> None:
    with pytest.raises(ConfigError, match="nowhere.jsonl does not exist"):
        train.parse(flags(Path("nowhere.jsonl")))


def test_trl_is_required_where_it_is_to_run(traces: Path) -> None:
    without = {"python": "3.11"}
    with pytest.raises(MissingDependencyError, match="TRL is not installed"):
        train.require_trl(train.parse(flags(traces, "--contenders", "fcdistill-sft-packed", "trl-gkd")), without)
    train.require_trl(train.parse(flags(traces, "--contenders", *OURS)), without)


def test_versions_are_of_the_packages_that_are_there() -> None:
    found = train.versions_of(sys.executable, train.PACKAGES)
    assert found["torch"] and found["fcdistill"]
    assert found["python"].count(".") == 2


@pytest.mark.slow
def test_all_of_ours_train_on_the_same_tokens(
    traces: Path, tiny_models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = ["--student", str(tiny_models / "student"), "--teacher", str(tiny_models / "teacher")]
    models += ["--aligned-teacher", str(tiny_models / "chatml")]
    sizes = ["--examples-per-step", "2", "--micro-batch", "1", "--steps", "2", "--rounds", "1", "--threads", "1"]
    sizes += ["--tuning", "lora"]
    code = train.main(flags(traces, *models, *sizes, "--json", "--contenders", *OURS, "distillkit-kd"))
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 1
    report = json.loads(printed[0])
    assert report["num_examples"] == 6
    for rows in report["contenders"].values():
        assert rows.pop("distillkit-kd")["status"] == "not installed"
        assert {row["status"] for row in rows.values()} == {"measured"}, rows
        packed, unpacked = (rows[f"fcdistill-sft-{how}"]["computed_tokens_per_step"] for how in ("packed", "unpacked"))
        assert packed < unpacked, "the tool prompt is shared"
        assert all(row["examples_per_s"] > 0 and row["peak_bytes"] > 0 for row in rows.values())
    assert report["cost_vs_sft"]["lora"].keys() == {name for name in OURS if "kd" in name}
    assert report["ratio_vs_trl"] == {"lora": {}}
    assert code == 0


@pytest.mark.slow
def test_tunings_are_measured_in_every_round_in_opposite_order(
    traces: Path, tiny_models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    student = str(tiny_models / "student")
    sizes = ["--examples-per-step", "2", "--steps", "2", "--rounds", "2", "--threads", "1"]
    contenders = ["--contenders", "fcdistill-sft-packed"]
    assert train.main(flags(traces, "--student", student, *sizes, "--json", *contenders)) == 0
    printed = capsys.readouterr()
    report = json.loads(printed.out)
    assert {name: rows["fcdistill-sft-packed"]["status"] for name, rows in report["contenders"].items()} == {
        "lora": "measured",
        "full": "measured",
    }
    assert report["ratio_vs_trl"] == {"lora": {}, "full": {}}
    said = [line.split(": ")[1].split(",")[0] for line in printed.err.splitlines() if line.startswith("round ")]
    assert said == ["lora", "full", "full", "lora"]


@pytest.mark.slow
def test_too_few_traces_are_refused(traces: Path, tiny_models: Path) -> None:
    student = ["--student", str(tiny_models / "student"), "--contenders", "fcdistill-sft-packed"]
    with pytest.raises(FcdistillError, match="has 6 traces"):
        train.main(flags(traces, *student))
