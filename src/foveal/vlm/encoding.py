"""Turns prompts into a family's tensors, with the processor's own chat template.

An answer is appended to its prompt as token ids, so that training, scoring and generation all continue from exactly
the same prefix. The ids are those that the tokenizer gives to the answer *behind* the prompt (a leading space or a
SentencePiece dummy prefix changes them), and they are checked by decoding. What the model's turn already begins with
(``Prompt.reply_start``) is appended in the same way, for it is the beginning of an answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal

import torch
from jinja2 import TemplateError
from PIL import Image
from transformers import PreTrainedTokenizerBase, ProcessorMixin

from foveal.errors import UserError
from foveal.prompts import Prompt
from foveal.vlm.families import family_of
from foveal.vlm.logits import IGNORE
from foveal.vlm.markers import check_plain, markers_of

Batch = dict[str, torch.Tensor]

#: Texts that are remembered; prompts of a closed set are few, but reasons differ from row to row.
_REMEMBERED: Final = 10_000
#: Characters in front of a text that decide its tokens.
_TAIL: Final = 48


class Encoder:
    """A processor with its template, token caches and length limit.

    Args:
        processor: The family's processor.
        family: The configuration's model type.
        context: Longest row in tokens; None for no limit.
        image_size: Longest side that pictures are shrunk to before the processor's own resizing; None leaves them.
    """

    def __init__(
        self, processor: ProcessorMixin, *, family: str, context: int | None = None, image_size: int | None = None
    ) -> None:
        self.processor, self.family, self.context, self.image_size = processor, family, context, image_size
        self.tokenizer: PreTrainedTokenizerBase = processor.tokenizer
        self.markers = markers_of(processor)
        self._texts: dict[tuple[int, str, str | None, str | None], str] = {}
        self._answers: dict[tuple[str, str], tuple[int, ...]] = {}

    # ---------------------------------------------------------------- text

    def text(self, prompt: Prompt) -> str:
        """The prompt's text up to the answer, the start of the reply included."""
        return self._head(prompt) + self._start(prompt)[0] if prompt.reply_start else self._render(prompt, None)

    def _head(self, prompt: Prompt) -> str:
        """The prompt up to the model's turn."""
        return self._render(prompt, None) + ("" if self.processor.chat_template else family_of(self.family).separator)

    def _turn(self, prompt: Prompt, text: str) -> str:
        """The model's turn as the template formats it, e.g. with a space and the end token around ``text``."""
        head, whole = self._head(prompt), self._render(prompt, text)
        turn = whole[len(head) :]
        # A template that rewrites the turn (thinking tags, say) leaves the text itself.
        return turn if whole.startswith(head) and text in turn else text

    def _start(self, prompt: Prompt) -> tuple[str, str]:
        """The model's turn up to the end of ``reply_start``, and what the template puts behind it."""
        turn = self._turn(prompt, prompt.reply_start)
        end = turn.index(prompt.reply_start) + len(prompt.reply_start)
        return turn[:end], turn[end:]

    def _render(self, prompt: Prompt, answer: str | None) -> str:
        key = (len(prompt.images), prompt.user, prompt.system, answer)
        if key not in self._texts:
            if len(self._texts) > _REMEMBERED:
                self._texts.clear()
            self._texts[key] = self._render_new(prompt, answer)
        return self._texts[key]

    def _render_new(self, prompt: Prompt, answer: str | None) -> str:
        if not self.processor.chat_template:
            flat = prompt.without_system()
            start = str(self.processor.image_token) * len(prompt.images) + flat.user
            return start + ("" if answer is None else family_of(self.family).separator + answer)
        messages = self._messages(prompt)
        return self._written(messages if answer is None else [*messages, _said("assistant", answer)])

    def _messages(self, prompt: Prompt) -> list[dict[str, Any]]:
        messages = prompt.messages()
        if prompt.system and not self._takes_system(messages, prompt.system):
            return prompt.without_system().messages()
        return messages

    def _written(self, messages: list[dict[str, Any]]) -> str:
        """A conversation as the template writes it, up to the model's turn where that comes next."""
        try:
            text: str = self.processor.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=messages[-1]["role"] == "user"
            )
        except Exception as error:  # a template is a program of the model's makers
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UserError(
                f"The model's chat template cannot write a question about a picture ({reason.rstrip('.')}); get the file "
                "chat_template.jinja of a vision-language model again."
            ) from error
        return text

    def _takes_system(self, messages: list[dict[str, Any]], system: str) -> bool:
        try:
            return system in self.processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        except (TemplateError, ValueError, TypeError):
            return False

    # ---------------------------------------------------------------- answers

    def answer_ids(self, prompt: Prompt, answer: str) -> tuple[int, ...]:
        """Token ids of an answer behind this prompt, with the token that ends the turn.

        Raises:
            UserError: The tokenizer cannot write the answer so that it reads back the same.
        """
        if prompt.reply_start:
            tail, suffix = self.text(prompt)[-_TAIL:], answer + self._start(prompt)[1]
        else:
            tail, suffix = self._head(prompt)[-_TAIL:], self._turn(prompt, answer)
        key = (tail, suffix)
        if key not in self._answers:
            if len(self._answers) > _REMEMBERED:
                self._answers.clear()
            self._answers[key] = self._new_answer_ids(tail, suffix, answer)
        return self._answers[key]

    def learned_ids(self, prompt: Prompt) -> tuple[list[int], list[bool]]:
        """Token ids of a prompt's answer and of its further turns, and which of them are the model's own.

        Raises:
            UserError: See ``answer_ids``; or the model has no template that goes on behind an answer.
        """
        assert prompt.answer is not None
        ids = list(self.answer_ids(prompt, prompt.answer))
        learned = [True] * len(ids)
        if not prompt.turns:
            return ids, learned
        if not self.processor.chat_template:
            raise UserError("The model has no chat template, so a row can have one question; ask one at a time.")
        messages = [*self._messages(prompt), _said("assistant", prompt.answer)]
        done = self._ended(self._head(prompt), self._written(messages), prompt.answer)
        for question, answer in prompt.turns:
            head = self._written([*messages, _said("user", question)])
            messages += [_said("user", question), _said("assistant", answer)]
            whole = self._written(messages)
            if not head.startswith(done) or not whole.startswith(head):
                raise UserError(
                    "The model's chat template rewrites a conversation when it goes on, so a row can have one question; "
                    "ask one at a time."
                )
            asked = self._behind(done[-_TAIL:], head[len(done) :])
            said = self._new_answer_ids(head[-_TAIL:], whole[len(head) :], answer)
            ids += [*asked, *said]
            learned += [False] * len(asked) + [True] * len(said)
            done = self._ended(head, whole, answer)
        return ids, learned

    def _ended(self, head: str, whole: str, answer: str) -> str:
        """A conversation up to the token that ends its last turn, as ``answer_ids`` cuts it."""
        start = whole.index(answer, len(head)) + len(answer)
        marks: list[str] = self.tokenizer.convert_ids_to_tokens(sorted(self.end_ids))
        ends = [place + len(mark) for mark in marks if (place := whole.find(mark, start)) >= 0]
        return whole[: min(ends)] if ends else whole.rstrip()

    def choice_ids(self, prompts: Sequence[Prompt], answers: Sequence[str]) -> torch.Tensor:
        """Token ids [B, K, T] of each answer behind each prompt, the end token included, padded with ``IGNORE``.

        Raises:
            UserError: See ``answer_ids``.
        """
        ids = [[self.answer_ids(p, a) for a in answers] for p in prompts]
        longest = max(len(one) for row in ids for one in row)
        return torch.tensor([[[*one, *([IGNORE] * (longest - len(one)))] for one in row] for row in ids])

    def reply_start_ids(self, prompt: Prompt) -> tuple[int, ...]:
        """Token ids of the start of the reply; empty without one."""
        if not prompt.reply_start:
            return ()
        # A reply can spell out a special token: <image> as one would call for another picture.
        special = {i for i, token in self.tokenizer.added_tokens_decoder.items() if token.special}
        ids = self._behind(self._head(prompt)[-_TAIL:], self._start(prompt)[0])
        return tuple(i for i in ids if i not in special)

    def _tokens(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def _behind(self, tail: str, text: str) -> list[int]:
        """The tokens of a text behind the end of another."""
        before, both = self._tokens(tail), self._tokens(tail + text)
        return both[len(before) :] if both[: len(before)] == before else self._tokens(text)

    def _new_answer_ids(self, tail: str, suffix: str, answer: str) -> tuple[int, ...]:
        check_plain(self.markers, [Prompt((), "", answer=answer)], [repr(answer)])
        before, ids, end_ids = self._tokens(tail), self._behind(tail, suffix), self.end_ids
        ends = [i for i, t in enumerate(ids) if t in end_ids]
        # A template without an end token (LLaVA) puts a space behind the answer, which must not be learned.
        ids = ids[: ends[0] + 1] if ends else [*self._behind(tail, suffix.rstrip()), self.end_id]
        read = self.tokenizer.decode(
            [*before, *ids[:-1]], skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        # Around added tokens some decoders (LLaVA's) put spaces that nobody wrote.
        if not ids[:-1] or not "".join(read.split()).endswith("".join(answer.split())):
            raise UserError(
                f"The answer {answer!r} reads back as {read[-len(answer) - 8 :]!r} through this model's tokenizer; "
                "word the answer in characters that it can write."
            )
        return tuple(ids)

    @property
    def end_id(self) -> int:
        """The token that ends the model's turn."""
        eos = self.tokenizer.eos_token_id
        if eos is None:
            raise UserError("The model's tokenizer has no end-of-sequence token, so no answer can be taught to end.")
        return int(eos)

    @property
    def end_ids(self) -> frozenset[int]:
        """Tokens that end a turn: the tokenizer's end, and the family's end-of-turn tokens."""
        known = self.tokenizer.convert_tokens_to_ids(list(family_of(self.family).end_tokens))
        unknown = self.tokenizer.unk_token_id
        return frozenset({self.end_id, *(i for i in known if i is not None and i != unknown)})

    # ---------------------------------------------------------------- batches

    def encode(self, prompts: Sequence[Prompt], *, side: Literal["left", "right"], names: Sequence[str] = ()) -> Batch:
        """Prompts without answers as tensors, padded on one side; the starts of the replies come last.

        Args:
            prompts: The prompts.
            side: Where rows are padded.
            names: Name of each in errors; their numbers by default.

        Returns:
            ``input_ids`` and ``attention_mask`` [B, L], the family's pixel tensors and whatever else it needs.

        Raises:
            UserError: A text holds one of the model's own markers; see ``markers``.
        """
        check_plain(self.markers, prompts, names or [f"prompt {i}" for i in range(1, len(prompts) + 1)])
        texts = [self._render(p, None) for p in prompts]
        images = [[self._shrink(im) for im in p.opened()] for p in prompts]
        bos = self.tokenizer.bos_token
        written = bool(bos) and all(t.startswith(str(bos)) for t in texts)
        extra = {"add_special_tokens": False} if written else {}
        try:
            encoded = self.processor(
                text=texts,
                images=images if any(images) else None,
                padding=True,
                padding_side=side,
                return_tensors="pt",
                **extra,
            )
        except (ValueError, IndexError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UserError(
                f"The model's processor cannot take the pictures with their text ({reason.rstrip('.')}); check its chat "
                "template and the pictures' shape."
            ) from error
        # PaliGemma's processor adds labels of its own, which hold for a suffix that is not there.
        batch = {k: v for k, v in encoded.items() if k != "labels"}
        starts = [self.reply_start_ids(p) for p in prompts]
        return append_tokens(batch, starts, self.family, self._pad_id, side=side) if any(starts) else batch

    @property
    def _pad_id(self) -> int:
        return self.tokenizer.pad_token_id or 0

    def _shrink(self, image: Image.Image) -> Image.Image:
        if self.image_size is None or max(image.size) <= self.image_size:
            return image
        scale = self.image_size / max(image.size)
        size = tuple(max(1, round(s * scale)) for s in image.size)
        return image.resize(size, Image.Resampling.LANCZOS)  # type: ignore[arg-type]

    def training_batch(self, prompts: Sequence[Prompt], names: Sequence[str]) -> Batch:
        """Prompts with their answers and further turns, right-padded, with ``labels`` on the answers' tokens only.

        Args:
            prompts: Each with its answer.
            names: Name of each row in errors.

        Raises:
            UserError: A row has no answer, or does not fit into the model's context. Nothing is ever cut.
        """
        check_plain(self.markers, prompts, names)
        rows = []
        for prompt, name in zip(prompts, names, strict=True):
            if prompt.answer is None:
                raise UserError(f"{name}: the row has no answer to learn from; label it or leave it out.")
            rows.append(self.learned_ids(prompt))
        batch = append_answers(
            self.encode(prompts, side="right", names=names), [ids for ids, _ in rows], self.family, self._pad_id,
            learned=[flags for _, flags in rows],
        )  # fmt: skip
        self.check_prompts(batch, names)
        return batch

    def check_prompts(self, batch: Batch, names: Sequence[str]) -> None:
        """Checks that rows fit into the model's context.

        Raises:
            UserError: A row is too long.
        """
        lengths = batch["attention_mask"].sum(1).tolist()
        for length, name in zip(lengths, names, strict=True):
            if self.context is not None and length > self.context:
                raise UserError(
                    f"{name}: the row is {length} tokens long, the model's context is {self.context}; "
                    "shorten the text or lower model.image_size (nothing is cut silently)."
                )

    def decode_labels(self, batch: Batch, row: int = 0) -> str:
        """A row as the loss sees it: prompt tokens as they are, runs of picture tokens counted, answer tokens in [[ ]]."""
        ids, labels = batch["input_ids"][row], batch["labels"][row]
        keep = batch["attention_mask"][row].bool()
        ids, labels = ids[keep], labels[keep]
        parts: list[str] = []
        pieces = [
            (self.tokenizer.decode([i]), lab != IGNORE) for i, lab in zip(ids.tolist(), labels.tolist(), strict=True)
        ]
        run = 0
        for k, (piece, learned) in enumerate(pieces):
            run = run + 1 if k and piece == pieces[k - 1][0] and not learned else 1
            if run > 2:
                parts[-1] = f" x{run}"
                continue
            parts.append(f"[[{piece}]]" if learned else piece)
        return "".join(parts)


def _said(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "content": [{"type": "text", "text": text}]}


def append_answers(
    batch: Batch, answers: Sequence[Sequence[int]], family: str, pad: int, *, learned: Sequence[Sequence[bool]] = ()
) -> Batch:
    """Right-padded prompts with each row's answer put directly behind its last token.

    Args:
        batch: Right-padded tensors of ``Encoder.encode``.
        answers: Token ids for each row.
        family: The configuration's model type.
        pad: The padding token's id.
        learned: Which of those tokens are labels; all by default.

    Returns:
        The batch with longer rows and ``labels``.
    """
    starts = batch["attention_mask"].sum(1).tolist()
    out = append_tokens(batch, answers, family, pad, side="right")
    out["labels"] = torch.full_like(out["input_ids"], IGNORE)
    for i, (n, answer) in enumerate(zip(starts, answers, strict=True)):
        labels = out["labels"][i, n : n + len(answer)]
        labels.copy_(out["input_ids"][i, n : n + len(answer)])
        if learned:
            labels[~torch.tensor(learned[i], dtype=torch.bool)] = IGNORE
    return out


def append_tokens(
    batch: Batch, texts: Sequence[Sequence[int]], family: str, pad: int, *, side: Literal["left", "right"]
) -> Batch:
    """Padded prompts with tokens of the model's own turn put directly behind each row's last token.

    Args:
        batch: Tensors of ``Encoder.encode``.
        texts: Token ids for each row; rows may differ in length.
        family: The configuration's model type.
        pad: The padding token's id.
        side: Where the rows are padded, and stay so.

    Returns:
        The batch with longer rows.
    """
    lengths = batch["attention_mask"].sum(1).tolist()
    longest = max(n + len(t) for n, t in zip(lengths, texts, strict=True))
    out = dict(batch)
    for key, fill in {"input_ids": None, **family_of(family).per_token}.items():
        if key not in batch:
            continue
        old = batch[key]
        blank = pad if key == "input_ids" else 0
        new = torch.full((len(texts), longest, *old.shape[2:]), blank, dtype=old.dtype)
        for i, (n, text) in enumerate(zip(lengths, texts, strict=True)):
            first = longest - n - len(text) if side == "left" else 0
            row = old[i, old.shape[1] - n :] if side == "left" else old[i, :n]
            new[i, first : first + n] = row
            behind = new[i, first + n : first + n + len(text)]
            if key == "input_ids":
                behind.copy_(torch.tensor(text, dtype=old.dtype))
            else:
                behind.copy_(row[-1].expand_as(behind)) if fill is None else behind.fill_(fill)
        out[key] = new
    return out
