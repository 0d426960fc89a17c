"""YAML as the configuration reads it: YAML 1.1, but a key may occur only once in a mapping, and 1e-3 is a number."""

import re
from typing import Any

import yaml

__all__ = ["YAML_ERRORS", "parse_yaml"]

YAML_ERRORS = (yaml.YAMLError, ValueError, RecursionError)
"""What `parse_yaml` raises on a text that is none."""


class _Loader(yaml.SafeLoader):
    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise yaml.composer.ComposerError(
                        "while reading a mapping", node.start_mark, f"key {key.value!r} occurs twice", key.start_mark
                    )
                seen.add(key.value)
        return node


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def parse_yaml(text: str, name: str) -> Any:
    """The value that a text writes. Raises `YAML_ERRORS`, whose messages call the text by `name`."""
    loader = _Loader(text)
    loader.name = name
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()
