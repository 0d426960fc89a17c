"""The benchmark's modules are found as they are when it runs: beside the script."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "evals" / "speed"))
