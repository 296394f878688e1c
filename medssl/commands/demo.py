"""`medssl demo`: the whole workflow on synthetic radiographs, offline: pretrain, fine-tune at three label fractions, report."""

from pathlib import Path

from medssl.commands.finetune import finetune
from medssl.commands.pretrain import pretrain
from medssl.runs.run_dir import RUNS
from medssl.types import Reporter

LABELS = "1pct,10pct,100pct"


def demo(reporter: Reporter, *, out: Path | None = None, overwrite: bool = False) -> Path:
    """Run the demo in `out` (default runs/demo) and return the folder of the fine-tuning, which has report.html."""
    folder = out or RUNS / "demo"
    encoder = pretrain(reporter, data="phantom", preset="demo", out=folder / "pretrain", overwrite=overwrite)
    result = finetune(reporter, labels=LABELS, encoder=str(encoder), out=folder / "finetune", overwrite=overwrite)
    reporter.say(
        "note      this label suits the method: a texture all over the lungs. A nodule, a small shadow somewhere, is the counter-example:"
    )
    reporter.say("          medssl pretrain --data phantom --preset demo --set data.source.finding=nodule, then medssl finetune")
    return result
