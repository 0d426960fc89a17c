"""Speed and memory of training: fcdistill and its peers on the same examples of the same traces, in one run.

    python evals/speed/train.py --traces runs/demo/traces/traces.jsonl
    python evals/speed/train.py --quick --json

Every contender trains in a process of its own, all of them once per round, in opposite order in every second round.
README.md beside this file says what is compared and how figures are made.
"""

import argparse
import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from processes import describe_machine, last_line, num_cores, resolve_device, say, start, versions_of
from summary import CONTENDERS, Measured, cost_vs_sft, figures, markdown_table, ratio_vs_trl
from workload import Settings, Tuning, write_settings

from fcdistill.errors import ConfigError, FcdistillError, InfrastructureError, MissingDependencyError

_TRL = "trl==1.16.0"
_WHOLE = {
    "contenders": [name for name in CONTENDERS if name != "fcdistill-kd-aligned"],
    "tuning": "both",
    "rounds": 3,
    "steps": 2,
    "examples_per_step": 16,
}
_QUICK = {
    "contenders": ["fcdistill-sft-packed", "fcdistill-kd-cached", "trl-sft"],
    "tuning": "lora",
    "rounds": 1,
    "steps": 1,
    "examples_per_step": 6,
}
"""Flags that are not given, with --quick and without."""

_MICRO_BATCH = {"cpu": 1, "cuda": 4}
"""On two cores the peers were faster with one example than with two, and took half the memory."""

_DISTILLKIT = "no package of that name in the peers' environment; it comes from its own repository, not from an index"
PACKAGES = ("torch", "transformers", "peft", "accelerate", "fcdistill", "trl", "distillkit")


@dataclass(frozen=True)
class Plan:
    """What a call asks for."""

    settings: Settings
    contenders: tuple[str, ...]
    tunings: tuple[Tuning, ...]
    rounds: int
    peer_python: str
    as_json: bool


def main(arguments: Sequence[str]) -> int:
    """Measure, print the table, with --json the report as the last line; 1 where a contender failed.

    Raises:
        FcdistillError: a flag, the traces or a model is unusable, or TRL is not installed.
    """
    plan = parse(arguments)
    peer_versions = versions_of(plan.peer_python, PACKAGES)
    require_trl(plan, peer_versions)
    with tempfile.TemporaryDirectory(prefix="fcdistill-speed-") as work:
        report = measure(plan, Path(work), peer_versions)
    print(markdown_table(report), file=sys.stderr if plan.as_json else sys.stdout)
    if plan.as_json:
        print(json.dumps(report))
    rows = [row for contenders in report["contenders"].values() for row in contenders.values()]
    return int(any(row["status"] == "failed" for row in rows))


def parse(arguments: Sequence[str]) -> Plan:
    """The plan of a command line. Raises `ConfigError` where flags don't fit one another."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--traces", type=Path, default=Path("runs/demo/traces/traces.jsonl"))
    parser.add_argument("--tuning", choices=("lora", "full", "both"), help="default both; with --quick lora")
    parser.add_argument(
        "--contenders", nargs="+", metavar="NAME", help=f"of {', '.join(CONTENDERS)}; default all but the aligned one"
    )
    parser.add_argument("--rounds", type=int, help="times that each contender runs; default 3, with --quick 1")
    parser.add_argument("--steps", type=int, help="timed optimizer steps after the warm-up; default 2, with --quick 1")
    parser.add_argument("--examples-per-step", type=int, help="of an optimizer step; default 16, with --quick 6")
    parser.add_argument("--examples-per-pack", type=int, help="of fcdistill's packs; default all of a step")
    parser.add_argument(
        "--micro-batch", type=int, help="examples per forward pass where none are packed; default 1, on CUDA 4"
    )
    parser.add_argument("--student", default="smollm2-135m-instruct", help="model reference")
    parser.add_argument("--teacher", help="model reference, with the student's tokenizer; default the student")
    parser.add_argument("--aligned-teacher", default="qwen2.5-coder-0.5b-instruct", help="of fcdistill-kd-aligned")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--threads", type=int, default=num_cores(), help="default all cores")
    parser.add_argument("--seed", type=int, default=0, help="which traces, and their order")
    parser.add_argument("--peer-python", default=sys.executable, help="interpreter that has TRL; default this one")
    parser.add_argument("--quick", action="store_true", help="a first look within five minutes on two cores")
    parser.add_argument("--json", action="store_true", help="print the report as one line of JSON, the last one")
    given = parser.parse_args(arguments)
    for name, value in (_QUICK if given.quick else _WHOLE).items():
        if getattr(given, name) is None:
            setattr(given, name, value)
    device = resolve_device(given.device)
    settings = Settings(
        traces=str(given.traces),
        student=given.student,
        teacher=given.teacher or given.student,
        aligned_teacher=given.aligned_teacher,
        device=device,
        num_threads=given.threads,
        examples_per_step=given.examples_per_step,
        examples_per_pack=given.examples_per_step if given.examples_per_pack is None else given.examples_per_pack,
        micro_batch=_MICRO_BATCH[device] if given.micro_batch is None else given.micro_batch,
        num_steps=1 + given.steps,
        seed=given.seed,
    )
    plan = Plan(
        settings=settings,
        contenders=tuple(dict.fromkeys(given.contenders)),
        tunings=("lora", "full") if given.tuning == "both" else (given.tuning,),
        rounds=given.rounds,
        peer_python=given.peer_python,
        as_json=given.json,
    )
    _require_sound(plan)
    return plan


def _require_sound(plan: Plan) -> None:
    settings = plan.settings
    if not Path(settings.traces).is_file():
        raise ConfigError(
            f"--traces {settings.traces} does not exist",
            required="a traces.jsonl of `fcdistill generate`",
            fix="make the demo's with `make demo`, or name another file",
        )
    unknown = [name for name in plan.contenders if name not in CONTENDERS]
    if unknown:
        raise ConfigError(
            f"--contenders: there is no {unknown[0]!r}", required=f"some of {', '.join(CONTENDERS)}", fix="correct it"
        )
    counts = {
        "--rounds": plan.rounds,
        "--steps": settings.num_steps - 1,
        "--threads": settings.num_threads,
        "--examples-per-step": settings.examples_per_step,
        "--examples-per-pack": settings.examples_per_pack,
        "--micro-batch": settings.micro_batch,
    }
    for flag, value in counts.items():
        if value < 1:
            raise ConfigError(f"{flag} is {value}", required="at least 1", fix=f"raise {flag}")
    for flag in ("--examples-per-pack", "--micro-batch"):
        if settings.examples_per_step % counts[flag]:
            raise ConfigError(
                f"{flag} is {counts[flag]}, but an optimizer step has {settings.examples_per_step} examples",
                required="a divisor: every step has the same number of examples for every contender",
                fix=f"change {flag} or --examples-per-step",
            )


def require_trl(plan: Plan, peer_versions: dict[str, str]) -> None:
    """Raise `MissingDependencyError` where TRL is to run but is not installed."""
    if "trl" not in peer_versions and any(CONTENDERS[name].side == "trl" for name in plan.contenders):
        raise MissingDependencyError(
            f"TRL is not installed for {plan.peer_python}",
            required=f"{_TRL}, whose trainers are measured beside fcdistill's",
            fix=f"pip install {_TRL}, or name an interpreter that has it with --peer-python, or choose other "
            f"--contenders",
        )


def measure(plan: Plan, directory: Path, peer_versions: dict[str, str]) -> dict[str, Any]:
    """Run all rounds in an empty directory; returns the report.

    Raises:
        FcdistillError: the traces or a model is unusable.
        InfrastructureError: a job failed whose result every contender needs.
    """
    write_settings(directory, plan.settings)
    prepared = _job(plan, directory, "prepare")
    if "fcdistill-kd-cached" in plan.contenders:
        say("writing the teacher cache")
        _job(plan, directory, "cache")
    measured = {tuning: {name: Measured() for name in plan.contenders} for tuning in plan.tunings}
    for contenders in measured.values():
        if "distillkit-kd" in contenders and "distillkit" not in peer_versions:
            contenders["distillkit-kd"] = Measured(status="not installed", reason=_DISTILLKIT)
    rates = []
    for number in range(plan.rounds):
        rates.append(_job(plan, directory, "matmul")["matmul_flops_per_s"])
        order = [(tuning, name) for tuning in plan.tunings for name in plan.contenders]
        for tuning, name in reversed(order) if number % 2 else order:
            if measured[tuning][name].status == "measured":
                say(f"round {number + 1}/{plan.rounds}: {tuning}, {name}")
                _run_contender(plan, directory, tuning, name, measured[tuning][name], prepared["tokens"]["supervised"])
    settings = plan.settings
    return {
        "benchmark": "train",
        "student": settings.student,
        "teacher": settings.teacher,
        "num_examples": settings.num_examples,
        "examples_per_step": settings.examples_per_step,
        "examples_per_pack": settings.examples_per_pack,
        "micro_batch": settings.micro_batch,
        "timed_steps": settings.num_steps - 1,
        "rounds": plan.rounds,
        "tokens": prepared["tokens"],
        "seed": settings.seed,
        "versions": {"fcdistill": versions_of(sys.executable, PACKAGES), "peers": peer_versions},
        "machine": {
            **describe_machine(settings.device, settings.num_threads),
            "bf16_matmul_flops_per_s": max(rates),
        },
        "contenders": {
            tuning: {
                name: figures(one, examples_per_step=settings.examples_per_step, matmul_flops_per_s=rates)
                for name, one in contenders.items()
            }
            for tuning, contenders in measured.items()
        },
        "ratio_vs_trl": {tuning: ratio_vs_trl(contenders) for tuning, contenders in measured.items()},
        "cost_vs_sft": {tuning: cost_vs_sft(contenders) for tuning, contenders in measured.items()},
    }


def _run_contender(
    plan: Plan, directory: Path, tuning: Tuning, name: str, measured: Measured, num_supervised: int
) -> None:
    """One round of one contender, which is given up when it fails or supervises other tokens."""
    is_ours = CONTENDERS[name].side == "fcdistill"
    python, script = (sys.executable, "fcdistill_side.py") if is_ours else (plan.peer_python, "peer_side.py")
    done = _start(plan, python, script, name, str(directory), tuning)
    if done.returncode:
        is_told = done.returncode == FcdistillError.exit_code
        measured.status = "failed"
        measured.reason = done.stdout.splitlines()[0] if is_told and done.stdout else last_line(done.stderr)
        say(done.stderr)
        return
    result = json.loads(last_line(done.stdout))
    if result["supervised_tokens"] != num_supervised:
        measured.status = "failed"
        measured.reason = f"it supervised {result['supervised_tokens']} tokens instead of {num_supervised}"
        return
    measured.results.append(result)


def _job(plan: Plan, directory: Path, job: str) -> dict[str, Any]:
    done = _start(plan, sys.executable, "fcdistill_side.py", job, str(directory))
    if done.returncode == FcdistillError.exit_code:
        raise FcdistillError(done.stdout.strip())
    if done.returncode:
        raise InfrastructureError(f"job {job} failed:\n{done.stderr.strip()}")
    found: dict[str, Any] = json.loads(last_line(done.stdout))
    return found


def _start(plan: Plan, python: str, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return start(python, script, *arguments, num_threads=plan.settings.num_threads)


if __name__ == "__main__":
    # An exception, so that no contender and no file outlives this process.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("train: terminated"))
    try:
        sys.exit(main(sys.argv[1:]))
    except FcdistillError as error:
        print(f"train: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit("train: interrupted")
