"""MODEL_CARD.md: what the card of an encoder says, for people, in the form of the model hubs (a YAML head, then sections)."""

from collections.abc import Mapping
from typing import Any

from medssl.data.split import seen_counts
from medssl.data.volume_slices import samples_of
from medssl.types import edges

NAME = "MODEL_CARD.md"
CITATION = "The medssl contributors. medssl: self-supervised pretraining on medical images. Please cite the paper of the method, too."
LICENCE = "as the training data allows; medssl claims none"
_FACTS = ("knn", "probe", "rankme", "embedding_std", "loss")


def render(card: Mapping[str, Any], usage: str = "") -> str:
    """The text. `usage`: the Python lines that use the encoder. Lines are left out where the card of an earlier version lacks the entry."""
    method, network = card.get("method", {}), card["backbone"].get("model", card["backbone"]["name"])
    title = method.get("title", method.get("name", "self-supervised pretraining"))
    shape = ", ".join(map(str, (card["channels"], *edges(card["size"]))))
    parts = [_head(card), f"# {network}, pretrained with {title}", card.get("intended_use", "")]
    if usage:
        parts += ["## Use", f"```python\n{usage}\n```"]
    parts += [
        "## Input and output",
        f"Images of shape [N, {shape}], {card.get('intensity', 'float in [0, 1]')}. "
        f"Mean {_numbers(card['mean'])} and standard deviation {_numbers(card['std'])} are those of the training images, one for each "
        f"channel. The output are features of shape [N, {card['num_features']}].",
        _bullets(card.get("preparation", {}).get("settings", {})),
        "## Training",
        *_training(card),
        "## Licence and citation",
        f"Licence: {card.get('licence', LICENCE)}. {card.get('citation', CITATION)}",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _head(card: Mapping[str, Any]) -> str:
    """The YAML head that hubs read. A licence that is no identifier of theirs is "other" there, and stands in the text."""
    licence = card.get("licence", LICENCE)
    known = licence.lower() if licence and " " not in licence else "other"
    tags = ["medical-imaging", "self-supervised-learning", "medssl", *filter(None, [card.get("method", {}).get("name")])]
    return "\n".join(
        [
            "---",
            f"license: {known}",
            f"library_name: {card['backbone']['name']}",
            "pipeline_tag: image-feature-extraction",
            "tags:",
            *(f"- {tag}" for tag in tags),
            "---",
        ]
    )


def _training(card: Mapping[str, Any]) -> list[str]:
    method, sentences = card.get("method", {}), []
    if "title" in method:
        labels = "with the labels of its images" if method.get("uses_labels") else "without labels"
        sentences.append(f"Method: {method['title']}, {labels}.")
    if "pretraining" in card:
        counts = seen_counts(card)
        seen = f"{counts['pixels']} different {samples_of(card)}"
        sentences.append(f"Seen in training: {seen}, of {counts['patients']} patients or what counts as one.")
    measured = {name: card.get("facts", {})[name] for name in _FACTS if name in card.get("facts", {})}
    made = ", ".join(f"{name} {value}" for name, value in card.get("provenance", {}).items() if name != "run")
    return [" ".join(sentences), _bullets({name: f"{value:.4g}" for name, value in measured.items()}), f"Made with {made}." if made else ""]


def _bullets(values: Mapping[str, Any]) -> str:
    return "\n".join(f"- {name}: {value}" for name, value in values.items())


def _numbers(values: list[float]) -> str:
    return ", ".join(f"{value:.9g}" for value in values)
