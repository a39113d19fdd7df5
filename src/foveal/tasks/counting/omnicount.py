"""Reads OmniCount-191 (Mondal et al. 2025, AAAI; github.com/mondalanindya/OmniCount) as it was released.

::

    OmniCount-191/
      Birds/ Fruits/ Household/ Pets/ Satellite/ Supermarket/ Urban/ Vegetables/ Wild/
        train/ valid/ test/                 not every domain has each of them
          *.jpg
          _annotations.coco.json
          <domain>_vae_<split>.json         questions and answers: not read

Ids are local to each file, and a class may occur in two domains: what is counted is named by (domain, class).
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path

from foveal.errors import UserError
from foveal.examples import SPLITS, Split
from foveal.tasks.counting.coco import FILE_NAME, read_coco
from foveal.tasks.counting.objects import Query, Source, Twins
from foveal.tasks.readers.annotations import OnBad
from foveal.tasks.readers.hold_out import hold_out, origin
from foveal.tasks.readers.splits import split_folders, subfolders


def read_omnicount(
    root: Path, split: Split, *, categories: Sequence[str] = (), absent: int = 0, seed: int = 0,
    validation_share: float = 0.1, on_bad: OnBad = "refuse", twins: Twins = "once",
) -> Source:  # fmt: skip
    """A split of some domains, or of all.

    Where none of them has a validation split, a share of each one's training pictures is held out for it. Versions
    of one picture (``NAME.rf.HASH.jpg``, as Roboflow names what it made of NAME) stay together.

    Args:
        root: The folder of the domains, or one domain's.
        split: Domains that lack it are passed over.
        categories: Names of the domains' folders; all by default.
        absent: See ``read_coco``.
        seed: Decides which pictures are held out, and which absent classes are asked for.
        validation_share: Share of each domain's training pictures that is held out where it has to be; 0 for none.
        on_bad: See ``read_coco``.
        twins: See ``read_coco``.

    Raises:
        UserError: A folder is missing, there is no such domain, none has the split, or a file is malformed.
    """
    domains = choose_domains(root, categories)
    held_out = not any(split_folder(folder, "validation") for folder in domains.values())
    folder_split: Split = "train" if split == "validation" and held_out else split
    folders = {name: split_folder(folder, folder_split) for name, folder in domains.items()}
    there = {name: folder for name, folder in folders.items() if folder is not None}
    if not there:
        known = [s for s in SPLITS if any(split_folder(folder, s) for folder in domains.values())]
        raise UserError(
            f"{root}: {', '.join(domains)} has no {split} split, only {', '.join(known)}; choose further domains."
        )
    sources = [
        read_coco(place, domain=name, absent=absent, seed=seed, on_bad=on_bad, twins=twins)
        for name, place in there.items()
    ]
    queries: Sequence[Query] = [query for source in sources for query in source.queries]
    if held_out and split != "test":
        # An origin may occur in two domains.
        queries = hold_out(
            queries, {"validation": validation_share}, seed, group=lambda query: query.domain,
            name=lambda query: f"{query.domain}/{origin(query.picture.name)}",
        )[split]  # fmt: skip
    if not queries:
        raise UserError(f"{root}: no picture is held out for the {split} split; raise the share or add domains.")
    without = f"{validation_share:g} of each domain's training pictures, seed {seed}"
    note = {"validation": f": {without}", "train": f", without {without}"}.get(split, "")
    note = note if held_out and validation_share else ""
    skipped = tuple(row for source in sources for row in source.skipped)
    crowds, notes = sum(s.crowds for s in sources), tuple(note for s in sources for note in s.notes)
    return Source(queries, f"{root} ({', '.join(there)}{note})", skipped, crowds, notes)


def find_domains(root: Path) -> dict[str, Path]:
    """The domains' folders by name, sorted; ``root`` itself where it holds the splits of one.

    Raises:
        UserError: There is no such folder, or neither is in it.
    """
    if not root.is_dir():
        raise UserError(f"{root}: there is no such folder; check data.source.")
    if _has_split(root):
        return {root.resolve().name: root}
    domains = {folder.name: folder for folder in subfolders(root) if _has_split(folder)}
    if domains:
        return domains
    if (root / FILE_NAME).is_file():
        raise UserError(f"{root}: is the folder of one split; give the domain's, {root.resolve().parent}.")
    raise UserError(
        f"{root}: holds no domain with a folder train, valid or test and its {FILE_NAME}; check data.source."
    )


def choose_domains(root: Path, categories: Sequence[str] = ()) -> dict[str, Path]:
    """The domains of these names, in the order of the names, or all.

    Raises:
        UserError: See ``find_domains``; or there is no domain of a name.
    """
    domains = find_domains(root)
    for name in categories:
        if name not in domains:
            near = difflib.get_close_matches(name.lower(), [d.lower() for d in domains], n=1, cutoff=0.5)
            hint = next((f"did you mean {d!r}?" for d in domains if [d.lower()] == near), "")
            hint = hint or f"there is {', '.join(domains)}."
            raise UserError(f"data.categories: there is no domain {name!r} in {root}; {hint}")
    return {name: domains[name] for name in dict.fromkeys(categories or domains)}


def split_folder(domain: Path, split: Split) -> Path | None:
    """The folder of a domain's split, or None.

    Raises:
        UserError: The folder is there, but not its file of annotations; or two are one split.
    """
    folders = split_folders(domain).get(split, [])
    if len(folders) > 1:
        raise UserError(f"{domain}: {folders[0].name} and {folders[1].name} are both the {split} split; remove one.")
    if folders and not (folders[0] / FILE_NAME).is_file():
        raise UserError(f"{folders[0]}: holds no {FILE_NAME}; restore it or remove the folder.")
    return folders[0] if folders else None


def _has_split(folder: Path) -> bool:
    return any((place / FILE_NAME).is_file() for places in split_folders(folder).values() for place in places)
