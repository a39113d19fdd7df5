from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional
from transformers import CLIPConfig

from foveal.tasks.counting.point_model import (
    PointCounter,
    PointCounterConfig,
    _divergence,
    grid_positions,
    trainable_parameters,
)


def small(**more) -> PointCounter:
    torch.manual_seed(0)
    return PointCounter(PointCounterConfig(24, 16, hidden=32, heads=2, dropout=0.0, **more)).eval()


def test_it_has_0_9_million_parameters_on_clip_vit_b_32() -> None:
    clip = CLIPConfig()  # The defaults are ViT-B/32's sizes.
    assert (clip.vision_config.patch_size, clip.vision_config.hidden_size, clip.projection_dim) == (32, 768, 512)
    number = trainable_parameters(PointCounterConfig(clip.vision_config.hidden_size, clip.projection_dim))
    assert number == 890_116
    assert 800_000 < number < 1_000_000


def test_the_losses_equal_their_definitions_row_by_row() -> None:
    model = small(coordinate_weight=2.0, done_weight=0.7, consistency_weight=0.3)
    patches, again, text = torch.randn(5, 9, 24), torch.randn(5, 9, 24), torch.randn(5, 16)
    target = torch.tensor([[0.1, 0.1], [0.99, 0.5], [0.4, 0.9], [0.0, 0.0], [1.0, 1.0]])
    done = torch.tensor([False, False, True, False, False])
    out = model(patches, text, target, done, again)
    logits, end, offsets = model.see(patches, text)
    other, other_end, _ = model.see(again, text)
    coord = ends = same = 0.0
    for i in range(5):
        ends += float(functional.binary_cross_entropy_with_logits(end[i], done[i].float()))
        p = torch.cat((logits[i].softmax(0) * (1 - end[i].sigmoid()), end[i].sigmoid()[None]))
        q = torch.cat((other[i].softmax(0) * (1 - other_end[i].sigmoid()), other_end[i].sigmoid()[None]))
        same += float(
            0.5 * (functional.kl_div(q.log(), p, reduction="sum") + functional.kl_div(p.log(), q, reduction="sum"))
        )
        if not done[i]:
            column, row = (min(2, math.floor(float(v) * 3)) for v in target[i])
            cell = row * 3 + column
            coord += float(-logits[i].log_softmax(0)[cell])
            for axis, place in enumerate((column, row)):
                miss = abs(float(offsets[i, cell, axis]) - (float(target[i, axis]) * 3 - place))
                coord += 0.5 * miss**2 / 0.1 if miss < 0.1 else miss - 0.05
    assert float(out.losses["coord"]) == pytest.approx(coord / 5, rel=1e-4)
    assert float(out.losses["done"]) == pytest.approx(ends / 5, rel=1e-4)
    assert float(out.losses["consistency"]) == pytest.approx(same / 5, rel=1e-4)
    assert float(out.loss) == pytest.approx((2 * coord + 0.7 * ends + 0.3 * same) / 5, rel=1e-4)


def test_done_rows_teach_no_coordinate() -> None:
    model = small()
    patches, text = torch.randn(2, 9, 24), torch.randn(2, 16)
    out = model(patches, text, torch.rand(2, 2), torch.tensor([True, True]))
    assert float(out.losses["coord"]) == 0


def test_a_point_lies_in_its_patch_and_is_recovered_from_its_offset() -> None:
    model = small()
    out = model(torch.randn(7, 16, 24), torch.randn(7, 16))
    best = out.point_logits.argmax(1)
    cell = torch.stack((best % 4, best // 4), 1)
    inside = out.points * 4 - cell
    assert ((inside > 0) & (inside < 1)).all()


def test_two_halves_of_a_batch_sum_to_the_whole() -> None:
    model = small()
    inputs = (
        torch.randn(6, 9, 24),
        torch.randn(6, 16),
        torch.rand(6, 2),
        torch.arange(6) % 3 == 0,
        torch.randn(6, 9, 24),
    )
    whole = model(*inputs, normaliser=6.0).loss
    parts = [model(*(x[s] for x in inputs), normaliser=6.0).loss for s in (slice(0, 2), slice(2, 6))]
    torch.testing.assert_close(whole, sum(parts))


def test_re_encodings_that_look_alike_cost_nothing_and_others_do() -> None:
    logits, done = torch.randn(3, 9), torch.randn(3)
    assert _divergence(logits, done, logits, done).abs().max() < 1e-6
    assert _divergence(logits, done, logits.flip(1), done).min() > 0
    # Shifting all logits of the patches says the same.
    assert _divergence(logits, done, logits + 5, done).abs().max() < 1e-5


def test_grid_positions_tell_all_places_apart() -> None:
    grid = grid_positions(16, 256, torch.zeros(1))[0]
    assert grid.shape == (256, 256)
    distance = torch.cdist(grid, grid) + torch.eye(256) * 99
    assert distance.min() > 0.3
    # The first half tells the column, the second the row.
    torch.testing.assert_close(grid[3, :128], grid[3 + 16 * 7, :128])
    torch.testing.assert_close(grid[16 * 4, 128:], grid[16 * 4 + 9, 128:])


def test_it_is_saved_and_loaded(tmp_path) -> None:
    model = small(tower="builtin")
    model.save_pretrained(tmp_path)
    again = PointCounter.from_pretrained(tmp_path).eval()
    patches, text = torch.randn(2, 9, 24), torch.randn(2, 16)
    torch.testing.assert_close(again(patches, text).point_logits, model(patches, text).point_logits)
    assert again.config.tower == "builtin"
