"""Where the repository lies, for tests that read its catalogues, cases and configurations."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
