"""Takes the pictures of `report.html` in `docs/images`: its figures, and some of its wrong cases.

    python docs/screenshot.py

The answers are the gold answers of `evals/smart_home`, some of them spoilt in the ways in which small models err. No
model runs. It needs chromium and its driver (Debian's packages `chromium` and `chromium-driver`) and selenium.
"""

import base64
import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service

from fcdistill.evaluation.suites import Suite, read_suite
from fcdistill.records import SavedPrediction, ToolCall, ToolSpec
from fcdistill.storage import write_jsonl
from fcdistill.toolcalls.parsing import render_calls

sys.path.insert(0, str(Path(__file__).parents[1] / "evals/studies"))
from planted_regression import plain_call

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs/images"
CASES, TOOLS = ROOT / "evals/smart_home/cases.jsonl", ROOT / "schemas/smart_home.json"

_WIDTH = 1180
_MARGIN = 8
_SPOILT_BEFORE, _SPOILT_NOW = 0.1, 0.16
"""Share of wrong answers in the baseline and in the run that is shown."""


def main() -> None:
    """Evaluate twice, the second time against the first, and take the pictures of the second report."""
    suite = read_suite(CASES, TOOLS)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        for run, share, options, exit_code in (
            ("before", _SPOILT_BEFORE, ["--write-baseline", "baseline.json"], 0),
            ("student", _SPOILT_NOW, ["--baseline", "baseline.json", "--min-accuracy", "0.75"], 1),
        ):
            write_jsonl(directory / f"{run}.jsonl", answers(suite, share))
            flags = ["--cases", str(CASES), "--tools", str(TOOLS), "--predictions", f"{run}.jsonl", "--out", run]
            command = [sys.executable, "-m", "fcdistill.cli", "eval", *flags, *options]
            done = subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, check=False)
            if done.returncode != exit_code:
                sys.exit(f"screenshot: `{' '.join(command)}` ended with exit code {done.returncode}:\n{done.stderr}")
        with browser() as page:
            page.get((directory / "student/report.html").as_uri())
            take(page, "header", "[aria-labelledby=by-error]", IMAGES / "report.png")
            page.find_element("css selector", "#list summary").click()
            take(page, "#failures", "#list > :nth-child(3)", IMAGES / "report_cases.png")


def answers(suite: Suite, share: float) -> Iterator[SavedPrediction]:
    """The gold answers, of which this share is spoilt: those of a smaller share, and some more."""
    for case in suite.cases:
        rng = random.Random(case.id)
        calls = [plain_call(case, call) for call in case.expected[0]]
        specs = {spec.name: spec for spec in suite.specs[case.id]}
        if rng.random() >= share:
            text = render_calls(calls) if calls else "Which one do you mean?"
        else:
            text = mistaken(calls, specs, rng)
        yield SavedPrediction(id=case.id, text=text)


def mistaken(calls: Sequence[ToolCall], specs: dict[str, ToolSpec], rng: random.Random) -> str:
    """A wrong answer of a kind that small models give."""
    if not calls:
        return render_calls([ToolCall(name="set_light", arguments={"room": "bedroom", "state": "on"})])
    *others, last = calls
    kind = rng.choice(("value", "value", "value", "value", "left out", "left out", "text", "cut short"))
    if kind == "text":
        return "Sure, I can help with that."
    if kind == "cut short":
        return render_calls(calls)[:-14]
    if kind == "left out" and others:
        return render_calls(others)
    arguments: dict[str, Any] = json.loads(json.dumps(last.arguments))
    name = rng.choice(list(arguments) or ["room"])
    schema = specs[last.name].parameters["properties"].get(name, {})
    if kind == "left out":
        arguments.pop(name, None)
    elif "enum" in schema:
        arguments[name] = rng.choice([value for value in schema["enum"] if value != arguments.get(name)])
    elif isinstance(arguments.get(name), int | float):
        arguments[name] += 10
    else:
        arguments[name] = str(arguments.get(name, ""))[:5]
    return render_calls([*others, ToolCall(name=last.name, arguments=arguments)])


def take(page: Chrome, first: str, last: str, picture: Path) -> None:
    """Write the picture of the page from the upper edge of one element to the lower edge of another."""
    edge = "const edge = (place, side) => document.querySelector(place).getBoundingClientRect()[side] + scrollY;"
    top, bottom = page.execute_script(
        f"{edge} return [edge(arguments[0], 'top'), edge(arguments[1], 'bottom')]", first, last
    )
    top = max(0, top - _MARGIN)
    clip = {"x": 0, "y": top, "width": _WIDTH, "height": bottom + _MARGIN - top, "scale": 1}
    shot = page.execute_cdp_cmd("Page.captureScreenshot", {"clip": clip, "captureBeyondViewport": True})
    picture.write_bytes(base64.b64decode(shot["data"]))
    print(picture)


@contextmanager
def browser() -> Iterator[Chrome]:
    """A headless chromium in light colours."""
    options = ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for flag in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "hide-scrollbars"):
        options.add_argument(f"--{flag}")
    options.add_argument(f"--window-size={_WIDTH},900")
    driver = Chrome(options=options, service=Service("/usr/bin/chromedriver"))
    try:
        features = [{"name": "prefers-color-scheme", "value": "light"}]
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        yield driver
    finally:
        driver.quit()


if __name__ == "__main__":
    main()
