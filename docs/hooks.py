"""Files of the repository that the pages link to become a part of the site: results of benchmarks, templates of jobs, CONTRIBUTING.

A link such as `../../benchmarks/results/prepare.md` leads to the file in a checkout. MkDocs knows the files in docs/ only, and the site is
read where there is no checkout. So the site gets a copy of each of these files, in the folder `repository`, and the links lead there.
"""

import os
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
FOLDER = "repository"
ALWAYS = ("CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "benchmarks/results/*.md")  # the navigation names them
_LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)(?P<target>[^()\s#]+)(?=[#)])")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the linked files outside docs/, and those that these link to in turn."""
    todo = [path for pattern in ALWAYS for path in sorted(ROOT.glob(pattern))]
    todo += [target for page in files.documentation_pages() for target in _targets(Path(str(page.abs_src_path)))]
    known = set()
    while todo:
        path = todo.pop()
        if path in known or path.is_relative_to(DOCS) or not path.is_relative_to(ROOT) or not path.is_file():
            continue
        known.add(path)
        files.append(File.generated(config, _place(path), abs_src_path=str(path)))
        todo += _targets(path) if path.suffix == ".md" else []
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Turns the links between the two folders so that they hold in the site."""
    here = Path(str(page.file.abs_src_path)).parent
    folder = os.path.dirname(page.file.src_uri)  # noqa: PTH120 - an address, not a path

    def turned(link: re.Match[str]) -> str:
        target = (here / link["target"]).resolve()
        outside = not (here.is_relative_to(DOCS) and target.is_relative_to(DOCS))
        return os.path.relpath(_place(target), folder or ".") if outside and target.is_file() else link["target"]

    return _LINK.sub(turned, markdown)


def _targets(page: Path) -> list[Path]:
    return [(page.parent / link["target"]).resolve() for link in _LINK.finditer(page.read_text("utf-8"))]


def _place(path: Path) -> str:
    """Where a file of the repository is in the site's sources."""
    return path.relative_to(DOCS).as_posix() if path.is_relative_to(DOCS) else f"{FOLDER}/{path.relative_to(ROOT).as_posix()}"
