"""What a fine-tuning leaves beside its numbers: the classifier that `medssl predict` takes, and pictures for the report."""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from medssl.config import Config
from medssl.evaluate.experiment import PIXELS, Experiment, ExperimentResult, cell_seed
from medssl.evaluate.models import ood
from medssl.evaluate.models.cache import CellFit
from medssl.evaluate.models.features import extract
from medssl.evaluate.models.full_finetune import select_validation
from medssl.evaluate.results import SPLITS
from medssl.evaluate.schema import RESULTS
from medssl.files import write_atomically
from medssl.nn.encoder import Encoder
from medssl.report import LabelledImages, PictureInputs, Pictures, draw_pictures, figure_files, write_report
from medssl.runs.dataset import PreparedDataset, evenly_spaced
from medssl.runs.model_cards import export_classifier

FIGURES = "figures"
FOR_THE_TRACKER = (RESULTS, SPLITS, "report.html", FIGURES)
_POOL = 5000  # labelled training images among which neighbours are looked for


class Network(nn.Module):
    """An encoder and a linear head: images in [0, 1] to logits."""

    def __init__(self, encoder: Encoder, weight: torch.Tensor, bias: torch.Tensor) -> None:
        super().__init__()
        self.encoder, self.head = encoder, nn.Linear(weight.shape[1], len(weight))
        self.head.load_state_dict({"weight": weight.float(), "bias": bias.float()})

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.encoder(images))


def write_artifacts(
    folder: Path, config: Config, found: PreparedDataset, card: Mapping[str, Any], request: Experiment, findings: ExperimentResult
) -> None:
    """What a fine-tuning found: classifier, report, figures, and last the results, with which it is finished."""
    document, network = findings.results.document, build_network(request, findings.fit)
    if network is not None:
        write_classifier(folder, config, found, card, request, findings, network)
    shown = make_pictures(request, findings)
    write_report(document, folder / "report.html", shown)
    (folder / FIGURES).mkdir(exist_ok=True)
    for name, content in {**figure_files(document), **shown.files()}.items():
        write_atomically(folder / FIGURES / name, content)
    findings.results.write(folder)


def build_network(request: Experiment, fit: CellFit) -> Network | None:
    """A classifier of the first initialisation; None of a vote, which is no network."""
    tensors = fit.tensors
    if not tensors:
        return None
    encoder = copy.deepcopy(next(iter(request.inits.values())))
    assert isinstance(encoder, Encoder)
    if tuned := {name.removeprefix("encoder."): tensor for name, tensor in tensors.items() if name.startswith("encoder.")}:
        encoder.load_state_dict(tuned, strict=True)
    return Network(encoder, tensors["weight"], tensors["bias"]).to(request.device).eval()


def write_classifier(
    folder: Path,
    config: Config,
    found: PreparedDataset,
    card: Mapping[str, Any],
    request: Experiment,
    findings: ExperimentResult,
    network: Network,
) -> None:
    """classifier.safetensors and classifier.json of that classifier, and what it may call out of distribution."""
    task, draw, settings = request.task, findings.taken, request.settings
    described = ood.FeaturesWithThumbnail(network.encoder)
    at = np.searchsorted(findings.rows, draw.rows)
    if settings.mode == "full":
        features = extract(described, request.images, draw.rows, request.device)
    else:  # the features are there already
        picture = extract(ood.FeaturesWithThumbnail(), request.images, draw.rows, request.device)
        features = np.concatenate([findings.features[at], picture], axis=1)
    patients, held = task.patients[draw.rows], np.zeros(len(draw.rows), dtype=bool)
    if settings.mode == "full" and settings.early_stopping:
        held = select_validation(task.y[draw.rows], patients, cell_seed(request, draw))
    statistics = ood.fit_statistics(features[~held], patients[~held], features[held] if held.any() else None)
    (row,) = [
        row for row in findings.results.document.summary
        if (row.labels, row.mode, row.init) == (str(draw.wanted), settings.mode, next(iter(request.inits)))
    ]  # fmt: skip
    export_classifier(
        folder,
        config,
        found,
        card,
        encoder=network.encoder,
        weight=findings.fit.tensors["weight"].numpy(),
        bias=findings.fit.tensors["bias"].numpy(),
        temperature=findings.fit.temperature,
        kind=task.kind,
        classes=task.classes,
        statistics=statistics,
        training={
            **{key: getattr(row, key) for key in ("labels", "fraction", "mode", "init")},
            "draw": draw.number,
            "n_labels": findings.fit.labels,
            "n_patients": len(np.unique(patients)),
            "test": {**findings.results.document.task.test.model_dump(), "auroc": row.auroc.model_dump()},
        },
    )


def make_pictures(request: Experiment, findings: ExperimentResult) -> Pictures:
    """Of the fraction that the report speaks of first: its classifiers, and the first of them in heat maps. The neighbours are looked for
    among all labels that were drawn."""
    task, cells = request.task, findings.cells
    labels, mode = str(findings.shown.wanted), request.settings.mode
    probs: dict[str, list[np.ndarray]] = {}
    for cell in cells:
        if cell.labels == labels and (cell.mode == mode or cell.init == PIXELS):
            probs.setdefault(cell.init, []).append(cell.prob)
    test, pool = (
        LabelledImages(rows, task.y[rows], findings.features[np.searchsorted(findings.rows, rows)])
        for rows in (task.test, evenly_spaced(findings.taken.rows, _POOL))
    )
    sites = request.table["site"].to_numpy(dtype=str)[task.test] if "site" in request.table else np.full(len(task.test), "")
    inputs = PictureInputs(
        kind=task.kind,
        classes=task.classes,
        labels=labels,
        probs=probs,
        images=request.images,
        test=test,
        pool=pool,
        sites=sites,
        classifier=build_network(request, findings.fit_shown),
        temperature=findings.fit_shown.temperature,
    )
    return draw_pictures(inputs, request.seed)
