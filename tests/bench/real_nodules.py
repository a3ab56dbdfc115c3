"""Five folds by patient over real LUNA16 nodules: how many of them detectors find.

    python -m tests.bench.real_nodules PATCHES LUNG OUT [--only folds|distilled|phantoms|classifier]

PATCHES is the INDEX of the patches in NODE21's layout (`node21_layout.py`, without the patients
LIDC-IDRI-0001 and LIDC-IDRI-0005), LUNG an INDEX of `ct_dicom`. Needs MEDKD_DATA. Everything in OUT
is resumed. The recipe is that of `configs/source/ct_nodule.yaml`, without mining and at a quarter
of its length (800 steps, set before the first row); nothing is chosen on these folds.

- A nodule's score is the highest within 5 mm of its centre in the mirrored patch.
- False marks come from three scans that no model here has seen: in each, 1,000 random places in
  the lungs (highest score within 5 mm), and the 30 best marks more than 10 mm from every
  annotation. The thresholds for 1, 2, 4 and 8 false marks per scan are set on them in each fold;
  hits are pooled.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  # torch's usual alias
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from torch import Tensor

from medkd.config.load import load_settings, shipped_configs
from medkd.config.run_settings import RunSettings
from medkd.config.training_settings import TrainingSettings
from medkd.data.archive_cases import ArchiveData
from medkd.data.augment import view_batch
from medkd.data.cases import Case, CaseIndex
from medkd.data.crops import CaseVolumes, CropLoader, CropSet, Volume, volume_of
from medkd.data.prepared import PreparedScan, PreparedScans, prepare_scan, to_unit_range
from medkd.data.sampling import derive_seed
from medkd.detect.fast import fast_copy
from medkd.detect.points import Peaks, find_peaks, run_detector
from medkd.io.luna16_tables import read_annotations, read_excluded
from medkd.jsonio import write_json
from medkd.models.network import Network
from medkd.models.package import ModelInfo, Preprocessing, load_model, save_model
from medkd.models.table import build_model
from medkd.synthetic.stream import PhantomStream
from medkd.train.loop import FitPlan, fit
from medkd.transfer.objective import TransferObjective
from medkd.transfer.settings import TransferSettings
from medkd.transfer.teacher import FrozenTeacher
from medkd.types import Scan
from tests.bench.patch_classifier import load_classifier, score_places, search
from tests.real_data import data_root, read_box, read_lidc

RECIPE = load_settings(shipped_configs()["source/ct_nodule"], RunSettings)
WINDOW = (-1000.0, 400.0)
EPOCHS = 1
FOLDS, RATES = 5, (1, 2, 4, 8)
NEAR_MM, AWAY_MM, PLACES, BEST = 5.0, 10.0, 1000, 30
PADDING = 7
SIZES = {"below 6 mm": (0.0, 6.0), "6 to 10 mm": (6.0, 10.0), "above 10 mm": (10.0, 1e9)}
ROWS = ("folds", "distilled", "phantoms", "classifier")
CLASSIFIER = "published classifier (MIT), which saw these nodules"
LEFT_OUT = {"LIDC-IDRI-0001", "LIDC-IDRI-0005"}


@dataclass(frozen=True, slots=True)
class Plan:
    """One model: its name in the results, what it learns from, its fold and its seed."""

    row: str
    fold: int
    seed: int
    large: bool = False
    teacher: str = ""
    patches: bool = True
    phantoms: bool = False

    @property
    def name(self) -> str:
        """The name of the files: rows that share a model share its files."""
        size, data = "large" if self.large else "small", "phantoms" if self.phantoms else "real"
        taught = "-distilled" if self.teacher else ""
        return f"{size}-{data}{taught}-fold{self.fold}-seed{self.seed}"


def plans(only: str) -> list[Plan]:
    """Return the models in the order in which they are trained."""
    folds = [Plan("student, labels only", fold, 0) for fold in range(FOLDS)]
    distilled = []
    for seed in range(3):
        teacher = Plan("teacher", 0, seed, large=True)
        distilled += [
            teacher,
            Plan("control", 0, seed),
            Plan("distilled", 0, seed, teacher=teacher.name),
        ]
    phantoms = [Plan("phantoms only", 0, 0, patches=False, phantoms=True)]
    parts = {"folds": folds, "distilled": distilled, "phantoms": phantoms}
    return parts[only] if only else [*folds, *distilled, *phantoms]


@dataclass(frozen=True, slots=True, eq=False)
class Data:
    """The patches by fold, and the scans of false marks."""

    index: CaseIndex
    lung: CaseIndex
    scans: PreparedScans
    fold_of: dict[str, int]
    negatives: dict[str, tuple[PreparedScan, NDArray[np.float64]]]


def read_data(patches: Path, lung: Path, out: Path) -> Data:
    """Read the indexes and prepare the three scans without training."""
    index = ArchiveData(index=str(patches), cases="scans").read_cases(out)
    if shared := LEFT_OUT & {case.patient_id for case in index.cases}:
        raise SystemExit(f"{patches}: must be without {', '.join(sorted(shared))}")
    free = ArchiveData(index=str(lung), cases="scans", unannotated="negative").read_cases(out)
    patients = sorted({case.patient_id for case in index.cases})
    order = np.random.default_rng(derive_seed(0, "folds")).permutation(len(patients))
    of_patient = {patients[n]: place % FOLDS for place, n in enumerate(order.tolist())}
    fold_of = {case.case_id: of_patient[case.patient_id] for case in index.cases}
    scans = PreparedScans(RECIPE.target.loading, out / "cache")
    return Data(index, free, scans, fold_of, dict(read_negatives(out)))


def read_negatives(out: Path) -> Iterator[tuple[str, tuple[PreparedScan, NDArray[np.float64]]]]:
    """Yield `normal001` and the two LIDC scans, prepared, with the places of all annotations."""
    yield "normal001", (prepared(read_box("normal001")), np.zeros((0, 3)))
    for patient in sorted(LEFT_OUT):
        scan = read_lidc(patient, out / "lidc")
        yield patient, (prepared(scan), annotated(scan.seriesuid))


def prepared(scan: Scan) -> PreparedScan:
    return prepare_scan(scan, RECIPE.target.loading)


def annotated(seriesuid: str) -> NDArray[np.float64]:
    """Return the places of LUNA16's nodules and excluded findings of a series, LPS mm."""
    folder = data_root() / "luna16"
    tables = (
        read_annotations(folder / "annotations.csv"),
        read_excluded(folder / "annotations_excluded.csv"),
    )
    found = [n.center_mm for table in tables for n in table if n.seriesuid == seriesuid]
    return np.array(found).reshape(-1, 3)


def train(plan: Plan, data: Data, out: Path) -> Network:
    """Train one model, or read it if it is finished."""
    folder = out / "models" / plan.name
    if (folder / "model.json").is_file():
        return load_model(folder).network
    arm = RECIPE.teacher if plan.large else RECIPE.student
    assert arm is not None
    assert arm.model is not None
    training = arm.training.model_copy(update={"epochs": EPOCHS})
    teacher, transfer = None, RECIPE.transfer or TransferSettings()
    if plan.teacher:
        teacher = FrozenTeacher(load_model(out / "models" / plan.teacher).network)
    else:
        transfer = transfer.without_terms()
    network = build_model(arm.model, seed=plan.seed)
    fit(
        TransferObjective(network, teacher, transfer, seed=plan.seed),
        crops(plan, data, training),
        validate=lambda _: {"roc_auc": 0.0, "pr_auc": 0.0, "loss": 0.0},  # the last is kept
        plan=FitPlan(
            training, out / "training" / plan.name, plan.seed, title=plan.name,
            purpose=f"{plan.name} {data.index.fingerprint}",
        ),
        view=partial(view_batch, settings=RECIPE.target.augmentation, seed=plan.seed),
        progress=lambda _what, done, total, _note: report(plan.name, done, total),
    )  # fmt: skip
    steps = tuple(s.model_dump(mode="json") for s in RECIPE.target.loading if s.kind != "crop")
    info = ModelInfo(arm.model.model_dump(mode="json"), preprocessing=Preprocessing(steps, WINDOW))
    save_model(folder, network, info)
    return network.eval()


def crops(plan: Plan, data: Data, training: TrainingSettings) -> CropLoader:
    """Return the crops of a model: real ones of the other folds, or phantoms."""
    own = RECIPE.target.crops
    sets = []
    if plan.patches:
        names = [name for name, fold in data.fold_of.items() if fold != plan.fold]
        for index, chosen, key in (
            (data.index, names, "nodules"),
            (data.lung, [case.case_id for case in data.lung.cases], "lung"),
        ):
            volumes = CaseVolumes(index, chosen, scans=data.scans)
            volumes.prepare()
            sets.append(CropSet(volumes, own.more[key].share, own.more[key].nodule_share))
    if plan.phantoms:
        assert own.phantoms is not None
        stream = PhantomStream(own.phantoms, RECIPE.target.loading)
        sets.append(CropSet(stream, own.phantoms.share, own.phantoms.nodule_share))
    return CropLoader(
        sets, shape=(40, 40, 40), window=WINDOW, batch_size=training.batch_size, seed=plan.seed,
        settings=own,
    )  # fmt: skip


def score_patches(network: Network, data: Data, fold: int) -> list[dict[str, Any]]:
    """Return score, predicted and annotated diameter of each nodule of a fold."""
    fast = fast_copy(network)
    rows = []
    for case in data.index.cases:
        if data.fold_of[case.case_id] != fold:
            continue
        volume, own = own_nodule(data, case)
        image = to_unit_range(volume.voxels_hu[None, None].clone(), WINDOW)
        padded = F.pad(image, [PADDING] * 6, mode="reflect")
        heat = run_map(fast, padded)
        center = volume.findings.center_vox[own] + PADDING
        peaks = find_peaks(heat)
        near = np.linalg.norm(peaks.center_vox - center, axis=1) <= NEAR_MM
        rows.append(
            {
                "score": highest_near(heat, center[None])[0],
                "diameter_mm": float(volume.findings.diameter_mm[own]),
                "found_mm": float(peaks.diameter_mm[near][0]) if near.any() else None,
            }
        )
    return rows


def own_nodule(data: Data, case: Case) -> tuple[Volume, int]:
    """Return a patch and the number of its own nodule: the one nearest to its middle."""
    nodules = [n for n in data.index.nodules if n.seriesuid == case.case_id]
    volume = volume_of(data.scans.get(case), nodules, case.case_id)
    middle = (np.array(volume.voxels_hu.shape) - 1) / 2
    own = np.linalg.norm(volume.findings.center_vox - middle, axis=1).argmin()
    return volume, int(own)


def run_map(network: Network, image: Tensor) -> Tensor:
    dtype = next(network.parameters()).dtype
    with torch.no_grad():
        return run_detector(network, image.to(dtype), tile_voxels=24_000_000)


def highest_near(heat: Tensor, centers_vox: NDArray[np.float64]) -> list[float]:
    """Return the highest logit of the cells within 5 mm of each place (voxels of 1 mm)."""
    logits = heat[0].numpy()
    found = []
    for center in centers_vox:
        low = np.maximum(np.floor((center - NEAR_MM - 0.5) / 2).astype(int), 0)
        high = np.minimum(np.ceil((center + NEAR_MM - 0.5) / 2).astype(int) + 1, logits.shape)
        part = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        grid = np.stack(np.meshgrid(*(np.arange(s.start, s.stop) for s in part), indexing="ij"))
        away = np.linalg.norm(2 * grid + 0.5 - center[:, None, None, None], axis=0)
        found.append(float(np.where(away <= NEAR_MM, logits[part], -np.inf).max()))
    return found


def score_negatives(network: Network, data: Data) -> dict[str, dict[str, list[float]]]:
    """Return for each scan the scores of random places and of the best false marks."""
    fast = fast_copy(network)
    found = {}
    for name, (scan, places_mm) in data.negatives.items():
        heat = run_map(fast, to_unit_range(scan.voxels_hu[None].clone(), WINDOW))
        found[name] = {
            "random": highest_near(heat, random_places(name, scan)),
            "best": false_marks(find_peaks(heat), scan, places_mm),
        }
    return found


def random_places(name: str, scan: PreparedScan) -> NDArray[np.float64]:
    """Return random places in the lungs of a scan, in voxels; the same for every model."""
    lungs = scan.found_lungs()
    random = np.random.default_rng(derive_seed(0, "places", name))
    inside = np.argwhere(lungs.mask).astype(np.float64)
    drawn = inside[random.integers(len(inside), size=PLACES)]
    drawn = drawn + random.uniform(-0.5, 0.5, drawn.shape)
    return scan.grid.world_to_voxel(lungs.grid.voxel_to_world(drawn))


def false_marks(peaks: Peaks, scan: PreparedScan, places_mm: NDArray[np.float64]) -> list[float]:
    centers_mm = scan.grid.voxel_to_world(peaks.center_vox)
    away = np.linalg.norm(centers_mm[:, None] - places_mm[None], axis=2)
    kept = scan.found_lungs().contains(centers_mm)
    if len(places_mm):
        kept &= away.min(axis=1) > AWAY_MM
    return [float(score) for score in peaks.logit[kept][:BEST]]


def evaluate(plan: Plan, data: Data, out: Path) -> dict[str, Any]:
    """Train and score one model; its scores are stored."""
    kept = out / "scores" / f"{plan.name}.json"
    if not kept.is_file():
        network = train(plan, data, out)
        kept.parent.mkdir(parents=True, exist_ok=True)
        scores = {
            "plan": plan.name,
            "nodules": score_patches(network, data, plan.fold),
            "negatives": score_negatives(network, data),
        }
        write_json(kept, scores)
    found: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8"))
    return found


def evaluate_classifier(data: Data, out: Path) -> dict[str, Any]:
    """Score the published classifier; its scores are stored."""
    kept = out / "scores" / "classifier.json"
    if not kept.is_file():
        model, nodules, negatives = load_classifier(), [], {}
        for done, case in enumerate(data.index.cases, start=1):
            volume, own = own_nodule(data, case)
            center = volume.findings.center_vox[own][None]
            nodules.append(
                {
                    "score": score_places(model, volume.voxels_hu, center)[0],
                    "diameter_mm": float(volume.findings.diameter_mm[own]),
                    "found_mm": None,
                }
            )
            report("classifier", done, len(data.index.cases))
        for name, (scan, places_mm) in data.negatives.items():
            negatives[name] = {
                "random": score_places(model, scan.voxels_hu[0], random_places(name, scan)),
                "best": false_marks(search(model, scan), scan, places_mm),
            }
        write_json(kept, {"plan": CLASSIFIER, "nodules": nodules, "negatives": negatives})
    found: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8"))
    return found


def summary(models: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Pool the hits of several models, each with its own thresholds."""
    hits: dict[str, list[list[bool]]] = {name: [] for name in ("all", *SIZES)}
    aucs = []
    for model in models:
        best = np.sort([s for one in model["negatives"].values() for s in one["best"]])[::-1]
        scans = len(model["negatives"])
        # A mark counts if its score is at least the threshold: just above the next false mark.
        limits = [float(best[rate * scans]) for rate in RATES]
        negatives = [s for one in model["negatives"].values() for s in one["random"] + one["best"]]
        nodules = model["nodules"]
        labels = [1] * len(nodules) + [0] * len(negatives)
        aucs.append(float(roc_auc_score(labels, [n["score"] for n in nodules] + negatives)))
        for nodule in nodules:
            found = [nodule["score"] > limit for limit in limits]
            hits["all"].append(found)
            for name, (low, high) in SIZES.items():
                if low <= nodule["diameter_mm"] < high:
                    hits[name].append(found)
    return {
        "models": len(models),
        "nodules": len(hits["all"]),
        "sensitivity": {
            name: dict(zip(map(str, RATES), np.mean(found, axis=0).round(4).tolist(), strict=True))
            for name, found in hits.items()
        },
        "mean_sensitivity": round(float(np.mean(hits["all"])), 4),
        "roc_auc": round(float(np.mean(aucs)), 4),
        "diameter_mm": diameter_errors([n for model in models for n in model["nodules"]]),
    }


def diameter_errors(nodules: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return found minus annotated diameter: for 4 to 15 mm, and by size. Missed ones have none."""
    found = [n for n in nodules if n["found_mm"] is not None]
    rows = {}
    for name, (low, high) in {"4 to 15 mm": (4.0, 15.0), **SIZES}.items():
        chosen = [n for n in found if low <= n["diameter_mm"] < high]
        errors = np.array([n["found_mm"] - n["diameter_mm"] for n in chosen])
        if len(errors):
            spread = 1.96 * errors.std()
            rows[name] = {
                "nodules": len(errors),
                "median_absolute_error": round(float(np.median(np.abs(errors))), 3),
                "bias": round(float(errors.mean()), 3),
                "limits_of_agreement": np.round(
                    [errors.mean() - spread, errors.mean() + spread], 3
                ).tolist(),
            }
    return rows


def report(name: str, done: int, total: int) -> None:
    if done % 50 == 0 or done == total:
        sys.stderr.write(f"{name}: {done} of {total}\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("patches", type=Path)
    parser.add_argument("lung", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", choices=ROWS, default="")
    given = parser.parse_args()
    data = read_data(given.patches, given.lung, given.out)
    by_row: dict[str, list[dict[str, Any]]] = {}
    if given.only in ("", "classifier"):
        by_row[CLASSIFIER] = [evaluate_classifier(data, given.out)]
    for plan in () if given.only == "classifier" else plans(given.only):
        by_row.setdefault(plan.row, []).append(evaluate(plan, data, given.out))
        rows = {row: summary(models) for row, models in by_row.items()}
        write_json(given.out / "real_nodules.json", {"rows": rows})
    sys.stdout.write((given.out / "real_nodules.json").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
