"""NNCLR against sums written out in float64, the limit in which it is InfoNCE, and its order of look-up and push."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from small import noise_batch, small_method

REFERENCE = "eq. 3 summed pair by pair; InfoNCE, where the support set is the batch"
FAULTS = {
    "pairs swapped": ("info_nce(nn1, p2, tau, excluded)", "info_nce(nn1, p1, tau, excluded)"),
    "temperature dropped": ("self.support.rows, self.config.temperature", "self.support.rows, 1.0"),
    "push forgotten": ("self.support.push(step.push)", "pass"),
    "predictions pushed": ("push=Rows(z1, tags)", "push=Rows(p1.detach(), tags)"),
    "gradient into the neighbours": ("l2_normalize(z).detach()", "l2_normalize(z)"),
    "same patients kept as negatives": ("mask_same_patient=self.config.mask_same_patient", "mask_same_patient=False"),
}


def embeddings(m, batch) -> list[torch.Tensor]:
    """z1, z2, p1, p2 as the module's head defines them."""
    with torch.no_grad():
        z = m.projector(m.encoder(torch.cat(batch.views)))
        return [*F.normalize(z, dim=1).chunk(2), *F.normalize(m.predictor(z), dim=1).chunk(2)]


def written_out(zs_and_ps, Q, tau, negative=lambda i, k: True) -> torch.Tensor:
    """Eq. 3 over both views, pair by pair; `negative(i, k)`: whether k is one for i."""
    z1, z2, p1, p2, Q = (np.asarray(x) for x in (*zs_and_ps, Q))
    total = 0.0
    for z, p in ((z1, p2), (z2, p1)):
        for i in range(len(z)):
            nn = max(Q, key=lambda row: row @ z[i])
            scores = {k: np.exp(nn @ p[k] / tau) for k in range(len(z)) if k == i or negative(i, k)}
            total -= np.log(scores[i] / sum(scores.values())) / len(z) / 2
    return torch.tensor(total, dtype=torch.float64)


def test_the_loss_equals_eq_3_written_out_in_float64(agrees):
    m, batch = small_method("nnclr", temperature=0.3).double(), noise_batch()
    agrees(m(batch).loss, written_out(embeddings(m, batch), m.support.rows.clone(), tau=0.3))


def test_a_patients_other_images_are_no_negatives_where_they_are_masked(agrees):
    m, batch = small_method("nnclr", mask_same_patient=True).double(), noise_batch()
    assert batch.patients is not None
    patient = batch.patients.tolist()
    expected = written_out(embeddings(m, batch), m.support.rows.clone(), 0.1, lambda i, k: patient[i] != patient[k])
    agrees(m(batch).loss, expected)


def test_likely_false_negatives_are_no_negatives_where_they_are_cancelled(agrees):
    m, batch = small_method("nnclr", cancel=2).double(), noise_batch()
    z1, z2, p1, p2 = embeddings(m, batch)
    alike = np.asarray(z1 @ z2.T + z2 @ z1.T)
    false = [sorted((k for k in range(6) if k != i), key=lambda k: -alike[i, k])[:2] for i in range(6)]
    agrees(m(batch).loss, written_out((z1, z2, p1, p2), m.support.rows.clone(), 0.1, lambda i, k: k not in false[i]))


def test_nnclr_whose_support_set_is_the_batch_is_info_nce(agrees):
    """NN(z, Q) = z where z is a row of Q: what is left is InfoNCE between one view's projections and the other's predictions."""
    m, batch = small_method("nnclr", support_size=12).double(), noise_batch()
    z1, z2, p1, p2 = embeddings(m, batch)
    m.support.rows.copy_(torch.cat([z1, z2]))
    target = torch.arange(6)
    agrees(m(batch).loss, (F.cross_entropy(z1 @ p2.T / 0.1, target) + F.cross_entropy(z2 @ p1.T / 0.1, target)) / 2)


def test_looked_up_before_it_is_pushed_no_sample_finds_itself_within_a_step():
    m = small_method("nnclr")
    for step in range(5):
        result = m(noise_batch(step))
        assert (m.support.tags[:, 3] < step).all()
        assert ((result.lookup.nn - result.lookup.z).norm(dim=1) > 1e-4).all()
        m.after_update(result, 0.0)
        assert torch.equal(m.support.nearest(result.push.values, result.push.tags)[:, 0], step * 6 + torch.arange(6)), "after it, all do"


def test_the_projections_of_the_first_view_are_pushed_with_what_is_known_of_them():
    m, batch = small_method("nnclr"), noise_batch(3)
    step = m(batch)
    torch.testing.assert_close(step.push.values, embeddings(m, batch)[0])
    assert batch.patients is not None
    assert batch.labels is not None
    known = zip(batch.rows.tolist(), batch.patients.tolist(), batch.labels.tolist(), strict=True)
    assert step.push.tags.tolist() == [[*of, 3] for of in known]


def test_gradient_enters_the_predictions_and_neither_the_support_set_nor_the_neighbours():
    m = small_method("nnclr", support_size=12)
    z1, z2, _, _ = embeddings(m, noise_batch())
    m.support.rows.copy_(torch.cat([z1, z2]))
    step = m(noise_batch())
    assert not m.support.rows.requires_grad
    assert not any(x.requires_grad for x in (step.lookup.z, step.lookup.nn, step.push.values, *step.embeddings))
    step.loss.backward()
    assert m.predictor[0].weight.grad.abs().sum() > 0


@pytest.mark.parametrize("order", [[5, 4, 3, 2, 1, 0], [1, 0, 3, 5, 2, 4]])
def test_permuting_the_batch_leaves_the_loss_as_it_is(order, agrees):
    m, batch = small_method("nnclr").double(), noise_batch()
    permuted = type(batch)(tuple(view[order] for view in batch.views), batch.rows[order], 0, 0)
    agrees(m(batch).loss, m(permuted).loss)
