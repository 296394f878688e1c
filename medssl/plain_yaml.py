"""YAML for configurations: plain values only, 1e-3 is a number, and a key that occurs twice is an error."""

import re
from itertools import accumulate
from pathlib import Path
from typing import Any

import yaml

from medssl.errors import UserError

_MAX_BYTES = 1_000_000
_MAX_DEPTH = 100  # brackets inside each other
_MAX_PARTS = 100_000  # values with all aliases written out


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
    if _depth(text) > _MAX_DEPTH:
        raise UserError(f"{where} has too many brackets inside each other. Write it flat.")
    try:
        value = yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader
        parts = _count_parts(value, {})
    except UserError:
        raise
    except RecursionError:
        raise UserError(f"{where} has too many brackets inside each other, or a value that contains itself. Write it flat.") from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # ValueError: a date that does not exist, a number of 5,000 digits
        raise UserError(f"{where} is not valid YAML: {' '.join(str(error).split())[:500]}") from None
    if parts > _MAX_PARTS:
        raise UserError(f"{where} has aliases that stand for {parts} values. Write what is meant, without aliases.")
    return value


def _depth(text: str) -> int:
    """The most brackets that are open at once: PyYAML takes seconds for thousands of them."""
    steps = ((character in "[{") - (character in "]}") for character in text)
    return max(accumulate(steps), default=0)


def _count_parts(value: Any, counted: dict[int, int]) -> int:
    """The number of values where each alias is written out. `counted`: {id: number} of the lists and mappings that are known. Raises
    RecursionError for one that contains itself."""
    if not isinstance(value, list | dict | tuple | set):
        return 1
    if id(value) not in counted:
        counted[id(value)] = 0
        parts = value.values() if isinstance(value, dict) else value
        found = 1 + sum(_count_parts(part, counted) for part in parts)
        counted[id(value)] = found
    if not counted[id(value)]:
        raise RecursionError
    return counted[id(value)]


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file. Raises UserError if the file holds anything else."""
    try:
        text = path.read_text("utf-8")
    except UnicodeDecodeError:
        raise UserError(f"{path} is not UTF-8 text. Save it as UTF-8, or name a configuration in YAML.") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from None
    value = parse_yaml(text, str(path))
    if not isinstance(value, dict):
        raise UserError(f"{path} has no configuration. It should have keys and values such as 'seed: 0'.")
    return value
