"""What error messages say of wrong values: every finding in one line, no value longer than a line."""

from pydantic import ValidationError

__all__ = ["describe_validation_error", "shorten"]

_FINDINGS = {
    "missing": "required and not given",
    "extra_forbidden": "unknown field",
    "model_type": "must be an object",
}


def describe_validation_error(error: ValidationError) -> str:
    """All findings of a pydantic error in one line: `field: message (found VALUE); ...`."""
    lines = []
    for item in error.errors(include_url=False):
        where = ".".join(map(str, item["loc"]))
        message = _FINDINGS.get(item["type"]) or item["msg"].removeprefix("Value error, ")
        # Of a whole record that breaks a rule nothing but the rule is worth reading.
        if item["type"] not in ("missing", "extra_forbidden") and (where or item["type"] != "value_error"):
            message += f" (found {shorten(item['input'])})"
        lines.append(f"{where}: {message}" if where else message)
    return "; ".join(lines)


def shorten(value: object, limit: int = 80) -> str:
    """A value as Python writes it, cut to `limit` characters."""
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"
