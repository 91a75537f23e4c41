"""Embed every image in the latent space, and write and read the result as one table."""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch

from cvae.compute.seeding import generator
from cvae.data.dataset import MOST_CLASSES, Split
from cvae.data.tensors import to_device
from cvae.model import VAE
from cvae.support.errors import UserError, one_line
from cvae.support.files import write_whole


@torch.no_grad()
def embed(model: VAE, split: Split, noise: torch.Tensor) -> dict[str, np.ndarray]:
    """Return `mu` and `sigma` of q(z|x,y) and a sample `z` = μ + σ·noise for each image, (n, latent_dims) float32."""
    device = next(model.parameters()).device
    size, parts = max(1, 7_840_000 // model.schema.image_dims), []  # 10,000 images of MNIST at a time: 30 MB
    for start in range(0, len(split), size):
        batch = slice(start, start + size)
        mu, log_sigma = model.encode(*to_device(Split(split.images[batch], split.labels[batch]), device))
        sigma = log_sigma.exp()
        parts.append(torch.stack((mu, sigma, mu + sigma * noise[batch].to(device))).cpu())
    mu, sigma, z = torch.cat(parts, dim=1).numpy()
    return {"mu": mu, "sigma": sigma, "z": z}


def embed_dataset(model: VAE, splits: dict[str, Split], seed: int) -> pa.Table:
    """Return a table with one row per image.

    Columns: `split` ("train", "validation" or "test"), `index`, `label`, mu_0 …, sigma_0 …, z_0 … The index counts
    among the training images in the data set's files, to which validation images belong, or among the test images.
    """
    tables = []
    for name, split in splits.items():
        noise = torch.randn(len(split), model.latent_dims, generator=generator(seed, f"embedding/{name}"))
        columns = {
            "split": pa.array([name] * len(split)).dictionary_encode(),
            "index": (np.arange(len(split)) if split.positions is None else split.positions).astype(np.int32),
            "label": split.labels,
        }
        for quantity, values in embed(model, split, noise).items():
            columns |= {f"{quantity}_{d}": values[:, d] for d in range(model.latent_dims)}
        tables.append(pa.table(columns))
    return pa.concat_tables(tables).unify_dictionaries()


def write_latents(table: pa.Table, path: str | Path) -> None:
    """Write the table from `embed_dataset` as Parquet; the same table gives the same bytes."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    write_whole({path: buffer.getbuffer()})


def read_latents(
    path: str | Path, split: str, quantity: str, latent_dims: int, classes: int = MOST_CLASSES
) -> tuple[np.ndarray, np.ndarray]:
    """Read `quantity` ("mu", "sigma" or "z") for one split, (n, latent_dims), and its labels, (n,).

    Raises:
        UserError: the file is missing or damaged, or not of a model with so many latents and classes.
    """
    remedy = "`dvc repro -sf embed` makes it again"
    try:
        with pq.ParquetFile(path) as file:
            dims = sum(name.startswith(f"{quantity}_") for name in file.schema_arrow.names)
            if dims not in (0, latent_dims):
                raise UserError(f"{path}: holds {dims} latents, but data/model has {latent_dims}; {remedy}")
            names = [f"{quantity}_{d}" for d in range(latent_dims)]
            table = file.read(["split", "label", *names])
        table = table.filter(pc.equal(table["split"], split)).cast(
            pa.schema([("split", pa.string()), ("label", pa.uint8()), *((name, pa.float32()) for name in names)])
        )
        values = np.stack([table[name].to_numpy() for name in names], axis=1)
        labels = table["label"].to_numpy()
    except FileNotFoundError:
        raise UserError(f"{path}: missing; `dvc repro embed` makes it") from None
    except MemoryError:  # pyarrow's own is also an ArrowException
        raise
    except (pa.ArrowException, KeyError, OSError, ValueError) as error:
        raise UserError(f"{path}: damaged ({one_line(error)[:200]}); {remedy}") from None
    if not (len(labels) and np.isfinite(values).all() and np.isin(labels, range(classes)).all()):
        raise UserError(f"{path}: damaged (a {quantity} or a label of {split} is missing); {remedy}")
    return values, labels
