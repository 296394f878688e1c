"""The composition root: the one place that joins sources, store, views, methods, loop, tracking and evaluation to commands."""

from medssl.run.demo import demo
from medssl.run.finetune import finetune
from medssl.run.pretrain import pretrain

__all__ = ["demo", "finetune", "pretrain"]
