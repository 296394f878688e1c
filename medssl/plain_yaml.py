"""YAML for configurations: plain values only, 1e-3 is a number, and a key that occurs twice is an error."""

import re
from pathlib import Path
from typing import Any

import yaml

from medssl.errors import UserError

_MAX_BYTES = 1_000_000


class _Loader(yaml.SafeLoader):
    """Refuses a key that occurs twice."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = {str(key) for key in keys if keys.count(key) > 1}
        if twice:
            raise UserError(f"The key {sorted(twice)[0]!r} occurs twice, line {node.start_mark.line + 1}. Keep one of them.")
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def parse_yaml(text: str, where: str) -> Any:
    """YAML text as plain Python values. `where`: the file or flag, for messages. Raises UserError for anything but plain YAML."""
    if len(text) > _MAX_BYTES or text.count("*") > 1000:
        raise UserError(f"{where} is too large for a configuration (1 MB, 1000 aliases). Is it the right file?")
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        raise UserError(f"{where} is not valid YAML: {' '.join(str(error).split())}") from None


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file. Raises UserError if the file holds anything else."""
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from None
    value = parse_yaml(text, str(path))
    if not isinstance(value, dict):
        raise UserError(f"{path} has no configuration. It should have keys and values such as 'seed: 0'.")
    return value
