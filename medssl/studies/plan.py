"""A study from a YAML file: encoders x data sets x modes, each a fine-tuning at all label fractions. This module plans the jobs.

A study is a folder. OUT/DATA/pretrain-ENCODER and OUT/DATA/MODE-ENCODER are ordinary run folders, OUT/cells holds the test probabilities
of every classifier, and OUT/study.yaml the settings of the study. A finished run is not run again; a stopped run is continued.
"""

import contextlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, get_args

import yaml
from pydantic import AfterValidator, Field, model_validator

from medssl.config import MAX_SEED, Config, Finetune, Frozen, Labels, full_names, merge, parse_overrides, resolve, resolve_part, to_yaml
from medssl.data.split import LabelFraction, canonical_labels, parse_labels
from medssl.data.store import deciding_settings
from medssl.encoder.artefact import CARD
from medssl.errors import UserError, suggest
from medssl.evaluate import DRAWS_ABOVE, SMALL, read_results
from medssl.files import write_atomically
from medssl.plain_yaml import read_yaml
from medssl.runs import presets
from medssl.runs import run_dir as run_folder
from medssl.train.checkpoint import LAST, NEXT, PREVIOUS

STUDY, CELLS = "study.yaml", "cells"
_EXTENSIBLE = {"data", "encoders", "modes"}


def _check_name(name: str) -> str:
    """`name`, if it can be the name of a folder on every system."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,60}", name):
        raise ValueError(f"{name!r} cannot be a name here: letters, digits, . _ - only, as it names a folder")
    return name


def _check_mode(name: str) -> str:
    known = get_args(Finetune.model_fields["mode"].annotation)
    if name not in known:
        raise ValueError(f"unknown mode {name!r}. {suggest(name, known)}")
    return name


def _check_settings(items: tuple[str, ...]) -> tuple[str, ...]:
    parse_overrides(items)
    return tuple(full_names(items))


Name = Annotated[str, AfterValidator(_check_name)]
Settings = Annotated[tuple[str, ...], AfterValidator(_check_settings)]


class DataSet(Frozen):
    """A data set of a study."""

    path: str = Field(description="The images, as --data names them.")
    set: Settings = Field(default=(), description="Settings for this data set only, such as data.label=pneumonia.")


class Encoder(Frozen):
    """An encoder of a study: a finished one, or one that is pretrained on each data set with `method`, `preset` and `set`."""

    encoder: str | dict[Name, str] | None = Field(
        default=None,
        description="A finished pretraining run or an encoder file for all data sets, or one for each by its name; without it an encoder "
        "is pretrained.",
    )
    method: str | None = Field(default=None, description="The method of its pretraining.")
    preset: str | None = Field(default=None, description="The preset of its pretraining.")
    set: Settings = Field(default=(), description="Settings of its pretraining.")

    @model_validator(mode="after")
    def _check_encoder(self) -> "Encoder":
        if self.encoder is not None and (self.method or self.preset or self.set):
            raise ValueError("names a finished encoder, so method, preset and set have no effect")
        return self


class Study(Frozen):
    """The content of a study's file. Relative paths start at the current folder."""

    out: str = Field(description="The folder of the study.")
    data: dict[Name, DataSet] = Field(min_length=1, description="The data sets by name.")
    encoders: dict[Name, Encoder] = Field(min_length=1, description="The encoders by name.")
    labels: Annotated[Labels, AfterValidator(canonical_labels)] = Field(
        default="1pct,10pct,100pct", description="The label fractions, as --labels names them."
    )
    modes: tuple[Annotated[str, AfterValidator(_check_mode)], ...] = Field(
        default=("linear",), min_length=1, description="What is fitted: linear, knn, full."
    )
    draws: int = Field(default=5, ge=1, description="How many times the labelled patients are drawn at each fraction.")
    seed: int = Field(default=0, ge=0, le=MAX_SEED, description="The seed of all random choices.")
    device: str = Field(default="auto", description="The device: auto, cpu, cuda or cuda:N.")
    set: Settings = Field(default=(), description="Settings of all pretrainings and fine-tunings.")


@dataclass(frozen=True)
class Job:
    """One command of medssl. `name`: DATA/RUN. `folder`: its run folder. `arguments`: the arguments of the command's function, with paths
    as text. `after`: the names of the jobs that must be done before. `cells`: the number of classifiers that the job fits."""

    name: str
    command: str
    folder: Path
    arguments: dict[str, Any]
    after: tuple[str, ...] = ()
    cells: int = 0


def read_study(path: Path) -> Study:
    """The study that a YAML file describes. Raises UserError that lists every wrong key, and for a misspelt key the most similar one."""
    if not path.is_file():
        raise UserError(f"There is no study {path}. Name a YAML file such as pipelines/label_fractions.yaml.")
    values = read_yaml(path)
    for part, model in (("data", DataSet), ("encoders", Encoder)):
        if isinstance(entries := values.get(part), Mapping):
            values[part] = {str(name): resolve_part(model, _complete(model, of), f"{part}.{name}") for name, of in entries.items()}
    study = resolve_part(Study, values)
    for name, encoder in study.encoders.items():
        for missing in study.data.keys() - encoder.encoder.keys() if isinstance(encoder.encoder, dict) else ():
            raise UserError(f"encoders.{name}.encoder names none for the data set {missing!r}. Add it, or name one path for all.")
        if encoder.encoder is None:  # reports a misspelt setting now, not after hours of work
            base = presets.load(encoder.preset) if encoder.preset else Config().model_dump(mode="json")
            method = {"method": encoder.method} if encoder.method else {}
            resolve(merge(merge(base, method), parse_overrides([*study.set, *encoder.set])))
    return study


def _complete(model: type[Frozen], value: Any) -> Any:
    """`value` as a mapping: a data set may be given as its path only, and an encoder without any setting."""
    return {"path": value} if isinstance(value, str) and model is DataSet else {} if value is None else value


def save_study(study: Study) -> None:
    """Write study.yaml into the folder of the study. Raises UserError with the differences if the folder holds another study.

    Data sets, encoders and modes may be added, as finished runs stay valid.
    """
    path = Path(study.out) / STUDY
    if path.is_file():
        old, new = _flatten(resolve_part(Study, read_yaml(path))), _flatten(study)
        changed = {key for key in old if new.get(key) != old[key]} | {key for key in new.keys() - old.keys() if key[0] not in _EXTENSIBLE}
        if changed:
            lines = "\n".join(f"  {'.'.join(key)}: was {old.get(key)!r}, is {new.get(key)!r}" for key in sorted(changed))
            raise UserError(f"{study.out} has another study, which was started with\n{lines}\nName another out, or use the old settings.")
    write_atomically(path, f"# medssl study\n{to_yaml(study)}".encode())


def _flatten(study: Study) -> dict[tuple[str, ...], Any]:
    """Every setting by its key; each mode has a key of its own."""
    values = yaml.safe_load(to_yaml(study))
    flat: dict[tuple[str, ...], Any] = {("modes", mode): True for mode in values.pop("modes")}
    for part in ("data", "encoders"):
        flat |= {(part, name, key): value for name, of in values.pop(part).items() for key, value in of.items()}
    return flat | {(key,): value for key, value in values.items() if key not in {"out", "device"}}


def plan_jobs(study: Study) -> list[Job]:
    """Every pretraining and fine-tuning of the study, finished or not."""
    return [job for data in study.data for name in study.encoders for job in _encoder_jobs(study, data, name)]


def _encoder_jobs(study: Study, data: str, name: str) -> Iterator[Job]:
    folder_of_data, encoder, data_set = Path(study.out) / data, study.encoders[name], study.data[data]
    common = {"data": data_set.path, "seed": study.seed, "device": study.device}
    after: tuple[str, ...] = ()
    if encoder.encoder is None:
        path, sets = folder_of_data / f"pretrain-{name}", (*study.set, *data_set.set, *encoder.set)
        arguments = {"method": encoder.method, "preset": encoder.preset, **common, "out": str(path), "sets": sets}
        pretrain = Job(f"{data}/{path.name}", "pretrain", path, arguments)
        after = (pretrain.name,)
        yield pretrain
    else:
        path = Path(encoder.encoder if isinstance(encoder.encoder, str) else encoder.encoder[data])
    for mode in study.modes:
        folder, sets = folder_of_data / f"{mode}-{name}", (f"finetune.draws={study.draws}", *study.set, *data_set.set)
        arguments = {"labels": study.labels, "mode": mode, "encoder": str(path), **common, "out": str(folder), "sets": sets}
        arguments["cells"] = str(Path(study.out) / CELLS)
        cells = _count_classifiers(study, mode, _from_weights(study, data, name))
        yield Job(f"{data}/{folder.name}", "finetune", folder, arguments, after, cells)


def _from_weights(study: Study, data: str, name: str) -> bool:
    """Whether the encoder is pretrained from weights, which it is then compared with."""
    sets = (*study.set, *study.data[data].set, *study.encoders[name].set)
    return study.encoders[name].encoder is None and any(item.startswith("backbone.init=") for item in sets)


def _count_classifiers(study: Study, mode: str, from_weights: bool = False) -> int:
    """The number of classifiers of one fine-tuning: on the encoder and on the weights that it started from, on random initialisations, on
    raw pixels. Every draw has its own random initialisation. With all labels all draws are equal, so a deterministic fit is done once:
    always for raw pixels, and for the encoder unless the whole network is trained."""
    fractions = parse_labels(study.labels)
    draws = [_count_draws(study, fraction) for fraction in fractions]
    once = sum(1 if fraction.share == 1 else n for fraction, n in zip(fractions, draws, strict=True))
    return (sum(draws) if mode == "full" else once) * (2 if from_weights else 1) + sum(draws) + once


def _count_draws(study: Study, fraction: LabelFraction) -> int:
    """The number of draws of a fraction. The share of a number of patients is unknown before the data is read, and counts as small."""
    return study.draws if fraction.share is None or fraction.share <= SMALL else min(study.draws, DRAWS_ABOVE)


def is_finished(job: Job) -> bool:
    """Whether the run folder of the job has complete results. Raises UserError if the results belong to another encoder than the job's."""
    if job.command == "pretrain":
        return run_folder.is_finished(job.folder)
    try:
        document = read_results(job.folder)
    except UserError:
        return False
    origin = job.arguments["encoder"]
    card = _read_card(origin)
    if card and card.get("weights_sha256") != document.encoder.weights_sha256:
        raise UserError(f"{job.folder} was made with another encoder than {origin} holds now. Name another out, or delete that run.")
    return True


def _read_card(encoder: str) -> dict[str, Any]:
    """The card of an encoder's run or file; empty if it cannot be read, as the fine-tuning then reports the error."""
    origin = Path(encoder)
    with contextlib.suppress(OSError, ValueError):
        return dict(json.loads(((origin if origin.is_dir() else origin.parent) / CARD).read_text("utf-8")))
    return {}


def pending_jobs(jobs: list[Job]) -> list[Job]:
    """The jobs that are not done yet. A stopped pretraining with a checkpoint is resumed; any other job starts again."""
    tunings = [job for job in jobs if job.command == "finetune" and not is_finished(job)]
    needed = {name for job in tunings for name in job.after}
    trainings = [job for job in jobs if job.name in needed and not is_finished(job)]
    unfinished = {job.name for job in trainings}
    return [_prepare_call(job, unfinished) for job in (*trainings, *tunings)]


def _prepare_call(job: Job, unfinished: set[str]) -> Job:
    arguments = dict(job.arguments)
    if job.command == "pretrain" and any((job.folder / name).is_file() for name in (NEXT, LAST, PREVIOUS)):
        arguments = {"resume": str(job.folder)}
    else:
        arguments["overwrite"] = True
    return replace(job, arguments=arguments, after=tuple(name for name in job.after if name in unfinished))


def with_preparation_jobs(jobs: list[Job]) -> list[Job]:
    """The jobs, with a preparation job before jobs that share a data set: otherwise parallel jobs would each read all of its images."""
    users_of: dict[str, list[Job]] = {}
    for job in jobs:
        if not job.after and "resume" not in job.arguments and (arguments := _prepare_arguments(job)):
            users_of.setdefault(json.dumps(arguments), []).append(job)
    preparation_of: dict[str, Job] = {}
    for number, (arguments, users) in enumerate(users_of.items(), 1):
        if len(users) > 1:
            folder_of_data = users[0].folder.parent
            first = Job(f"{folder_of_data.name}/prepare-{number}", "prepare", folder_of_data / f"prepare-{number}", json.loads(arguments))
            preparation_of |= {job.name: first for job in users}
    preparations = {job.name: job for job in preparation_of.values()}
    return [
        *preparations.values(),
        *(replace(job, after=(preparation_of[job.name].name,)) if job.name in preparation_of else job for job in jobs),
    ]


def _prepare_arguments(job: Job) -> dict[str, Any] | None:
    """The arguments of `medssl prepare` for the data of a job; None if the card of its encoder cannot be read."""
    arguments, sets = job.arguments, [item for item in job.arguments["sets"] if item.startswith("data.")]
    if job.command == "finetune":
        data = _read_card(arguments["encoder"]).get("config", {}).get("data", {})
        if not data:
            return None
        sets += [f"data.{name}={json.dumps(value)}" for name, value in deciding_settings(data).items()]
    return {"data": arguments["data"], "preset": arguments.get("preset"), "sets": sorted(sets)}
