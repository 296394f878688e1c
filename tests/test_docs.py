"""The documentation: its links lead somewhere, its commands and settings exist, and its site opens from a folder without a network."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import yaml
from browser import Browser, chromium
from exporting import CARD, agree, make_encoder
from markdown.extensions.toc import slugify

from medssl import plugins
from medssl.cli import app
from medssl.commands.embed import embed
from medssl.config import Config, Frozen
from medssl.data.preparation import VERSION

ROOT = Path(__file__).resolve().parent.parent
PAGES = [*(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")), *sorted((ROOT / "docs").rglob("*.md"))]
HISTORY = ("CHANGELOG.md", "decisions.md")  # they may name what there was
PLUGINS = {"data.source": "data.sources", "views.recipe": "views.recipes", "backbone": "backbones", "method": "methods"}
_FENCE = re.compile(r"^ *```(?P<language>\w*)\n(?P<code>.*?)^ *```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\((?![a-z]+:)(?P<target>[^()\s#]*)(?:#(?P<anchor>[^()\s]+))?\)")
_COMMAND = re.compile(r"(?<![\w/:.-])(?:\.venv/bin/|-m )?medssl (?P<command>[a-z]+)(?P<rest>[^\n#;&|`]*)")
_SETTING = re.compile(
    r"(?<![\w./-])(?P<key>(?:data|views|backbone|method|train|monitor|finetune|tracking)(?:\.(?!png\b|csv\b)[a-z_]+)+)(?![\w./]|\()"
)


def prose(page: Path) -> str:
    """The page without its blocks of code."""
    return _FENCE.sub("", page.read_text("utf-8"))


def code(page: Path) -> Iterator[str]:
    """The blocks of code for a shell, and the code within the text."""
    text = page.read_text("utf-8")
    yield from (block["code"] for block in _FENCE.finditer(text) if block["language"] in ("", "sh", "bash", "console"))
    yield from re.findall(r"`([^`\n]+)`", _FENCE.sub("", text))


def anchors(page: Path) -> set[str]:
    return {slugify(heading.replace("`", ""), "-") for heading in re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)}


def faulty_links(page: Path) -> list[str]:
    """The links whose file or heading does not exist."""
    faulty = []
    for link in _LINK.finditer(prose(page)):
        target = (page.parent / link["target"]).resolve() if link["target"] else page
        if not target.exists() or (link["anchor"] and link["anchor"] not in anchors(target)):
            faulty.append(link[0])
    return faulty


def faulty_commands(text: str, options: dict[str, set[str]]) -> list[str]:
    """The commands and options in a piece of code that do not exist. `options`: those of each command."""
    faulty = []
    for found in _COMMAND.finditer(text):
        if found["command"] not in options:
            faulty.append(found[0])
            continue
        faulty += [
            f"{found['command']} {name}" for name in re.findall(r"(?<=\s)--[\w-]+", found["rest"]) if name not in options[found["command"]]
        ]
    return faulty


def is_setting(key: str) -> bool:
    """Whether the configuration has this key, or one of the plug-ins whose settings have this place."""
    model: Any = Config
    parts = key.split(".")
    for n, part in enumerate(parts):
        if part not in model.model_fields:
            return False
        if kind := PLUGINS.get(".".join(parts[: n + 1])):
            return n + 1 == len(parts) or any(parts[n + 1] in plugins.find(kind, name).Config.model_fields for name in plugins.names(kind))
        model = model.model_fields[part].annotation
        if not (isinstance(model, type) and issubclass(model, Frozen)):
            return n + 1 == len(parts)
    return True


@pytest.fixture(scope="module")
def commands_page(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("tests/commands_page.py")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_of_a_page_leads_to_a_file_and_a_heading(page: Path) -> None:
    assert not faulty_links(page)


def test_a_link_to_no_file_or_to_no_heading_is_found(tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text("# A `b` c\n")
    page = tmp_path / "page.md"
    page.write_text("[a](other.md#a-b-c) [b](other.md#nowhere) [c](gone.md) [d](https://example.org/x.md)\n```\n[e](gone.md)\n```\n")
    assert faulty_links(page) == ["](other.md#nowhere)", "](gone.md)"]


def test_the_readme_has_at_most_900_words() -> None:
    shown = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", prose(ROOT / "README.md"))  # of a link its text alone
    assert 500 < len(re.findall(r"[\w'.%-]*\w[\w'.%-]*", shown)) <= 900


def test_every_page_is_in_the_navigation() -> None:
    def targets(entries: Any) -> Iterator[str]:
        for entry in entries if isinstance(entries, list) else [entries]:
            yield from [entry] if isinstance(entry, str) else (name for part in entry.values() for name in targets(part))

    listed = list(targets(yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))["nav"]))
    pages = [page.relative_to(ROOT / "docs").as_posix() for page in PAGES if page.is_relative_to(ROOT / "docs")]
    assert sorted(name for name in listed if not name.startswith("repository/")) == sorted(pages)
    assert not [name for name in listed if name.startswith("repository/") and not (ROOT / name.removeprefix("repository/")).is_file()]


def test_the_page_of_commands_is_the_one_of_today(commands_page: ModuleType) -> None:
    assert commands_page.PAGE.read_text("utf-8") == commands_page.page(), "make docs"


def test_every_command_and_option_in_the_pages_exists(commands_page: ModuleType) -> None:
    options = {name: {"--help", *(o for p in command.params for o in p.opts)} for name, command in commands_page.commands().items()}
    faulty = {page.name: [f for piece in code(page) for f in faulty_commands(piece, options)] for page in PAGES if page.name not in HISTORY}
    assert not {name: found for name, found in faulty.items() if found}
    assert faulty_commands("x medssl nothing --data x", options) == ["medssl nothing --data x"]
    assert faulty_commands("sbatch --wrap 'medssl prepare --data x --shards 1/2'", options) == ["prepare --shards"]


def test_every_setting_in_the_pages_exists() -> None:
    named = {
        (page.name, found["key"])
        for page in PAGES
        if page.name not in HISTORY
        for piece in code(page)
        for found in _SETTING.finditer(piece)
    }
    assert len(named) > 80
    assert not {(name, key) for name, key in named if not is_setting(key)}
    for key, known in {"train.epoch": False, "method.alpha": True, "data.source.columns.path": True, "data.limits.second": False}.items():
        assert is_setting(key) == known, key


@pytest.fixture
def home(encoder_run: Path, model: Any, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the examples in Python name; it is the current folder."""
    (tmp_path / "runs/demo").mkdir(parents=True)
    for name, run in (("chest", encoder_run), ("demo/pretrain", encoder_run), ("finetune", model.folder)):
        (tmp_path / "runs" / name).symlink_to(run)
    for name in ("image.png", "image.dcm"):  # a format is found by the content of a file
        shutil.copy(min(pictures.rglob("*.png")), tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_python(page: str) -> None:
    """Runs all examples in Python of a page, one after the other."""
    names: dict[str, Any] = {}
    for block in (found["code"] for found in _FENCE.finditer((ROOT / page).read_text("utf-8")) if found["language"] == "python"):
        exec(block, names)  # noqa: S102 - our own page


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # MONAI warns of its own readers, torch's exporters of themselves
def test_the_python_examples_run_on_an_encoder(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the commands between them. The encoder has the mean and the standard deviation of the page, and no training."""
    (tmp_path / "runs/chest").mkdir(parents=True)
    values, data = {"mean": (0.495,), "std": (0.255,)}, {"size": 32}
    card = {"preparation": {"version": VERSION, "settings": data}, "config": CARD["config"] | {"data": data}}
    encoder, _ = make_encoder(tmp_path / "runs/chest", {"name": "timm", "model": "resnet18", "stem": "own"}, 1, 32, **values, **card)
    (tmp_path / "runs/chest/config.yaml").touch()  # by which the command knows a finished run
    shutil.copy(min(pictures.rglob("*.png")), tmp_path / "image.png")
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs/how_to/use_the_encoder.md").read_text("utf-8")
    images = torch.rand(2, 1, 32, 32)
    names: dict[str, Any] = {"images": images, **{name: value[0] for name, value in values.items()}}
    exported, compared = 0, 0
    for block in _FENCE.finditer(page):
        for line in block["code"].splitlines() if block["language"] == "" else ():
            if line.startswith("medssl export "):
                with pytest.raises(SystemExit) as ended:
                    app([*shlex.split(line)[1:], "--overwrite"])
                assert ended.value.code == 0, line
                exported += 1
        if block["language"] == "python":
            names.pop("features", None)
            exec(block["code"], names)  # noqa: S102 - our own pages
            if "encoder" not in names:  # the later blocks have images of their own
                assert agree(names["features"], encoder, images, 1e-4)
                compared += 1
    assert (exported, compared) == (8, 5)
    assert "\n(1, 512)\n" in capsys.readouterr().out


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(
    ("page", "printed"),
    [
        ("README.md", []),
        ("docs/reference/python.md", ["(1, 16)", "(2, 16)", "['normal', 'sick']", "(1, 24, 24) 8 None "]),
        ("docs/how_to/embed.md", ["16", "DIGEST"]),
    ],
)
def test_the_python_examples_run_as_they_stand(
    page: str, printed: list[str], reporter: Any, encoder_run: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if page.endswith("embed.md"):
        embed(reporter(), encoder=str(encoder_run), data=str(pictures))
    run_python(page)
    digest = json.loads((encoder_run / "card.json").read_text("utf-8"))["weights_sha256"][:12]
    assert capsys.readouterr().out.splitlines() == [digest if line == "DIGEST" else line for line in printed]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` builds it."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.slow
def test_the_site_loads_nothing_from_the_network(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 30
    loaded = re.compile(r"<(?:script|link|img|iframe)\b[^>]*\b(?:src|href)=\"?(https?:)?//", re.IGNORECASE)
    assert not [page for page in pages if loaded.search(page.read_text("utf-8"))]


@pytest.mark.slow
def test_files_outside_docs_are_in_the_site_and_the_links_lead_there(site: Path) -> None:
    text = (site / "explanation/scale.html").read_text("utf-8")
    assert 'href="../repository/benchmarks/results/scale.html"' in text
    assert 'href="../../../explanation/scale.html"' in (site / "repository/benchmarks/results/scale.html").read_text("utf-8")
    assert (site / "repository/docker/slurm/pretrain.sbatch").read_bytes() == (ROOT / "docker/slurm/pretrain.sbatch").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 390])
def test_the_pages_open_from_a_folder_and_the_search_finds(site: Path, width: int) -> None:
    program = chromium()
    if program is None:
        pytest.skip("needs Chromium (Debian: apt-get install --no-install-recommends chromium)")
    with Browser(program) as browser:
        for name in ("index.html", "how_to/dicom.html", "reference/commands.html"):
            seen = browser.visit(site / name, width=width)
            assert not [address for address in seen.requests if not address.startswith("file:")]
            assert seen.console == []
            assert seen.facts["wide"] <= width and seen.facts["broken"] == 0
        assert any("how_to/mlflow.html" in address for address in browser.search(site / "index.html", "mlflow"))
