"""The encoder of a fine-tuning with its card, and the configuration that follows from it."""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from medssl.config import Config, Data, merge, resolve
from medssl.data.detect import detect
from medssl.data.split import canonical_labels
from medssl.data.tables.join import REMEDY
from medssl.encoder import artefact
from medssl.errors import UserError
from medssl.finetuning.initialisations import check_same_preparation
from medssl.nn import Encoder
from medssl.runs.resolve_config import absolute_path, check_place, list_source, resolve_config
from medssl.runs.run_dir import START, load_config
from medssl.runs.start import keep_start, with_weights
from medssl.types import Reporter, Source


def load_and_configure(reporter: Reporter, origin: Path, data: str | None, given: dict[str, Any]) -> tuple[Encoder, dict[str, Any], Config]:
    """The encoder at `origin`, its card and the configuration: the pretraining's, with the data's path and `given` (flags, --set) over it.

    Weights of another program have neither card nor configuration: the card is what is known of them, and the configuration is that of the
    preset for the data. Raises UserError where there is no encoder, and where the data is not named or prepared in another way.
    """
    if artefact.is_artefact(origin):
        network, card = artefact.load(origin)
        return network, card, _configure(card, origin, data, given)
    from medssl.encoder.foreign.files import find_file  # timm takes seconds

    find_file(origin)
    if data is None:
        raise UserError(f"{origin} does not name its images. Name the data with --data.")
    config, loaded, _ = with_weights(resolve_config(reporter, data, None, given)[0], origin, given)
    for line in loaded.lines():
        reporter.say(line)
    config = _with_plain_labels(config)
    with TemporaryDirectory() as scratch:  # in the form of every encoder of medssl
        keep_start(Path(scratch), config, loaded)
        network, card = artefact.load(Path(scratch) / START)
    return network, card, config


def list_labelled(reporter: Reporter, config: Config, card: Mapping[str, Any], is_chosen: bool) -> tuple[Source, Config]:
    """The source with the labels of its table, and the configuration. The label column of the pretraining, `data.label`, is only a
    suggestion: where the user has not chosen it (`is_chosen`) and this data lacks it, it is left out. So is the column that the pretraining
    split by, where it holds no classes here.

    Raises UserError for a table that cannot be used: labels may be in it, and patients, who must not be both in training and in the test.
    """
    data = config.data
    suggested = data if is_chosen else data.model_copy(update={"label": ""})
    source = _list_with(data, card["stratum"], suggested)
    if source.table_error:
        raise UserError(f"{source.table_error}\n{REMEDY}")
    columns = {name for record in source.records for name in record.labels}
    if not columns:  # `label_columns` refuses them; the notes may say which column of the table could be the label
        for note in source.notes:
            reporter.say(f"data      {note}")
    if data != suggested and data.label not in columns and not {name.strip() for name in data.label.split(",")} <= columns:
        reporter.say(f"label     this data has no column {data.label!r}, which the pretraining had: its own label is used")
        return source, config.model_copy(update={"data": suggested})
    return source, config


def _list_with(data: Data, stratum: str, otherwise: Data) -> Source:
    """The source with the columns of the pretraining read as labels; as `otherwise` says where they cannot be."""
    try:
        return list_source(data, stratum)
    except UserError:
        return list_source(otherwise)


def _configure(card: dict[str, Any], origin: Path, data: str | None, given: dict[str, Any]) -> Config:
    values = dict(card["config"])
    if data is not None:
        where = {"path": absolute_path(data), "source": {"name": detect(data)}}
    else:
        run = origin if origin.is_dir() else origin.parent
        if not (run / "config.yaml").is_file():
            raise UserError(f"{origin} does not name its images. Name the data with --data.")
        where = {"path": load_config(run).data.path}
    config = resolve(merge(merge(values, {"data": where}), given))
    check_place(config.data, origin)
    check_same_preparation(card, config)
    return _with_plain_labels(config)


def _with_plain_labels(config: Config) -> Config:
    return resolve(merge(config.model_dump(), {"finetune": {"labels": canonical_labels(config.finetune.labels)}}))
