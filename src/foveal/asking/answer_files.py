"""Files of answers that grow while a model is asked, and can be continued after an interruption at any moment.

JSON lines and CSV are appended a batch at a time. Parquet cannot be appended to: its rows go to complete parts in a folder
beside the file, which are joined at the end in one step. ``FILE.state.json`` beside the file holds what its answers
depend on. A continued file has the same batches as without the interruption, so that its rows are equal bit for bit.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import shutil
import time
from abc import ABC, abstractmethod
from array import array
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np

from foveal.asking.answered import Answered, Tally, word_of
from foveal.config.sections import Recipe, dump_recipe
from foveal.errors import UserError
from foveal.files import Writing, as_csv, check_output, csv_text, disk_errors, replacing, to_json, write_text
from foveal.runs import Run
from foveal.vlm.finding import is_url

#: Rows of a part, and the seconds after which a smaller one is written.
PART_ROWS, PART_SECONDS = 1000, 30.0
#: The columns of tables.
COLUMNS = ("picture", "prediction", "confidence", "response", "probabilities", "extra", "error")


def facts_of(recipe: Recipe, run: Run | None, checkpoint: str, text: str | None) -> dict[str, Any]:
    """What answers depend on besides the pictures, the same for all answers of a file.

    Raises:
        UserError: The run has no such checkpoint.
    """
    return {
        "task": recipe.task,
        "model": recipe.model.id if run is None or is_url(recipe.model.id) else str(run.checkpoint(checkpoint)),
        "text": text,
        "recipe": hashlib.sha256(dump_recipe(recipe).encode(errors="backslashreplace")).hexdigest()[:16],
    }


class AnswerFile(ABC):
    """A file of answers, new or continued, which nobody else can write until it is closed.

    Nothing is written before the first ``append``.

    Pictures with answers are remembered by 8 bytes each: among a million pictures two are mistaken for one with a
    probability of 3 in 100 million.

    Args:
        path: The file.
        facts: What the answers depend on; see ``facts_of``.
        batch_size: Pictures asked together.

    Attributes:
        path: The file.
        tally: Counts of all its rows.

    Raises:
        UserError: The file cannot be written, is being written, or holds something else.
    """

    def __init__(self, path: Path, facts: Mapping[str, Any], batch_size: int) -> None:
        self.path, self.tally = path, Tally()
        self._facts, self._size = dict(facts), batch_size
        self._state_file = path.with_name(f"{path.name}.state.json")
        self._digests = array("Q")
        self._writing = Writing(path)
        try:
            exists = any(p.exists() for p in self._places())
            self._state = self._read_state() if exists else {"begun": 0, "finished": False}
            self._load()
        except BaseException:
            self._writing.close()
            raise
        self._sorted = np.frombuffer(self._digests, np.uint64) if self._digests else np.zeros(0, np.uint64)
        self._sorted.sort()

    def __contains__(self, picture: Path) -> bool:
        """Whether the file had a row of the picture when it was opened."""
        digest = np.uint64(_digest(str(picture)))
        at = int(np.searchsorted(self._sorted, digest))
        return at < len(self._sorted) and bool(self._sorted[at] == digest)

    def append(self, batch: Sequence[Answered]) -> None:
        """Adds the rows of a batch.

        Raises:
            UserError: The disk is full or may not be written.
        """
        with disk_errors(self.path):
            self._write(batch)
        self.tally.add_all(batch)

    def close(self) -> None:
        """Saves what was appended, to be continued later, by others too.

        Raises:
            UserError: The disk is full or may not be written.
        """
        try:
            self._save()
        finally:
            self._writing.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @abstractmethod
    def finish(self) -> None:
        """Completes the file, once all pictures are answered."""

    @abstractmethod
    def _save(self) -> None:
        """Saves what was appended."""

    @abstractmethod
    def _places(self) -> list[Path]:
        """The files and folders that may hold rows."""

    @abstractmethod
    def _load(self) -> None:
        """Counts the existing rows, and cuts off an incomplete batch."""

    @abstractmethod
    def _write(self, batch: Sequence[Answered]) -> None: ...

    def _note(self, picture: str, value: Any, error: str | None) -> None:
        self._digests.append(_digest(picture))
        self.tally.add(value, error)

    def _foreign(self, what: str) -> UserError:
        return UserError(f"{self.path}: {what}; choose another --out, or delete {self._remains()}.")

    def _remains(self) -> str:
        return " and ".join(str(p) for p in self._places() if p.exists())

    def _read_state(self) -> dict[str, Any]:
        try:
            state: dict[str, Any] = json.loads(self._state_file.read_text(encoding="utf-8"))
            begun, finished, facts = max(0, int(state["begun"])), bool(state["finished"]), dict(state["facts"])
        except FileNotFoundError:
            raise self._foreign(f"exists, but without the {self._state_file.name} of a file to continue") from None
        except (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError):
            raise self._foreign(f"cannot be continued, for {self._state_file} is damaged") from None
        for key in self._facts | facts:
            if facts.get(key) != self._facts.get(key):
                what = "was made with another recipe or other settings"
                if key != "recipe":
                    what = f"holds answers for another {key} ({facts.get(key)!r}, now {self._facts.get(key)!r})"
                raise self._foreign(what)
        return {"begun": begun, "finished": finished}

    def _save_state(self, **state: Any) -> None:
        self._state |= state
        write_text(
            self._state_file, json.dumps({**self._state, "facts": self._facts}, indent=2, ensure_ascii=False) + "\n"
        )


class LineAnswers(AnswerFile):
    """A file to which a record is appended for each picture."""

    _stream: BinaryIO | None = None
    #: What the file begins with.
    _head = b""

    @abstractmethod
    def _record(self, answer: Answered) -> str:
        """The record of an answer, its line's end included."""

    @abstractmethod
    def _read(self, record: bytes) -> tuple[str, Any, str | None]:
        """A record's picture, value and error."""

    @staticmethod
    def _ends(record: bytes) -> bool:
        """Whether a record is whole with the line that was read last."""
        return record.endswith(b"\n")

    def _records(self, stream: BinaryIO) -> Iterator[bytes]:
        """The records from the stream's place on; the last may be cut off."""
        record = b""
        for line in stream:
            record += line
            if self._ends(record):
                yield record
                record = b""
        if record:
            yield record

    def _places(self) -> list[Path]:
        return [self.path]

    def _load(self) -> None:
        if not self.path.exists():
            return
        start = len(self._head)
        rows, end = 0, start
        ends: deque[int] = deque(maxlen=self._size)
        with disk_errors(self.path), self.path.open("r+b") as stream:
            head = stream.read(start)
            if head != self._head[: len(head)]:
                raise self._foreign("line 1 is not that of the answers of foveal predict")
            for record in self._records(stream):
                if not self._ends(record):
                    break
                rows, end = rows + 1, end + len(record)
                ends.append(end)
            begun = rows if self._state["finished"] else min(rows, self._state["begun"])
            over = (rows - begun) % self._size
            whole = start if over == rows else ends[-1 - over]
            whole = whole if len(head) == start else 0
            if whole != stream.seek(0, os.SEEK_END):
                stream.truncate(whole)
            self._state["begun"] = begun
            stream.seek(min(start, whole))
            for number, record in enumerate(self._records(stream), start=1):
                try:
                    self._note(*self._read(record))
                except (ValueError, TypeError, KeyError, AttributeError, RecursionError, csv.Error):
                    raise self._foreign(f"line {number} is no answer of foveal predict") from None

    def _write(self, batch: Sequence[Answered]) -> None:
        if self._stream is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._save_state(finished=False)
            self._stream = self.path.open("ab", buffering=0)
        data = "".join(map(self._record, batch)).encode(errors="backslashreplace")
        if self._stream.tell() == 0:
            data = self._head + data
        while data:
            data = data[self._stream.write(data) :]

    def _save(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def finish(self) -> None:
        """Marks the file as complete."""
        self._save()
        if self.path.exists() and not self._state["finished"]:
            self._save_state(finished=True)


class JsonAnswers(LineAnswers):
    """A line of JSON for each picture: see ``Prediction.row``; one with ``error`` where it could not be read."""

    def _record(self, answer: Answered) -> str:
        return to_json(_row(answer)) + "\n"

    def _read(self, record: bytes) -> tuple[str, Any, str | None]:
        row = json.loads(record)
        return row["id"], row["value"], row.get("error")


class CsvAnswers(LineAnswers):
    """A row for each picture, with the columns of ``ParquetAnswers``; ``probabilities`` are JSON, too."""

    _head = (",".join(COLUMNS) + "\n").encode()

    @staticmethod
    def _ends(record: bytes) -> bool:
        # Lines end inside quotes, too; a quote in a text is written twice.
        return record.endswith(b"\n") and record.count(b'"') % 2 == 0

    def _record(self, answer: Answered) -> str:
        row = _columns(answer)
        if row.get("probabilities"):
            row["probabilities"] = to_json(dict(row["probabilities"]))
        return as_csv([["" if row.get(name) is None else row[name] for name in COLUMNS]])

    def _read(self, record: bytes) -> tuple[str, Any, str | None]:
        ((picture, prediction, *_, error),) = csv.reader(io.StringIO(record.decode(), newline=""))
        return csv_text(picture), csv_text(prediction) or None, csv_text(error) or None


class ParquetAnswers(AnswerFile):
    """A row for each picture, with the columns ``picture``, ``prediction``, ``confidence``, ``response``,
    ``probabilities`` (answer -> probability), ``extra`` (JSON) and ``error``.
    """

    def _places(self) -> list[Path]:
        return [self.path, self._folder]

    @property
    def _folder(self) -> Path:
        return self.path.with_name(f"{self.path.name}.parts")

    def _load(self) -> None:
        import pyarrow  # type: ignore[import-untyped]
        import pyarrow.parquet  # type: ignore[import-untyped]

        self._waiting: list[dict[str, Any]] = []
        self._since = time.monotonic()
        sources = [self.path] if self.path.exists() else []
        # Parts that are left from a kill after the joining are in the file already.
        self._next = 0
        try:
            if sources:
                metadata = pyarrow.parquet.read_metadata(self.path).metadata or {}
                self._next = int(metadata.get(b"foveal.parts", 0))
            parts = {int(p.stem.removeprefix("part-")): p for p in self._folder.glob("part-*.parquet")}
            for number, part in sorted(parts.items()):
                if number < self._next:
                    part.unlink()
                else:
                    sources.append(part)
            self._next = max([self._next, *(n + 1 for n in parts)])
            for source in sources:
                for batch in _batches(source):
                    columns = (batch.column(name).to_pylist() for name in ("picture", "prediction", "error"))
                    for picture, prediction, error in zip(*columns, strict=True):
                        self._note(picture, prediction, error)
        except (pyarrow.ArrowException, OSError, ValueError, KeyError, AttributeError) as error:
            raise self._foreign(f"cannot be read as the answers of foveal predict ({error})") from None

    def _write(self, batch: Sequence[Answered]) -> None:
        self._waiting += [_columns(a) for a in batch]
        if len(self._waiting) >= PART_ROWS or time.monotonic() - self._since > PART_SECONDS:
            self._save()

    def _save(self) -> None:
        if self._waiting:
            import pyarrow
            import pyarrow.parquet

            if not self._folder.exists():
                self._save_state(finished=False)
                self._folder.mkdir()
            table = pyarrow.Table.from_pylist(self._waiting, schema=_schema())
            with replacing(self._folder / f"part-{self._next:05d}.parquet") as stream:
                pyarrow.parquet.write_table(table, stream)
            self._waiting = []
            self._next += 1
        self._since = time.monotonic()

    def finish(self) -> None:
        """Joins the existing file and the parts into one file, and removes the parts."""
        import pyarrow
        import pyarrow.parquet

        self._save()
        with disk_errors(self.path):
            parts = sorted(self._folder.glob("part-*.parquet"), key=lambda p: int(p.stem.removeprefix("part-")))
            if parts:
                schema = _schema().with_metadata({"foveal.parts": str(self._next)})
                # Inside the folder of parts, so that a kill leaves nothing beside the file.
                joined = self._folder / "joined"
                with replacing(joined) as stream, pyarrow.parquet.ParquetWriter(stream, schema) as writer:
                    for group in _groups([*([self.path] if self.path.exists() else []), *parts]):
                        table = pyarrow.Table.from_batches(group).replace_schema_metadata(schema.metadata)
                        writer.write_table(table, row_group_size=2 * PART_ROWS)
                os.replace(joined, self.path)
            if self._folder.exists():
                shutil.rmtree(self._folder)
        if parts:
            self._save_state(finished=True)


#: The kind of file of each ending.
KINDS: dict[str, type[AnswerFile]] = {".jsonl": JsonAnswers, ".csv": CsvAnswers, ".parquet": ParquetAnswers}


def open_answers(path: Path, facts: Mapping[str, Any], batch_size: int) -> AnswerFile:
    """The file of answers of that name, new or to be continued; its ending says of which kind, see ``KINDS``.

    Args:
        path: The file.
        facts: What the answers depend on; see ``facts_of``.
        batch_size: Pictures asked together.

    Raises:
        UserError: The file has another ending, cannot be written, is being written, or holds something else.
    """
    check_output(path, tuple(KINDS))
    return KINDS[path.suffix.lower()](path, facts, batch_size)


def _row(a: Answered) -> dict[str, Any]:
    if a.prediction is None:
        return {"id": str(a.path), "value": None, "text": None, "confidence": None, "error": a.error}
    return a.prediction.row() | {"id": str(a.path)}


def _columns(a: Answered) -> dict[str, Any]:
    p = a.prediction
    if p is None:
        return {"picture": _utf8(str(a.path)), "error": _utf8(a.error or "")}
    return {
        "picture": _utf8(str(a.path)),
        "prediction": None if p.value is None else _utf8(word_of(p.value)),
        "confidence": p.confidence,
        "response": _utf8(p.text),
        "probabilities": [(_utf8(k), v) for k, v in p.probabilities.items()] if p.probabilities else None,
        "extra": _utf8(to_json(dict(p.extra))) if p.extra else None,
    }


def _schema() -> Any:
    import pyarrow as pa

    kinds = {"confidence": pa.float64(), "probabilities": pa.map_(pa.string(), pa.float64())}
    return pa.schema([(name, kinds.get(name, pa.string())) for name in COLUMNS])


def _groups(sources: Sequence[Path]) -> Iterator[list[Any]]:
    """The files' record batches in groups of ``PART_ROWS`` rows or more; the last may be smaller."""
    group: list[Any] = []
    for source in sources:
        for batch in _batches(source):
            group.append(batch)
            if sum(b.num_rows for b in group) >= PART_ROWS:
                yield group
                group = []
    if group:
        yield group


def _batches(source: Path) -> Iterator[Any]:
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(source) as table:
        yield from table.iter_batches(PART_ROWS)


def _utf8(text: str) -> str:
    # A file name that is not UTF-8 has lone surrogates.
    return text.encode(errors="backslashreplace").decode()


def _digest(picture: str) -> int:
    return int.from_bytes(hashlib.blake2b(picture.encode(errors="backslashreplace"), digest_size=8).digest(), "big")
