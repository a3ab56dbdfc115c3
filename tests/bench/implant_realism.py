"""How real implants look to outsiders: `python -m tests.bench.implant_realism OUT [SEED,SEED]`.

Needs MEDKD_DATA. Once a seed: 120 nodules in `ct_dicom` (4 to 12 mm), 80 in `ct_lung1` (8 to 14
mm), in rounds of 20 on fresh copies, against as many untouched blob-like places of the same scans
that are as thick in the slice, or as large in area. Four things are measured:

1. a discriminator (`implant_discriminator.py`) on features of the border: along the structure's
   own outline (the bar: at most .70), and by spheres, which also see that a nodule is compact and
   a vessel is long (told, no bar); the same on hard constant spheres at the same places
   (positive control, at least .90);
2. the same at 1 mm, beside how far real nodules are told from real structure
   (`implant_reference.py`): no farther are implants to be told than these;
3. scores of the real LUNA16 classifier on implants, real nodules and real places;
4. a picture of twenty, before and after.

Features, trees, controls and the way nodules are drawn were fixed on other seeds (`TUNING_SEEDS`)
than those of the result. 200 nodules tell an AUC to about .04, so there are several.

Known limit: in `ct_lung1` three quarters of the places that are as thick as a nodule of 8 mm lie
within 2 mm of the lungs' rim, where a thick slice shows chest wall and mediastinum too. Without
them hilar vessels are left, of which few are as thick.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.figure import Figure
from scipy import ndimage
from sklearn.metrics import roc_auc_score

from medkd.io.scans import read_scan
from medkd.lungs import find_lungs
from medkd.models.luna_classifier import RawLunaNetwork
from medkd.synthetic.implant.make import VERSION
from medkd.synthetic.implant.places import place_finder
from medkd.synthetic.implant.rehearse import rehearse
from medkd.synthetic.implant.settings import ImplantSettings
from medkd.synthetic.implant.site import ImplantSite, add_patch, slice_axis
from medkd.types import Scan
from tests.bench.implant_discriminator import (
    VARIANTS,
    Outline,
    Partners,
    Place,
    border_features,
    features,
    find_real_places,
    grouped_auc,
    outline_of,
    table,
    thinned,
)
from tests.bench.implant_reference import AT_1_MM, SPACING_MM, at_1_mm, reference_rows

RESULT = Path(__file__).parent / "results" / "implant_realism.json"
TUNING_SEEDS = (1, 3)
"""Beside these, 11 was the seed of version 1's result, 23, 29 and 31 were version 2's, 37 to 53
version 3's, and 59 to 73 those of a version that was not kept."""
SEEDS = (79, 83, 89, 97, 101)
PER_ROUND = 20
SCANS = {"ct_dicom": ("ct_dicom", "4-12", 6), "ct_lung1": ("ct_lung1/lung1_image.nrrd", "8-14", 4)}
"""Name to path below MEDKD_DATA, sizes, rounds."""
STRONGEST = 600
CONTROL_HU = 40
PAIRED_BY = ("depth_mm", "radius_mm")
"""What an implant and its real partner have alike in the slice: how thick the structure is, or how
large. Of equally large ones vessels are longer and half as thick, and features by the
distance from the outline see that: far inside it a nodule has voxels, and a vessel has none."""


@dataclasses.dataclass
class Ready:
    """A scan, its lungs and its real blob-like places: index, outline; and all of it at 1 mm."""

    name: str
    scan: Scan
    site: ImplantSite
    box: tuple[slice, slice, slice]
    places: list[tuple[np.ndarray, Outline]]
    fine_hu: np.ndarray
    fine_outlines: list[Outline]


def prepare(name: str, path: Path, sizes: str) -> Ready:
    scan = read_scan(path)
    measured = ImplantSite.of(scan, slice_axis(scan.grid), np.random.default_rng(0))
    site = rehearse(measured, ImplantSettings(sizes=sizes))
    lungs, field = site.lungs, find_lungs(scan)
    inner = scan.voxels_hu[field.box].astype(np.float32)
    grid = np.meshgrid(*[np.arange(n) for n in inner.shape], indexing="ij")
    at = [(g - (s - 1) / 2) / s for g, s in zip(grid, lungs.step, strict=True)]
    inside = ndimage.map_coordinates(lungs.depth_mm, at, order=1, mode="nearest") < 0
    found = find_real_places(inner, inside, scan.grid.spacing_mm)
    spacing = scan.grid.spacing_mm
    kept = thinned([place + lungs.start for place, _, _ in found], spacing, most=STRONGEST)
    places = [(place, outline_of(scan.voxels_hu, place, spacing)) for place in kept]
    fine_hu = at_1_mm(scan.voxels_hu, spacing)
    fine = [outline_of(fine_hu, place * spacing, SPACING_MM) for place in kept]
    return Ready(name, scan, site, field.box, places, fine_hu, fine)


def region_of(ready: Ready, index: np.ndarray) -> str:
    """Side, third from the base, front or back."""
    part = [(index[a] - s.start) / max(s.stop - s.start, 1) for a, s in enumerate(ready.box)]
    third = int(np.clip(part[2], 0, 0.999) * 3)
    return f"{ready.name} {'right' if part[0] < 0.5 else 'left'} {third} {int(part[1] > 0.5)}"


def pasted(scan: Scan, implants: list) -> np.ndarray:
    """The positive control: hard constant spheres at the same places."""
    voxels = np.array(scan.voxels_hu)
    spacing = scan.grid.spacing_mm
    for implant in implants:
        center, radius = scan.grid.world_to_voxel(implant.center_mm), implant.diameter_mm / 2
        reach = np.ceil(radius / spacing).astype(int) + 1
        low = np.maximum(np.floor(center).astype(int) - reach, 0)
        high = np.minimum(np.floor(center).astype(int) + reach + 2, voxels.shape)
        axes = [(np.arange(low[a], high[a]) - center[a]) * spacing[a] for a in range(3)]
        x, y, z = np.meshgrid(*axes, indexing="ij")
        part = voxels[low[0] : high[0], low[1] : high[1], low[2] : high[2]]
        part[x * x + y * y + z * z < radius**2] = CONTROL_HU
    return voxels


def collect(
    ready: Ready, sizes: str, rounds: int, *, seed: int, classifier, out: Path
) -> list[dict]:
    """Put nodules in, round by round, and take features and scores of them and of real places."""
    rows: list[dict] = []
    rng = np.random.default_rng([seed, 7])
    outlines = [outline for _, outline in ready.places]
    pairs = {name: Partners(outlines, rng, size=name) for name in PAIRED_BY}
    fine_partners = Partners(ready.fine_outlines, np.random.default_rng([seed, 8]))
    spacing, original = ready.scan.grid.spacing_mm, ready.scan.voxels_hu
    for number in range(rounds):
        site = dataclasses.replace(ready.site, finder=place_finder(ready.site.lungs))
        own = np.random.default_rng([seed, number])
        drawn = [site.implant(ImplantSettings(sizes=sizes), forms=(), rng=own)
                 for _ in range(PER_ROUND)]  # fmt: skip
        implants = [implant for implant in drawn if implant is not None]
        altered = np.array(original)
        for implant in implants:
            add_patch(altered, implant.patch)
        naive, fine = pasted(ready.scan, implants), at_1_mm(altered, spacing)
        for implant in implants:
            index = ready.scan.grid.world_to_voxel(implant.center_mm)
            radius = implant.diameter_mm / 2
            own_outline = outline_of(altered, index, spacing)
            known = {
                "scan": ready.name, "seed": seed, "texture": implant.kind.texture,
                "diameter_mm": implant.diameter_mm,
            }  # fmt: skip
            others = [ready.places[pairs[name].take(own_outline)][0] for name in PAIRED_BY]
            for kind, voxels, where in (
                ("implant", altered, index), ("pasted", naive, index),
                *((f"real by {name}", original, o)
                  for name, o in zip(PAIRED_BY, others, strict=True)),
            ):  # fmt: skip
                place = Place(tuple(where), radius, region_of(ready, where))
                rows.append(
                    {
                        **known, "kind": kind, "region": place.region,
                        "features": features(voxels, place, spacing),
                        "score": classifier(voxels, where) if kind != "pasted" else None,
                    }
                )  # fmt: skip
            partner = fine_partners.take(outline_of(fine, index * spacing, SPACING_MM))
            for kind, voxels, where in (
                ("implant at 1 mm", fine, index),
                (f"real by {AT_1_MM}", ready.fine_hu, ready.places[partner][0]),
            ):
                place = Place(tuple(where * spacing), radius, region_of(ready, where))
                rows.append(
                    {
                        **known, "kind": kind, "region": place.region,
                        "features": {"outline": border_features(voxels, place, SPACING_MM)},
                    }
                )  # fmt: skip
        if number == 0:
            draw_twenty(ready, implants, altered, out / f"implants_{ready.name}_{seed}.png")
        print(f"{ready.name}, seed {seed}: round {number + 1} of {rounds}", flush=True)  # noqa: T201
    return rows


def draw_twenty(ready: Ready, implants: list, altered: np.ndarray, path: Path) -> None:
    """Draw the slice through each nodule and the plane across, before and after."""
    spacing = ready.scan.grid.spacing_mm
    canvas = Figure(figsize=(16, 2 * (len(implants) + 1) // 2), dpi=70)
    axes = canvas.subplots((len(implants) + 1) // 2, 8, squeeze=False)
    half = np.ceil(17.0 / spacing).astype(int)
    for axis in axes.ravel():
        axis.set_axis_off()
    for n, implant in enumerate(implants):
        center = np.rint(ready.scan.grid.world_to_voxel(implant.center_mm)).astype(int)
        box = [slice(max(c - h, 0), c + h + 1) for c, h in zip(center, half, strict=True)]
        for m, (voxels, flat) in enumerate(
            ((ready.scan.voxels_hu, 2), (altered, 2), (ready.scan.voxels_hu, 1), (altered, 1))
        ):
            index = [int(center[a]) if a == flat else box[a] for a in range(3)]
            image = voxels[tuple(index)].T
            aspect = 1.0 if flat == 2 else spacing[2] / spacing[0]
            axis = axes[n // 2, 4 * (n % 2) + m]
            axis.imshow(image if flat == 2 else image[::-1], cmap="gray", vmin=-1350, vmax=150,
                        aspect=aspect, interpolation="nearest")  # fmt: skip
            if m == 1:
                kind = implant.kind
                words = f"{implant.diameter_mm:.1f} mm {kind.texture} {kind.outline}"
                axis.set_title(f"{words} {kind.attachment}", fontsize=7)
    canvas.tight_layout(pad=0.2)
    with mpl.rc_context({"text.parse_math": False}):
        canvas.savefig(path)


def load_classifier(root: Path):
    """Return the function that scores a place (index i, j, k) of a volume, native spacing."""
    network = RawLunaNetwork((32, 48, 48), width=8)
    state = torch.load(
        root / "weights" / "luna_nodule_classifier.state", map_location="cpu", weights_only=True
    )
    network.load_state_dict(state["model_state"])
    network.eval()

    def score(voxels: np.ndarray, index: np.ndarray) -> float:
        low = np.rint(index).astype(int) - [24, 24, 16]
        patch = np.full((48, 48, 32), -1000, dtype=np.float32)
        a, b = np.maximum(low, 0), np.minimum(low + np.array([48, 48, 32]), voxels.shape)
        inner = voxels[a[0] : b[0], a[1] : b[1], a[2] : b[2]]
        c, d = a - low, b - low
        patch[c[0] : d[0], c[1] : d[1], c[2] : d[2]] = np.clip(inner, -1000, 1000)
        view = torch.from_numpy(patch.transpose(2, 1, 0).copy())[None, None]
        with torch.no_grad():
            return float(network(view).softmax(1)[0, 1])

    return score


def known_scores(root: Path, score) -> dict[str, list[float]]:
    """Scores of the real cut-outs (class 2 is no nodule) and of LIDC's nodules in excerpts."""
    folder = root / "luna16" / "cutouts" / "tomas"
    not_nodules = ("_127:339:297", "_257:262:128")
    found: dict[str, list[float]] = {"real nodules": [], "real cut-outs without nodule": []}
    for path in sorted(folder.glob("*.npz")):
        patch = np.load(path)["ct_chunk"].transpose(2, 1, 0)
        kind = "real cut-outs without nodule" if path.stem.endswith(not_nodules) else "real nodules"
        found[kind].append(score(patch, np.array([24.0, 24.0, 16.0])))
    for patient, zyx in (
        ("LIDC-IDRI-0001", (6.7, 367, 316)),
        ("LIDC-IDRI-0003", (5.4, 349.7, 367)),
    ):
        folder = next((root / "lidc" / "series_excerpts" / patient).glob("*/*"))
        scan = read_scan(folder)
        found["real nodules"].append(score(scan.voxels_hu, np.array(zyx[::-1], dtype=float)))
    return found


def spread(values: list[float]) -> dict[str, float]:
    names = (10, 25, 50, 75, 90)
    out = {f"p{n}": round(float(np.percentile(values, n)), 4) for n in names}
    return {
        "count": len(values),
        **out,
        "above_half": round(float(np.mean(np.array(values) > 0.5)), 3),
    }


def scores_of(
    rows: list[dict], kind: str, groups: tuple[str, ...], paired_by: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Label, score of trees that never saw the region, and region, of one seed's rows."""
    chosen = [row for row in rows if row["kind"] in (kind, f"real by {paired_by}")]
    x, _ = table([row["features"] for row in chosen], groups)
    label = np.array([int(row["kind"] == kind) for row in chosen])
    region = np.array([row["region"] for row in chosen])
    return label, grouped_auc(x, label, region)[1], region


def auc_of(
    rows: list[dict], kind: str, groups: tuple[str, ...], *, paired_by: str = PAIRED_BY[0]
) -> dict[str, float | list[float]]:
    """Mean of the seeds' AUCs; the interval draws lung regions, the same ones for all seeds."""
    by_seed = [
        scores_of([row for row in rows if row["seed"] == seed], kind, groups, paired_by)
        for seed in sorted({row["seed"] for row in rows})
    ]
    aucs = [float(roc_auc_score(label, scores)) for label, scores, _ in by_seed]
    rng = np.random.default_rng(0)
    names = np.unique(np.concatenate([region for _, _, region in by_seed]))
    drawn = []
    for _ in range(500):
        again = rng.choice(names, len(names))
        parts = []
        for label, scores, region in by_seed:
            pick = np.concatenate([np.flatnonzero(region == name) for name in again])
            if 0 < label[pick].sum() < len(pick):
                parts.append(roc_auc_score(label[pick], scores[pick]))
        drawn.append(np.mean(parts))
    low, high = np.percentile(drawn, [2.5, 97.5])
    return {
        "auc": round(float(np.mean(aucs)), 3), "low": round(float(low), 3),
        "high": round(float(high), 3), "seeds": [round(auc, 3) for auc in aucs],
    }  # fmt: skip


def reference(rows: list[dict], real: list[dict]) -> dict:
    """AUCs at 1 mm: real nodules, and as many implants as there are of these."""
    outline = VARIANTS["outline"]
    pairs = len([row for row in real if row["kind"] == "real nodule"]) // len(
        {row["seed"] for row in real}
    )
    out = {
        "pairs": pairs,
        "real nodules": auc_of(real, "real nodule", outline, paired_by=AT_1_MM),
    }
    for name in SCANS:
        few = []
        for seed in sorted({row["seed"] for row in rows}):
            mine = [row for row in rows if row["scan"] == name and row["seed"] == seed]
            own = [row for row in mine if row["kind"] == "implant at 1 mm"]
            other = [row for row in mine if row["kind"] == f"real by {AT_1_MM}"]
            drawn = np.random.default_rng(seed).permutation(len(own))[:pairs]
            few += [row for n in drawn for row in (own[n], other[n])]
        out[f"implants, {name}"] = auc_of(few, "implant at 1 mm", outline, paired_by=AT_1_MM)
    return out


def evaluate(rows: list[dict], known: dict[str, list[float]], real: list[dict]) -> dict:
    """All figures of the result from the rows of all seeds and scans, and of real nodules."""
    implants = [row for row in rows if row["kind"] == "implant"]
    solid = [row for row in rows if row["texture"] == "solid"]
    result: dict = {
        "bench": "implant_realism", "generator_version": VERSION,
        "seeds": sorted({row["seed"] for row in rows}), "tuning_seeds": TUNING_SEEDS,
        "interval": "mean of the seeds; 95 % bootstrap by lung region",
        "implants_of_each_seed": {
            name: sum(r["scan"] == name for r in implants) // len({r["seed"] for r in rows})
            for name in SCANS
        },
        "discriminator": {}, "positive_control": {}, "by_scan": {}, "classifier": {},
        "at_1_mm": reference(rows, real),
    }  # fmt: skip
    for variant in ("outline", "normalised", "rays", "all"):
        result["discriminator"][variant] = auc_of(rows, "implant", VARIANTS[variant])
        result["positive_control"][variant] = auc_of(rows, "pasted", VARIANTS[variant])
    outline = VARIANTS["outline"]
    result["discriminator"] |= {
        "outline, solid nodules": auc_of(solid, "implant", outline),
        "outline, as large": auc_of(rows, "implant", outline, paired_by="radius_mm"),
    }
    result["positive_control"]["outline, as large"] = auc_of(
        rows, "pasted", outline, paired_by="radius_mm"
    )
    for name in SCANS:
        mine = [row for row in rows if row["scan"] == name]
        result["by_scan"][name] = {
            "outline": auc_of(mine, "implant", outline),
            "outline, as large": auc_of(mine, "implant", outline, paired_by="radius_mm"),
            "positive_control": auc_of(mine, "pasted", outline),
        }
        for kind, what in (
            ("implant", "implants"), (f"real by {PAIRED_BY[0]}", "real blob-like places"),
        ):  # fmt: skip
            scores = [row["score"] for row in mine if row["kind"] == kind]
            result["classifier"][f"{what}, {name}"] = spread(scores)
    for what, scores in known.items():
        result["classifier"][what] = {**spread(scores), "scores": [round(s, 4) for s in scores]}
    return result


def scan_rows(name: str, root: Path, out: Path, seeds: tuple[int, ...]) -> list[dict]:
    """All rounds of one scan."""
    path, sizes, rounds = SCANS[name]
    torch.set_num_threads(1)
    ready, classifier = prepare(name, root / path, sizes), load_classifier(root)
    return [
        row for seed in seeds
        for row in collect(ready, sizes, rounds, seed=seed, classifier=classifier, out=out)
    ]  # fmt: skip


def main(out: Path, seeds: tuple[int, ...]) -> None:
    began = time.time()
    root = Path(os.environ["MEDKD_DATA"])
    out.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        parts = [pool.submit(scan_rows, name, root, out, seeds) for name in SCANS]
        rows = [row for part in parts for row in part.result()]
    score = load_classifier(root)
    result = evaluate(rows, known_scores(root, score), reference_rows(root, seeds))
    result["seconds"] = round(time.time() - began)
    text = json.dumps(result, indent=1) + "\n"
    (out / "implant_realism.json").write_text(text)
    print(text)  # noqa: T201


if __name__ == "__main__":
    given = tuple(int(seed) for seed in sys.argv[2].split(",")) if len(sys.argv) > 2 else SEEDS
    main(Path(sys.argv[1]), given)
