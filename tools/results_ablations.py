"""Options that the paper leaves on the table, each beside the published method; writes a section of docs/results.md.

    python tools/results_ablations.py [--work DIR] [--epochs N] [--seeds N ...] [--options NAME ...]

The Blue Marble tiles and settings of results_bmng.py. Everything is trained and probed on the *training* places alone,
a fifth of them held out, so that what is kept for the product is not chosen on the test places. Whatever is finished
in the work folder is kept, so an interrupted call goes on where it was.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch
from ablation_step import AblationStep, Option, encoder_state
from results_bmng import BATCH, ROOT, SHARED, K, command, interval, machine, prepare, put_sections, validation_index

from geossl.config import CropConfig, make_config
from geossl.data.loader import Loader
from geossl.evaluate.bootstrap import Difference, Interval, compare
from geossl.evaluate.predictions import read_predictions
from geossl.files import replacing
from geossl.recipes import read_recipe
from geossl.tables import per_cent
from geossl.training.data import read_data, resolve
from geossl.training.engine import cosine_lr

QUEUE = 2048
VIT, VIT_SIZE = "timm/vit_tiny_patch16_224", 64
ADAMW_LR, ADAMW_WEIGHT_DECAY = 5e-4, 0.1
SMALL = CropConfig(size=16, scale=(0.05, 0.2))
"""Small crops are half as wide as the others."""

OPTIONS = {
    "tp": Option(arm="tp", what="the published method"),
    "real-keys": Option(arm="tp", what="the queue begins empty, not with noise", real_keys=True),
    "mask-place": Option(arm="tp", what="keys of the own place are no negatives", mask_km=0.0),
    "mask-200km": Option(arm="tp", what="keys from nearer than 200 km are no negatives", mask_km=200.0),
    "one-a-place": Option(arm="tp", what="one image of a place in a batch", one_a_place=True),
    "symmetric": Option(arm="tp", what="both views are query and key", symmetric=True),
    "two-positives": Option(arm="tp", what="two other dates are positives", positives=2),
    "small-crops": Option(arm="tp", what="two small crops of other dates are queries too", small=2),
    "near-dates": Option(arm="tp", what="weight exp(-gap / 60 days)", gap_days=60.0),
    "far-dates": Option(arm="tp", what="weight 1 - exp(-gap / 60 days)", gap_days=-60.0),
    "variance": Option(arm="tp", what="variance floor, weight 1", variance=1.0),
    "month": Option(arm="tp", what="the month is predicted, weight 0.1", month=0.1),
    "no-month": Option(arm="tp", what="the month is forgotten (gradient reversal), weight 0.1", month=-0.1),
    "simclr": Option(arm="tp", what="SimCLR in place of the queue", objective="simclr"),
    "simclr-mask": Option(
        arm="tp", what="SimCLR, images of the own place are no negatives", objective="simclr", mask_km=0.0
    ),
    "moco-v3": Option(arm="tp", what="MoCo-v3: a predictor and the batch in place of the queue", objective="moco_v3"),
    "byol": Option(arm="tp", what="BYOL in place of the queue", objective="byol"),
    "dino": Option(arm="tp", what="DINO's objective in place of the queue", objective="dino"),
    "vit": Option(arm="tp", base="vit", what="ViT-Tiny, the published method, by AdamW", backbone=VIT),
    "vit-moco-v3": Option(arm="tp", base="vit", what="ViT-Tiny, MoCo-v3", backbone=VIT, objective="moco_v3"),
    "geo": Option(arm="geo", what="the published method"),
    "geo-backbone": Option(arm="geo", what="the head on the backbone's feature", geo_feature="backbone"),
    "geo-both": Option(arm="geo", what="the head on both views", geo_both=True),
    "geo-light": Option(arm="geo", what="weight 0.3", geo_weight=0.3),
    "geo-warm-up": Option(arm="geo", what="the weight grows over half of the run", geo_warm_up=0.5),
    "geo-rank": Option(arm="geo", what="ranks of great-circle distances in the batch", geo="rank"),
    "geo-location": Option(arm="geo", what="InfoNCE with an encoder of the location", geo="location"),
}
METHODS = ("linear", "knn")


class Scores(NamedTuple):
    """Of an option and a seed, by method and score."""

    values: dict[str, dict[str, float]]
    intervals: dict[str, dict[str, list[float]]]
    predictions: Path


def settings(index: Path, run: Path, option: Option, options: argparse.Namespace, seed: int) -> Any:
    """The settings of an option: those of the arm's recipe, `laptop`, and of results_bmng.py."""
    own = {
        "data": index,
        "out": run,
        "seed": seed,
        "epochs": options.epochs,
        "batch": BATCH,
        "device": "cpu",
        "model": {"queue": QUEUE},
    }
    other = {"model": {"backbone": option.backbone}, "crop": {"size": VIT_SIZE}} if option.backbone else {}
    return make_config(read_recipe(option.arm), read_recipe("laptop"), own, other)


def train(config: Any, option: Option) -> None:
    """Train in one sitting, and leave a checkpoint that `geossl probe` reads, and the minutes it took."""
    torch.use_deterministic_algorithms(mode=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    data = read_data(config)
    config = resolve(config, data)

    def loader_of(crop: CropConfig, views: int) -> Loader:
        return Loader(
            data.index,
            rows=data.rows,
            batch=config.batch,
            views=views,
            temporal=config.temporal,
            crop=crop,
            color=config.color,
            normalize=(config.color.mean, config.color.std),
            seed=config.seed,
            train=True,
            loader=config.loader,
        )

    loader = loader_of(config.crop, 1 + option.positives)
    # The order of the images hangs on the seed alone: both loaders are at the same ones.
    small = loader_of(SMALL, 1 + option.small) if option.small else None
    step = AblationStep(option, config, data).to(memory_format=torch.channels_last).train()
    optim = config.optim
    lr = ADAMW_LR if option.backbone else optim.lr
    optimizer: torch.optim.Optimizer = (
        torch.optim.AdamW(step.trained(), lr=lr, weight_decay=ADAMW_WEIGHT_DECAY)
        if option.backbone
        else torch.optim.SGD(step.trained(), lr=lr, momentum=optim.momentum, weight_decay=optim.weight_decay)
    )
    started, number, rows_out = time.perf_counter(), 0, []
    for epoch in range(config.epochs):
        loader.set_epoch(epoch)
        if small is not None:
            small.set_epoch(epoch)
        for group in optimizer.param_groups:
            group["lr"] = cosine_lr(lr, epoch=epoch, epochs=config.epochs)
        for batch, crops in zip(loader, itertools.repeat(None) if small is None else small, strict=False):
            done = number / (config.epochs * len(loader))
            if crops is not None and not torch.equal(crops.rows[0], batch.rows[0]):
                raise AssertionError("the small crops are of other images")
            more = None if crops is None else crops.images[1:]
            loss = step(batch.images, batch.rows, small=more, number=number, done=done)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            number += 1
        rows_out.append(round(loss.item(), 4))
        print(f"{config.out.name}: epoch {epoch + 1}/{config.epochs}  loss {rows_out[-1]}", flush=True)
    content = {
        "epoch": config.epochs,
        "arch": config.model.backbone,
        "state_dict": encoder_state(step),
        "geossl": {
            "format": 1,
            "config": config.model_dump(mode="json"),
            "mean": list(config.color.mean),
            "std": list(config.color.std),
            "bands": data.samples.bands,
        },
    }
    (config.out / "checkpoints").mkdir(parents=True, exist_ok=True)
    made = {"minutes": (time.perf_counter() - started) / 60, "losses": rows_out}
    (config.out / "made.json").write_text(json.dumps(made))
    with replacing(config.out / "checkpoints" / "last.pt") as file:
        torch.save(content, file)


def scores(index: Path, name: str, seed: int, options: argparse.Namespace) -> Scores:
    """Scores by method, of an option and a seed; trains and probes unless it is done."""
    option = OPTIONS[name]
    run = options.work / "runs" / f"ablation-{name}-{options.epochs}-{seed}"
    if not (run / "checkpoints" / "last.pt").exists():
        train(settings(index, run, option, options, seed), option)
    report = run / "probe.json"
    if not report.exists():
        command("probe", run, "--data", index, "--seed", str(seed), "--baselines", "none")
    rows = [row for row in json.loads(report.read_text())["rows"] if row["encoder"] != "random"]
    return Scores(
        values={row["method"]: row["scores"] for row in rows},
        intervals={row["method"]: row["intervals"] for row in rows},
        predictions=run / "probe" / "predictions.parquet",
    )


def of_places(base: Scores, own: Scores, method: str) -> dict[str, Difference]:
    """What an encoder has over another of the same seed, and the 95 % intervals over the places (bootstrap)."""
    predictions = []
    for one in (base, own):
        made, _ = read_predictions(one.predictions, method=method)
        predictions.append(next(found for found in made if found.fit.encoder != "random"))
    return compare(*predictions)


def write_section(found: dict[str, list[Scores]], options: argparse.Namespace) -> str:
    """The section, from the scores alone."""
    lines, one = [], len(options.seeds) == 1
    for name, of_seeds in found.items():
        option = OPTIONS[name]
        base_name = option.base or option.arm
        base = found[base_name]
        cells = []
        for method in METHODS:
            over = of_places(base[0], of_seeds[0], method) if one and name != base_name else {}
            for score in ("top1", "place_top1"):
                own = [scores.values[method][score] for scores in of_seeds]
                if score in over:
                    value, low, high = over[score]
                    cells.append(f"{100 * value:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]")
                elif one:
                    cells.append(per_cent(own[0], Interval(*of_seeds[0].intervals[method][score])))
                elif name == base_name:
                    cells.append(interval(own))
                else:
                    differences = [a - b.values[method][score] for a, b in zip(own, base, strict=True)]
                    cells.append(interval(differences, sign="+"))
        title = f"**{name}**" if name == base_name else name
        lines.append(f"| {title} | {option.what} | {' | '.join(cells)} |")
    table = "\n".join(lines)
    seeds = f"seed{'' if one else 's'} {', '.join(map(str, options.seeds))}"
    how = "95 % interval over the places (bootstrap), not over seeds: another seed may change more"
    if not one:
        how = "mean and 95 % interval over the seeds (Student's t)"
    title, made_by = "What the paper leaves on the table", "make results-ablations"
    if list(found) != list(OPTIONS):
        title += ": some options again"
        seeds_and_options = f"--seeds {' '.join(map(str, options.seeds))} --options {' '.join(found)}"
        made_by = f"python tools/results_ablations.py {seeds_and_options}"
    return f"""## {title}

Made by `{made_by}`,
as it came out, on the *training* places of the Blue Marble tiles, a fifth of them held out: the test places have seen
none of it.

Each option beside the published method, everything else equal: recipes `tp` or `geo` and `laptop`, queue {QUEUE:,},
batch {BATCH}, {options.epochs} epochs, K = {K}, {seeds}; ViT-Tiny (views of {VIT_SIZE} pixels) by AdamW at a
rate of {ADAMW_LR:g}. The rows in bold are scores, the others differences to the one above them with the same seed; per
cent, {how}.
An interval that spans 0 is no evidence.

| option | what | linear: top-1 | top-1 per place | kNN: top-1 | top-1 per place |
|---|---|---|---|---|---|
{table}

{machine()}
"""


def main() -> None:
    """Run everything that is not done yet and write the section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=ROOT / "results", help="folder of the data and the runs")
    parser.add_argument("--epochs", type=int, default=5, help="epochs of each run")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="seeds of each option")
    parser.add_argument("--options", nargs="+", choices=OPTIONS, default=list(OPTIONS))
    parser.add_argument("--no-report", action="store_true", help="train and probe alone")
    options = parser.parse_args()
    if not SHARED.is_dir():
        raise SystemExit(f"needs the Blue Marble mosaics in {SHARED}")
    options.work.mkdir(parents=True, exist_ok=True)
    index = validation_index(prepare(options.work), options.work)
    if not index.with_name(f"{index.stem}.clusters.parquet").exists():
        command("data", "cluster", index, "-k", str(K))
    found: dict[str, list[Scores]] = {name: [] for name in options.options}
    for seed in options.seeds:
        for name in options.options:
            found[name].append(scores(index, name, seed, options))
    if not options.no_report:
        put_sections(write_section(found, options))


if __name__ == "__main__":
    main()
