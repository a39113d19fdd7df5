from __future__ import annotations

import torch
from families import open_tiny, prompts

from foveal.vlm.logits import only_positions


def test_logits_are_made_at_the_kept_positions_only(tiny):
    vlm, encoder = open_tiny(tiny("idefics3"))
    batch = encoder.training_batch(prompts(2), ["a", "b"])
    keep = torch.zeros_like(batch["labels"], dtype=torch.bool)
    keep[0, 3], keep[1, 5] = True, True
    inputs = {k: v for k, v in batch.items() if k != "labels"}
    with torch.no_grad():
        whole = vlm.model(**inputs).logits
        with only_positions(vlm.model, keep):
            some = vlm.model(**inputs).logits
        again = vlm.model(**inputs).logits
    assert some.shape == (1, 2, whole.shape[-1])
    torch.testing.assert_close(some[0], torch.stack([whole[0, 3], whole[1, 5]]))
    assert again.shape == whole.shape, "the hook is gone afterwards"
