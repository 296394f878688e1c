"""DINO against lightly's loss and centre, against its sum written out in float64, and its schedules by hand."""

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lightly.loss import DINOLoss
from small import batch_for, noise_batch, small_method, train
from torch import nn

from medssl.methods import dino
from medssl.types import LocalViews

REFERENCE = "lightly DINOLoss"
FAULTS = {
    "centring dropped": ("((t.detach() - centre) / tau_t)", "(t.detach() / tau_t)"),
    "temperatures swapped": ("self.config.temperature, self.tau_t)", "float(self.tau_t), torch.tensor(self.config.temperature))"),
    "views compared with themselves": ("(H.sum() - H.diagonal().sum()) / (H.numel() - len(H))", "H.mean()"),
    "teacher sees the local crops": ("self.teacher_head, batch.views[:2])", "self.teacher_head, batch.views)"),
    "gradient into the teacher's output": ("((t.detach() - centre)", "((t - centre)"),
    "centre of the student": ("t.mean(dim=(0, 1))", "s[:2].detach().mean(dim=(0, 1))"),
    "centre's average reversed": ("1 - self.config.centre_momentum", "self.config.centre_momentum"),
    "centre starts at nothing": ("(1 / self.updates).clamp(min=1 - self.config.centre_momentum)", "1 - self.config.centre_momentum"),
    "embeddings not of unit length": ("l2_normalize(head(encoder(torch.cat(group))))", "head(encoder(torch.cat(group)))"),
    "prototypes not of unit length": ("F.linear(y, l2_normalize(self.rows))", "F.linear(y, self.rows)"),
    "teacher's prototypes stand still": ("update_target(self.teacher_prototypes, self.prototypes, momentum)", "pass"),
    "teacher's temperature stands still": ("self.tau_t.fill_(", "float("),
}


def outputs(views: int = 5) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """s, t and a centre: 3 samples, 7 prototypes."""
    random = torch.Generator().manual_seed(0)
    shapes = (views, 3, 7), (2, 3, 7), (7,)
    s, t, centre = (torch.rand(shape, generator=random, dtype=torch.float64) * 2 - 1 for shape in shapes)
    return s, t, centre


def lightlys(centre: torch.Tensor, tau_s: float, tau_t: float) -> DINOLoss:
    loss = DINOLoss(len(centre), teacher_temp=tau_t, student_temp=tau_s).double()
    loss.center.copy_(centre)
    return loss


def apart(**options):
    """A method in float64 whose student has left its teacher, with a centre."""
    method = small_method("dino", **options)
    train(method, steps=2, lr=0.1)
    return method.double()


def cosines(encoder: nn.Module, head: nn.Module, prototypes: dino.Prototypes, views: tuple[torch.Tensor, ...]) -> list[np.ndarray]:
    """The outputs for each of the views, which have one size, by the paper's words."""
    if not views:
        return []
    with torch.no_grad():
        y, rows = head(encoder(torch.cat(views))).numpy(), prototypes.rows.numpy()
    y, rows = (x / np.sqrt((x**2).sum(axis=1, keepdims=True)) for x in (y, rows))
    return np.split(y @ rows.T, len(views))


def test_the_loss_equals_lightlys(agrees):
    s, t, centre = outputs()
    tau_t = torch.tensor(0.07)
    expected = lightlys(centre, 0.1, 0.07)(list(t), list(s))
    agrees(dino.dino_loss(s, t, centre, 0.1, tau_t), expected)


@pytest.mark.parametrize("local", [0, 3])
def test_the_loss_of_a_batch_equals_the_cross_entropies_of_different_views_written_out(agrees, local):
    m = apart(temperature=0.2, local_crops=local)
    batch = batch_for(m, step=5)
    whole, small = batch.views[:2], batch.views[2:]
    student = cosines(m.encoder, m.head, m.prototypes, whole) + cosines(m.encoder, m.head, m.prototypes, small)
    teacher = cosines(m.teacher_encoder, m.teacher_head, m.teacher_prototypes, whole)
    assert (len(student), len(teacher)) == (2 + local, 2)
    centre, tau_t, terms = m.centre.numpy().copy(), float(m.tau_t), []
    for i, t in enumerate(teacher):
        for j, s in enumerate(student):
            for b in range(6 if i != j else 0):
                P_t, P_s = (np.exp(x) / np.exp(x).sum() for x in ((t[b] - centre) / tau_t, s[b] / 0.2))
                terms.append(-(P_t * np.log(P_s)).sum())
    assert len(terms) == (2 * (2 + local) - 2) * 6
    agrees(m(batch).loss, torch.tensor(np.mean(terms)))


def test_the_losss_gradient_is_its_derivative_by_the_student_and_none_enters_the_teacher():
    s, t, centre = outputs(views=3)
    tau_t = torch.tensor(0.5)
    assert torch.autograd.gradcheck(lambda s: dino.dino_loss(s, t, centre, 0.4, tau_t), (s.requires_grad_(),))
    dino.dino_loss(s, t.requires_grad_(), centre, 0.4, tau_t).backward()
    assert t.grad is None


def test_gradient_enters_every_weight_of_the_student_and_none_of_the_teacher():
    m = apart()
    m(batch_for(m)).loss.backward()
    for name, parameter in m.named_parameters():
        assert (parameter.grad is None) == name.startswith("teacher_"), name


def test_a_student_without_a_choice_costs_log_k_and_one_that_knows_costs_nothing(agrees):
    K = 7
    t = 5 * F.one_hot(torch.arange(6).reshape(2, 3) % 3, K).double()
    centre, tau_t = torch.zeros(K, dtype=torch.float64), torch.tensor(0.04)
    agrees(dino.dino_loss(torch.zeros_like(t), t, centre, 0.1, tau_t), torch.tensor(math.log(K), dtype=torch.float64))
    agrees(dino.dino_loss(t, t, centre, 0.1, tau_t), torch.zeros((), dtype=torch.float64))


def test_what_all_of_the_teachers_outputs_share_is_taken_away_by_its_centre(agrees):
    """One prototype that always wins, the collapse that centring is there for."""
    s, t, centre = outputs()
    tau_t = torch.tensor(0.07)
    shared = 10 * F.one_hot(torch.tensor(2), 7).double()
    agrees(dino.dino_loss(s, t + shared, centre + shared, 0.1, tau_t), dino.dino_loss(s, t, centre, 0.1, tau_t))


def test_neither_the_order_of_the_batch_nor_the_length_of_rows_and_prototypes_changes_the_loss(agrees):
    m = apart()
    batch = batch_for(m)
    expected = m(batch).loss
    agrees(m(replace(batch, views=tuple(view.flip(0) for view in batch.views))).loss, expected)
    with torch.no_grad():
        for parameter in (*m.head[-1].parameters(), m.prototypes.rows, m.teacher_prototypes.rows):
            parameter *= 3
    agrees(m(batch).loss, expected)
    agrees(m(batch).embeddings[0].norm(dim=1), torch.ones(6, dtype=torch.float64))


def test_local_crops_change_neither_the_whole_views_embeddings_nor_what_the_teacher_says(agrees):
    m = apart()
    batch = batch_for(m)
    other = replace(batch, views=(*batch.views[:2], *(1 - view for view in batch.views[2:])))
    one, two = m(batch), m(other)
    assert abs(float(one.loss.detach() - two.loss.detach())) > 1e-4
    agrees(one.carry["mean of t"], two.carry["mean of t"])
    agrees(torch.cat(one.embeddings), torch.cat(two.embeddings))


def test_after_three_steps_the_centre_is_lightlys(agrees):
    m = apart(centre_momentum=0.8)
    m.updates.fill_(5)  # so many have 1 / 5 as the share of the last
    reference = DINOLoss(24, center_momentum=0.8).double()
    reference.center.copy_(m.centre)
    for number in range(3):
        batch = batch_for(m, number)
        whole = cosines(m.teacher_encoder, m.teacher_head, m.teacher_prototypes, batch.views[:2])
        reference.update_center(torch.from_numpy(np.stack(whole)))
        m.after_update(m(batch), 0.0)
        agrees(m.centre, reference.center.flatten())


def test_until_the_average_has_so_many_the_centre_is_the_mean_of_all_batches(agrees):
    m = small_method("dino", centre_momentum=0.75).double()
    means = torch.rand(6, 24, dtype=torch.float64)
    step = m(batch_for(m))
    for number, mean in enumerate(means, start=1):
        m.after_update(replace(step, carry={"mean of t": mean}), 0.0)
        if number <= 4:
            agrees(m.centre, means[:number].mean(dim=0))
    agrees(m.centre, 0.75**2 * means[:4].mean(dim=0) + 0.75 * 0.25 * means[4] + 0.25 * means[5])


@pytest.mark.parametrize(("progress", "share"), [(0.0, 0.1), (0.5, 0.05), (1.0, 0.0)])
def test_the_teacher_follows_by_a_share_that_falls_to_nothing(agrees, progress, share):
    """momentum 0.9: 1 - lambda is 0.1 at first, by half a cosine 0.05 half way, and 0 at the end."""
    m = apart(momentum=0.9)
    before = copy.deepcopy(m)
    m.after_update(m(batch_for(m)), progress)
    for part in ("encoder", "head", "prototypes"):
        old, new = (list(getattr(state, f"teacher_{part}").parameters()) for state in (before, m))
        student = list(getattr(m, part).parameters())
        assert any(not torch.equal(o, s) for o, s in zip(old, student, strict=True)), "the networks are apart"
        for o, n, s in zip(old, new, student, strict=True):
            agrees(n, o + share * (s - o))


@pytest.mark.parametrize(
    ("warmup", "progress", "expected"),
    [(0.1, 0.0, 0.04), (0.1, 0.05, 0.055), (0.1, 0.1, 0.07), (0.1, 1.0, 0.07), (0.0, 0.0, 0.07), (1.0, 0.5, 0.055)],
)
def test_the_teachers_temperature_rises_along_a_line_to_the_end_of_its_warm_up(agrees, warmup, progress, expected):
    m = small_method("dino", teacher_warmup=warmup).double()
    m.after_update(m(noise_batch()), progress)
    agrees(m.tau_t, torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize(("warmup", "expected"), [(0.1, 0.04), (0.0, 0.07)])
def test_the_first_step_has_the_first_temperature_where_there_is_a_warm_up(warmup, expected):
    assert float(small_method("dino", teacher_warmup=warmup).tau_t) == pytest.approx(expected)


def test_it_asks_for_the_local_crops_of_its_options():
    assert small_method("dino").local_views == LocalViews(6, 96 / 224, (0.05, 0.4), (0.4, 1.0))
    assert small_method("dino", local_crops=2, local_edge=0.5).local_views == LocalViews(2, 0.5, (0.05, 0.4), (0.4, 1.0))


def test_without_batch_norm_the_head_is_the_papers_but_for_the_number_of_prototypes():
    """Section 3.1: three layers with GELU, 2048 wide, to 256, without batch norm for a network that has none; K is 4096 for 65,536."""
    m = dino.build(dino.Config(head_norm=False), small_method("dino").encoder)
    assert [type(layer) for layer in m.head] == [nn.Linear, nn.GELU, nn.Linear, nn.GELU, nn.Linear]
    assert [layer.out_features for layer in m.head if isinstance(layer, nn.Linear)] == [2048, 2048, 256]
    assert m.prototypes.rows.shape == (4096, 256)
