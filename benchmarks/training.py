"""How many pictures a second does training take here, beside TRL's ``SFTTrainer`` doing the same work?

Run it as ``python benchmarks/training.py``, after ``pip install trl``. It compares ``FovealTrainer`` with ``SFTTrainer``
on the same model, PNG files, rows in the same order, batch size, number of steps, AdamW, schedule, float32 and number of
threads, in two setups:

* ``builtin``: the built-in model, trained whole, batch 32. Its vocabulary is small (1,024 tokens).
* ``vocabulary``: a random model of 31 million parameters in SmolVLM's shape, 224 pixels, whose vocabulary of 49,280
  tokens is as large as SmolVLM's, trained whole, batch 4. The output layer is most of such a small model's work.

Each side runs in a process of its own, which loads the model once. The two take turns, one round each, so that whatever
else the machine does meets both. A round is a new trainer with two steps of warm-up and then the steps that are timed,
from the end of one step to the end of the last: reading and preparing pictures, forward and backward pass and optimizer
are in, start-up and checkpoints are not. Images per second are by processor time, which leaves out the time that other
programs had the core (with more threads it is their sum, and with data workers it misses what they do); the wall clock's
are beside them, and agree on an idle machine. Peak memory is the largest resident set of a side's process up to the end
of its first timed round; what of it came after the model was loaded is given too.

What makes it fair: SFTTrainer gets the loaded model (with our choice of attention) and the processor, no gradient
checkpointing, no bfloat16, ``max_length=None``, and prompt and completion in columns of their own, so that it learns the
answer alone, as we do. The completion is the answer with the token that ends the turn, and both texts are rendered
through the chat template before the clock starts; given conversations, TRL renders them in every step and learns the
template's line break too. Before anything is timed, three steps on both sides must show the same number of tokens,
of learned tokens and of padding, and the same losses; otherwise the benchmark fails.

What carries over to a GPU, and what does not: both leave out the logits of unlearned positions on CUDA, where TRL's fused
output layer does so with Triton; without Triton, as on a CPU, it projects every position in chunks. So most of the gap
in ``vocabulary`` is a gap on CPUs. Differences in preparing the batch carry over where it is not hidden by data workers.
Nothing here has been run on a GPU.
"""

from __future__ import annotations

import argparse
import importlib.util
import multiprocessing
import os
import resource
import statistics
import sys
import tempfile
import time
import warnings
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

# The parent imports no torch: a process's peak memory starts from that of the process that started it.

WARMUP = 2
SEED = 0


@dataclass(frozen=True)
class Setup:
    """What both sides train."""

    name: str
    batch: int
    steps: int
    pictures: int
    learning_rate: float

    @property
    def rows(self) -> int:
        """Rows of a round; a third of them for each answer."""
        return -(-(self.steps + WARMUP) * self.batch // 3) * 3


@dataclass(frozen=True)
class Check:
    """What the first steps looked like."""

    tokens: int
    learned: int
    padding: int
    losses: tuple[float, ...]


@dataclass(frozen=True)
class Round:
    """What a round took."""

    seconds: float
    processor_seconds: float
    peak: float
    before: float


def write_setup(setup: Setup, folder: Path) -> None:
    """Writes the pictures and, where it is not the built-in one, the model. Runs in a process of its own."""
    from foveal.quiet import quiet
    from foveal.tasks.blindtest.lines import Lines, LinesMake

    quiet()
    Lines.make(LinesMake(folder=str(folder / "data"), num_images=setup.rows // 3, image_size=setup.pictures))
    if setup.name == "vocabulary":
        write_model(folder / "model", setup.pictures)


def write_model(folder: Path, side: int) -> None:
    """A random model in SmolVLM's shape with the built-in tokenizer, whose vocabulary is padded to SmolVLM's."""
    import torch
    from transformers import Idefics3Config, Idefics3ForConditionalGeneration

    from foveal.vlm.finding import builtin_folder
    from foveal.vlm.processors import load_processor

    processor = load_processor(builtin_folder())
    patch, shuffle = 16, 2
    processor.image_processor.size = processor.image_processor.max_image_size = {"longest_edge": side}
    processor.image_seq_len = (side // patch // shuffle) ** 2
    processor.save_pretrained(folder)
    tokenizer = processor.tokenizer
    ids = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    config = Idefics3Config(
        image_token_id=processor.image_token_id, scale_factor=shuffle, tie_word_embeddings=False,
        vision_config={
            "hidden_size": 192, "intermediate_size": 768, "num_hidden_layers": 4, "num_attention_heads": 3,
            "image_size": side, "patch_size": patch,
        },
        text_config={
            "model_type": "llama", "vocab_size": 49_280, "hidden_size": 256, "intermediate_size": 768,
            "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2,
            "max_position_embeddings": 2048, **ids,
        },
    )  # fmt: skip
    torch.manual_seed(SEED)
    Idefics3ForConditionalGeneration(config).save_pretrained(folder)


class Side:
    """One trainer's process: made once, then asked for rounds."""

    def __init__(self, name: str, setup: Setup, folder: Path, workers: int, threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(
            target=serve, args=(theirs, name, setup, folder, workers, threads), daemon=not workers
        )
        self.process.start()
        theirs.close()

    def ask(self, what: str) -> Any:
        """Sends a word and waits for what comes back."""
        try:
            self.connection.send(what)
            return self.connection.recv()
        except (EOFError, BrokenPipeError):
            sys.exit("A side of the comparison failed; its error is above.")

    def close(self) -> None:
        """Ends the process."""
        self.connection.close()
        self.process.join()


def serve(connection: Connection, name: str, setup: Setup, folder: Path, workers: int, threads: int) -> None:
    """A side's process: loads the model, then answers ``check`` and ``round`` until the connection is closed."""
    import torch

    from foveal.quiet import quiet

    quiet()
    warnings.simplefilter("ignore", FutureWarning)
    torch.set_num_threads(threads)
    runner = (Foveal if name == "foveal" else Trl)(setup, folder, workers)
    before = peak()
    while True:
        try:
            what = connection.recv()
        except EOFError:
            return
        if what == "size":
            connection.send(sum(p.numel() for p in runner.vlm.model.parameters()))
        else:
            connection.send(check(runner) if what == "check" else timed_round(runner, before))


def peak() -> float:
    """Largest resident set of this process so far, in MB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


class Runner:
    """Makes trainers of one kind on the same model and rows."""

    def __init__(self, setup: Setup, folder: Path, workers: int) -> None:
        from foveal.config.sections import Evaluation, Model, Recipe, Training
        from foveal.examples import Loaded
        from foveal.tasks.blindtest.lines import Lines, LinesData
        from foveal.training import setup as training_setup
        from foveal.vlm.encoding import Encoder
        from foveal.vlm.loading import Vlm

        self.setup, self.folder, self.workers = setup, folder, workers
        model = Model(id="builtin" if setup.name == "builtin" else str(folder / "model"), device="cpu")
        training = Training(
            batch_size=setup.batch, learning_rate=setup.learning_rate, schedule="constant", warmup=0.0, workers=workers,
            precision="float32", evaluate=False,
        )  # fmt: skip
        data = LinesData(source=str(folder / "data"))
        self.recipe = Recipe(
            "blindtest/lines", data, model=model, training=training, evaluation=Evaluation(), seed=SEED
        )
        self.task = Lines(data)
        loaded = self.task.load("train")
        self.examples = loaded.examples
        nothing = Loaded([], "none")
        self.ready = training_setup.Setup.open(self.task, self.recipe, training_setup.Data(loaded, nothing, nothing))
        assert isinstance(self.ready.model, Vlm)
        self.vlm = self.ready.model
        self.encoder = Encoder(self.vlm.processor, family=self.vlm.family, context=self.vlm.context)

    def settings(self, steps: int, log_steps: int) -> dict[str, Any]:
        """The settings of both trainers, as ``TrainingArguments`` names them."""
        training = self.recipe.training
        return {
            "output_dir": str(self.folder / "runs"), "seed": SEED, "data_seed": SEED, "max_steps": steps,
            "per_device_train_batch_size": training.batch_size, "learning_rate": training.learning_rate,
            "optim": "adamw_torch", "weight_decay": training.weight_decay, "max_grad_norm": training.max_grad_norm,
            "lr_scheduler_type": "constant", "warmup_steps": 0, "bf16": False, "use_cpu": True,
            "eval_strategy": "no", "save_strategy": "no", "logging_steps": log_steps, "report_to": "none",
            "dataloader_num_workers": self.workers, "dataloader_pin_memory": False, "disable_tqdm": True,
        }  # fmt: skip

    def trainer(self, steps: int, log_steps: int, callback: Any) -> Any:
        """A new trainer on the model as it is."""
        raise NotImplementedError


class Foveal(Runner):
    """Our side."""

    def trainer(self, steps: int, log_steps: int, callback: Any) -> Any:
        """As ``foveal train`` makes it, but for the progress bar."""
        from transformers import TrainingArguments

        from foveal.runs import Run
        from foveal.training.trainer import FovealTrainer

        arguments = TrainingArguments(
            **self.settings(steps, log_steps), remove_unused_columns=False, logging_nan_inf_filter=False
        )
        return FovealTrainer(self.ready, Run(self.folder / "runs"), arguments, callbacks=[callback])


class Trl(Runner):
    """TRL's side."""

    def __init__(self, setup: Setup, folder: Path, workers: int) -> None:
        super().__init__(setup, folder, workers)
        from datasets import Dataset, Image

        prompts = [self.task.prompt(e) for e in self.examples]
        columns = {
            "image": [str(e.images[0].source) for e in self.examples],
            "prompt": [self.encoder.text(p) for p in prompts],
            "completion": [self.encoder.tokenizer.decode(self.encoder.answer_ids(p, str(p.answer))) for p in prompts],
        }
        self.rows = Dataset.from_dict(columns).cast_column("image", Image())

    def trainer(self, steps: int, log_steps: int, callback: Any) -> Any:
        """As its documentation makes it for vision-language models."""
        from trl import SFTConfig, SFTTrainer  # type: ignore[import-not-found, unused-ignore]

        # Its defaults are to recompute activations and to cut rows at 1,024 tokens.
        arguments = SFTConfig(**self.settings(steps, log_steps), gradient_checkpointing=False, max_length=None)
        return SFTTrainer(
            model=self.vlm.model, args=arguments, train_dataset=self.rows, processing_class=self.vlm.processor, callbacks=[callback],
        )  # fmt: skip


def run(runner: Runner, steps: int, log_steps: int) -> tuple[list[tuple[float, float]], list[float], float, Any]:
    """Trains. Returns both clocks at the end of each step, the logged losses, the peak memory and the trainer."""
    from transformers import TrainerCallback
    from transformers.trainer_callback import PrinterCallback

    ends: list[tuple[float, float]] = []
    losses: list[float] = []
    peaks: list[float] = []

    class Watch(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            ends.append((time.perf_counter(), time.process_time()))
            if len(ends) == steps:
                peaks.append(peak())

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if logs and "loss" in logs:
                losses.append(logs["loss"])

    trainer = runner.trainer(steps, log_steps, Watch())
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return ends, losses, peaks[0], trainer


def check(runner: Runner) -> Check:
    """Three steps with every loss logged, from the weights as they were loaded, which are then put back."""
    model = runner.vlm.model
    kept = {k: v.clone() for k, v in model.state_dict().items()}
    _, losses, _, trainer = run(runner, 3, 1)
    model.load_state_dict(kept)
    batch = next(iter(trainer.get_train_dataloader()))
    labels, mask = batch["labels"], batch["attention_mask"]
    return Check(int(mask.sum()), int((labels[:, 1:] != -100).sum()), int((mask == 0).sum()), tuple(losses))


def timed_round(runner: Runner, before: float) -> Round:
    """The steps behind the warm-up."""
    ends, _, peaked, _ = run(runner, runner.setup.steps + WARMUP, 20)
    (wall, processor), (wall_end, processor_end) = ends[WARMUP - 1], ends[-1]
    return Round(wall_end - wall, processor_end - processor, peaked, before)


def verify(checks: dict[str, Check]) -> str:
    """The line that says that both sides did the same, or the end of the benchmark."""
    ours, theirs = checks["foveal"], checks["trl"]
    gap = max(abs(a - b) for a, b in zip(ours.losses, theirs.losses, strict=True))
    line = (
        f"first batch: {ours.tokens:,} tokens, {ours.learned} learned, {ours.padding} padding (TRL: {theirs.tokens:,}, "
        f"{theirs.learned}, {theirs.padding}); first losses {', '.join(f'{x:.5f}' for x in ours.losses)} "
        f"(TRL: {', '.join(f'{x:.5f}' for x in theirs.losses)})"
    )
    counts = (ours.tokens, ours.learned, ours.padding) == (theirs.tokens, theirs.learned, theirs.padding)
    if not counts or gap > 1e-3 * max(1.0, *ours.losses):
        sys.exit(f"The two sides did not do the same: {line}")
    return f"same work: {line}"


def table(rounds: dict[str, list[Round]], images: int) -> list[str]:
    """The figures of both sides, and how ours compare."""
    lines = [f"{'':<10}{'images/s (range)':>26}{'by the wall clock':>20}{'peak memory':>14}{'of it in training':>20}"]
    medians = {}
    for name, all_of_it in rounds.items():
        rates = [images / r.processor_seconds for r in all_of_it]
        rate, wall = statistics.median(rates), statistics.median(images / r.seconds for r in all_of_it)
        first = all_of_it[0]
        medians[name] = rate, wall, first.peak, first.peak - first.before
        shown = f"{rate:,.1f} ({min(rates):,.1f} to {max(rates):,.1f})"
        lines.append(f"{name:<10}{shown:>26}{wall:>20,.1f}{first.peak:>11,.0f} MB{medians[name][3]:>17,.0f} MB")
    ratios = [a / b for a, b in zip(medians["foveal"], medians["trl"], strict=True)]
    lines.append(f"{'ratio':<10}{ratios[0]:>25.2f}x{ratios[1]:>19.2f}x{ratios[2]:>13.2f}x{ratios[3]:>19.2f}x")
    return lines


def compare(setup: Setup, rounds: int, workers: int, threads: int) -> None:
    """Runs a setup and prints its table."""
    with tempfile.TemporaryDirectory(prefix="foveal-benchmark-") as temporary:
        folder = Path(temporary)
        writer = multiprocessing.get_context("spawn").Process(target=write_setup, args=(setup, folder))
        writer.start()
        writer.join()
        if writer.exitcode:
            sys.exit("The pictures or the model could not be written; the error is above.")
        sides = {name: Side(name, setup, folder, workers, threads) for name in ("foveal", "trl")}
        try:
            parameters = sides["foveal"].ask("size")
            print(
                f"\n{setup.name}: {parameters / 1e6:.1f} million parameters, {setup.pictures} x {setup.pictures} pixels, "
                f"batch {setup.batch}, {rounds} rounds of {setup.steps} steps"
            )
            print(verify({name: side.ask("check") for name, side in sides.items()}), flush=True)
            done: dict[str, list[Round]] = {name: [] for name in sides}
            for _ in range(rounds):
                for name, side in sides.items():
                    done[name].append(side.ask("round"))
            print("\n".join(table(done, setup.steps * setup.batch)), flush=True)
        finally:
            for side in sides.values():
                side.close()


def main() -> int:
    """Measures both setups and prints their tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--steps", type=int, default=8, help="timed steps in a round (default 8)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each side, at least 3 (default 5)")
    parser.add_argument("--workers", type=int, default=0, help="data workers of each side (default 0)")
    parser.add_argument("--threads", type=int, default=1, help="threads of each side (default 1)")
    parser.add_argument("--only", choices=["builtin", "vocabulary"], help="one of the setups")
    given = parser.parse_args()
    if given.rounds < 3 or given.steps < 1 or given.workers < 0 or given.threads < 1:
        parser.error("--rounds is at least 3, --steps and --threads are at least 1, --workers at least 0")
    if importlib.util.find_spec("trl") is None:
        print("The comparison needs TRL; install it with: pip install 'trl>=1.16,<2'", file=sys.stderr)
        return 2
    os.environ.update(OMP_NUM_THREADS=str(given.threads), HF_HUB_OFFLINE="1", HF_DATASETS_DISABLE_PROGRESS_BARS="1")
    from importlib.metadata import version

    packages = ", ".join(f"{p} {version(p)}" for p in ("trl", "transformers", "torch"))
    print(f"{packages}; {given.threads} thread(s), {given.workers} data workers, float32, medians")
    for setup in (
        Setup("builtin", batch=32, steps=given.steps, pictures=112, learning_rate=1e-4),
        Setup("vocabulary", batch=4, steps=given.steps, pictures=224, learning_rate=1e-4),
    ):
        if given.only in (None, setup.name):
            compare(setup, given.rounds, given.workers, given.threads)
    return 0


if __name__ == "__main__":
    sys.exit(main())
