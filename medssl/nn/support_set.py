"""The support set Q: the latest unit embeddings, in which nearest neighbours are looked up (NNCLR, section 3.2).

Its rows, what is known of each (`tags`) and the number of rows ever pushed are buffers: they are in every checkpoint. Rows are looked
up before the batch is pushed, or each sample would find itself; the training loop sees to that by pushing after the update.
"""

from dataclasses import dataclass
from typing import Annotated, Literal, get_args

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor, nn

from medssl.nn.gather import gather
from medssl.nn.losses import l2_normalize, no_autocast
from medssl.types import Batch, Rows

ROW, PATIENT, LABEL, STEP = range(4)  # the columns of tags; -1 is "not known", and "never" in the rows that Q starts with
Neighbours = Literal["any", "other_images", "other_patients", "same_patient"]
SupportSize = Annotated[int, Field(ge=1)] | Literal["auto"]  # of a method's configuration
_LARGEST = 16_384  # "auto" takes no more: the cost of a look-up grows with the set
_BLOCK = 4096  # rows of Q compared at once: 8 MB of scores for a batch of 512, where the whole product of 65,536 rows takes 134 MB
_GROUP = 16  # rows of which the largest score is kept; divides _BLOCK


def fit_support_size(images: int, largest: int = _LARGEST) -> int:
    """The number of rows that "auto" means: half the training `images`, so that an image meets others and not its own past, at most
    `largest`."""
    return min(largest, max(1, images // 2))


def tags_of(batch: Batch) -> Int[Tensor, "b 4"]:
    """Row, patient, label and step of each sample of the whole batch, that of all devices; a patient who is not known is the image."""
    if batch.tags is not None:
        return batch.tags
    patients = batch.rows if batch.patients is None else batch.patients
    labels = torch.full_like(batch.rows, -1) if batch.labels is None else batch.labels
    return gather(torch.stack([batch.rows, patients, labels, torch.full_like(batch.rows, batch.step)], dim=1))


class _Table:
    """Rows in which neighbours are looked up; `neighbours` as in `SupportSet`."""

    rows: Tensor
    tags: Tensor
    neighbours: Neighbours

    @no_autocast
    def nearest(self, z: Float[Tensor, "b d"], tags: Int[Tensor, "b 4"], k: int = 1) -> Int[Tensor, "b k"]:
        """The k rows with the largest dot product with each z, best first: nearest in angle, as all are unit vectors. `tags`: of z.

        Of each group of neighbouring rows only the largest score is kept; the k best rows lie in the k best groups, whose scores are
        computed once more. So the search reads few numbers, and the product is never held whole.
        """
        group = _GROUP if len(self.rows) % _GROUP == 0 else 1
        with torch.no_grad():
            of_z = z.T.contiguous()
            room, best = of_z.new_empty(min(_BLOCK, len(self.rows)), len(z)), []
            for rows, of_rows in zip(self.rows.split(_BLOCK), self.tags.split(_BLOCK), strict=True):
                scores = torch.mm(rows, of_z, out=room[: len(rows)])
                best.append(self._adjust_scores(scores, tags, of_rows[:, None]).unflatten(0, (-1, group)).amax(dim=1))
            of_groups = torch.cat(best)
            best_groups = of_groups.max(dim=0, keepdim=True) if k == 1 else of_groups.topk(min(k, len(of_groups)), dim=0)
            rows = (best_groups.indices.T[:, :, None] * group + torch.arange(group, device=z.device)).flatten(1)
            scores = self._adjust_scores((self.rows[rows] @ z[:, :, None])[..., 0], tags[:, None], self.tags[rows])
            return rows.gather(1, scores.topk(k, dim=1).indices)

    def _adjust_scores(self, scores: Float[Tensor, "m n"], z_tags: Int[Tensor, "*m 4"], tags: Int[Tensor, "*n 4"]) -> Float[Tensor, "m n"]:
        """Scores, which lie in [-1, 1], moved by 4 where `neighbours` forbids or prefers a row."""
        if self.neighbours == "any":
            return scores
        same_image, same_patient = match_tags(z_tags, tags, ROW), match_tags(z_tags, tags, PATIENT)
        if self.neighbours == "other_patients":
            return scores - 4 * (same_patient | same_image)
        return scores - 4 * same_image + (4 * (same_patient & ~same_image) if self.neighbours == "same_patient" else 0)


@dataclass(frozen=True)
class Preview(_Table):
    """What a support set would hold after a push."""

    rows: Tensor
    tags: Tensor
    neighbours: Neighbours


class SupportSet(_Table, nn.Module):
    """`size` unit rows of `width` numbers, random at the start as NNCLR's are; new rows take the place of the oldest.

    `neighbours` says which rows may be found: "any"; "other_images", not the image's own earlier embeddings, which a set larger than
    the data holds; "other_patients"; "same_patient", another image of the same patient where the set has one (as MICLe's positives,
    Azizi et al. 2021), any other image where not. `clusters`: with k > 0, new rows take the place of the oldest rows of the largest of
    k clusters of Q (spherical k-means, one Lloyd step a push), so that rare kinds of images stay; 0 is first in, first out.
    """

    pushed: Tensor
    centroids: Tensor

    def __init__(self, size: int, width: int, neighbours: Neighbours = "any", clusters: int = 0) -> None:
        super().__init__()
        assert neighbours in get_args(Neighbours), neighbours
        self.neighbours = neighbours
        self.register_buffer("rows", l2_normalize(torch.randn(size, width)))
        self.register_buffer("tags", torch.full((size, 4), -1))
        self.register_buffer("pushed", torch.zeros((), dtype=torch.int64))
        self.register_buffer("centroids", self.rows[: min(clusters, size)].clone())

    def push(self, new: Rows) -> None:
        """Write `new`, oldest first, over the oldest rows; of more rows than fit, the last ones stay. Works for every number of rows.

        A row that is not finite would be everybody's nearest neighbour: the training loop applies no step that has one. It is not asked
        for here, where the answer would make the host wait for the device.
        """
        values, tags, place, centroids = self._place(new)
        self.rows[place], self.tags[place] = values, tags
        if len(centroids):
            self.centroids.copy_(centroids)
        self.pushed += len(new.values)

    def preview(self, new: Rows) -> Preview:
        """The rows as `push` would leave them; this set stays as it is."""
        values, tags, place, _ = self._place(new)
        return Preview(self.rows.index_put((place,), values), self.tags.index_put((place,), tags), self.neighbours)

    def _place(self, new: Rows) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Of a push: the rows and tags to be written, their places, and the new centroids."""
        values = l2_normalize(new.values.detach())[-len(self.rows) :].to(self.rows.dtype)
        if len(self.centroids):
            place, centroids = self._largest_clusters(len(values))
        else:
            place, centroids = self._oldest(len(new.values))[-len(values) :], self.centroids
        return values, new.tags[-len(values) :], place, centroids

    def _oldest(self, number: int) -> Int[Tensor, " n"]:
        return (self.pushed + torch.arange(number, device=self.rows.device)) % len(self.rows)

    def _largest_clusters(self, number: int) -> tuple[Int[Tensor, " n"], Float[Tensor, "k d"]]:
        """The rows that have the most newer ones beside them in their cluster: taking those away levels the largest clusters. And the new
        centroids."""
        fit, cluster = (self.rows @ self.centroids.T).max(dim=1)
        # As torch.bincount, for whose result the host would wait to know how long it is.
        counts = cluster.new_zeros(len(self.centroids)).index_add_(0, cluster, torch.ones_like(cluster))
        means = l2_normalize(torch.zeros_like(self.centroids).index_add_(0, cluster, self.rows))
        distant = self.rows[fit.topk(len(means), largest=False).indices]  # an empty cluster begins anew at a row that fits nowhere
        centroids = torch.where(counts[:, None] > 0, means, distant)
        order = torch.argsort(self.tags[:, STEP], descending=True, stable=True)  # newest first
        order = order[torch.argsort(cluster[order], stable=True)]  # cluster after cluster
        newer = torch.empty_like(order)
        newer[order] = torch.arange(len(order), device=order.device) - (counts.cumsum(0) - counts)[cluster[order]]
        return newer.topk(number).indices, centroids


def match_tags(z_tags: Int[Tensor, "*m 4"], tags: Int[Tensor, "*n 4"], column: int) -> Bool[Tensor, "..."]:
    """True where both have the same number in a column, and it is known. The two are broadcast against each other."""
    return (z_tags[..., column] == tags[..., column]) & (tags[..., column] >= 0)
