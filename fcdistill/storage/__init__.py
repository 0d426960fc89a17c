"""Files: strict JSON, JSONL of records, atomic writes, append-and-resume journals, run directories and their manifests.

What is written here survives a kill at any instant: whole files appear by rename, journals lose at most the line that
was being written, and the next open cuts such a torn line off. It knows nothing of what the records mean.
"""

from fcdistill.storage.error_text import describe_validation_error
from fcdistill.storage.files import read_json, storage_errors, write_bytes, write_json, write_parts, write_text
from fcdistill.storage.hashes import sha256_bytes, sha256_file, sha256_json
from fcdistill.storage.journal import Journal
from fcdistill.storage.jsonl import iter_jsonl, iter_unique_jsonl, read_jsonl, write_jsonl
from fcdistill.storage.manifests import earlier_manifest
from fcdistill.storage.run_directory import RunDirectory, find_run
from fcdistill.storage.strict_json import MAX_DEPTH, StrictJsonError, loads_strict

__all__ = [
    "Journal",
    "MAX_DEPTH",
    "RunDirectory",
    "StrictJsonError",
    "describe_validation_error",
    "earlier_manifest",
    "find_run",
    "iter_jsonl",
    "iter_unique_jsonl",
    "loads_strict",
    "read_json",
    "read_jsonl",
    "sha256_bytes",
    "sha256_file",
    "sha256_json",
    "storage_errors",
    "write_bytes",
    "write_json",
    "write_jsonl",
    "write_parts",
    "write_text",
]
