"""llama.cpp's side of the generation benchmark, through xllamacpp, which brings it ready built.

Started by `generate.py` with the interpreter that has it: `llama_cpp_side.py llama-cpp DIRECTORY`. The model is a GGUF
file, quantised as it is, so that its tokens need not be those of the contenders that compute in another precision. One
request follows the other on one slot, whose cache keeps the common beginning of the prompts; several slots would each
read it for themselves. Nothing of fcdistill is needed here.
"""

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import xllamacpp
from generation_workload import Settings, read_prompts, read_settings

_WARM_UP_TOKENS = 4


def main(directory: Path) -> dict[str, Any]:
    """Answer all prompts of a run's directory; returns the result."""
    settings, prompts = read_settings(directory), read_prompts(directory)
    longest = max(len(prompt.ids) for prompt in prompts) + settings.max_new_tokens
    server = _server(settings, longest)
    _answer(server, prompts[0].ids[-_WARM_UP_TOKENS:], _WARM_UP_TOKENS)
    started, started_cpu = time.perf_counter(), time.process_time()
    timings = [_answer(server, prompt.ids, settings.max_new_tokens) for prompt in prompts]
    seconds, cpu_s = time.perf_counter() - started, time.process_time() - started_cpu
    num_written = sum(each["predicted_n"] for each in timings)
    return {
        "seconds": seconds,
        "cpu_s": cpu_s,
        "prefill_s": sum(each["prompt_ms"] for each in timings) / 1000,
        "prefill_tokens": sum(each["prompt_n"] for each in timings),
        "decode_s": sum(each["predicted_ms"] for each in timings) / 1000,
        "decode_passes": num_written,
        "written_tokens": num_written,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10,
    }


def _server(settings: Settings, num_tokens: int) -> Any:
    assert settings.gguf is not None
    parameters = xllamacpp.CommonParams()
    parameters.model.path = settings.gguf
    parameters.n_ctx = num_tokens
    parameters.n_parallel = 1
    for threads in (parameters.cpuparams, parameters.cpuparams_batch):
        threads.n_threads = settings.num_threads
    return xllamacpp.Server(parameters)


def _answer(server: Any, prompt: tuple[int, ...], max_new_tokens: int) -> dict[str, Any]:
    """Answer one prompt; llama.cpp's own times and counts."""
    request = {"prompt": list(prompt), "max_tokens": max_new_tokens, "temperature": 0, "cache_prompt": True}
    timings: dict[str, Any] = server.handle_completions(request)["timings"]
    return timings


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[2]))))
