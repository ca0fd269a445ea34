"""A tiny model of StarDist or Cellpose, made, saved, and loaded by gigaqc; runs in its environment.

    python real_models.py stardist|cellpose FOLDER

Prints one line of JSON: versions, seconds, how many nuclei there are and were found, and whether
labels are the same in any chunks.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

SIDE = 300
SCALED = (10.0, 90.0)
"""Values of background and nuclei, about those that models see as 0 and 1."""


def field(seed: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Nuclei of 5 to 8 pixels radius on a shaken grid, as counts, and their labels."""
    from skimage.draw import ellipse

    rng = np.random.default_rng(seed)
    labels = np.zeros((side, side), "u2")
    number = 0
    for y in range(13, side - 12, 22):
        for x in range(13, side - 12, 22):
            cy, cx = rng.integers(-3, 4, 2)
            rows, columns = ellipse(
                y + cy,
                x + cx,
                *rng.uniform(5, 8, 2),
                shape=labels.shape,
                rotation=rng.uniform(0, 3),
            )
            number += 1
            labels[rows, columns] = number
    low, high = SCALED
    return rng.poisson(low + (high - low) * (labels > 0)).astype("u2"), labels


def scaled(image: np.ndarray) -> np.ndarray:
    """As gigaqc hands blocks to models."""
    low, high = np.percentile(image, [1, 99.8])
    return ((image - low) / (high - low)).astype("f4")


def stardist(folder: Path) -> Path:
    """A StarDist2D of a few thousand weights, trained on eight fields."""
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    from stardist.models import Config2D, StarDist2D

    config = Config2D(
        n_rays=16, grid=(2, 2), unet_n_depth=2, unet_n_filter_base=8, net_conv_after_unet=16,
        train_patch_size=(96, 96), train_batch_size=4, train_epochs=8, train_steps_per_epoch=25,
        train_tensorboard=False, train_learning_rate=1e-3,
    )  # fmt: skip
    model = StarDist2D(config, name="tiny", basedir=str(folder))
    images, labels = zip(*[field(seed, 160) for seed in range(10)], strict=True)
    images = [scaled(i) for i in images]
    model.train(
        images[:8], list(labels[:8]), validation_data=(images[8:], list(labels[8:])), seed=0
    )
    return folder / "tiny"


def cellpose(folder: Path) -> Path:
    """Weights that Cellpose itself saved: trained by version 3, made for version 4."""
    from cellpose import models

    if hasattr(models, "CPSAM"):
        return _cellpose_sam(folder)
    from cellpose import train

    model = models.CellposeModel(gpu=False, pretrained_model=False, nchan=2, diam_mean=15.0)
    images, labels = zip(*[field(seed, 256) for seed in range(6)], strict=True)
    found = train.train_seg(
        model.net, train_data=[scaled(i) for i in images], train_labels=list(labels),
        channels=[0, 0], normalize=False, n_epochs=40, learning_rate=0.1, batch_size=4,
        min_train_masks=1, save_path=str(folder), model_name="tiny",
    )  # fmt: skip
    return Path(found[0] if isinstance(found, tuple) else found)


def _cellpose_sam(folder: Path) -> Path:
    """Cellpose-SAM has one size: its blocks pass on what comes, and what follows is trained."""
    import torch
    from cellpose.dynamics import labels_to_flows
    from cellpose.models import CPSAM

    torch.manual_seed(0)
    net = CPSAM()
    blocks, net.encoder.blocks = net.encoder.blocks, torch.nn.ModuleList()
    with torch.no_grad():
        net.encoder.pos_embed.zero_()
        for block in blocks:  # what they add to their input becomes 0
            for part in (block.attn.proj, block.mlp.lin2):
                part.weight.zero_()
                part.bias.zero_()
    images, labels = zip(*[field(seed, 256) for seed in range(6)], strict=True)
    flows = np.stack(labels_to_flows([label.astype("i4") for label in labels]))
    x = torch.from_numpy(np.stack([scaled(i) for i in images]))[:, None].repeat(1, 3, 1, 1)
    inside, wanted = (torch.from_numpy(flows[:, part].astype("f4")) for part in ([1], [2, 3]))
    trained = [*net.encoder.neck.parameters(), *net.out.parameters()]
    rate = torch.optim.AdamW(trained, 3e-3)
    net.train()
    net.rdrop = 0.0
    for step in range(150):
        chosen = torch.arange(2) + 2 * (step % 3)
        found = net(x[chosen])[0]
        loss = torch.nn.functional.mse_loss(found[:, :2], 5 * wanted[chosen])
        loss += torch.nn.functional.binary_cross_entropy_with_logits(found[:, 2:], inside[chosen])
        rate.zero_grad()
        loss.backward()
        rate.step()
    net.encoder.blocks = blocks
    net.save_model(str(folder / "tiny"))
    return folder / "tiny"


MAKERS: dict[str, Callable[[Path], Path]] = {"stardist": stardist, "cellpose": cellpose}


def main(package: str, folder: Path) -> dict[str, Any]:
    """Make a model, and segment one image with it in several chunks."""
    start = time.perf_counter()
    model = MAKERS[package](folder)
    trained = time.perf_counter()
    import dask.array as da
    import xarray as xr

    import gigaqc as gq

    image, truth = field(99, SIDE)
    results = []
    # Four tiles, each 256 pixels wide with its overlap, as Cellpose-SAM takes them.
    for chunks in ((SIDE, SIDE), (70, 110)):
        lazy = xr.DataArray(da.from_array(image, chunks=chunks), dims=("y", "x"))
        labels = gq.segment_nuclei(
            lazy, 0, method=package, model=model, tile=160, overlap=48
        )  # fmt: skip
        results.append(labels.values)
    first = results[0]
    pairs = {(int(t), int(f)) for t, f in zip(truth.flat, first.flat, strict=True) if t and f}
    return {
        "version": importlib.metadata.version(package),
        "made": round(trained - start, 1),
        "segmented": round(time.perf_counter() - trained, 1),
        "model": [p.name for p in model.iterdir()] if model.is_dir() else model.stat().st_size,
        "nuclei": int(truth.max()),
        "found": int(first.max()),
        "pairs": len(pairs),
        "same": bool(np.array_equal(*results)),
    }


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], Path(sys.argv[2]))))
