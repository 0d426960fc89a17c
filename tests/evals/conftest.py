"""The modules beside the scripts are found as they are when these run."""

import sys
from pathlib import Path

for _directory in ("speed", "studies"):
    sys.path.insert(0, str(Path(__file__).parents[2] / "evals" / _directory))
