"""Speed of generation: fcdistill's local backend and its peers answer the same requests, in one run.

    python evals/speed/generate.py
    python evals/speed/generate.py --quick --json

Every contender runs in a process of its own, all of them once per round, in opposite order in every second round.
README.md beside this file says what is compared and how figures are made.
"""

import argparse
import json
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from generation_workload import Difference, Settings, write_differences, write_settings
from processes import describe_machine, last_line, num_cores, resolve_device, say, start, versions_of

from fcdistill.errors import ConfigError, FcdistillError, InfrastructureError

__all__ = ["compare", "figures", "main", "markdown_table", "parse"]

_OURS, _PLAIN, _LLAMA_CPP = "fcdistill", "generate", "llama-cpp"
CONTENDERS = (_OURS, _PLAIN, _LLAMA_CPP)
_WHOLE = {"rounds": 3, "num_requests": 64, "max_new_tokens": 160}
_QUICK = {"rounds": 1, "num_requests": 12, "max_new_tokens": 48}
"""Flags that are not given, with --quick and without."""

_NO_LLAMA_CPP = "no interpreter with xllamacpp and no GGUF file of the model were named: see --peer-python and --gguf"
PACKAGES = ("torch", "transformers", "fcdistill", "xllamacpp")


@dataclass(frozen=True)
class Plan:
    """What a call asks for."""

    settings: Settings
    contenders: tuple[str, ...]
    rounds: int
    peer_python: str
    as_json: bool


def main(arguments: Sequence[str]) -> int:
    """Measure, print the table, with --json the report as the last line; 1 where a contender failed.

    Raises:
        FcdistillError: a flag, a file or the model is unusable.
    """
    plan = parse(arguments)
    with tempfile.TemporaryDirectory(prefix="fcdistill-speed-") as work:
        report = measure(plan, Path(work))
    print(markdown_table(report), file=sys.stderr if plan.as_json else sys.stdout)
    if plan.as_json:
        print(json.dumps(report))
    return int(any(row["status"] == "failed" for row in report["contenders"].values()))


def parse(arguments: Sequence[str]) -> Plan:
    """The plan of a command line. Raises `ConfigError` where flags are unusable."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="qwen2.5-coder-0.5b-instruct", help="model reference")
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16")
    parser.add_argument("--requests", default="data/seeds/smart_home.jsonl", help="JSONL of requests")
    parser.add_argument("--tools", default="schemas/smart_home.json", help="tool catalogue")
    parser.add_argument("--num-requests", type=int, help="the first so many; default 64, with --quick 12")
    parser.add_argument("--num-tools", type=int, default=10, help="of the catalogue, the first so many")
    parser.add_argument("--max-new-tokens", type=int, help="longest answer; default 160, with --quick 48")
    parser.add_argument("--batch-size", type=int, default=32, help="of all contenders")
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    parser.add_argument("--rounds", type=int, help="times that each contender runs; default 3, with --quick 1")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--threads", type=int, default=num_cores(), help="default all cores")
    parser.add_argument("--peer-python", help="interpreter that has xllamacpp, for llama-cpp")
    parser.add_argument("--gguf", help="the model as a GGUF file, for llama-cpp")
    parser.add_argument("--quick", action="store_true", help="a first look within five minutes on two cores")
    parser.add_argument("--json", action="store_true", help="print the report as one line of JSON, the last one")
    given = parser.parse_args(arguments)
    for name, value in (_QUICK if given.quick else _WHOLE).items():
        if getattr(given, name) is None:
            setattr(given, name, value)
    for name in ("num_requests", "num_tools", "max_new_tokens", "batch_size", "rounds", "threads"):
        if getattr(given, name) < 1:
            flag = f"--{name.replace('_', '-')}"
            raise ConfigError(f"{flag} is {getattr(given, name)}", required="at least 1", fix=f"raise {flag}")
    settings = Settings(
        model=given.model,
        dtype=given.dtype,
        requests=given.requests,
        tools=given.tools,
        num_requests=given.num_requests,
        num_tools=given.num_tools,
        batch_size=given.batch_size,
        max_new_tokens=given.max_new_tokens,
        device=resolve_device(given.device),
        num_threads=given.threads,
        gguf=given.gguf,
    )
    return Plan(settings, tuple(dict.fromkeys(given.contenders)), given.rounds, given.peer_python or "", given.json)


def measure(plan: Plan, directory: Path) -> dict[str, Any]:
    """Run all rounds in an empty directory; returns the report.

    Raises:
        FcdistillError: a file or the model is unusable.
        InfrastructureError: a job failed whose result every contender needs.
    """
    settings = plan.settings
    write_settings(directory, settings)
    prepared = _job(plan, directory, "prepare")
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in plan.contenders}
    given_up: dict[str, dict[str, Any]] = {}
    if _LLAMA_CPP in results and not (plan.peer_python and settings.gguf):
        given_up[_LLAMA_CPP] = {"status": "not installed", "reason": _NO_LLAMA_CPP}
    for number in range(plan.rounds):
        for name in reversed(plan.contenders) if number % 2 else plan.contenders:
            if name not in given_up:
                say(f"round {number + 1}/{plan.rounds}: {name}")
                if reason := _run_contender(plan, directory, name, results[name]):
                    given_up[name] = {"status": "failed", "reason": reason}
    measured = {name: found for name, found in results.items() if name not in given_up}
    report: dict[str, Any] = {
        "benchmark": "generate",
        "model": settings.model,
        "dtype": settings.dtype,
        "num_requests": settings.num_requests,
        "num_tools": settings.num_tools,
        "batch_size": settings.batch_size,
        "max_new_tokens": settings.max_new_tokens,
        "rounds": plan.rounds,
        "tokens": prepared,
        "versions": versions_of(sys.executable, PACKAGES),
        "machine": describe_machine(settings.device, settings.num_threads),
        "contenders": {
            name: given_up[name] if name in given_up else figures(results[name], settings.num_requests, prepared)
            for name in plan.contenders
        },
        "traces_per_minute": {
            name: round(60 * settings.num_requests / median(each["seconds"] for each in found), 2)
            for name, found in measured.items()
        },
    }
    if measured.keys() >= {_OURS, _PLAIN}:
        ratios = [
            there["seconds"] / here["seconds"] for here, there in zip(results[_OURS], results[_PLAIN], strict=True)
        ]
        report["ratio_vs_generate"] = round(median(ratios), 3)
        report["ratio_vs_generate_range"] = [round(min(ratios), 3), round(max(ratios), 3)]
        num_equal, differences = compare(results[_OURS][0]["written"], results[_PLAIN][0]["written"])
        report["equal_outputs"] = num_equal
        report["differences"] = []
        if differences:
            write_differences(directory, differences)
            report["differences"] = _job(plan, directory, "explain")["differences"]
    return report


def compare(ours: Mapping[str, Sequence[int]], theirs: Mapping[str, Sequence[int]]) -> tuple[int, list[Difference]]:
    """How many outputs are token-identical, and where the others part.

    fcdistill stops when a call is complete; a plain contender writes on to its stop token. So what is compared are the
    tokens up to fcdistill's end.
    """
    differences = []
    for name, written in ours.items():
        pairs = zip(written, theirs[name], strict=False)
        at = next((index for index, (a, b) in enumerate(pairs) if a != b), None)
        if at is not None:
            differences.append(Difference(name, tuple(written[:at]), written[at], theirs[name][at]))
        elif len(theirs[name]) < len(written):
            at = len(theirs[name])
            differences.append(Difference(name, tuple(written[:at]), written[at], written[at]))
    return len(ours) - len(differences), differences


def figures(results: Sequence[Mapping[str, Any]], num_requests: int, prompts: Mapping[str, int]) -> dict[str, Any]:
    """What is reported of a contender: medians over its rounds, times with the smallest and the largest.

    Args:
        results: what it printed in each round, see `generation_side`.
        num_requests: those that it answered.
        prompts: tokens of all prompts, each counted whole.
    """

    def middle(name: str) -> float:
        return float(median(each[name] for each in results))

    seconds = [each["seconds"] for each in results]
    shares = {name: median(each[name] / each["seconds"] for each in results) for name in ("prefill_s", "decode_s")}
    return {
        "status": "measured",
        "seconds": round(middle("seconds"), 3),
        "seconds_range": [round(min(seconds), 3), round(max(seconds), 3)],
        "cpu_s": round(middle("cpu_s"), 3),
        "traces_per_minute": round(60 * num_requests / middle("seconds"), 2),
        "written_tokens": int(middle("written_tokens")),
        "peak_bytes": int(middle("peak_bytes")),
        "prefill_share": round(shares["prefill_s"], 3),
        "decode_share": round(shares["decode_s"], 3),
        "computed_prompt_tokens": int(middle("prefill_tokens")),
        "decode_passes": int(middle("decode_passes")),
        "prompt_tokens_per_s": round(prompts["prompt_tokens"] / middle("prefill_s"), 1),
        "written_tokens_per_s": round(middle("written_tokens") / middle("decode_s"), 1),
    }


def markdown_table(report: Mapping[str, Any]) -> str:
    """The report's contenders as a Markdown table, and how their outputs compare."""
    lines = [
        "| contender | traces/min | seconds (min..max) | prefill: share, prompt tokens/s, computed | "
        "decode: share, tokens/s, passes | peak memory |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in report["contenders"].items():
        if row["status"] != "measured":
            lines.append(f"| {name} | {row['status']}: {row['reason']} | | | | |")
            continue
        low, high = row["seconds_range"]
        prefill = f"{row['prefill_share']:.0%}, {row['prompt_tokens_per_s']:,.0f}, {row['computed_prompt_tokens']:,}"
        decode = f"{row['decode_share']:.0%}, {row['written_tokens_per_s']:,.0f}, {row['decode_passes']:,}"
        lines.append(
            f"| {name} | {row['traces_per_minute']:.3g} | {row['seconds']:.1f} ({low:.1f}..{high:.1f}) "
            f"| {prefill} | {decode} | {row['peak_bytes'] / (1 << 30):.2f} GiB |"
        )
    if "ratio_vs_generate" in report:
        low, high = report["ratio_vs_generate_range"]
        lines.append(
            f"\nfcdistill is {report['ratio_vs_generate']:.3g} ({low:.3g}..{high:.3g}) times as fast as generate; "
            f"{report['equal_outputs']} of {report['num_requests']} outputs are token-identical."
        )
    for each in report.get("differences", ()):
        ours, theirs = (repr(token) for token in each["tokens"])
        lines.append(
            f"- {each['id']}, token {each['position']}: {ours} against {theirs}, whose logits are "
            f"{each['logit_gap']} apart, {each['rounding_steps']:g} rounding steps of {report['dtype']}"
        )
    return "\n".join(lines)


def _run_contender(plan: Plan, directory: Path, name: str, results: list[dict[str, Any]]) -> str:
    """One round of one contender; why it failed, or nothing."""
    is_llama_cpp = name == _LLAMA_CPP
    python, script = (plan.peer_python, "llama_cpp_side.py") if is_llama_cpp else (sys.executable, "generation_side.py")
    done = start(python, script, name, str(directory), num_threads=plan.settings.num_threads)
    if done.returncode:
        say(done.stderr)
        is_told = done.returncode == FcdistillError.exit_code and done.stdout
        return done.stdout.splitlines()[0] if is_told else last_line(done.stderr)
    results.append(json.loads(last_line(done.stdout)))
    return ""


def _job(plan: Plan, directory: Path, job: str) -> dict[str, Any]:
    done = start(sys.executable, "generation_side.py", job, str(directory), num_threads=plan.settings.num_threads)
    if done.returncode == FcdistillError.exit_code:
        raise FcdistillError(done.stdout.strip())
    if done.returncode:
        raise InfrastructureError(f"job {job} failed:\n{done.stderr.strip()}")
    found: dict[str, Any] = json.loads(last_line(done.stdout))
    return found


if __name__ == "__main__":
    # An exception, so that no contender and no file outlives this process.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("generate: terminated"))
    try:
        sys.exit(main(sys.argv[1:]))
    except FcdistillError as error:
        print(f"generate: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit("generate: interrupted")
