"""fcdistill: distil a large model's function calling into a small one that calls exactly your tools.

Importing this package imports no torch; the stages that need it import it when they run.
"""

__version__ = "0.1.0"

__all__ = ["__version__"]
