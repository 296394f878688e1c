"""NNCLR against a sum written out in float64, and its order of look-up and push."""

import numpy as np
import torch
import torch.nn.functional as F

from medssl.methods.nnclr import neighbour_of


def test_the_loss_equals_eq_3_written_out_in_float64(make_method, make_batch):
    m, batch = make_method("nnclr", temperature=0.3), make_batch()
    Q = m.support.rows.double().numpy().copy()
    found = float(m(batch).loss.detach())
    with torch.no_grad():
        z = m.projector(m.encoder(torch.cat(batch.views)))
        z1, z2 = F.normalize(z, dim=1).double().numpy().reshape(2, 6, 16)
        p1, p2 = F.normalize(m.predictor(z), dim=1).double().numpy().reshape(2, 6, 16)

    def one_side(z: np.ndarray, p: np.ndarray) -> float:
        total = 0.0
        for i in range(6):
            nn = max(Q, key=lambda row: row @ z[i])
            scores = [np.exp(nn @ p[k] / 0.3) for k in range(6)]
            total -= np.log(scores[i] / sum(scores))
        return total / 6

    assert abs(found - (one_side(z1, p2) + one_side(z2, p1)) / 2) < 1e-5


def test_within_a_step_no_sample_finds_itself(make_method, make_batch):
    m = make_method("nnclr")
    for step in range(5):
        before = m.support.rows.clone()
        result = m(make_batch(step))
        assert torch.equal(m.support.rows, before), "looked up before it is pushed"
        assert ((neighbour_of(result.push, before) - result.push).norm(dim=1) > 1e-4).all()
        m.after_update(result, 0.0)
        assert torch.equal(neighbour_of(result.push, m.support.rows), m.support.rows[step * 6 : step * 6 + 6])


def test_no_gradient_enters_the_support_set(make_method, make_batch):
    m = make_method("nnclr")
    m(make_batch()).loss.backward()
    assert m.support.rows.grad is None
    assert not m.support.rows.requires_grad


def test_permuting_the_batch_leaves_the_loss_as_it_is(make_method, make_batch):
    m = make_method("nnclr").eval()  # running statistics: batch normalisation sees no order
    batch = make_batch()
    order = torch.randperm(6)
    permuted = type(batch)(tuple(view[order] for view in batch.views), batch.rows[order], 0, 0)
    torch.testing.assert_close(m(batch).loss, m(permuted).loss, rtol=1e-5, atol=1e-6)
