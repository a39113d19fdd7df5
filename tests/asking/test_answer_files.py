from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image
from small_answers import FACTS, SIZE, Fake, both, content, every, go, rows_of, table, write_pictures

from foveal.asking import answer_files
from foveal.asking.answer_files import open_answers
from foveal.asking.answered import Answered, Tally
from foveal.errors import ImageError, UserError
from foveal.examples import Example
from foveal.images import walk_images
from foveal.results import Prediction


def test_a_line_and_a_row_for_each_picture_say_the_same(tmp_path):
    folder = write_pictures(tmp_path / "in", 10)
    (folder / "004.png").write_bytes(b"broken")
    lines, columns = both(tmp_path)
    tallies = [go(folder, out, skip_bad=True) for out in (lines, columns)]
    assert tallies[0] == tallies[1] and (tallies[0].rows, tallies[0].bad) == (10, 1)
    assert tallies[0].counts == {"dark": 7, "light": 2}
    frame = pd.read_parquet(columns)
    assert list(frame) == ["picture", "prediction", "confidence", "response", "probabilities", "extra", "error"]
    for row, (_, cells) in zip(rows_of(lines), frame.iterrows(), strict=True):
        if "error" in row:
            assert row["id"] == cells.picture and row["id"].endswith("004.png") and row["error"] == cells.error
            assert row["error"].startswith(row["id"]) and row["value"] is None
            assert all(map(pd.isna, (cells.prediction, cells.confidence, cells.response, cells.probabilities)))
            continue
        assert (row["id"], row["value"], row["text"]) == (cells.picture, cells.prediction, cells.response)
        assert row["confidence"] == cells.confidence and row["probabilities"] == dict(cells.probabilities)
        assert {"levels": row["levels"]} == json.loads(cells.extra) and pd.isna(cells.error)


def test_names_that_are_not_utf8_are_found_again(tmp_path):
    folder = write_pictures(tmp_path / "in", 1)
    os.rename(os.fsencode(folder / "000.png"), os.fsencode(folder) + b"/gr\xfcn.png")
    for out in every(tmp_path):
        fake = Fake()
        go(folder, out, fake)
        go(folder, out, fake)
        assert len(fake.batches) == 1
    assert rows_of(tmp_path / "a.jsonl")[0]["id"] == str(next(walk_images(folder)))
    assert table(tmp_path / "a.parquet")[0]["picture"].endswith(r"gr\udcfcn.png")


def test_a_complete_file_stays_and_new_pictures_are_added(tmp_path):
    folder = write_pictures(tmp_path / "in", 6)
    for out in every(tmp_path):
        go(folder, out)
        before, stamp = content(out), out.stat().st_mtime_ns
        fake = Fake()
        assert go(folder, out, fake).rows == 6 and fake.batches == []
        assert content(out) == before and out.stat().st_mtime_ns == stamp
        for name in ("0005.png", "0015.png"):  # before and between those that were asked
            Image.new("RGB", (8, 8), "white").save(folder / name)
        (folder / "001.png").rename(tmp_path / "gone.png")
        tally = go(folder, out, fake)
        assert fake.batches == [["0005.png", "0015.png"]] and tally.rows == 8
        (folder / "0005.png").unlink()
        go(folder, out, fake)
        assert len(fake.batches) == 1
        after = content(out)
        assert after[: len(before)] == before
        names = [Path(r["id"]).name for r in rows_of(out)] if out.suffix == ".jsonl" else None
        assert names is None or names == [*(f"{i:03}.png" for i in range(6)), "0005.png", "0015.png"]
        (tmp_path / "gone.png").rename(folder / "001.png")
        (folder / "0015.png").unlink()


def test_an_interruption_at_any_batch_changes_nothing(tmp_path):
    folder = write_pictures(tmp_path / "in", 22)
    (folder / "006.png").write_bytes(b"broken")
    for whole in every(tmp_path):
        go(folder, whole, skip_bad=True)
        for stop in (1, 3, 6):
            out = tmp_path / f"{stop}{whole.suffix}"
            seen = []

            def each(batch, seen=seen, stop=stop):
                seen.append(batch)
                if len(seen) == stop:
                    raise KeyboardInterrupt

            for _ in range(2):
                with pytest.raises(KeyboardInterrupt):
                    go(folder, out, skip_bad=True, each=each)
                seen.clear()
                if stop in {1, 6}:
                    break
            go(folder, out, skip_bad=True)
            assert content(out) == content(whole)
        leftover = {p.name for p in tmp_path.iterdir()} - {"in"}
        assert not any(name.startswith(".") or name.endswith(".parts") for name in leftover)


@pytest.mark.parametrize("cut", [1, 40, 400, 900])
@pytest.mark.parametrize("name", ["a.jsonl", "a.csv"])
def test_half_a_line_and_half_a_batch_are_cut_off_and_asked_again(tmp_path, cut, name):
    folder = write_pictures(tmp_path / "in", 10)
    out = tmp_path / name
    go(folder, out)
    whole = out.read_bytes()
    state = tmp_path / f"{name}.state.json"
    state.write_text(json.dumps(json.loads(state.read_text()) | {"finished": False}))
    out.write_bytes(whole[:-cut])
    fake = Fake()
    go(folder, out, fake)
    assert out.read_bytes() == whole
    kept = (whole[:-cut].count(b"\n") - (name == "a.csv")) // SIZE * SIZE
    assert [n for b in fake.batches for n in b] == [f"{i:03}.png" for i in range(kept, 10)]


def test_a_second_helping_is_continued_at_its_own_batches(tmp_path):
    folder = write_pictures(tmp_path / "in", 6)  # not a whole number of batches
    out = tmp_path / "a.jsonl"
    go(folder, out)
    write_pictures(tmp_path / "more", 9)
    whole = tmp_path / "whole.jsonl"
    (tmp_path / "whole.jsonl.state.json").write_bytes((tmp_path / "a.jsonl.state.json").read_bytes())
    whole.write_bytes(out.read_bytes())
    go(tmp_path / "more", whole)
    calls = []

    def each(batch):
        calls.append(batch)
        if len(calls) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        go(tmp_path / "more", out, each=each)
    assert len(rows_of(out)) == 10
    go(tmp_path / "more", out)
    assert out.read_bytes() == whole.read_bytes() and len(rows_of(out)) == 15


def test_unreadable_pictures_stop_it_and_what_was_written_stays(tmp_path):
    folder = write_pictures(tmp_path / "in", 10)
    (folder / "006.png").write_bytes(b"broken")
    for out in every(tmp_path):
        with pytest.raises(ImageError, match=r"006\.png: not a picture in a known format"):
            go(folder, out)
        fake = Fake()
        go(folder, out, fake, skip_bad=True)
        assert fake.batches == [["004.png", "005.png", "007.png"], ["008.png", "009.png"]]
        go(folder, tmp_path / f"whole{out.suffix}", skip_bad=True)
        assert content(out) == content(tmp_path / f"whole{out.suffix}")


def test_parts_that_are_in_the_file_already_are_not_joined_twice(tmp_path, monkeypatch):
    folder = write_pictures(tmp_path / "in", 10)
    out = tmp_path / "a.parquet"
    monkeypatch.setattr(answer_files, "PART_ROWS", 4)
    with monkeypatch.context() as patch:
        patch.setattr(answer_files.shutil, "rmtree", lambda folder: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            go(folder, out)
    assert len(list((tmp_path / "a.parquet.parts").glob("part-*"))) == 3 and len(table(out)) == 10
    whole = table(out)
    assert go(folder, out).rows == 10 and table(out) == whole and not (tmp_path / "a.parquet.parts").exists()


def test_files_of_others_are_refused(tmp_path):
    folder = write_pictures(tmp_path / "in", 2)
    for out in every(tmp_path):
        go(folder, out)
        for key, value, told in (
            ("model", "other", r"holds answers for another model \('m', now 'other'\)"),
            ("text", "cup", r"holds answers for another text \(None, now 'cup'\)"),
            ("recipe", "99", "was made with another recipe or other settings"),
        ):
            with pytest.raises(UserError, match=rf"{out.name}: {told}; choose another --out, or delete {out}\.$"):
                go(folder, out, facts=FACTS | {key: value})
        state = tmp_path / f"{out.name}.state.json"
        state.write_text("{")
        with pytest.raises(UserError, match=rf"cannot be continued, for .*{state.name} is damaged; choose another"):
            go(folder, out)
        state.unlink()
        with pytest.raises(UserError, match=rf"exists, but without the {state.name} of a file to continue; choose"):
            go(folder, out)
        out.unlink()
        assert go(folder, out, facts=FACTS | {"model": "other"}).rows == 2
    (tmp_path / "a.jsonl").write_text('{"id": "x", "value": 1}\n[1]\n')
    with pytest.raises(UserError, match=r"a\.jsonl: line 2 is no answer of foveal predict; choose another"):
        go(folder, tmp_path / "a.jsonl", facts=FACTS | {"model": "other"})
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match=r"a\.parquet: cannot be read as the answers of foveal predict \(.*\); choose"):
        go(folder, tmp_path / "a.parquet", facts=FACTS | {"model": "other"})


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_a_file_is_written_by_one_at_a_time(tmp_path, suffix):
    folder, out = write_pictures(tmp_path / "in", 10), tmp_path / "new" / f"a.{suffix}"
    told = rf"^{out}: another foveal is writing this file; wait for it, or choose another --out\.$"

    def each(batch):
        with pytest.raises(UserError, match=told):
            go(folder, out)

    assert go(folder, out, each=each).rows == 10
    go(folder, tmp_path / f"whole.{suffix}")
    assert content(out) == content(tmp_path / f"whole.{suffix}")
    assert {p.name for p in out.parent.iterdir()} == {out.name, f"{out.name}.state.json"}
    with open_answers(tmp_path / "other" / "b.jsonl", FACTS, SIZE):
        assert go(folder, out).rows == 10
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    "state",
    ["[" * 200_000, "[1]", '{"begun": "x", "finished": false, "facts": {}}', '{"begun": Infinity, "finished": 0, "facts": {}}'],
)  # fmt: skip
def test_a_damaged_state_is_a_sentence(tmp_path, state):
    (tmp_path / "a.jsonl").write_text("")
    (tmp_path / "a.jsonl.state.json").write_text(state)
    with pytest.raises(UserError, match=r"cannot be continued, for .*a\.jsonl\.state\.json is damaged; choose another"):
        open_answers(tmp_path / "a.jsonl", FACTS, SIZE)
    assert len(list(tmp_path.iterdir())) == 2


def test_many_different_answers_are_not_counted():
    few, many = Tally(), Tally()
    for i in range(41):
        few.add(i % 40, None)
        many.add(i, None)
    few.add(None, None)
    assert few.counts is not None and few.counts["0"] == 2 and len(few.counts) == 40 and few.unread == 1
    assert many.counts is None and many.rows == 41


# ------------------------------------------------------------------------------------------------------------- a kill


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet", "a.csv"])
def test_a_killed_process_is_continued_to_the_same_rows(tmp_path, name):
    folder = write_pictures(tmp_path / "in", 38)
    go(folder, tmp_path / f"whole-{name}")
    out = tmp_path / name
    source = (
        "import sys; from pathlib import Path; from foveal.asking import answer_files\n"
        "answer_files.PART_ROWS = 8\n"
        "from small_answers import Fake, go\n"
        "go(Path(sys.argv[1]), Path(sys.argv[2]), Fake(pause=0.1), each=lambda b: print(len(b), flush=True))"
    )
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]),
        "OMP_NUM_THREADS": "1",
    }
    rng = random.Random(name)
    for kept in (2, 4):
        process = subprocess.Popen(
            [sys.executable, "-c", source, folder, out], env=environment, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        for _ in range(3):
            assert process.stdout.readline().strip() == str(SIZE)
        with pytest.raises(UserError, match="another foveal is writing this file"):
            go(folder, out)
        time.sleep(rng.uniform(0, 0.08))
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        with open_answers(out, FACTS, SIZE) as known:
            pass
        assert known.tally.rows >= kept * SIZE and known.tally.rows % SIZE == 0
        assert out.suffix != ".parquet" or not out.exists()
    go(folder, out)
    assert content(out) == content(tmp_path / f"whole-{name}")
    assert not list(tmp_path.glob(".*"))  # nor the lock of the killed


def test_answers_are_kept_as_they_came(tmp_path):
    example = Example("x", ())
    with open_answers(tmp_path / "a.jsonl", FACTS, 1) as answers:
        answers.append([Answered(example, Prediction("x", None, "what?"))])
        answers.append([Answered(Example("y", ()), Prediction("x", 3, "3", extra={"p": [1]}))])
        answers.finish()
    assert rows_of(tmp_path / "a.jsonl") == [
        {"id": "x", "value": None, "text": "what?", "confidence": None},
        {"id": "y", "value": 3, "text": "3", "confidence": None, "p": [1]},
    ]
    assert answers.tally.counts == {"3": 1} and answers.tally.unread == 1


def test_csv_has_the_columns_of_parquet_and_no_formulas(tmp_path):
    answers = open_answers(tmp_path / "a.csv", FACTS, 2)
    rows = [
        Prediction("", "=1+1", 'so\n"-x",\nAnswer: =1+1', probabilities={"=1+1": 0.75}),
        Prediction("", -1.5, "-1.5"),
    ]
    answers.append([Answered(Example(name, ()), row) for name, row in zip(("@a.png", "b.png"), rows, strict=True)])
    answers.append([Answered(Example("c.png", ()), None, "c.png: broken")])
    answers.finish()
    answers.close()
    text = (tmp_path / "a.csv").read_text()
    assert text == (
        "picture,prediction,confidence,response,probabilities,extra,error\n"
        '\'@a.png,\'=1+1,0.75,"so\n""-x"",\nAnswer: =1+1","{""=1+1"": 0.75}",,\n'
        "b.png,-1.5,,-1.5,,,\nc.png,,,,,,c.png: broken\n"
    )
    known = open_answers(tmp_path / "a.csv", FACTS, 2)
    assert all(Path(name) in known for name in ("@a.png", "b.png", "c.png"))
    assert known.tally == answers.tally and known.tally.counts == {"=1+1": 1, "-1.5": 1}
    assert known.tally.sentences()[0] == "2 answers: '=1+1' 1 time, '-1.5' 1 time"


@pytest.mark.parametrize("name", ["a.json", "a.txt", "a", "a.csv.gz"])
def test_other_endings_are_refused_with_the_list(tmp_path, name):
    with pytest.raises(UserError, match=rf"{name}: .*; give a file that ends in \.jsonl, \.csv or \.parquet\.$"):
        open_answers(tmp_path / name, FACTS, SIZE)
    assert list(tmp_path.iterdir()) == []
