"""The language stage of the built-in model: questions about synthetic scenes, on a tower of the dense stage.

    torchrun --nproc-per-node 2 scripts/pretrain_builtin/train.py \
        --tower build/tower/tower.safetensors --heads build/tower/heads.safetensors --scenes 300000 --out build/builtin

Stopped at any moment, the same command goes on (see ``stage.py``). The rate is constant and falls to zero over the last
``--decay`` of the scenes. Every batch is a pure function of the seed and its number. ``scores.json`` beside the weights tells the
scenes seen, the time, and the exact match of each kind of question on scenes that no batch saw.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import random
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch.utils.data import DataLoader, IterableDataset, get_worker_info
from transformers import AutoConfig, AutoProcessor

import dense
import figure_scenes
import glyphs
import looking
import scenes
import stage
from build import PATCH, build_model, build_processor, build_tokenizer, image_tokens
from canvas import Scene
from dense import Heads, Positions
from dense_scenes import Maps

PLAIN: scenes.Families = {
    "objects": (scenes.objects, 1.0), "profiles": (scenes.profiles, 4.0), "strokes": (scenes.strokes, 1.0),
    "textures": (scenes.textures, 0.3), "character": (glyphs.character, 3.0), "word": (glyphs.word, 0.3),
    "digit grid": (glyphs.digit_grid, 0.5), "pair in one": (scenes.pair_in_one, 0.8),
}  # fmt: skip
FIGURES: scenes.Families = {
    "one": (figure_scenes.one, 4.0), "pick": (figure_scenes.pick, 6.0), "few": (figure_scenes.few, 3.0), "points": (figure_scenes.points, 4.0),
    "marked": (figure_scenes.marked, 2.0), "phrases": (figure_scenes.phrases, 3.0),
}  # fmt: skip
MANY_FIGURES: scenes.Families = {
    "points": (figure_scenes.points, 2.0), "crowd": (figure_scenes.crowd, 1.0), "marked": (figure_scenes.marked, 3.0),
    "marked crowd": (figure_scenes.marked_crowd, 1.0), "phrases": (figure_scenes.phrases, 5.0),
}  # fmt: skip
#: From which scene on a family is drawn, and up to which. A model that is to point learns first to write the cell of a lone figure,
#: in a few thousand scenes; with others around it from the start, it was still at chance after 50,000. Others begin at ``OTHERS``.
#: A model that begins with an earlier one has these terms behind it.
TERMS = {
    "one": (0, 10_000), "pick": (2_000, 100_000), "few": (6_000, 100_000), "points": (10_000, math.inf),
    "marked": (24_000, math.inf), "phrases": (30_000, math.inf),
}  # fmt: skip
OTHERS = (24_000, math.inf)
#: Beyond the terms of all families that are left out later.
ENDLESS = 1_000_000
#: What a stage asks about, and at which sizes of pictures, with their weights.
MIXTURES: dict[str, tuple[scenes.Families, dict[int, float]]] = {
    "all": (PLAIN | FIGURES, {112: 0.4, 168: 0.6}),
    "figures": (MANY_FIGURES, {168: 1.0}),
}
TWO: scenes.Families = {"pairs": (scenes.pairs, 1.0)}
QUESTIONS = 4
#: So many groups in a row have pictures of one size.
BLOCK = 8
#: Answers that tell the most are asked for first, three times in four.
DENSE = ("describe",)
IGNORE = -100
Batch = dict[str, Any]


class Batches(IterableDataset[Batch]):
    """Endless batches, four at a time: their rows are sorted by length, which saves a third of the padding.

    In the mixture ``all`` one batch in twelve holds pictures in twos. Group g of four batches is a pure function of (seed, g).

    Args:
        tokenizer: Of the model.
        seed: Decides all scenes.
        size: Scenes in a batch.
        mixture: One of ``MIXTURES``.
        first: Number of the first group.
        every: From one group to the next.
        begun: The model points already: all families are drawn whose terms have no end.
    """

    def __init__(
        self, tokenizer: Any, seed: int, size: int, mixture: str, first: int = 0, every: int = 1, begun: bool = False
    ) -> None:
        self.tokenizer, self.seed, self.size, self.mixture = tokenizer, seed, size, mixture
        self.first, self.every, self.begun = first, every, begun

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        start, step = (worker.id, worker.num_workers) if worker else (0, 1)
        for group in itertools.count(self.first + start * self.every, step * self.every):
            yield from self.group(group)

    def group(self, number: int) -> list[Batch]:
        """The four batches of a number."""
        families, sizes = MIXTURES[self.mixture]
        scene = ENDLESS if self.begun else number * 4 * self.size
        families = {
            name: family for name, family in families.items()
            if self.mixture != "all" or TERMS.get(name, OTHERS)[0] <= scene < TERMS.get(name, OTHERS)[1]
        }  # fmt: skip
        # Processes learn from neighbouring groups at the same time, which should take equally long: sizes of pictures and the
        # order of lengths are those of a block.
        block = random.Random(f"{self.seed}/block {number // BLOCK}")
        view = block.choices(list(sizes), list(sizes.values()))[0]
        two = self.mixture == "all" and scene >= OTHERS[0] and block.random() < 1 / 6
        rng = random.Random(f"{self.seed}/{number}")
        made = [choose(rng, scenes.make(rng, families, view)) for _ in range(self.size * (2 if two else 4))]
        made.sort(key=lambda s: sum(len(q.text) + 2 * len(q.answer) + 20 for q in s.questions))
        groups = [made[i : i + self.size] for i in range(0, len(made), self.size)]
        if two:
            groups += [[choose(rng, scenes.make(rng, TWO, 112)) for _ in range(self.size)] for _ in range(2)]
        block.shuffle(groups)
        return [collate(self.tokenizer, batch) for batch in groups]


def choose(rng: random.Random, scene: Scene) -> Scene:
    """At most ``QUESTIONS`` of a scene's questions in random order, the description three times in four."""
    dense = [q for q in scene.questions if q.kind in DENSE and rng.random() < 0.75]
    rest = [q for q in scene.questions if q.kind not in DENSE]
    rng.shuffle(rest)
    most = 5 if rest and rest[0].kind.startswith("phrase") else QUESTIONS
    chosen = (dense + rest)[:most] or scene.questions[:1]
    rng.shuffle(chosen)
    return Scene(scene.images, chosen, scene.maps)


def collate(tokenizer: Any, made: list[Scene]) -> Batch:
    """Scenes as one batch: pixels uint8 [B, N, 3, size, size], input_ids and labels [B, L] (answers only), looks [n, 4]."""
    count = image_tokens(made[0].images[0].width)
    picture = "<fake_token_around_image><global-img>" + "<image>" * count + "<fake_token_around_image>"
    dot = tokenizer.convert_tokens_to_ids("<image>")
    rows, kinds = [], []
    looks: list[looking.Look] = []
    for row, scene in enumerate(made):
        head = "<|im_start|>User:" + picture * len(scene.images)
        ids: list[int] = []
        labels: list[int] = []
        for q in scene.questions:
            text = tokenizer(head + q.text, add_special_tokens=False)["input_ids"]
            ask = text + tokenizer("<end_of_utterance>\nAssistant:", add_special_tokens=False)["input_ids"]
            say = tokenizer(q.answer + "<end_of_utterance>", add_special_tokens=False)["input_ids"]
            begin = len(ids)
            if q.points:
                words = tokenizer.convert_ids_to_tokens(say[:-1])
                first = (ids or ask).index(dot)
                looks += looking.looks_of(
                    q.points, words, row, begin + len(ask), begin + len(text) - 1, first, math.isqrt(count)
                )
            ids += ask + say
            labels += [IGNORE] * len(ask) + say
            head = "\nUser:"
        rows.append((ids, labels))
        kinds.append([q.kind for q in scene.questions])
    length = max(len(ids) for ids, _ in rows)
    input_ids = torch.full((len(rows), length), tokenizer.pad_token_id)
    target = torch.full((len(rows), length), IGNORE)
    for k, (ids, labels) in enumerate(rows):
        input_ids[k, : len(ids)] = torch.tensor(ids)
        target[k, : len(labels)] = torch.tensor(labels)
    pixels = torch.from_numpy(np.stack([np.stack([np.asarray(im) for im in s.images]) for s in made]))
    batch = {"pixels": pixels.permute(0, 1, 4, 2, 3), "input_ids": input_ids, "labels": target, "kinds": kinds}
    if looks:
        batch["looks"] = torch.tensor(looks)
    if any(s.maps for s in made):
        unknown = Maps(pixels.shape[-2] // PATCH)
        batch["maps"] = dense.stacked([s.maps or unknown for s in made])
    return batch


class Seen:
    """The states of all patches in the newest forward pass of a model's tower, [pictures, patches, width]."""

    def __init__(self, model: Any) -> None:
        self.states = torch.empty(0)
        model.model.vision_model.register_forward_hook(self._keep)

    def _keep(self, _: Any, __: Any, out: Any) -> None:
        self.states = out.last_hidden_state


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
def scores(model: Any, tokenizer: Any, device: str, mixture: str, groups: int) -> dict[str, dict[str, float]]:
    """Exact match of whole answers (teacher-forced; share of tokens for descriptions) by kind, on the held-out seed."""
    model.eval()
    right: dict[str, list[float]] = defaultdict(list)
    held_out = Batches(tokenizer, 987_654_321, 64, mixture)
    first = ENDLESS // (4 * held_out.size)
    for batch in itertools.chain.from_iterable(map(held_out.group, range(first, first + groups))):
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


def build(args: argparse.Namespace) -> tuple[Any, Any]:
    """The model and its processor: of an earlier stage, or new; with the tower of the dense stage where one is given."""
    source = args.init or args.tokenizer
    tokenizer = AutoProcessor.from_pretrained(source).tokenizer if source else build_tokenizer(PLAIN | TWO)
    model = build_model(tokenizer, AutoConfig.from_pretrained(args.init, dtype="float32") if args.init else None)
    embeddings = model.model.vision_model.embeddings
    embeddings.position_embedding = Positions(embeddings.position_embedding.weight.detach())
    model.set_attn_implementation({"vision_config": "sdpa", "text_config": "eager"})
    if args.init:
        old = {k: v.float() for k, v in load_file(args.init / "model.safetensors").items()}
        # The projector of another tower is of no use.
        parts = () if not args.tower else ("vision_model",) if args.grown else ("vision_model", "connector")
        model.load_state_dict({k: v for k, v in old.items() if not any(p in k for p in parts)}, strict=False)
    if args.tower:
        model.model.vision_model.load_state_dict(load_file(args.tower))
    return model, build_processor(tokenizer)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--scenes", type=int, default=300_000, help="in all")
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop after so many; the same command goes on")
    parser.add_argument("--mixture", choices=list(MIXTURES), default="all")
    parser.add_argument("--tower", type=Path, help="tower.safetensors of the dense stage")
    parser.add_argument(
        "--grown", action="store_true", help="the tower of --tower was that of --init once, whose projector is kept"
    )
    parser.add_argument("--heads", type=Path, help="heads.safetensors of the dense stage or of an earlier one of this")
    parser.add_argument("--init", type=Path, help="folder of an earlier model to begin with")
    parser.add_argument("--tokenizer", type=Path, help="folder of a model whose tokenizer a new one gets")
    parser.add_argument("--batch", type=int, default=32, help="of each process")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--muon", type=float, default=0.015)
    parser.add_argument("--adam", type=float, default=1e-3)
    parser.add_argument("--tower_rate", type=float, default=0.25, help="the tower's rates over the others'")
    parser.add_argument("--dense", type=float, default=0.3, help="weight of the dense losses, where maps are known")
    parser.add_argument(
        "--looking", type=float, default=0.5, help="weight of the loss of where the language model looks"
    )
    parser.add_argument(
        "--frozen", type=float, default=0.0, help="the first share of the scenes, with the tower as it is"
    )
    parser.add_argument("--decay", type=float, default=0.5, help="the last share of the scenes, with a falling rate")
    return parser.parse_args()


def main() -> None:
    args = arguments()
    rank, world = stage.join()
    device = stage.device()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    model, processor = build(args)
    # What the tower learned of patches is not to fade, so its heads go on beside the questions.
    heads = Heads(model.config.vision_config.hidden_size)
    if args.heads:
        heads.load_state_dict(load_file(args.heads))
    for module in (model, heads):
        module.to(device)
    modules: dict[str, torch.nn.Module] = {"model": model, "heads": heads}
    seen_by, attention = Seen(model), looking.Attention(model)
    parameters = [p for m in modules.values() for p in m.parameters()]
    tokenizer = processor.tokenizer
    parts = ((model.model.vision_model, args.tower_rate), (model, 1.0), (heads, 1.0))
    rates = stage.rates_of(parts, args.muon, args.adam)
    newest = args.out / "checkpoint.pt"
    start = stage.restored(newest, modules | {"optimizer": rates.optimizer}, "scenes", device)
    seen, step = start.seen, start.step
    if rank == 0:
        number = sum(p.numel() for p in model.parameters())
        print(f"{number:,} parameters, {len(tokenizer)} tokens, {device}, from {seen:,} scenes on", flush=True)
    # Groups are numbered by the scenes before them; one that was begun is left out.
    first = math.ceil(seen / args.batch / 4) + rank
    loader = DataLoader(
        Batches(tokenizer, args.seed, args.batch, args.mixture, first, world, bool(args.init)), batch_size=None,
        num_workers=args.workers, prefetch_factor=8 if args.workers else None,
    )  # fmt: skip
    clock, last = stage.Clock(start.seconds), time.monotonic()
    losses: list[float] = []
    missed: list[float] = []

    def keep() -> None:
        state = {name: module.state_dict() for name, module in modules.items()}
        facts = {"optimizer": rates.optimizer.state_dict(), "scenes": seen, "step": step, "seconds": clock.seconds}
        stage.save(newest, state | facts)

    for batch in loader:
        if stage.agreed(seen >= args.scenes or clock.now > 60 * args.minutes, world):
            break
        rates.set(step, seen / args.scenes, args.decay)
        learns = seen >= args.frozen * args.scenes
        for module in (model.model.vision_model, heads):
            module.requires_grad_(learns)
        with stage.autocast(device):
            logits, target = forward(model, batch, device)
        loss = torch.nn.functional.cross_entropy(logits.float(), target)
        both = loss
        if "looks" in batch and args.looking:
            look = looking.loss(attention.weights, batch["looks"])
            both = both + args.looking * look
            missed.append(look.item())
        if "maps" in batch and args.dense and learns:
            maps = {name: tensor.to(device) for name, tensor in batch["maps"].items()}
            both = both + args.dense * dense.total(dense.losses(heads, seen_by.states.float(), maps))
        both.backward()  # type: ignore[no-untyped-call]
        stage.average(parameters, world)
        torch.nn.utils.clip_grad_norm_(rates.rest, 1.0)
        rates.optimizer.step()
        rates.optimizer.zero_grad(set_to_none=True)
        seen, step = seen + args.batch * world, step + 1
        losses.append(loss.item())
        if rank == 0 and clock.due():
            keep()
        if rank == 0 and step % 200 == 0:
            rate = 200 * args.batch * world / (time.monotonic() - last)
            print(
                f"{stage.minutes(clock.seconds):6.1f} min  {seen:>9,} scenes  {rate:5.0f}/s  loss {np.mean(losses[-200:]):.3f}"
                f"  looking {np.mean(missed[-200:]) if missed else math.nan:.3f}",
                flush=True,
            )
            last = time.monotonic()
        if rank == 0 and step % 1500 == 0:
            save(args, model, heads, processor, seen, clock.seconds, scores(model, tokenizer, device, args.mixture, 3))
            last = time.monotonic()
    if rank == 0:
        keep()
        groups = 32 if seen >= args.scenes else 6
        save(args, model, heads, processor, seen, clock.seconds, scores(model, tokenizer, device, args.mixture, groups))


def save(
    args: argparse.Namespace, model: Any, heads: Heads, processor: Any, seen: int, seconds: float,
    table: dict[str, dict[str, float]],
) -> None:  # fmt: skip
    """Writes weights (bfloat16), processor, scores, and the heads of the dense losses for a next stage to ``args.out``."""
    args.out.mkdir(parents=True, exist_ok=True)
    # The table of words serves at both ends and is written once.
    state = {k: v.to(torch.bfloat16) for k, v in model.state_dict().items() if k != "lm_head.weight"}
    config = model.config.dtype
    model.config.dtype = torch.bfloat16
    model.save_pretrained(args.out, state_dict=state)
    model.config.dtype = config
    processor.save_pretrained(args.out)
    save_file(heads.state_dict(), args.out / "heads.safetensors")
    facts = {
        "scenes": seen,
        "minutes": stage.minutes(seconds),
        "seed": args.seed,
        "mixture": args.mixture,
        "scores": table,
    }
    (args.out / "scores.json").write_text(json.dumps(facts, indent=1) + "\n")
    print({k: v["exact"] for k, v in table.items()}, flush=True)


if __name__ == "__main__":
    main()
