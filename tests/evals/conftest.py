"""The modules beside the scripts are found as they are when these run."""

import sys

from tests.paths import ROOT

for _directory in ("bench", "speed", "studies"):
    sys.path.insert(0, str(ROOT / "evals" / _directory))
