"""An objective of another package trains by its name in a recipe."""

from __future__ import annotations

import csv
import os

import pytest
from small import foveal, write_recipe, write_squares

MODULE = '''
from foveal.training.objectives import AnswerObjective, NamedLosses


class Doubled(AnswerObjective):
    """Twice the answer's cross entropy, with the plain one as a named part."""

    def loss(self, model, batch, normaliser):
        plain = super().loss(model, batch, normaliser)
        return NamedLosses(2 * plain, {"plain": plain.detach()})
'''


@pytest.mark.slow
def test_its_losses_are_in_the_metrics_and_a_wrong_name_is_a_sentence(tmp_path):
    info = tmp_path / "site" / "my_loss-0.1.dist-info"
    info.mkdir(parents=True)
    (tmp_path / "site" / "my_loss.py").write_text(MODULE)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-loss\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text("[foveal.objectives]\ndoubled = my_loss:Doubled\n")
    path = os.pathsep.join([str(tmp_path / "site"), os.environ.get("PYTHONPATH", "")])
    data = write_squares(tmp_path / "squares", {"train": 4, "validation": 2, "test": 2})
    write_recipe(tmp_path / "recipe.yaml", data, "builtin")
    words = ("train", "recipe.yaml", "--name", "mine", "--training.max_steps", "2", "--training.epochs", "1")
    trained = foveal(*words, "--objective", "doubled", cwd=tmp_path, PYTHONPATH=path)
    assert trained.returncode == 0, trained.stderr
    run = next(tmp_path.rglob("metrics.csv"))
    row = list(csv.DictReader(run.open()))[-1]
    assert float(row["train_total_loss"]) == pytest.approx(2 * float(row["train_plain_loss"]), rel=1e-4)
    assert float(row["val_total_loss"]) == pytest.approx(2 * float(row["val_plain_loss"]), rel=1e-4)
    wrong = foveal("train", "recipe.yaml", "--objective", "doubeld", cwd=tmp_path, PYTHONPATH=path)
    assert wrong.returncode == 2 and "'doubled'" in wrong.stderr and "Traceback" not in wrong.stderr
