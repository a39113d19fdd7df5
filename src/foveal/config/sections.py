"""The recipe: typed sections that fully describe a run. ``reading.py`` reads the YAML form.

The ``data`` section belongs to the task (``Task.Data``); the others are here. Every field's docstring is its help text.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import yaml

Component = Literal["vision", "projector", "language", "head"]


@dataclass
class Lora:
    """Low-rank adapters (`peft`)."""

    r: int = 16
    """Rank."""
    alpha: int = 32
    """Scale; the update is multiplied by alpha / r."""
    dropout: float = 0.05
    """Dropout in front of the adapters."""
    components: list[Component] = field(default_factory=lambda: ["language"])
    """Components whose linear layers get adapters."""
    dora: bool = False
    """Weight-decomposed adapters (DoRA)."""
    also_train: list[Component] = field(default_factory=list)
    """Components trained whole beside the adapters and saved with them, e.g. projector."""


@dataclass
class Server:
    """How a served model is reached, whose server's address is model.id."""

    name: str | None = None
    """The model's name on the server; by default the only one that it lists."""
    api_key_env: str | None = None
    """Name of the environment variable that holds the server's key; the key itself is never written or shown."""
    temperature: float = 0.0
    """0 takes the likeliest reply; else the recipe's seed is sent, too."""
    concurrency: int = 8
    """Requests at a time."""
    timeout: float = 300.0
    """Seconds within which a reply must be whole."""
    tries: int = 8
    """How often a request is sent before it is given up."""


@dataclass
class Model:
    """Which model, how it is loaded and which parts of it learn."""

    id: str = "builtin"
    """`builtin` (or `builtin-blindtest`, which knows the seven puzzles, or `builtin-counting`, which points), a Hub id, a
    folder in Hub layout, or the address of an OpenAI-compatible server, e.g. http://localhost:8000/v1, which is asked
    but not trained."""
    revision: str | None = None
    """Branch, tag or commit on the Hub."""
    trust_remote_code: bool = False
    """Run Python code that comes with the model. Off unless you have read that code."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Type of the weights. auto: float32 where all weights are trained, else bfloat16 on a GPU and float32 on CPU."""
    device: str = "auto"
    """auto (CUDA, then MPS, then CPU), cpu, cuda, cuda:1, mps."""
    attention: Literal["eager", "sdpa", "flash_attention_2"] | None = None
    """Attention kernel; the model's own choice by default."""
    quantization: Literal["none", "nf4", "int8"] = "none"
    """Frozen weights in 4 or 8 bits (bitsandbytes; extra `quant`). Needs adapter: lora to be trained."""
    adapter: Literal["none", "lora"] = "none"
    """none trains the weights themselves, lora trains adapters beside frozen ones."""
    lora: Lora = field(default_factory=Lora)
    """Used with adapter: lora."""
    freeze: list[Component] = field(default_factory=list)
    """Components that do not learn (with adapter: none)."""
    reset: list[Component] = field(default_factory=list)
    """Components whose weights are drawn anew (Xavier) before training, e.g. [projector]: a fresh bridge between a
    vision tower and a language model that are kept."""
    learning_rates: dict[str, float] = field(default_factory=dict)
    """Learning rate of a component, where it differs from training.learning_rate, e.g. {projector: 5e-4}."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""
    image_size: int | None = None
    """Longest side in pixels that pictures are shrunk to before the model's own preprocessing."""
    tiles: bool = True
    """Whether families that cut pictures into tiles (Idefics3 and SmolVLM, InternVL, LLaVA-NeXT) may do so. false shows
    the model one view of each picture: far fewer tokens, less detail of large pictures."""
    resolution: int | None = None
    """Side in pixels at which the vision tower looks at pictures, where it shall differ from the model's own; learned
    positions are stretched (families idefics3, smolvlm without tiles, paligemma; multiples of 28 for builtin)."""
    max_pixels: int = 64_000_000
    """Pictures with more pixels than this are refused."""
    server: Server = field(default_factory=Server)
    """Used where id is the address of a server."""


@dataclass
class Training:
    """How the model learns."""

    epochs: float = 3.0
    """Passes over the training pictures."""
    max_steps: int = -1
    """Optimizer steps; overrides epochs where positive."""
    batch_size: int = 8
    """Rows in one forward pass on one device."""
    accumulate: int = 1
    """Forward passes in one optimizer step; batch 1 x accumulate 8 equals batch 8."""
    learning_rate: float = 1e-4
    """Peak learning rate (of AdamW's part, with optimizer: muon)."""
    optimizer: Literal["adamw", "muon", "adafactor", "adamw_8bit", "paged_adamw_8bit"] = "adamw"
    """muon: Muon on hidden matrices and AdamW on the rest, best for training a small model whole."""
    muon_learning_rate: float = 0.02
    """Peak learning rate of Muon's matrices."""
    weight_decay: float = 0.0
    """Decoupled weight decay on matrices."""
    schedule: Literal["cosine", "linear", "constant", "plateau"] = "cosine"
    """plateau: ReduceLROnPlateau on the validation metric at each epoch's end."""
    warmup: float = 0.03
    """Steps with a rising learning rate: below 1 a share of all steps, from 1 on their number."""
    plateau_factor: float = 0.5
    """With schedule: plateau, what the learning rate is multiplied by."""
    plateau_patience: int = 3
    """With schedule: plateau, epochs without improvement before it is."""
    early_stopping: int = 0
    """Stop after this many epochs without a better validation metric; 0 never stops early."""
    label_smoothing: float = 0.0
    """Share of each target that is spread evenly over the vocabulary (objective: answer) or over the task's answers
    (objective: label), as in torch.nn.functional.cross_entropy. The validation loss has it too."""
    consistency: float = 0.0
    """With objective: label and tasks that compare, weight of the symmetric divergence between the answers to a pair
    and to the same pair in the other order; both are in one batch, which doubles its rows. 0 learns one order only."""
    consistency_ramp: float = 0.3
    """Share of the steps over which that weight rises from 0."""
    max_grad_norm: float = 1.0
    """Gradients are clipped to this norm; 0 switches it off."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Mixed precision of the forward pass. auto: bfloat16 where the processor has fast instructions for it."""
    evaluate: bool = True
    """Predict the validation rows at each epoch's end, for the task's own metric."""
    measurements: int = 1
    """Measurements in each epoch, evenly spaced; with each comes a checkpoint."""
    save_epochs: int = 1
    """A checkpoint every so many epochs, after the last one, and wherever the validation metric is the best so far."""
    keep_epochs: int = 1
    """Epoch checkpoints kept beside best and last; 0 keeps all."""
    save_steps: int = 0
    """Also save a checkpoint every so many steps, to resume from inside an epoch; 0 saves at epoch ends only."""
    compile: bool = False
    """Compile the model with torch.compile: slower to start, faster steps on a GPU."""
    log_steps: int = 20
    """Steps between two lines of the training log."""
    workers: int = 0
    """Processes that prepare batches."""
    report_to: list[Literal["wandb", "tensorboard", "trackio", "mlflow"]] = field(default_factory=list)
    """Trackers, as in transformers; metrics.csv is always written."""


@dataclass
class Evaluation:
    """How the model is measured."""

    method: Literal["auto", "score", "generate", "choose"] = "auto"
    """score: exact probability of each of the task's answers; generate: free text, parsed strictly; choose: text, but
    only the task's answers can be written. auto scores where the task has a closed set of answers; where the model
    gives its reasons first, it writes them, and the answers are scored behind its own reasons (score and choose then ask
    for the answer at once, without reasons)."""
    batch_size: int = 64
    """Rows at a time."""
    max_new_tokens: int = 64
    """Longest reply of those that are written, reasons included."""
    length_normalisation: bool = False
    """Divide each answer's score by the number of its tokens, the end of the answer included, before probabilities are
    made of the scores; for answers of very different length."""
    samples: int = 0
    """Validation rows measured at each epoch's end, evenly spread over the split; 0 measures all."""
    before: bool = False
    """Also measure the model as it is before training, on the split that is measured afterwards."""
    split: Literal["validation", "test"] = "test"
    """What is measured when training is done."""
    shown: int = 48
    """Predictions shown as pictures in the report."""


@dataclass
class Recipe:
    """A run, described fully."""

    task: str
    """What is learned; `foveal tasks` lists them."""
    data: Any
    """The task's own section; `foveal tasks NAME` shows its fields."""
    model: Model = field(default_factory=Model)
    training: Training = field(default_factory=Training)
    evaluation: Evaluation = field(default_factory=Evaluation)
    objective: str = "answer"
    """answer: cross entropy on the answer's tokens. label: cross entropy over the task's closed set of answers. Other
    packages can bring more."""
    name: str | None = None
    """Name of the run's folder; task, model and time by default."""
    output: str = "runs"
    """Folder that holds the runs."""
    seed: int = 0
    """Seed of everything random."""


def dump_recipe(recipe: Recipe) -> str:
    """The recipe as YAML, fields in their declared order; reading it gives an equal recipe."""
    text: str = yaml.safe_dump(asdict(recipe), sort_keys=False, allow_unicode=True, width=110)
    return text
