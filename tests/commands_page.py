"""docs/reference/commands.md: every command of the command line with its options, from the Typer app.

`python tests/commands_page.py` (`make docs`) writes the page.
"""

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from medssl.cli import app

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/reference/commands.md"
_HEAD = """# Commands

Generated from the command line by `python tests/commands_page.py`. `medssl COMMAND --help` prints the same text.

Every command ends with an exit code:

| exit code | meaning |
|---|---|
| 0 | done |
| 2 | the input is wrong. The message says what, where and what to do. |
| 128 + n | ended by signal n: 130 is Ctrl-C, 143 is `docker stop`. A pretraining saves a checkpoint first. |
| 1 | an error in medssl, with a traceback; a failed job of a study; or another process of the same training has ended |

`python -m medssl` is the same program as `medssl`. The files of a run can be read only by the user who started it.
"""


def commands() -> dict[str, Any]:
    """The commands that a user sees, by name, in the order of the help."""
    group: Any = typer.main.get_command(app)
    return {name: command for name, command in group.commands.items() if not command.hidden}


def page() -> str:
    """The whole page."""
    return _HEAD + "".join("\n" + "\n".join(_section(name, command)) + "\n" for name, command in commands().items())


def _section(name: str, command: Any) -> Iterator[str]:
    text, _, example = inspect.cleandoc(command.help or "").partition("Example: ")
    yield from (f"## medssl {name}", "", text.strip(), "")
    if example:
        yield from ("```", example.strip(), "```", "")
    yield from ("| argument | meaning | default |", "|---|---|---|")
    yield from (_row(parameter) for parameter in command.params if parameter.name != "help")


def _row(parameter: Any) -> str:
    """The row of an option or of an argument without a name."""
    text, default = re.sub(r"\s+", " ", parameter.help or ""), ""
    value = "" if getattr(parameter, "is_flag", False) else str(parameter.metavar or "").replace("|", " or ")
    name = f"{parameter.opts[0]} {value}".strip() if parameter.param_type_name == "option" else value
    if found := re.search(r" *\[default: (.*)\]$", text):
        text, default = text[: found.start()], found[1]
    elif parameter.required:
        default = "necessary"
    elif value and isinstance(parameter.default, int | float | str | Path):
        default = f"`{parameter.default}`"
    return f"| `{name}` | {text} | {default} |"


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
