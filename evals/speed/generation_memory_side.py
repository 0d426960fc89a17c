"""One generation whose memory is measured: `generation_memory_side.py BASE_URL DIRECTORY`, which holds its seeds.

The answers come from a server that another process runs. The last line of the output is the result, as JSON.
"""

import json
import random
import re
import sys
import time
from pathlib import Path

from fcdistill.backends.openai.http_backend import OpenAIBackend
from fcdistill.config import GenerateConfig, OpenAIBackendConfig
from fcdistill.generation.pipeline import run_generation
from fcdistill.records import SeedRequest
from fcdistill.storage import write_jsonl
from fcdistill.tools.catalog import load_catalog

__all__ = ["main", "write_seeds"]

_TOOLS = Path(__file__).parents[2] / "schemas" / "smart_home.json"
_SYLLABLES = "ba ce di fo gu ha je ki lo mu na pe ri so tu va we xi yo zu".split()
_JOINED_EACH = 10
"""One request that is joined of others for so many that are asked."""


def main(base_url: str, directory: Path) -> None:
    """Generate from the seeds of the directory, and print what it took."""
    teacher = OpenAIBackendConfig(backend="openai_http", base_url=base_url, model="m", api_key_env=None)
    seeds, out = directory / "seeds.jsonl", directory / "out"
    num_requests = seeds.read_bytes().count(b"\n")
    config = GenerateConfig(
        tools=_TOOLS,
        seeds=seeds,
        out=out,
        teacher=teacher,
        num_call_first=0,
        num_joined=num_requests // _JOINED_EACH,
    )
    started = time.monotonic()
    stats = run_generation(config, lambda: OpenAIBackend.from_config(teacher), load_catalog(str(_TOOLS)))
    result = {
        "num_requests": num_requests,
        "num_outcomes": stats.attempts,
        "kept": stats.kept,
        "rejected": stats.rejected,
        "peak_bytes": _peak_bytes(),
        "seconds": round(time.monotonic() - started, 2),
        "journal_bytes": (out / "journal.jsonl").stat().st_size,
    }
    print(json.dumps(result))


def write_seeds(directory: Path, num_requests: int) -> None:
    """Requests of which no two are alike, so that all that is remembered to find repetitions is remembered."""
    rng = random.Random(0)

    def word() -> str:
        return "".join(rng.choices(_SYLLABLES, k=4))

    texts = [f"{word()} and {word()} say: put {word()} {word()} {n} on our list" for n in range(num_requests)]
    seeds = [SeedRequest(id=f"s{n}", text=text, category="simple") for n, text in enumerate(texts)]
    write_jsonl(directory / "seeds.jsonl", seeds)


def _peak_bytes() -> int:
    status = Path("/proc/self/status").read_text()
    (kibibytes,) = re.findall(r"VmHWM:\s*(\d+) kB", status)
    return int(kibibytes) * 1024


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
