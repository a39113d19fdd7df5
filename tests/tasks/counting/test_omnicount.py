from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest
from coco_files import content, write

from foveal.errors import UserError
from foveal.examples import SPLITS, Split
from foveal.tasks.counting.coco import read_coco
from foveal.tasks.counting.objects import Source
from foveal.tasks.counting.omnicount import choose_domains, find_domains, read_omnicount


def split(folder: Path, number: int, names: tuple[str, ...] = ("none", "apples"), first: int = 0) -> None:
    """Pictures with one object of each category but the first."""
    boxes = [(name, (1, 1, 5, 5)) for name in names[1:]]
    write(folder, content({f"{i}.jpg": boxes for i in range(first, first + number)}, names))
    (folder / f"{folder.parent.name.lower()}_vae_{folder.name}.json").write_text("this is not read")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "OmniCount-191"
    split(root / "Fruits" / "train", 6, ("none", "apples", "pears"))
    split(root / "Fruits" / "valid", 2, ("none", "pears"))
    split(root / "Fruits" / "test", 3)
    split(root / "Household" / "train", 4, ("none", "cups"))
    split(root / "Supermarket" / "train", 2)
    split(root / "Supermarket" / "test", 1)
    (root / "__MACOSX" / "train").mkdir(parents=True)
    return root


def ids(source: Source) -> list[str]:
    return [q.id for q in source.queries]


def pictures(source: Source) -> set[str]:
    return {q.picture.name for q in source.queries}


def test_all_domains_and_their_splits(root: Path) -> None:
    train = read_omnicount(root, "train")
    assert Counter(q.domain for q in train.queries) == {"Fruits": 12, "Household": 4, "Supermarket": 2}
    assert train.classes == (
        ("Fruits", "apples"),
        ("Fruits", "pears"),
        ("Household", "cups"),
        ("Supermarket", "apples"),
    )
    assert ids(read_omnicount(root, "validation")) == ["Fruits/0.jpg/pears", "Fruits/1.jpg/pears"]
    test = read_omnicount(root, "test")
    assert Counter(q.domain for q in test.queries) == {"Fruits": 3, "Supermarket": 1}
    assert test.place == f"{root} (Fruits, Supermarket)"
    for source in (train, test):
        assert len(set(ids(source))) == len(source.queries)


def test_domains_are_chosen_by_name(root: Path) -> None:
    source = read_omnicount(root, "train", categories=["Supermarket", "Fruits", "Supermarket"])
    assert [q.domain for q in source.queries] == ["Supermarket"] * 2 + ["Fruits"] * 12
    assert list(choose_domains(root)) == ["Fruits", "Household", "Supermarket"]
    with pytest.raises(UserError, match=r"there is no domain 'fruits' in .*; did you mean 'Fruits'\?"):
        read_omnicount(root, "train", categories=["fruits"])
    with pytest.raises(UserError, match=r"no domain 'Xyz' in .*; there is Fruits, Household, Supermarket"):
        read_omnicount(root, "train", categories=["Fruits", "Xyz"])


def test_a_split_that_no_domain_has(root: Path) -> None:
    with pytest.raises(UserError, match="Household has no test split, only train; choose further domains"):
        read_omnicount(root, "test", categories=["Household"])
    shutil.rmtree(root / "Fruits" / "train")
    with pytest.raises(UserError, match="Fruits has no train split, only validation, test"):
        read_omnicount(root, "train", categories=["Fruits"])


def test_validation_is_held_out_where_no_domain_has_it(root: Path) -> None:
    split(root / "Urban" / "train", 20, ("none", "cars", "bikers"))
    chosen = ["Household", "Urban"]
    seen = []
    for seed in (0, 0, 1):
        train = read_omnicount(root, "train", categories=chosen, seed=seed, validation_share=0.25)
        held = read_omnicount(root, "validation", categories=chosen, seed=seed, validation_share=0.25)
        everything = {q.picture.name for name in chosen for q in read_coco(root / name / "train").queries}
        # All rows of a picture are on one side.
        assert not pictures(train) & pictures(held)
        assert pictures(train) | pictures(held) == everything
        assert Counter(q.domain for q in held.queries) == {"Household": 1, "Urban": 10}
        assert f"0.25 of each domain's training pictures, seed {seed}" in held.place
        seen.append(ids(held))
    assert seen[0] == seen[1] != seen[2]
    assert len(read_omnicount(root, "train", categories=chosen, validation_share=0).queries) == 44
    with pytest.raises(UserError, match="no picture is held out for the validation split; raise the share"):
        read_omnicount(root, "validation", categories=chosen, validation_share=0)


def test_versions_of_one_picture_are_held_out_together(tmp_path: Path) -> None:
    boxes = [("apples", (1, 1, 5, 5))]
    names = [f"{i}_jpg.rf.{version}.jpg" for i in range(12) for version in "abc"]
    write(tmp_path / "Pets" / "train", content(dict.fromkeys(names, boxes)))
    for seed in range(5):
        held = read_omnicount(tmp_path, "validation", seed=seed, validation_share=0.25)
        origins = Counter(Path(name).name.split(".")[0] for name in pictures(held))
        assert set(origins.values()) == {3} and len(origins) == 3


def test_a_domain_on_its_own_loads(root: Path) -> None:
    alone = root / "Fruits"
    assert find_domains(alone) == {"Fruits": alone}
    for name in SPLITS:
        assert ids(read_omnicount(alone, name)) == ids(read_omnicount(root, name, categories=["Fruits"]))


def test_wrong_folders(root: Path) -> None:
    with pytest.raises(UserError, match="there is no such folder"):
        read_omnicount(root / "nowhere", "train")
    with pytest.raises(UserError, match=r"is the folder of one split; give the domain's, .*Fruits"):
        read_omnicount(root / "Fruits" / "train", "train")
    (root / "Fruits" / "valid" / "_annotations.coco.json").unlink()
    with pytest.raises(UserError, match=r"valid: holds no _annotations\.coco\.json; restore it or remove the folder"):
        read_omnicount(root, "train")
    split(root / "Household" / "valid", 1)
    split(root / "Household" / "val", 1)
    with pytest.raises(UserError, match="valid and val are both the validation split"):
        read_omnicount(root, "validation", categories=["Household"])
    (root / "empty").mkdir()
    with pytest.raises(UserError, match="holds no domain with a folder train, valid or test"):
        read_omnicount(root / "empty", "train")


def test_what_is_skipped_is_reported_of_every_domain(root: Path) -> None:
    for name in ("Fruits", "Supermarket"):
        document = content({"a.jpg": [("apples", (1, 1, 5, 5)), ("apples", (1, 1, 0, 5)), ("apples", (2, 2, 3, 3))]})
        document["annotations"][2]["iscrowd"] = 1
        write(root / name / "test", document)
    with pytest.raises(UserError, match="annotation 101"):
        read_omnicount(root, "test")
    source = read_omnicount(root, "test", on_bad="skip")
    assert len(source.skipped) == source.crowds == len(source.queries) == 2


@pytest.mark.parametrize(
    ("name", "pictures_", "rows", "objects"),
    [
        ("train", 30, {"RBC": 30, "WBC": 30, "Platelets": 24}, {"RBC": 488, "WBC": 34, "Platelets": 47}),
        ("validation", 10, {"RBC": 10, "WBC": 10, "Platelets": 7}, {"RBC": 187, "WBC": 10, "Platelets": 14}),
        ("test", 10, {"RBC": 10, "WBC": 10, "Platelets": 6}, {"RBC": 165, "WBC": 11, "Platelets": 11}),
    ],
)
def test_real_photographs_in_the_real_layout(
    real_data: Path, name: Split, pictures_: int, rows: dict[str, int], objects: dict[str, int]
) -> None:
    layout = real_data / "omnicount_layout"
    for place in (layout, layout / "Blood"):
        source = read_omnicount(place, name)
        assert len(pictures(source)) == pictures_
        assert Counter(q.category for q in source.queries) == rows
        counts = Counter(dict.fromkeys(rows, 0))
        for query in source.queries:
            counts[query.category] += len(query.things)
        assert counts == objects
        # The unused category 0, blood-cells, is none.
        assert source.classes == (("Blood", "Platelets"), ("Blood", "RBC"), ("Blood", "WBC"))
        assert {q.size for q in source.queries} == {(640, 480)}
        assert source.queries[0].picture.open().size == (640, 480)
        assert source.skipped == () and source.crowds == 0
    absent = read_omnicount(layout, name, absent=2).queries
    assert len(absent) == 3 * pictures_
    assert sum(not q.things for q in absent) == 3 * pictures_ - sum(rows.values())
