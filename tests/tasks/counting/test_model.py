from __future__ import annotations

import csv
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from clip_files import write_clip
from PIL import Image
from rich.console import Console
from safetensors.torch import load_file
from transformers import CLIPConfig

from foveal.asking.opening import make_asker, open_model
from foveal.config.reading import read_recipe
from foveal.config.sections import Recipe
from foveal.errors import UserError
from foveal.images import Picture
from foveal.runs import Run, open_run
from foveal.tasks.counting.model import (
    PointCounter,
    PointCounterConfig,
    _divergence,
    grid_positions,
    heat_map,
)
from foveal.tasks.counting.objective import PointObjective, _changed
from foveal.tasks.counting.specialist import Counter
from foveal.tasks.counting.task import Counting
from foveal.tasks.registry import find_task
from foveal.training.rows import TrainingRows
from foveal.training.train import train


def small(**more) -> PointCounter:
    torch.manual_seed(0)
    return PointCounter(PointCounterConfig(24, 16, hidden=32, heads=2, dropout=0.0, **more)).eval()


def test_it_has_1_3_million_parameters_on_clip_vit_b_32() -> None:
    clip = CLIPConfig()  # The defaults are ViT-B/32's sizes.
    assert (clip.vision_config.patch_size, clip.vision_config.hidden_size, clip.projection_dim) == (32, 768, 512)
    with torch.device("meta"):
        model = PointCounter(PointCounterConfig(clip.vision_config.hidden_size, clip.projection_dim))
    assert sum(p.numel() for p in model.parameters()) == 1_317_892


def test_a_heat_map_has_each_centre_in_its_patch_and_the_first_of_several() -> None:
    points = [(0.1, 0.1), (0.3, 0.2), (0.99, 0.5), (1.0, 1.0), (0.05, 0.3)]
    heat, offset = heat_map(points, 3)
    assert heat.tolist() == [1, 0, 0, 0, 0, 1, 0, 0, 1]
    # The first patch holds the first, second and last point.
    assert offset[0].tolist() == pytest.approx([0.3, 0.3])
    assert offset[5].tolist() == pytest.approx([0.97, 0.5], abs=1e-6) and offset[8].tolist() == [1, 1]
    assert heat_map([], 3)[0].sum() == 0


def test_the_losses_equal_their_definitions_row_by_row() -> None:
    model = small(heat_weight=2.0, offset_weight=0.7, consistency_weight=0.3)
    patches, again, text = torch.randn(3, 9, 24), torch.randn(3, 9, 24), torch.randn(3, 16)
    rows = [[(0.1, 0.1), (0.99, 0.5), (0.12, 0.2)], [], [(0.4, 0.9)]]
    heat, offset = (torch.stack(t) for t in zip(*(heat_map(points, 3) for points in rows), strict=True))
    out = model(patches, text, heat, offset, again)
    with torch.inference_mode():
        logits, inside = model.predict(patches, text)
        other, _ = model.predict(again, text)
    hot = away = same = 0.0
    for i, points in enumerate(rows):
        cells: dict[int, tuple[float, float]] = {}
        for x, y in points:
            column, row = math.floor(x * 3), math.floor(y * 3)
            cells.setdefault(row * 3 + column, (x * 3 - column, y * 3 - row))
        for k in range(9):
            p, q = float(logits[i, k].sigmoid()), float(other[i, k].sigmoid())
            hot -= math.log(p if k in cells else 1 - p)
            same += 0.5 * (p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q)))
            same += 0.5 * (q * math.log(q / p) + (1 - q) * math.log((1 - q) / (1 - p)))
        for k, centre in cells.items():
            for axis in (0, 1):
                miss = abs(float(inside[i, k, axis]) - centre[axis])
                away += 0.5 * miss**2 / 0.1 if miss < 0.1 else miss - 0.05
    assert float(out.losses["heat"]) == pytest.approx(hot / 3, rel=1e-4)
    assert float(out.losses["offset"]) == pytest.approx(away / 3, rel=1e-4)
    assert float(out.losses["consistency"]) == pytest.approx(same / 3, rel=1e-3)
    assert out.loss.item() == pytest.approx((2 * hot + 0.7 * away + 0.3 * same) / 3, rel=1e-4)


def test_pictures_without_anything_left_teach_no_offset() -> None:
    model = small()
    out = model(torch.randn(2, 9, 24), torch.randn(2, 16), torch.zeros(2, 9), torch.rand(2, 9, 2))
    assert float(out.losses["offset"]) == 0


def test_each_patch_has_its_point_inside_it() -> None:
    out = small()(torch.randn(7, 16, 24), torch.randn(7, 16))
    place = torch.arange(16)
    inside = out.points * 4 - torch.stack((place % 4, place // 4), 1)
    assert out.points.shape == (7, 16, 2) and ((inside > 0) & (inside < 1)).all()


def test_it_learns_which_patches_have_what_the_text_names() -> None:
    """Colour and shape are told by two features each; only the patch that has both of the text's is the target."""
    generator = torch.Generator().manual_seed(0)
    model = small().train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    kinds = torch.randn(4, 24, generator=generator), torch.randn(4, 24, generator=generator)
    words = torch.randn(4, 16, generator=generator), torch.randn(4, 16, generator=generator)

    def batch(size: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        colour, shape = (torch.randint(4, (size, 9), generator=generator) for _ in range(2))
        asked = [torch.randint(4, (size,), generator=generator) for _ in range(2)]
        hot = (colour == asked[0][:, None]) & (shape == asked[1][:, None])
        return kinds[0][colour] + kinds[1][shape], words[0][asked[0]] + words[1][asked[1]], hot.float()

    for _ in range(300):
        patches, text, heat = batch(32)
        optimiser.zero_grad()
        model(patches, text, heat, torch.zeros(32, 9, 2)).loss.backward()
        optimiser.step()
    patches, text, heat = batch(400)
    with torch.inference_mode():
        said = model.eval()(patches, text).logits > 0
    assert 0.04 < float(heat.mean()) < 0.09
    assert float((said == heat.bool()).float().mean()) > 0.99


def test_two_halves_of_a_batch_sum_to_the_whole() -> None:
    model = small()
    heat = (torch.rand(6, 9) < 0.3).float()
    inputs = (torch.randn(6, 9, 24), torch.randn(6, 16), heat, torch.rand(6, 9, 2), torch.randn(6, 9, 24))
    whole = model(*inputs, normaliser=6.0).loss
    parts = [model(*(x[s] for x in inputs), normaliser=6.0).loss for s in (slice(0, 2), slice(2, 6))]
    torch.testing.assert_close(whole, sum(parts))


def test_re_encodings_that_look_alike_cost_nothing_and_others_do() -> None:
    logits = torch.randn(3, 9)
    assert _divergence(logits, logits).abs().max() == 0
    assert _divergence(logits, logits.flip(1)).sum() > 0
    assert (_divergence(logits, logits + 1) > 0).all()


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
    torch.testing.assert_close(again(patches, text).logits, model(patches, text).logits)
    assert again.config.tower == "builtin"


QUIET = Console(quiet=True)
RECIPE = """\
task: counting
data:
  train: 64
  validation: 4
  test: 4
  max_objects: 3
  image_size: 56
  distractors: 0
  max_points: 4
  counter: {hidden: 32, heads: 2, dropout: 0.1}
model: {id: point-counter, device: cpu, resolution: 56}
training: {epochs: 2, batch_size: 16, learning_rate: 1e-3, precision: float32, keep_epochs: 0}
evaluation: {batch_size: 4, shown: 2}
"""
Read = Callable[..., Recipe]


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> Read:
    folder = tmp_path_factory.mktemp("counter")
    (folder / "r.yaml").write_text(RECIPE)
    return lambda *words: read_recipe(folder / "r.yaml", ["--output", str(folder / "runs"), *map(str, words)])


@pytest.fixture(scope="module")
def run(read: Read) -> Run:
    """A run of two epochs. Tests must not write to it."""
    return train(read("--name", "two-epochs"), QUIET).run


def opened(recipe: Recipe, *, weights: Path | None = None, training: bool = False) -> Counter:
    counter = open_model(Counting(recipe.data), recipe, weights=weights, training=training)
    assert isinstance(counter, Counter)
    return counter


def weights(run: Run, checkpoint: str = "last") -> dict[str, torch.Tensor]:
    return load_file(run.checkpoints / checkpoint / "model.safetensors")


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def table(run: Run) -> list[dict[str, str]]:
    with (run.path / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


# ---------------------------------------------------------------- training


def test_each_epoch_is_a_row_with_the_parts_of_the_loss(run: Run) -> None:
    rows = table(run)
    parts = ("total", "heat", "offset", "consistency")
    wanted = {"epoch", "learning_rate", "timestamp", "val_mae"}
    wanted |= {f"{s}_{p}_loss" for s in ("train", "val") for p in parts}
    assert wanted <= rows[0].keys() and [float(r["epoch"]) for r in rows] == [1, 2]
    for row in rows:
        for split in ("train", "val"):
            total, heat, offset, consistency = (float(row[f"{split}_{p}_loss"]) for p in parts)
            assert total == pytest.approx(heat + offset + 0.1 * consistency, rel=1e-4)
            assert total == float(row[f"{split}_loss"])
    assert float(rows[1]["train_total_loss"]) < float(rows[0]["train_total_loss"])


def test_checkpoints_hold_only_what_learns(run: Run, read: Read) -> None:
    saved = weights(run)
    model = opened(read(), training=True).model
    assert saved.keys() == {n for n, p in model.named_parameters() if p.requires_grad}
    assert sorted(p.name for p in run.checkpoints.iterdir()) == ["best", "epoch-1", "epoch-2", "last"]


def test_a_saved_checkpoint_answers_as_it_was_measured(run: Run, read: Read) -> None:
    recipe = read_recipe(run.recipe)
    task = find_task("counting")(recipe.data)
    rows = task.load("test").examples
    asker = make_asker(task, open_model(task, recipe, weights=run.checkpoint("best")), recipe)
    one = list(asker.ask(rows))
    recipe.evaluation.batch_size = 1
    alone = list(make_asker(task, open_model(task, recipe, weights=run.checkpoint("best")), recipe).ask(rows))
    assert [p.value for p in one] == [p.value for p in alone]
    lines = (run.evaluation("test") / "predictions.jsonl").read_text().splitlines()
    for line, a, b in zip(lines, one, alone, strict=True):
        assert f'"value": {a.value}, ' in line and a.extra["end"] == b.extra["end"]
        assert torch.allclose(torch.tensor(a.extra["points"]), torch.tensor(b.extra["points"]), atol=0.02)
        steps = len(a.extra["points"]) + a.extra["repeats"] + (a.extra["end"] == "done")
        assert len(a.extra["step_confidence"]) == steps
        assert all(0 <= c <= 1 for c in a.extra["step_confidence"])


def test_a_resumed_training_ends_in_the_same_weights(run: Run) -> None:
    path = shutil.copytree(run.path, run.path.parent / "resumed", symlinks=True)
    shutil.rmtree(path / "checkpoints" / "epoch-2")
    for link in ("best", "last"):
        (path / "checkpoints" / link).unlink()
        (path / "checkpoints" / link).symlink_to("epoch-1")
    resumed = train(read_recipe(path / "recipe.yaml"), QUIET, resume=open_run(path)).run
    assert not same(weights(run, "epoch-1"), weights(run))
    assert same(weights(resumed), weights(run))
    losses = [[r[c] for c in r if c.endswith("_loss")] for r in table(run)]
    assert [[r[c] for c in r if c.endswith("_loss")] for r in table(resumed)] == losses


def test_workers_do_not_change_the_weights(run: Run, read: Read) -> None:
    other = train(read("--name", "worker", "--training.workers", 1, "--training.evaluate", "false"), QUIET).run
    assert same(weights(other), weights(run))


def test_four_batches_of_one_are_one_of_four(read: Read) -> None:
    words = ["--training.max_steps", 2, "--training.evaluate", "false", "--data.counter.dropout", 0]
    runs = [
        train(read("--name", f"b{b}", "--training.batch_size", b, "--training.accumulate", 4 // b, *words), QUIET).run
        for b in (4, 1)
    ]
    four, one = (table(r)[0] for r in runs)
    for part in ("total", "heat", "offset", "consistency"):
        assert float(one[f"train_{part}_loss"]) == pytest.approx(float(four[f"train_{part}_loss"]), rel=1e-3), part
    for name, tensor in weights(runs[0]).items():
        # Adam divides by the root of its second moment, which lifts rounding: 2 steps at rate 1e-3.
        assert (weights(runs[1])[name] - tensor).abs().max() < 5e-4, name


def test_the_rate_falls_on_a_plateau_and_the_training_stops_early(read: Read) -> None:
    words = ["--training.schedule", "plateau", "--training.plateau_factor", 0.5, "--training.plateau_patience", 0]
    words += ["--training.early_stopping", 2, "--training.epochs", 6, "--data.train", 4]
    # So small a rate changes no count.
    rows = table(train(read("--name", "plateau", "--training.learning_rate", 1e-6, *words), QUIET).run)
    assert [float(r["val_mae"]) for r in rows] == [float(rows[0]["val_mae"])] * 3
    rates = [float(r["learning_rate"]) for r in rows]
    assert rates[0] == 1e-6 and rates[-1] == pytest.approx(5e-7)


def test_a_clip_folder_serves_as_tower_from_training_to_asking(read: Read, tmp_path: Path) -> None:
    folder = write_clip(tmp_path / "clip")
    words = ["--data.counter.tower", folder, "--model.resolution", "null", "--data.train", 8, "--training.epochs", 1]
    run = train(read("--name", "clip", *words), QUIET).run
    recipe = read_recipe(run.recipe)
    counter = opened(recipe, weights=run.checkpoint("best"))
    assert (counter.model.config.vision_width, counter.model.config.text_width) == (40, 16)
    assert counter.source == counter.model.config.tower == str(folder)
    assert same(weights(run), {n: p.detach() for n, p in counter.model.named_parameters()})
    with pytest.raises(UserError, match=f"was trained on the tower {folder} with hidden 32"):
        opened(read(), weights=run.checkpoint("best"))


def test_mixed_precision_trains(read: Read) -> None:
    words = ["--training.precision", "bfloat16", "--training.max_steps", 1, "--data.train", 8]
    row = table(train(read("--name", "bf16", *words), QUIET).run)[0]
    assert 0 < float(row["train_total_loss"]) < 100 and 0 < float(row["val_total_loss"]) < 100


# ---------------------------------------------------------------- batches and answers


def test_a_batch_holds_the_pictures_and_where_the_next_point_is(read: Read) -> None:
    recipe = read("--data.point_format", "plain", "--data.image_size", 84)
    task = Counting(recipe.data)
    rows = TrainingRows(task, task.load("train").examples, 0)
    chosen = [rows[i] for i in range(12)]
    batch = PointObjective(56, 4, True).collate(chosen)
    assert batch["pixels"].shape == batch["again"].shape == (12, 3, 56, 56)
    assert len({len(v) for v in batch.values()}) == 1 and len(set(batch["keys"].tolist())) == 12
    for i, row in enumerate(chosen):
        things, left = row.example.fields["things"], row.prompt.left
        # What is left is what has no mark, of which the first is the answer.
        assert left == things[len(things) - len(left) :] and (row.prompt.answer == "done") == (not left)
        shown, plain = row.prompt.opened()[0], row.example.images[0].open()
        marks = [shown.getpixel(p) != plain.getpixel(p) for p in (tuple(map(int, t.point)) for t in things)]
        assert marks == [True] * (len(things) - len(left)) + [False] * len(left)
        cells = {(int(x / 21), int(y / 21)) for x, y in (t.point for t in left)}
        assert batch["heat"][i].sum() == len(cells)
        for k in torch.nonzero(batch["heat"][i])[:, 0].tolist():
            x, y = ((batch["offset"][i, k] + torch.tensor((k % 4, k // 4))) * 21).tolist()
            assert min(math.dist((x, y), t.point) for t in left) < 1e-3
    assert {bool(heat.any()) for heat in batch["heat"]} == {False, True}


def test_a_changed_picture_looks_other_but_nothing_moves() -> None:
    pixels = torch.full((3, 40, 40), 128, dtype=torch.uint8)
    pixels[:, 10:20, 25:35] = 30
    for key in range(5):
        again = _changed(pixels, key)
        assert again.dtype == torch.uint8 and not torch.equal(again, pixels)
        assert torch.equal(again, _changed(pixels, key))
        dark = again.float().mean(0) < again.float().mean(0).median() - 40
        ys, xs = torch.nonzero(dark, as_tuple=True)
        assert (ys.min(), ys.max(), xs.min(), xs.max()) == (10, 19, 25, 34)


def test_a_point_is_given_in_pixels_of_the_picture(read: Read, tmp_path: Path) -> None:
    recipe = read("--data.categories", "[red dots]", "--data.max_points", 1)
    counter = opened(recipe)
    counter.model.level.data.fill_(100)
    names = []
    for size in ((300, 100), (56, 56)):
        names.append(tmp_path / f"{size[0]}.png")
        Image.new("RGB", size, (200, 210, 190)).save(names[-1])
    rows = [counter.task.example_of([Picture(str(n), n)]) for n in names]
    with torch.inference_mode():
        wide, square = counter.ask(rows)
    # The tower sees the same blank square twice: the point is at the same shares of the sides.
    (x, y), (u, v) = wide.extra["points"][0], square.extra["points"][0]
    assert (x / 300, y / 100) == pytest.approx((u / 56, v / 56), abs=2e-4)
    assert wide.value == 1 and wide.extra["end"] == "limit" and wide.truth is None


def test_mixed_precision_does_not_move_points(read: Read) -> None:
    counter = opened(read("--data.min_objects", 3))
    counter.model.level.data.fill_(100)
    rows = counter.task.load("test").examples[:2]
    with torch.inference_mode():
        exact = counter.ask(rows)
        with torch.autocast("cpu", torch.bfloat16):
            mixed = counter.ask(rows)
    assert [p.extra for p in exact] == [p.extra for p in mixed]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--model.adapter lora", "model.adapter: the model point-counter is trained whole; leave adapter and "),
        ("--model.freeze [vision]", "model.freeze: the model point-counter has no such setting; leave it out."),
        ("--model.image_size 28", "model.image_size: the model point-counter has no such setting; leave it out."),
        ("--data.strategy number", "data.strategy: the model point-counter counts in sequence only; "),
        (
            "--data.all_points_share 0.5",
            "data.all_points_share: the model point-counter has no replies; leave it at 0.",
        ),
        ("--data.counter.hidden 36", "data.counter.hidden: 36 is not possible with 2 heads; give a multiple of 8 "),
        ("--data.counter.heads 0", "data.counter.heads: 0 is out of range; give 1 to 64."),
        ("--data.counter.dropout 1", "data.counter.dropout: 1.0 is out of range; give 0 to 0.9."),
        ("--data.counter.heat_weight -1", "data.counter.heat_weight: -1.0 is out of range; "),
        (
            "--data.counter.heat_weight 0 --data.counter.offset_weight 0 --data.counter.consistency_weight 0",
            "data.counter: heat_weight, offset_weight and consistency_weight are all 0, so nothing would be learned; ",
        ),
        ("--data.counter.done_weight 0.5", "There is no key --data.counter.done_weight; "),
        (
            "--data.counter.tower nobody/nothing --model.resolution null",
            "data.counter.tower: 'nobody/nothing' cannot be ",
        ),
        (
            "--data.counter.tower nobody/nothing",
            "model.resolution: only the tower of a built-in model can be stretched, not nobody",
        ),
    ],
)
def test_what_it_cannot_do_is_refused_in_a_sentence(read: Read, words: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        opened(read(*words.split()), training=True)
    assert str(error.value).startswith(message) and "\n" not in str(error.value)


def test_a_checkpoint_of_other_sizes_or_of_nothing_is_refused(run: Run, read: Read, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"trained on the tower builtin with hidden 32; set data\.counter accordingly"):
        opened(read("--data.counter.hidden", 64), weights=run.checkpoint("best"))
    with pytest.raises(UserError, match="is no checkpoint of a point-counter"):
        opened(read(), weights=tmp_path)


def test_keys_of_models_that_draw_masks_are_unknown_here(read):
    for words, key in ((("--model.vision", "sam"), "vision"), (("--model.sam", "some/sam"), "sam")):
        with pytest.raises(UserError, match=rf"^There is no key --model\.{key}; "):
            opened(read(*words))


def test_a_checkpoint_from_before_the_heat_map_is_refused_and_its_recipe_is_read(
    run: Run, read: Read, tmp_path: Path
) -> None:
    folder = shutil.copytree(run.checkpoint("best"), tmp_path / "old")
    config = json.loads((folder / "config.json").read_text())
    del config["heat_weight"], config["offset_weight"]
    (folder / "config.json").write_text(json.dumps({**config, "coordinate_weight": 1.0, "done_weight": 0.5}))
    with pytest.raises(UserError) as error:
        opened(read(), weights=folder)
    assert str(error.value) == (
        f"{folder}: is a point-counter of an earlier version, which had no heat map and cannot be read any more; train it "
        "again."
    )
    # Runs kept all keys, also those of models that have no network of their own.
    kept = RECIPE.replace("dropout: 0.1", "dropout: 0.1, coordinate_weight: 1.0, done_weight: 0.5")
    (tmp_path / "kept.yaml").write_text(kept)
    assert read_recipe(tmp_path / "kept.yaml").data.counter == read().data.counter
    (tmp_path / "kept.yaml").write_text(kept.replace("done_weight: 0.5", "done_weight: 0.25"))
    with pytest.raises(UserError, match=r"there is no key 'data\.counter\.done_weight'; "):
        read_recipe(tmp_path / "kept.yaml")
