"""Every command of docs/how_to/well_known.md that prepares data is understood, with the layout of that data set."""

import re
import shlex
from pathlib import Path

import layouts_page
import pytest
from layouts import situations

from medssl.config import parse_overrides
from medssl.data.detect import detect
from medssl.errors import UserError
from medssl.runs.resolve_config import resolve_data_config

_PAGE = Path(layouts_page.ROOT / "docs/how_to/well_known.md").read_text("utf-8")
COMMANDS = sorted(set(re.findall(r"`medssl prepare ([^`]+)`", _PAGE)))
WRITE = {layout.name: layout.write for layout in layouts_page.layouts() if layout.published}


class _Lines:
    """A reporter that keeps what it is told."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def say(self, text: str) -> None: ...
    def progress(self, task, done, total, facts=None) -> None: ...

    def warn(self, text: str) -> None:
        self.warnings.append(text)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_page_understands_its_data_set(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = shlex.split(command)
    folder, sets = words[words.index("--data") + 1], [words[n + 1] for n, word in enumerate(words) if word == "--set"]
    expected = WRITE[folder.rstrip("/")](tmp_path / folder)
    monkeypatch.chdir(tmp_path)
    reporter = _Lines()
    config, source = resolve_data_config(reporter, folder, "chest_xray_cpu", parse_overrides(sets))
    assert config.source.name == detect(folder)
    assert (len(source.records), reporter.warnings) == (expected.images, [])
    assert {name for record in source.records for name in record.labels} == set(expected.labels)


def test_every_published_layout_has_a_command() -> None:
    assert {command.split()[1].rstrip("/") for command in COMMANDS} == set(WRITE)


def test_a_number_to_predict_that_is_named_as_the_label_is_refused(tmp_path: Path) -> None:
    situations.numbers_to_predict(tmp_path)
    with pytest.raises(UserError, match="'boneage' holds 60 different numbers, which are a quantity"):
        resolve_data_config(_Lines(), str(tmp_path), "chest_xray_cpu", {"data": {"label": "boneage"}})
