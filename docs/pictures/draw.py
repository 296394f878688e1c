"""Draws the pictures of README and docs, from phantoms and from a finished demo.

    medssl demo 2>&1 | tee runs/demo.txt && python docs/pictures/draw.py --demo runs/demo --terminal runs/demo.txt

Without options the numbers of the curve are those of demo.json, and the terminal's text that of terminal.txt, which the last run with the
options has written. The picture of the report is a photograph of the demo's page by Chromium: demo.json keeps a digest of the templates
of the page at that time, by which a test sees that the picture has become old.
"""

import argparse
import hashlib
import io
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from kinds import INK, MUTED, draw_kinds
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Console
from sphere import BLUE, GREEN, GREY, ORANGE, draw_sphere

import medssl.report
from medssl.config import resolve
from medssl.data.phantom import radiograph
from medssl.runs import presets
from medssl.views import executors
from medssl.views.recipes import chest_xray

FOLDER = Path(__file__).parent
SERIES = {
    "pretrained": ("pretrained with pNNCLR", BLUE, "o"),
    "random": ("random initialisation", ORANGE, "s"),
    "pixels": ("raw pixels", GREY, "^"),
}
_STYLE: dict[Any, Any] = {"svg.hashsalt": "medssl", "font.family": ["DejaVu Sans"], "font.size": 9, "axes.edgecolor": "#d9dde2"}
_SIZE = 96  # pixels of a phantom
_TERMINAL_WIDTH = 124


def save_demo(run: Path) -> None:
    """Keep what the curve shows of a demo's results."""
    document = json.loads((run / "finetune" / "results.json").read_text("utf-8"))
    rows = [
        {key: row[key] for key in ("init", "labels", "fraction", "n_labels", "auroc")}
        for row in document["summary"]
        if row["init"] in SERIES
    ]
    test = {key: document["task"]["test"][key] for key in ("n_labels", "n_patients")}
    facts = {"rows": rows, "test": test, "templates": digest_of_templates()}
    (FOLDER / "demo.json").write_text(json.dumps(facts, indent=1) + "\n", "utf-8")
    photograph(run / "finetune" / "report.html", FOLDER / "report.png")


def digest_of_templates() -> str:
    """Changes with the templates of the report's page."""
    files = sorted((Path(medssl.report.__file__).parent / "templates").iterdir())
    return hashlib.sha256(b"".join(file.read_bytes() for file in files if file.is_file())).hexdigest()


def photograph(page: Path, picture: Path) -> None:
    """The top of a page, as Chromium shows it."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        raise SystemExit("The picture of the report needs Chromium.")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--force-device-scale-factor=1", "--window-size=1280,1000"]
    subprocess.run(  # noqa: S603 - the program is Chromium, the page our own
        [program, *flags, f"--screenshot={picture}", page.resolve().as_uri()], check=True, capture_output=True
    )


def draw_terminal() -> str:
    """The text of a terminal in which the demo ran, as SVG."""
    console = Console(record=True, width=_TERMINAL_WIDTH, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    lines = (FOLDER / "terminal.txt").read_text("utf-8").splitlines()
    progress = [line for line in lines if line.startswith("pretrain  ")]
    for line in (line for line in lines if line not in progress[1:-1]):  # of the progress the first and the last line
        style = "bold green" if line.startswith("$") else "bold" if "pretrained  AUROC" in line else None
        console.print(line, style=style, highlight=False, soft_wrap=False, markup=False)
    svg = console.export_svg(title="medssl", unique_id="medssl")
    return re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL)  # a font of a web site: the picture asks for none


def draw_hero() -> Figure:
    """Images, views, neighbours on the sphere, and AUROC over the number of labels."""
    figure = Figure(figsize=(12.4, 3.7), facecolor="white")
    titles = ("Many images, no labels", "Views of one image", "Neighbours on the sphere", "Few labels")
    notes = (
        "radiographs, CT, MR, microscopy",
        "two random views, one image",
        "positives on the way\nto the nearest neighbour",
        f"AUROC on {_demo()['test']['n_patients']} unseen patients\n(phantoms, 95% intervals)",
    )
    for number, (title, note) in enumerate(zip(titles, notes, strict=True)):
        left = (0.012, 0.262, 0.492, 0.722)[number]
        figure.text(left, 0.93, title, fontsize=12.5, fontweight="bold", color=INK, va="center")
        figure.text(left, 0.84, note, fontsize=9, color=MUTED, va="center")
    _tiles(figure, [_phantom(patient, ill=patient in (1, 3, 8)) for patient in range(9)], 0.012, 3)
    _tiles(figure, _views(), 0.262, 3)
    draw_sphere(figure.add_axes((0.48, 0.02, 0.225, 0.8)), words=False)
    for text, x, y, colour in (("z", -0.5, 1.06, BLUE), ("nn(z)", 0.92, 0.62, GREEN), ("pnn(z)", 0.36, 1.1, ORANGE)):
        figure.axes[-1].text(x, y, text, color=colour, fontsize=11, fontweight="bold")
    _curve(figure.add_axes((0.755, 0.19, 0.235, 0.57)))
    return figure


def draw_badges() -> str:
    """Licence, versions of Python and need of a network, as one SVG without a request to a web site."""
    parts, x = [], 0
    for name, value, colour in (("licence", "Apache-2.0", BLUE), ("python", "3.11 to 3.13", BLUE), ("network", "not needed", GREEN)):
        left, right = 7 * len(name) + 12, 7 * len(value) + 12
        parts.append(
            f'<rect x="{x}" width="{left}" height="20" fill="#555"/><rect x="{x + left}" width="{right}" height="20" fill="{colour}"/>'
            f'<text x="{x + left / 2}" y="14">{name}</text><text x="{x + left + right / 2}" y="14">{value}</text>'
        )
        x += left + right + 6
    style = 'fill="#fff" font-family="DejaVu Sans,Verdana,sans-serif" font-size="11" text-anchor="middle"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" width="{x}" height="20"><g {style}>{"".join(parts)}</g></svg>\n'


def draw_sphere_alone() -> Figure:
    figure = Figure(figsize=(6.4, 4.6))
    draw_sphere(figure.add_subplot())
    return figure


def _phantom(patient: int, ill: bool, image: int = 0) -> np.ndarray:
    return radiograph((3, patient), image, _SIZE, ill, "interstitial", 1.5)


def _views() -> list[np.ndarray]:
    """Nine views of one image, with the recipe of the demo."""
    recipe = resolve(presets.load("demo")).views.recipe
    make_view = executors.make("albumentations", chest_xray.build(chest_xray.Config.model_validate(recipe.model_dump())), _SIZE)
    image = np.rint(_phantom(0, ill=True) * 65535).astype(np.uint16)[None]
    return [make_view(image, (0, 0, 0, view))[0] for view in range(9)]


def _tiles(figure: Figure, images: list[np.ndarray], left: float, columns: int) -> None:
    width, height, gap = 0.068, 0.228, 0.004
    for number, image in enumerate(images):
        row, column = divmod(number, columns)
        axes = figure.add_axes((left + column * (width + gap), 0.54 - row * (height + 0.013), width, height))
        axes.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="bilinear", aspect="auto")
        axes.axis("off")


def _curve(axes: Axes) -> None:
    for init, (name, colour, marker) in SERIES.items():
        rows = [row for row in _demo()["rows"] if row["init"] == init]
        x = [100 * row["fraction"] for row in rows]
        low, mean, high = ([row["auroc"][key] for row in rows] for key in ("low", "mean", "high"))
        axes.fill_between(x, low, high, color=colour, alpha=0.15, lw=0)
        axes.plot(x, mean, color=colour, marker=marker, markersize=5, lw=1.8)
        axes.text(112, mean[-1] + (0.03 if mean[-1] < 0.9 else -0.06), name, color=colour, fontsize=8.5, fontweight="bold", ha="right")
    axes.set(xscale="log", xlim=(0.9, 115), ylim=(0.4, 1.02), xticks=[1, 10, 100], xticklabels=["1%", "10%", "100%"])
    axes.set_xlabel("of the labels", color=MUTED)
    axes.minorticks_off()
    axes.grid(axis="y", color="#d9dde2", lw=0.8)
    axes.tick_params(length=0, colors=MUTED)
    axes.spines[["top", "right", "left"]].set_visible(False)


def _demo() -> dict[str, Any]:
    return json.loads((FOLDER / "demo.json").read_text("utf-8"))


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw the pictures of README and docs.")
    parser.add_argument("--demo", type=Path, help="the folder of a finished demo, whose numbers are to be shown")
    parser.add_argument("--terminal", type=Path, help="what the demo printed")
    parser.add_argument("--out", type=Path, default=FOLDER)
    options = parser.parse_args()
    if options.demo:
        save_demo(options.demo)
    if options.terminal:
        (FOLDER / "terminal.txt").write_text("$ medssl demo\n" + options.terminal.read_text("utf-8"), "utf-8")
    (options.out / "terminal.svg").write_text(draw_terminal(), "utf-8")
    (options.out / "badges.svg").write_text(draw_badges(), "utf-8")
    with mpl.rc_context(_STYLE):
        draw_hero().savefig(options.out / "hero.png", dpi=150, metadata={"Software": None})
        draw_kinds().savefig(options.out / "kinds.png", dpi=110, metadata={"Software": None})
    with mpl.rc_context(_STYLE | {"svg.fonttype": "none", "font.family": "sans-serif", "font.size": 11}):
        draw_sphere_alone().savefig(options.out / "sphere.svg", bbox_inches="tight", metadata={"Date": None})


if __name__ == "__main__":
    main()
