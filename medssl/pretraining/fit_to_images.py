"""Settings that follow from the images: the test part, the hold-out, the batch, the support set, and which images are no negatives.

A value that nobody gave is a preset's, and is lowered to what the images allow. A value that was given on the command line is never
changed: where it cannot be, it is refused, in one message with all others that cannot be.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

import numpy as np

from medssl import methods
from medssl.config import Config, merge, resolve
from medssl.data.volume_slices import slice_rows
from medssl.errors import UserError
from medssl.nn import fit_support_size
from medssl.pretraining.fit_to_data import training_rows
from medssl.runs.dataset import PreparedDataset, split_dataset
from medssl.runs.to_label import has_labels
from medssl.types import counted

_FEWEST = 2  # images in a batch: batch normalisation needs two
_FEWEST_SPREAD = 8  # images whose embeddings say whether they collapse
_MOST = 0.5  # of the training images
_HELD_OUT_FOR_LABELS = 0.25  # of the training patients, where no image has a label yet


class Fitted(NamedTuple):
    """The configuration and the split that the images allow. `sentences`: what was changed for that, one sentence a value."""

    config: Config
    dataset: PreparedDataset
    sentences: list[str]


def fit_to_images(config: Config, dataset: PreparedDataset, given: Mapping[str, Any], processes: int = 1) -> Fitted:
    """The configuration with values that the images of `dataset` allow, and the dataset split by them. `given`: the settings of the command
    line, as `flags_and_sets` returns them. `processes`: of which each takes an equal part of a batch.

    Raises UserError that lists every given value that cannot be, and where fewer than two images are left to train on.
    """
    free = [name for name in ("holdout_fraction", "test_fraction") if not is_given(given, "data", name)]
    configured = config.data
    if "holdout_fraction" in free:
        config, dataset = _hold_out_for_labels(config, dataset)
    config, dataset = _fit_split(config, dataset, free)
    images, problems = _count_images(config, dataset)
    if images < _FEWEST:  # the other limits are those of all images that might be trained on
        images = len(_fit_split(config, dataset, ["holdout_fraction", "test_fraction"])[1].pretraining)
    changes: dict[str, Any] = {}
    sentences = list(_describe_split(dataset, given))
    if config.data.holdout_fraction > configured.holdout_fraction:
        sentences.append(_describe_held_out(config, dataset))
    if images >= _FEWEST:
        for part in (_fit_batch, _fit_method, _fit_alarm):
            changed, found = part(config, given, images, processes)
            changes = merge(changes, changed)
            problems += found
    if processes > 1 and config.train.minutes is not None:
        problems.append("train.minutes works with one process. Learn the number of steps with one process, and give it as train.steps.")
    if len(dataset.pretraining):
        masked, sentence = _fit_negatives(config, dataset)
        changes = merge(changes, masked)
        sentences += filter(None, [sentence])
    if problems:
        raise UserError("\n  ".join(["This cannot be trained:", *problems]) if len(problems) > 1 else problems[0])
    what = counted(config.data.size)
    if "train" in changes:
        by = f" for {processes} processes" if processes > 1 else ""
        sentences.append(f"Batch size {changes['train']['batch_size']}: there are {images} training {what}{by}.")
    if "monitor" in changes:
        sentences.append(f"A collapse of the embeddings is only a warning: {images} {what} are too few to be sure of one.")
    return Fitted(resolve(merge(config.model_dump(), changes)), dataset, sentences)


def _hold_out_for_labels(config: Config, dataset: PreparedDataset) -> tuple[Config, PreparedDataset]:
    """A larger hold-out where no image has a label. A fine-tuning is tested on patients that the encoder has not seen, so the labels that
    come later must meet enough of them: with the test part two of five patients instead of one of four."""
    share = config.data.holdout_fraction
    if (
        has_labels(dataset).any()
        or not 0 < share < _HELD_OUT_FOR_LABELS
        or (dataset.roles == "val").any()
        or not (dataset.roles == "test").any()
    ):
        return config, dataset
    data = config.data.model_copy(update={"holdout_fraction": _HELD_OUT_FOR_LABELS})
    return config.model_copy(update={"data": data}), split_dataset(dataset.store, data)


def _describe_held_out(config: Config, dataset: PreparedDataset) -> str:
    kept, patients = len(set(dataset.patients[(dataset.roles == "test") | dataset.holdout])), len(set(dataset.patients))
    return (
        f"No image has a label yet: {kept} of {patients} patients are kept from the training, so that labels that come later find patients "
        f"for a test whom the encoder has not seen (data.test_fraction={config.data.test_fraction:g}, data.holdout_fraction="
        f"{config.data.holdout_fraction:g})."
    )


def _fit_split(config: Config, dataset: PreparedDataset, free: list[str]) -> tuple[Config, PreparedDataset]:
    """The first split that leaves two images for training: as configured, without a hold-out, without a test part, without both; of those
    the user has left `free`. The last one where none does."""
    for names in ([], free[:1], free[1:], free):
        data = config.data.model_copy(update=dict.fromkeys(names, 0.0))
        split = dataset if data == config.data else split_dataset(dataset.store, data)
        if len(split.pretraining) >= _FEWEST:
            return config.model_copy(update={"data": data}), split
    return config, dataset


def _count_images(config: Config, dataset: PreparedDataset) -> tuple[int, list[str]]:
    """The number of images that the method trains on, and what forbids to train on them."""
    try:
        images = len(training_rows(config, dataset))
    except UserError as error:
        return len(dataset.pretraining), [str(error)]
    if images >= _FEWEST:
        return images, []
    test, held_out = int((dataset.roles == "test").sum()), int(dataset.holdout.sum())
    return images, [
        f"Of {len(dataset.roles)} images {images} is left to train on, and two are needed: {test} are for the test (data.test_fraction="
        f"{config.data.test_fraction:g}, or the data's own split), {held_out} are in the hold-out (data.holdout_fraction="
        f"{config.data.holdout_fraction:g}). Name more data, or lower these shares; 0 is none."
    ]


def _describe_split(dataset: PreparedDataset, given: Mapping[str, Any]) -> Iterator[str]:
    patients = len(set(dataset.patients))
    few = "all images are of one patient" if patients == 1 else f"{patients} patients are too few"
    if dataset.stratum and patients > 1:
        few = f"too few of the {patients} patients are of one class"
    if not (dataset.roles == "test").any():
        why = "data.test_fraction is 0" if is_given(given, "data", "test_fraction") else few
        yield f"No test part: {why}. Fine-tuning will ask for one."
    if not dataset.holdout.any():
        why = "data.holdout_fraction is 0" if is_given(given, "data", "holdout_fraction") else few
        yield f"No hold-out: {why}. The training is watched without kNN and linear probe."


def _fit_batch(config: Config, given: Mapping[str, Any], images: int, processes: int) -> tuple[dict[str, Any], list[str]]:
    """The changed settings of a batch that can be filled and shared, and what is wrong with a given one."""
    batch, largest = config.train.batch_size, images // processes * processes
    if largest < _FEWEST:
        return {}, [f"{processes} processes cannot share {images} training images. Start fewer processes."]
    if (auto := given.get("train", {}).get("batch_size") == "auto") or not is_given(given, "train", "batch_size"):
        possible = max(min(batch, largest) // processes, 1) * processes
        alone = ["train.batch_size=auto works with one process. Find the batch with one, then multiply it by the number of processes."]
        return ({} if possible == batch else {"train": {"batch_size": possible}}), alone if auto and processes > 1 else []
    problems = []
    if batch > images:
        problems.append(
            f"A batch of {batch} cannot be filled from {images} training images. Use a batch size from 2 to {largest}, as in --set "
            f"train.batch_size={largest}, or none: the preset's is fitted to the images."
        )
    if batch % processes:
        multiple = min(largest, -(-batch // processes) * processes)
        problems.append(f"A batch of {batch} cannot be shared evenly by {processes} processes. Use --set train.batch_size={multiple}.")
    return {}, problems


def _fit_method(config: Config, given: Mapping[str, Any], images: int, processes: int) -> tuple[dict[str, Any], list[str]]:  # noqa: ARG001
    """The changed settings of a support set or queue that is no larger than the data, and what is wrong with a given one. In a larger one
    an image would find its own earlier embedding as its nearest neighbour, or have it as a negative."""
    method, problems = config.method, []
    size: int | Literal["auto"] = getattr(method, "support_size", "auto")
    if size != "auto" and size > images and getattr(method, "neighbours", "any") == "any":
        if is_given(given, "method", "support_size"):
            problems.append(
                f"The support set of {size} embeddings is larger than the {images} training images: an image would find itself in it. Make "
                f"it smaller: --set method.support_size={fit_support_size(images)}; or, with nnclr and pnnclr, let images find others "
                "only: --set method.neighbours=other_images."
            )
        else:
            method = method.model_copy(update={"support_size": "auto"})
    rows = getattr(methods.fit_to(method, images, steps=1), "support_size", 1)
    if (top_k := getattr(method, "top_k", 1)) > rows:
        if is_given(given, "method", "top_k"):
            problems.append(f"method.top_k={top_k} is more than the {rows} embeddings of the support set. Lower it to {rows} at most.")
        else:
            method = method.model_copy(update={"top_k": rows})
    return ({} if method == config.method else {"method": method.model_dump()}), problems


def _fit_negatives(config: Config, dataset: PreparedDataset) -> tuple[dict[str, Any], str]:
    """Whether images of one patient are no negatives of each other, where the configuration leaves that open, and a sentence: slices of a
    volume are nearly equal, so they are none. Where most images are of one patient, a batch would have no negatives left."""
    if getattr(config.method, "mask_same_patient", False) is not None:
        return {}, ""
    rows = dataset.pretraining
    of_volumes = slice_rows(dataset.store)[rows].mean() > _MOST
    masked = bool(of_volumes and np.bincount(dataset.patients[rows]).max() <= _MOST * len(rows))
    sentence = "Slices of one patient are no negatives of each other (method.mask_same_patient=true)." if masked else ""
    return {"method": {"mask_same_patient": masked}}, sentence


def _fit_alarm(config: Config, given: Mapping[str, Any], images: int, processes: int) -> tuple[dict[str, Any], list[str]]:  # noqa: ARG001
    """A collapse ends no training of images so few that their spread says little, unless that was asked for."""
    stops = config.monitor.on_collapse == "stop" and not is_given(given, "monitor", "on_collapse")
    return {"monitor": {"on_collapse": "warn"}} if stops and images < _FEWEST_SPREAD else {}, []


def describe_fitted_length(before: Config, after: Config, images: int) -> Iterator[str]:
    """The number of steps and the size of the support set, where `before` leaves them to `fit_to_data`, which gave `after`; one sentence
    each."""
    train, steps = before.train, after.train.steps
    if train.steps is None and train.minutes is None:
        epochs = train.epochs * max(1, images // train.batch_size)
        why = f"{train.epochs} epochs" if steps == epochs else f"train.min_steps, as {train.epochs} epochs would be {epochs} steps only"
        yield f"{steps} steps: {why}."
    if getattr(before.method, "support_size", None) == "auto":
        size = after.method.support_size
        share = "half" if size == fit_support_size(images, images) else "fewer than half"
        yield f"Support set of {size} embeddings: {share} of the {images} training {counted(after.data.size)}."


def is_given(given: Mapping[str, Any], section: str, name: str) -> bool:
    """Whether the setting `section.name` is among those of the command line."""
    part = given.get(section)
    return isinstance(part, Mapping) and name in part
