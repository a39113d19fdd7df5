"""How long does it take to classify a picture by exact scores of 15 classes, beside writing the answer?

Run it as ``python benchmarks/label_scoring.py``. The classes are landforms whose names are several tokens long. Three ways
to an answer, on the same pictures and the same prompts:

* ``score``: ``foveal.vlm.scoring.score``. The picture and the question go through the model once, and the tokens of all
  classes continue from that one cache. It gives the probability of each class.
* ``write``: ``foveal.vlm.generation.generate``, greedy, with ``--new_tokens`` as its limit. A model that was not trained on
  these classes seldom ends earlier, so a step count of its own is measured too: ``write, 1 class`` stops after as many
  tokens as the classes have on average, which is what a trained model writes. It gives one class at most, and no other's probability.
* ``naive``: every class behind the whole prompt, 15 full sequences a picture in one batch, without a cache; like ``score`` it
  projects the classes' positions alone to the vocabulary. It gives the probabilities of ``score``: the benchmark stops where the
  two differ by more than 0.001.

Two models: the built-in one, and a random one in the shape of SmolVLM-256M (patches of 16, vocabulary of 49,280,
9 query heads over 3 key heads), by default with 2 layers in each half and one tile of 224 pixels, so that it is made in
seconds. Random weights cost what trained ones do. Medians of interleaved rounds of processor time, which leaves out the time
that other programs had the core; float32.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from foveal.prompts import Prompt
    from foveal.vlm.encoding import Encoder
    from foveal.vlm.loading import Vlm

CLASSES = (
    "Aeolian Straight", "Rough Terrain", "Cliff", "Aeolian Curved", "Textured Terrain", "Smooth Terrain", "Mass Wasting",
    "Ridge", "Slope Streaks", "Mounds", "Channel", "Gullies", "Crater Field", "Crater", "Mixed Terrain",
)  # fmt: skip
QUESTION = f"Which of these is shown in the picture: {', '.join(CLASSES)}?"
#: Largest difference of log-probabilities between the two exact ways.
ALIKE = 1e-3


def write_model(folder: Path, layers: int) -> None:
    """A random model in SmolVLM-256M's shape, with the built-in tokenizer and a vocabulary padded to SmolVLM's."""
    import torch
    from transformers import Idefics3Config, Idefics3ForConditionalGeneration

    from foveal.vlm.finding import builtin_folder
    from foveal.vlm.processors import load_processor

    processor = load_processor(builtin_folder())
    side, patch, shuffle = 224, 16, 2
    processor.image_processor.size = processor.image_processor.max_image_size = {"longest_edge": side}
    processor.image_seq_len = (side // patch // shuffle) ** 2
    processor.save_pretrained(folder)
    tokenizer = processor.tokenizer
    ids = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    config = Idefics3Config(
        image_token_id=processor.image_token_id, scale_factor=shuffle, tie_word_embeddings=False,
        vision_config={
            "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": layers, "num_attention_heads": 12,
            "image_size": side, "patch_size": patch,
        },
        text_config={
            "model_type": "llama", "vocab_size": 49_280, "hidden_size": 576, "intermediate_size": 1536,
            "num_hidden_layers": layers, "num_attention_heads": 9, "num_key_value_heads": 3, "head_dim": 64,
            "max_position_embeddings": 2048, **ids,
        },
    )  # fmt: skip
    torch.manual_seed(0)
    Idefics3ForConditionalGeneration(config).save_pretrained(folder)


def prompts_of(count: int, side: int) -> list[Prompt]:
    """Noise pictures with the question."""
    import numpy as np
    from PIL import Image

    from foveal.prompts import Prompt

    rng = np.random.default_rng(0)
    pictures = [Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8)) for _ in range(count)]
    return [Prompt((picture,), QUESTION) for picture in pictures]


def naive(vlm: Vlm, encoder: Encoder, prompts: Sequence[Prompt]) -> list[list[float]]:
    """Log-probability of each class behind each prompt, every one a whole sequence; [B][K]."""
    import torch

    from foveal.vlm.encoding import append_answers
    from foveal.vlm.logits import only_positions
    from foveal.vlm.scoring import to_device

    out = []
    for prompt in prompts:
        answers = [encoder.answer_ids(prompt, name) for name in CLASSES]
        batch = encoder.encode([prompt] * len(CLASSES), side="right")
        whole = append_answers(batch, answers, vlm.family, encoder.tokenizer.pad_token_id or 0)
        labels = whole.pop("labels")[:, 1:]
        learned = labels >= 0
        keep = torch.nn.functional.pad(learned, (0, 1))
        with torch.inference_mode(), only_positions(vlm.model, keep):
            logits = vlm.model(**to_device(whole, vlm), use_cache=False).logits[0].float()
        chosen = logits.log_softmax(-1).gather(1, labels[learned][:, None])[:, 0]
        out.append([float(part.sum()) for part in chosen.split(learned.sum(1).tolist())])
    return out


def measure(vlm: Vlm, encoder: Encoder, prompts: Sequence[Prompt], rounds: int, new_tokens: int) -> None:
    """Prints the medians of a model."""
    import torch

    from foveal.vlm.generation import generate
    from foveal.vlm.scoring import score

    names = [""] * len(prompts)
    lengths = [len(encoder.answer_ids(prompts[0], name)) for name in CLASSES]
    typical = round(statistics.mean(lengths))
    tokens = int(encoder.encode(prompts[:1], side="left")["attention_mask"].sum())
    print(f"{tokens} tokens in a prompt, classes of {min(lengths)} to {max(lengths)} tokens, mean {typical}")

    def writing(most: int) -> Callable[[], object]:
        return lambda: generate(vlm, encoder, prompts, max_new_tokens=most, names=names)

    ways: dict[str, Callable[[], object]] = {
        "score": lambda: score(vlm, encoder, prompts, CLASSES, names=names),
        "write, 1 class": writing(typical),
        f"write, {new_tokens} tokens": writing(new_tokens),
        "naive": lambda: naive(vlm, encoder, prompts),
    }
    exact = score(vlm, encoder, prompts, CLASSES, names=names)
    apart = float((exact - torch.tensor(naive(vlm, encoder, prompts))).abs().max())
    if apart > ALIKE:
        raise SystemExit(f"The scores differ by {apart:.2g} from those of whole sequences, more than {ALIKE}.")
    print(f"largest difference between score and naive: {apart:.1e} (log-probability)")
    writing(1)()
    took: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, ask in ways.items():
            start = time.process_time()
            ask()
            took[way].append((time.process_time() - start) / len(prompts) * 1000)
    base = statistics.median(took["score"])
    print(f"{'':<18}{'ms a picture':>14}{'spread':>22}{'times score':>14}  probabilities")
    for way, times in took.items():
        middle = statistics.median(times)
        spread = f"{min(times):,.1f} to {max(times):,.1f}"
        given = "all 15" if way in ("score", "naive") else "none"
        print(f"{way:<18}{middle:>14,.1f}{spread:>22}{middle / base:>14.2f}  {given}")


def main() -> None:
    """Measures both models and prints a table for each."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--pictures", type=int, default=4, help="pictures in a batch (default 4)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds (default 3)")
    parser.add_argument("--new_tokens", type=int, default=16, help="longest written reply (default 16)")
    parser.add_argument("--layers", type=int, default=2, help="layers of each half of the random model (default 2)")
    parser.add_argument("--threads", type=int, default=1, help="threads (default 1)")
    parser.add_argument("--only", choices=["builtin", "random"], help="one of the models")
    given = parser.parse_args()
    if min(given.pictures, given.rounds, given.new_tokens, given.layers, given.threads) < 1:
        parser.error("all numbers must be at least 1")
    os.environ.update(OMP_NUM_THREADS=str(given.threads), HF_HUB_OFFLINE="1")
    import torch

    from foveal.config.sections import Model
    from foveal.quiet import quiet
    from foveal.vlm.encoding import Encoder
    from foveal.vlm.loading import load

    quiet()
    torch.set_num_threads(given.threads)
    print(f"torch {torch.__version__}, {given.threads} thread(s), float32, medians of {given.rounds} rounds")
    for kind, side in (("builtin", 112), ("random", 224)):
        if given.only not in (None, kind):
            continue
        with tempfile.TemporaryDirectory(prefix="foveal-benchmark-") as temporary:
            if kind == "random":
                write_model(Path(temporary), given.layers)
            vlm = load(Model(id="builtin" if kind == "builtin" else temporary, device="cpu"))
            vlm.model.eval()
            size = sum(p.numel() for p in vlm.model.parameters()) / 1e6
            print(f"\n{kind}: {size:.1f} million parameters, {given.pictures} pictures of {side} x {side} pixels")
            encoder = Encoder(vlm.processor, family=vlm.family, context=vlm.context)
            measure(vlm, encoder, prompts_of(given.pictures, side), given.rounds, given.new_tokens)


if __name__ == "__main__":
    main()
