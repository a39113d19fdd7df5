"""Pre-trains the built-in model on the synthetic scenes of this folder and saves it in Hub layout.

    python scripts/pretrain_builtin/train.py --minutes 90 --out build/builtin

The learning rate is constant and falls to zero over the last 30 % of the time (or of --steps). Every batch is a pure
function of the seed and its number. `scores.json` beside the weights tells the pictures seen, the time, and the exact
match of each kind of question on scenes that no batch saw.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch.utils.data import DataLoader, IterableDataset, get_worker_info
from transformers import AutoProcessor

import glyphs
import scenes
from build import IMAGE_TOKENS, build_model, build_processor, build_tokenizer
from canvas import Scene

ONE: scenes.Families = {
    "objects": (scenes.objects, 1.0), "profiles": (scenes.profiles, 8.0), "strokes": (scenes.strokes, 0.5),
    "textures": (scenes.textures, 0.3), "character": (glyphs.character, 1.5), "word": (glyphs.word, 0.3),
    "digit grid": (glyphs.digit_grid, 0.3), "pair in one": (scenes.pair_in_one, 0.8),
}  # fmt: skip
TWO: scenes.Families = {"pairs": (scenes.pairs, 1.0)}
QUESTIONS = 3
IGNORE = -100
Batch = dict[str, Any]


class Batches(IterableDataset[Batch]):
    """Endless batches, four at a time: their rows are sorted by length, which saves a third of the padding.

    One batch in twelve holds pictures in twos. Group g of four batches is a pure function of (seed, g).
    """

    def __init__(self, tokenizer: Any, seed: int, size: int) -> None:
        self.tokenizer, self.seed, self.size = tokenizer, seed, size

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        start, step = (worker.id, worker.num_workers) if worker else (0, 1)
        for group in itertools.count(start, step):
            rng = random.Random(f"{self.seed}/{group}")
            two = group % 6 == 5
            made = [choose(rng, scenes.make(rng, ONE)) for _ in range(self.size * (2 if two else 4))]
            made.sort(key=lambda s: sum(len(q.text) + 2 * len(q.answer) + 20 for q in s.questions))
            batches = [made[i : i + self.size] for i in range(0, len(made), self.size)]
            if two:
                batches += [[choose(rng, scenes.make(rng, TWO)) for _ in range(self.size)] for _ in range(2)]
            rng.shuffle(batches)
            for batch in batches:
                yield collate(self.tokenizer, batch)


def choose(rng: random.Random, scene: Scene) -> Scene:
    """At most ``QUESTIONS`` of a scene's questions in random order, the description three times in four."""
    dense = [q for q in scene.questions if q.kind == "describe" and rng.random() < 0.75]
    rest = [q for q in scene.questions if q.kind != "describe"]
    rng.shuffle(rest)
    chosen = (dense + rest)[:QUESTIONS] or scene.questions[:1]
    rng.shuffle(chosen)
    return Scene(scene.images, chosen)


def collate(tokenizer: Any, made: list[Scene]) -> Batch:
    """Scenes as one batch: pixels uint8 [B, N, 3, 112, 112], input_ids and labels [B, L] (answers only)."""
    picture = "<fake_token_around_image><global-img>" + "<image>" * IMAGE_TOKENS + "<fake_token_around_image>"
    rows, kinds = [], []
    for scene in made:
        head = "<|im_start|>User:" + picture * len(scene.images)
        ids, labels = [], []
        for q in scene.questions[:QUESTIONS]:
            ask = tokenizer(head + q.text + "<end_of_utterance>\nAssistant:", add_special_tokens=False)["input_ids"]
            say = tokenizer(q.answer + "<end_of_utterance>", add_special_tokens=False)["input_ids"]
            ids += ask + say
            labels += [IGNORE] * len(ask) + say
            head = "\nUser:"
        rows.append((ids, labels))
        kinds.append([q.kind for q in scene.questions[:QUESTIONS]])
    length = max(len(ids) for ids, _ in rows)
    input_ids = torch.full((len(rows), length), tokenizer.pad_token_id)
    target = torch.full((len(rows), length), IGNORE)
    for k, (ids, labels) in enumerate(rows):
        input_ids[k, : len(ids)] = torch.tensor(ids)
        target[k, : len(labels)] = torch.tensor(labels)
    pixels = torch.from_numpy(np.stack([np.stack([np.asarray(im) for im in s.images]) for s in made]))
    return {"pixels": pixels.permute(0, 1, 4, 2, 3), "input_ids": input_ids, "labels": target, "kinds": kinds}


def forward(model: Any, batch: Batch, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits at the positions that predict an answer token, and those tokens."""
    pixels = (batch["pixels"].to(device).float() / 255 - 0.98) / 0.25
    ids, labels = batch["input_ids"].to(device), batch["labels"].to(device)
    hidden = model.model(
        input_ids=ids, attention_mask=(ids != model.config.pad_token_id).long(), pixel_values=pixels, use_cache=False
    ).last_hidden_state
    ask = labels[:, 1:] != IGNORE
    return model.lm_head(hidden[:, :-1][ask]), labels[:, 1:][ask]


@torch.no_grad()
def scores(model: Any, tokenizer: Any, device: str, rounds: int = 48) -> dict[str, dict[str, float]]:
    """Exact match of whole answers (teacher-forced; share of tokens for descriptions) by kind, on the held-out seed."""
    model.eval()
    right: dict[str, list[float]] = defaultdict(list)
    for batch in itertools.islice(Batches(tokenizer, seed=987_654_321, size=64), rounds):
        logits, target = forward(model, batch, device)
        good = (logits.argmax(-1) == target).cpu().tolist()
        at = iter(zip(good, target.cpu().tolist(), strict=True))
        for kinds in batch["kinds"]:
            for kind in kinds:
                answer = []
                for ok, token in at:
                    answer.append(ok)
                    if token == tokenizer.eos_token_id:
                        break
                right[kind].append(float(np.mean(answer[:-1])) if kind == "describe" else float(all(answer)))
    model.train()
    return {k: {"exact": round(float(np.mean(v)), 4), "questions": len(v)} for k, v in sorted(right.items())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=90.0)
    parser.add_argument("--steps", type=int, default=200_000)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--muon", type=float, default=0.02)
    parser.add_argument("--adam", type=float, default=1e-3)
    parser.add_argument("--decay", type=float, default=0.3, help="the last share of the run, with a falling rate")
    parser.add_argument("--init", type=Path, help="folder of an earlier stage to go on from")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()

    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    tokenizer = AutoProcessor.from_pretrained(args.init).tokenizer if args.init else build_tokenizer(ONE | TWO)
    model = build_model(tokenizer).to(device)
    if args.init:
        model.load_state_dict(
            {k: v.float() for k, v in load_file(args.init / "model.safetensors").items()}, strict=False
        )
    processor = build_processor(tokenizer)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {len(tokenizer)} tokens, {device}", flush=True)

    hidden: list[torch.nn.Parameter] = []
    rest: list[torch.nn.Parameter] = []
    for n, p in model.named_parameters():
        (rest if p.ndim != 2 or "embed" in n or "lm_head" in n else hidden).append(p)
    optimizers = [
        torch.optim.Muon(hidden, lr=args.muon, weight_decay=0.05),
        torch.optim.AdamW(rest, lr=args.adam, betas=(0.9, 0.98), weight_decay=0.01),
    ]
    peaks = [args.muon, args.adam]
    loader = DataLoader(
        Batches(tokenizer, args.seed, args.batch), batch_size=None, num_workers=args.workers,
        prefetch_factor=8 if args.workers else None,
    )  # fmt: skip

    started, seen, losses = time.monotonic(), 0, []
    for step, batch in enumerate(loader):
        elapsed = time.monotonic() - started
        done = max(elapsed / (60 * args.minutes), step / args.steps)
        if done >= 1:
            break
        factor = min(1.0, step / 200, (1 - done) / args.decay)
        for optimizer, peak in zip(optimizers, peaks, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = peak * factor
        with torch.autocast(device, torch.bfloat16):
            logits, target = forward(model, batch, device)
        loss = torch.nn.functional.cross_entropy(logits.float(), target)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        seen += args.batch
        losses.append(loss.item())
        if step % 200 == 199:
            rate = seen / (time.monotonic() - started)
            print(
                f"{elapsed / 60:6.1f} min  {seen:>9,} scenes  {rate:5.0f}/s  loss {np.mean(losses[-200:]):.3f}",
                flush=True,
            )
        if step % 1500 == 1499:
            save(args, model, processor, seen, elapsed, scores(model, tokenizer, device, rounds=18))
    save(args, model, processor, seen, time.monotonic() - started, scores(model, tokenizer, device, rounds=192))


def save(
    args: argparse.Namespace, model: Any, processor: Any, seen: int, elapsed: float, table: dict[str, dict[str, float]]
) -> None:
    """Writes weights (bfloat16), processor and scores to ``args.out``."""
    args.out.mkdir(parents=True, exist_ok=True)
    state = {k: v.to(torch.bfloat16) for k, v in model.state_dict().items()}
    config = model.config.dtype
    model.config.dtype = torch.bfloat16
    model.save_pretrained(args.out, state_dict=state)
    model.config.dtype = config
    processor.save_pretrained(args.out)
    facts = {"scenes": seen, "minutes": round(elapsed / 60, 1), "seed": args.seed, "batch": args.batch, "scores": table}
    (args.out / "scores.json").write_text(json.dumps(facts, indent=1) + "\n")
    print({k: v["exact"] for k, v in table.items()}, flush=True)


if __name__ == "__main__":
    main()
