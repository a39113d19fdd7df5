"""The built-in model before any training: its tokenizer, processor and configuration, in standard Hub layout.

The shape is SmolVLM's (``Idefics3ForConditionalGeneration``): 112 px pictures in patches of 14, a vision transformer,
pixel shuffle by 2 (16 image tokens) and a small Llama. White is normalised to 0.08, near zero, because most pictures
here are strokes on white paper: with mean 0.5 the same model stays at chance for ten thousand pictures.
"""

from __future__ import annotations

import random
from collections.abc import Iterable

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import Idefics3Config, Idefics3ForConditionalGeneration, PreTrainedTokenizerFast
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
from transformers.models.idefics3.processing_idefics3 import Idefics3Processor

from scenes import Families, make

#: Side of a picture unless a recipe says otherwise.
VIEW = 112
PATCH, SHUFFLE, WIDTH = 14, 2, 128
VOCABULARY = 1024
BOS, EOS, PAD = "<|im_start|>", "<end_of_utterance>", "<pad>"
CHAT_TEMPLATE = (
    "<|im_start|>{% for message in messages %}{{ message['role'] | capitalize }}:"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'text' %}{{ part['text'] }}{% elif part['type'] == 'image' %}{{ '<image>' }}{% endif %}"
    "{% endfor %}{% endif %}<end_of_utterance>\n{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)

#: Wording of questions that users ask, so that the tokenizer spells them in few tokens. The model is not trained on it.
PHRASES = """
Count the intersection points where the blue and red lines meet. Put your answer in curly brackets, e.g., {2}.
How many times do the blue and red lines touch each other? Answer with a number in curly brackets, e.g., {5}.
Are the two circles touching each other? Are the two circles overlapping? Answer with Yes/No.
Which letter is being circled? Which character is being highlighted with a red oval?
How many circles are in the image? Count the pentagons in the image. Answer with only the number in numerical format.
Count total number of squares in the image. How many squares are in the image? Please answer with a number.
Count the number of rows and columns and answer with numbers in curly brackets. For example, rows={5} columns={6}
How many rows and columns are in the table? Answer with only the numbers in a pair (row, column), e.g., (5,6)
How many single-colored paths go from A to B? Count the one-colored routes that go from C to D.
Point to the next object that is not marked yet, or say done. The marked ones are already counted. next done point
How many objects are there? Give the number only. Point to all of them in reading order.
Which picture has more of it, the first or the second? Answer First, Second or Similar.
What is shown in this picture? Classify the image. Answer with one of these classes. Reasoning: Answer: because
airplane automobile bird cat deer dog frog horse ship truck zero one two three four five six seven eight nine
Segment what the sentence means. Which pixels show the largest red shape that is not a circle? It is <SEG>.
Describe the picture. What do you see? There is a and the of to in on with it is are was not for that this from
""".strip().splitlines()


def image_tokens(view: int) -> int:
    """Tokens of a picture ``view`` pixels wide and high."""
    return (view // PATCH // SHUFFLE) ** 2


def build_tokenizer(families: Families, seed: int = 0) -> PreTrainedTokenizerFast:
    """A byte-level BPE of ``VOCABULARY`` entries, single digits, learned on the scenes' questions (all families alike) and ``PHRASES``."""
    rng = random.Random(seed)
    families = {name: (family, 1.0) for name, (family, _) in families.items()}

    def corpus() -> Iterable[str]:
        for _ in range(12_000):
            for q in make(rng, families).questions:
                yield f"User:{q.text}"
                yield f"Assistant:{q.answer}"
        for _ in range(400):
            yield from PHRASES

    tags = ["<fake_token_around_image>", "<image>", "<global-img>"]
    tags += [f"<row_{r}_col_{c}>" for r in range(1, 7) for c in range(1, 7)]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[PAD, BOS, EOS, *tags],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus(), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=BOS, eos_token=EOS, pad_token=PAD, model_max_length=2048,
        extra_special_tokens=tags, padding_side="right", clean_up_tokenization_spaces=False,
    )  # fmt: skip


def build_processor(tokenizer: PreTrainedTokenizerFast) -> Idefics3Processor:
    """One 112 x 112 view per picture; splitting into tiles can be switched on for larger pictures."""
    images = Idefics3ImageProcessorPil(
        size={"longest_edge": VIEW}, max_image_size={"longest_edge": VIEW}, do_image_splitting=False,
        image_mean=[0.98] * 3, image_std=[0.25] * 3, do_convert_rgb=True,
    )  # fmt: skip
    return Idefics3Processor(images, tokenizer, image_seq_len=image_tokens(VIEW), chat_template=CHAT_TEMPLATE)


def build_config(tokenizer: PreTrainedTokenizerFast) -> Idefics3Config:
    """Width 128; 4 vision layers of 2 heads, 4 language layers of 4; relu, which is three times cheaper than gelu on CPU."""
    ids = {k: tokenizer.convert_tokens_to_ids(t) for k, t in (("bos", BOS), ("eos", EOS), ("pad", PAD))}
    shared = {f"{k}_token_id": v for k, v in ids.items()}
    return Idefics3Config(
        vision_config={
            "hidden_size": WIDTH, "intermediate_size": 4 * WIDTH, "num_hidden_layers": 4, "num_attention_heads": 2,
            "image_size": VIEW, "patch_size": PATCH, "hidden_act": "relu", "initializer_range": WIDTH**-0.5,
        },
        text_config={
            "model_type": "llama", "vocab_size": len(tokenizer), "hidden_size": WIDTH, "intermediate_size": 2 * WIDTH,
            "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 4, "hidden_act": "relu",
            "max_position_embeddings": 2048, "initializer_range": WIDTH**-0.5, "tie_word_embeddings": True, **shared,
        },
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"), scale_factor=SHUFFLE, tie_word_embeddings=True, **shared,
    )  # fmt: skip


def build_model(
    tokenizer: PreTrainedTokenizerFast, config: Idefics3Config | None = None
) -> Idefics3ForConditionalGeneration:
    """The model with random weights (seed it first). Eager attention: at these lengths it beats the fused kernel.

    Args:
        tokenizer: Its tokenizer.
        config: Of an earlier model; ``build_config`` by default.
    """
    config = config or build_config(tokenizer)
    config._attn_implementation = "eager"
    model = Idefics3ForConditionalGeneration(config)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.generation_config.bos_token_id = tokenizer.bos_token_id
    return model
