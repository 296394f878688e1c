"""The docs as HTML for a machine that has only a browser: every page that README.md leads to, in one folder, without a script or a font.

python docker/bundle/pages.py ROOT FOLDER
"""

import html
import re
import sys
from pathlib import Path

from markdown_it import MarkdownIt

STYLE = (
    "body{font:16px/1.5 sans-serif;max-width:60em;margin:2em auto;padding:0 1em}code,pre{background:#f3f3f3;font-size:14px}"
    "pre{padding:.7em;overflow:auto}table{border-collapse:collapse}td,th{border:1px solid #ccc;padding:.3em .6em;vertical-align:top}"
)
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src 'self'">
<style>{style}</style></head><body>
{body}</body></html>
"""


def main(root: Path, folder: Path) -> None:
    """Writes the pages, each where its Markdown lies below `root`."""
    pages = [*sorted(root.glob("*.md")), *sorted(root.glob("docs/**/*.md")), *sorted(root.glob("benchmarks/results/*.md"))]
    texts = sorted(root.glob("docs/*.txt"))
    for page in [*pages, *texts]:
        place = folder / page.relative_to(root)
        place.parent.mkdir(parents=True, exist_ok=True)
        if page in texts:
            place.write_text(page.read_text("utf-8"), "utf-8")
        else:
            place.with_suffix(".html").write_text(rendered(page.read_text("utf-8"), page.stem), "utf-8")
    print(f"{len(pages)} pages in {folder}, begin with {folder / 'README.html'}")


def rendered(text: str, title: str) -> str:
    """A page. Links from page to page lead to the HTML."""
    body = MarkdownIt("commonmark", {"html": False}).enable("table").render(text)
    body = re.sub(r'href="(?!\w+:)([^"#]+)\.md(#[^"]*)?"', r'href="\1.html\2"', body)
    return PAGE.format(title=html.escape(title), style=STYLE, body=body)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
