"""Files beside images that are no samples: masks and label maps, pictures drawn over an image, thumbnails, and a viewer's icons.

A file is such a one by three signs together: its name or its folder says so, it has a partner (the image that it belongs to), and its
content fits: few grey values on the partner's grid, the partner's picture once more, or that picture made smaller. Files of one naming are
judged together, by a sample. Without a telling name the content must be that of a mask beside images of many grey values. So two classes
"mask" and "no_mask" stay, and so does a data set of masks alone.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple, TypeVar

from pydantic import Field

from medssl.config import PluginConfig
from medssl.data.not_samples.content import are_icons, judge
from medssl.data.not_samples.looks import Look, nifti_look, raster_look
from medssl.data.not_samples.partners import Group, in_viewer_folders, named_groups, unnamed_groups

__all__ = ["KEEP", "REASONS", "MasksConfig", "NotSamples", "find", "nifti_look", "raster_look"]
T = TypeVar("T")
_SAMPLE = 8
_MAX_UNNAMED = 32
REASONS = {
    "mask": "masks of other images",
    "overlay": "pictures of other images with something drawn on them",
    "thumbnail": "small copies of other images",
    "icon": "icons of a viewer",
}
KEEP = "--set data.source.masks=keep"


class MasksConfig(PluginConfig):
    """The option of a source in whose folder masks may lie beside images."""

    masks: Literal["skip", "keep"] = Field(
        default="skip",
        description="Whether masks, overlays, thumbnails and icons beside the images are left out (skip) or taken as images (keep).",
    )


class NotSamples(NamedTuple):
    """`files`: {locator: reason in REASONS} of the files to leave out; `notes`: for a person."""

    files: Mapping[str, str]
    notes: tuple[str, ...]

    @property
    def skipped(self) -> tuple[tuple[str, str, str], ...]:
        """The files as entries of a source's `skipped`."""
        return tuple((locator, reason, f"one of the {REASONS[reason]}") for locator, reason in self.files.items())


def find(locators: Sequence[str], look: Callable[[str], Look | None], masks: str = "skip") -> NotSamples:
    """The files among `locators` that are no samples; none where `masks` is keep. `look` opens a file, and returns None where it cannot be
    read. At most eight pairs of each naming are opened."""
    if masks == "keep":
        return NotSamples({}, ())
    found = dict[str, str]()
    doubtful = 0
    for group in named_groups(locators):
        pairs = _look_at_pairs(group, look)
        if reason := judge(pairs, group.words):
            found |= dict.fromkeys(group.files, reason)
        elif pairs:
            doubtful += len(group.pairs)
    rest = [locator for locator in locators if locator not in found]
    for group in unnamed_groups(rest)[:_MAX_UNNAMED]:
        if reason := judge(_look_at_pairs(group, look)):
            found |= dict.fromkeys(group.files, reason)
    found |= dict.fromkeys(_icons([locator for locator in rest if locator not in found], look), "icon")
    if len(found) == len(locators):
        return NotSamples({}, ())
    counts = ", ".join(f"{number} {REASONS[reason]}" for reason, number in Counter(found.values()).most_common())
    notes = [f"left out: {counts}; to take them as images: {KEEP}"] if found else []
    if doubtful:
        notes.append(f"{doubtful} files are named like masks of other images but hold other pictures: taken as images")
    return NotSamples(found, tuple(notes))


def _look_at_pairs(group: Group, look: Callable[[str], Look | None]) -> list[tuple[Look, Look]]:
    """Some pairs of the group that can be read."""
    looks = [(look(file), look(partner)) for file, partner in _spread(group.pairs)]
    return [(own, partner) for own, partner in looks if own is not None and partner is not None]


def _icons(locators: Sequence[str], look: Callable[[str], Look | None]) -> list[str]:
    """The pictures of a viewer among the files."""
    files = in_viewer_folders(locators)
    others = sorted(set(locators).difference(files))
    if not files or len(files) > len(others):
        return []
    icons, images = ([seen for file in _spread(group) if (seen := look(file))] for group in (files, others))
    return files if are_icons(icons, images) else []


def _spread(items: Sequence[T]) -> list[T]:
    """At most eight evenly spaced items."""
    number = min(_SAMPLE, len(items))
    return [items[(2 * at + 1) * len(items) // (2 * number)] for at in range(number)]
