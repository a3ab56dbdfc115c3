"""Speed of whole-batch views against MONAI's per-sample transforms, and of in-memory fetching.

Processor time on one thread, so that a busy machine changes little; on more threads the ratio
grows, because small per-sample operations gain nothing from them.
"""

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from medkd.data.augment import AugmentationSettings, draw_parameters, view_batch
from medkd.data.patches import ImagePatches
from medkd.types import PatchBatch
from tests.data.conftest import make_table

pytestmark = pytest.mark.bench

HOW = AugmentationSettings(
    flip=(0.5, 0.5),
    rotate_degrees=15.0,
    shift_vox=2.0,
    scale_fraction=0.12,
    intensity_scale=0.1,
    noise_sd=0.02,
)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def milliseconds(work: Callable[[], object], repeats: int = 9) -> tuple[float, float]:
    """Median and interquartile range of the processor time."""
    work()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        times.append(1000 * (time.process_time() - start))
    low, middle, high = statistics.quantiles(times, n=4)
    return middle, high - low


def monai_per_sample(dims: int) -> Callable[[torch.Tensor], torch.Tensor]:
    from monai.transforms import (
        Compose,
        RandAffine,
        RandFlip,
        RandGaussianNoise,
        RandScaleIntensity,
    )

    angle = 15.0 * torch.pi / 180
    move = RandAffine(
        prob=1.0,
        rotate_range=[angle] * (1 if dims == 2 else 3),
        translate_range=[2.0] * dims,
        scale_range=[0.12] * dims,
        padding_mode="border",
        cache_grid=True,
        spatial_size=(32,) * dims,
    )
    steps = [RandFlip(0.5, spatial_axis=0), RandFlip(0.5, spatial_axis=1), move]
    each = Compose(
        [*steps, RandScaleIntensity(0.1, prob=1.0), RandGaussianNoise(prob=1.0, std=0.02)]
    )
    return lambda batch: torch.stack([each(sample).as_tensor() for sample in batch])


@pytest.mark.parametrize(("dims", "batch", "bar"), [(2, 128, 5.0), (3, 32, 5.0)])
def test_whole_batch_views_are_at_least_5_times_faster_than_per_sample(
    dims: int, batch: int, bar: float, tmp_path: Path
) -> None:
    image = torch.rand(batch, 1, *[32] * dims)
    known = torch.ones(batch, 1, dtype=torch.bool)
    names, numbers = tuple(f"s{n}" for n in range(batch)), tuple(range(batch))
    samples = PatchBatch(image, known.float(), known, names, numbers)

    theirs = monai_per_sample(dims)
    our_ms, our_iqr = milliseconds(lambda: view_batch(samples, HOW, seed=0))
    their_ms, their_iqr = milliseconds(lambda: theirs(image))
    row = {
        "what": f"views, {batch} x 32^{dims}",
        "medkd_ms_a_batch": round(our_ms, 2),
        "medkd_iqr": round(our_iqr, 2),
        "monai_ms_a_batch": round(their_ms, 2),
        "monai_iqr": round(their_iqr, 2),
        "ratio": round(their_ms / our_ms, 1),
        "machine": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }
    folder = Path(os.environ.get("MEDKD_BENCH_OUT", tmp_path))
    (folder / f"augment_{dims}d.json").write_text(json.dumps(row, indent=1) + "\n")
    assert row["ratio"] > bar, row


def test_drawing_the_views_of_64_samples_takes_at_most_2_ms() -> None:
    names = [f"1.3.6.1.4.1.14519.5.2.1.6279.6001.{n}:{n}" for n in range(64)]
    how = HOW.model_copy(update={"gamma": 1.2})

    def draw() -> object:
        return draw_parameters(how, names, range(64), spatial_dims=3, seed=0)

    middle, _ = milliseconds(draw, repeats=31)
    assert middle <= 2, middle


def test_fetching_a_batch_in_memory_costs_less_than_a_tenth_of_a_loop_over_samples() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5000, 1, 28, 28), np.uint8)
    source = ImagePatches(make_table([i % 2 for i in range(5000)]), pixels)
    rows = torch.randperm(5000)[:128].tolist()
    whole, _ = milliseconds(lambda: source.__getitems__(rows), repeats=31)
    loop, _ = milliseconds(lambda: torch.cat([source[i].image for i in rows]), repeats=31)
    assert whole < loop / 10, (whole, loop)
