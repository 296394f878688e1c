"""Gated attention over the slices of a volume (Ilse, Tomczak, Welling 2018, arXiv 1802.04712, eq. 8 and 9).

h_i   features of slice i
e_i = w (tanh(V h_i) * sigmoid(U h_i)),     a = softmax(e) over the slices of a volume
z   = sum_i a_i h_i                         the features of the volume
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

HIDDEN = 32


class GatedAttention(nn.Module):
    """The weights of a volume's slices. `width`: of the features."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.V, self.U, self.w = nn.Linear(width, HIDDEN), nn.Linear(width, HIDDEN), nn.Linear(HIDDEN, 1, bias=False)
        nn.init.zeros_(self.w.weight)

    def scores(self, features: Float[Tensor, "s d"]) -> Float[Tensor, " s"]:
        """e, before the softmax over the slices of a volume."""
        return self.w(torch.tanh(self.V(features)) * torch.sigmoid(self.U(features)))[:, 0]

    def squares(self) -> Float[Tensor, ""]:
        """The sum of all squared weights, for a penalty."""
        return sum((layer.weight.square().sum() for layer in (self.V, self.U, self.w)), self.w.weight.new_zeros(()))

    def forward(self, features: Float[Tensor, "s d"], starts: Int[Tensor, " v"]) -> Float[Tensor, "v d"]:
        """z of each volume. `features`: of its slices, volume by volume; `starts`: where each volume begins."""
        sizes = torch.diff(starts, append=starts.new_tensor([len(features)]))
        volume, scores = torch.repeat_interleave(torch.arange(len(starts), device=starts.device), sizes), self.scores(features)
        largest = scores.new_full((len(starts),), -torch.inf).scatter_reduce(0, volume, scores.detach(), "amax")
        shares = (scores - largest[volume]).exp()
        total = torch.zeros_like(largest).index_add(0, volume, shares)
        return features.new_zeros(len(starts), features.shape[1]).index_add(0, volume, features * (shares / total[volume])[:, None])

    def without_each(self, features: Float[Tensor, "s d"]) -> Float[Tensor, "s d"]:
        """z of one volume of at least two slices, without its first slice, without its second one, and so on."""
        scores = self.scores(features)
        shares, most = (scores - scores.max()).exp()[:, None], scores.argmax()
        without = ((shares * features).sum(dim=0) - shares * features) / (shares.sum() - shares)
        scores[most] = -torch.inf  # without it, nothing may be left of the sums
        without[most] = scores.softmax(dim=0) @ features
        return without
