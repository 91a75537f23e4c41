"""Train the model, and log its losses to MLflow after each epoch.

Writes data/model, data/snapshots.npz, plots/training.csv and metrics/train.json.
"""

import sys
import time
from typing import TYPE_CHECKING

from cvae.commands.runner import run_stage
from cvae.compute.threads import share_cores
from cvae.pipeline.own_images import require_copied
from cvae.pipeline.parameters import Parameters, read_parameters
from cvae.pipeline.repository import dvc_process, experiments_at_once, has_ended
from cvae.support.errors import UserError
from cvae.support.files import ensure_writable

if TYPE_CHECKING:
    from cvae.training.loop import Training

MODEL, SNAPSHOTS, HISTORY, SUMMARY = "data/model", "data/snapshots.npz", "plots/training.csv", "metrics/train.json"
PATIENCE = 30  # seconds that the first process has to report an error, before torchrun ends all processes


def main() -> None:
    params = read_parameters()
    require_copied(params)
    share_cores(params.threads, experiments_at_once())

    import torch

    from cvae.compute.devices import describe, open_device
    from cvae.compute.processes import connected
    from cvae.compute.seeding import generator
    from cvae.data.binarisation import as_seen
    from cvae.data.dataset import load
    from cvae.data.validation import hold_out
    from cvae.models import build
    from cvae.training.loop import Training

    device = open_device(params.device, params.threads, params.precision)
    data = hold_out(load("data/raw"), params.validation_images, params.seed)
    seen = as_seen(data, params.binarize)
    # If "dynamic", `Training` samples binary pixels from the grey ones in each epoch.
    train_split = data.train if params.binarize == "dynamic" else seen.train
    # Dropout, and layers that initialise themselves, use torch's global generator.
    torch.manual_seed(generator(params.seed, "torch").initial_seed())
    model = build(params.model, data.schema, params.model_dump())
    model.initialise(generator(params.seed, "weights")).to(device)
    with connected(device) as processes:
        training = Training(
            model,
            train_split,
            seen.splits[seen.held_out],
            held_out_name=seen.held_out,
            epochs=params.epochs,
            batch_size=params.batch_size,
            learning_rate=params.learning_rate,
            schedule=params.learning_rate_schedule,
            beta=params.beta,
            seed=params.seed,
            patience=params.patience,
            resample_pixels=params.binarize == "dynamic",
            precision=params.precision,
            processes=processes,
        )
        if processes.rank:
            follow(training)
        else:
            lead(training, params, describe(device, processes.count), len(train_split))


def lead(training: "Training", params: Parameters, device: str, images: int) -> None:
    """Train, log each epoch to MLflow, save checkpoints, and write the outputs."""
    import torch

    from cvae.artifacts import saved_model
    from cvae.artifacts.history import write_history
    from cvae.artifacts.snapshots import write_snapshots
    from cvae.artifacts.tables import rounded
    from cvae.models import arguments
    from cvae.pipeline.checkpoint import Checkpoint, Progress, checkpoint_key
    from cvae.support.progress import epoch_progress
    from cvae.tracking.live import LiveRun
    from cvae.tracking.runs import CHECKPOINT
    from cvae.training.snapshots import Snapshots

    ensure_writable(f"{MODEL}/model.safetensors", SNAPSHOTS, HISTORY, SUMMARY)
    if ignored := arguments(saved_model.ARTICLE) - arguments(params.model):
        print(f"params.yaml: {params.model.partition(':')[2]} takes no {', '.join(sorted(ignored))}")
    print(f"Training on {device}: {params.epochs} epochs of {images:,} images", flush=True)
    dvc = dvc_process()
    checkpoint = Checkpoint(checkpoint_key(params.model_dump(), device))
    before = checkpoint.load()
    training.resume(before.state)
    history = list(before.rows)
    snapshots = Snapshots(training.model, params.epochs, params.seed, before.snapshots)
    if history:
        print(f"Resuming after epoch {len(history)}, from {checkpoint.shown}", flush=True)
    tags = {"device": device, "torch.version": torch.__version__, CHECKPOINT: checkpoint.key}
    with checkpoint, LiveRun(params.model_dump(), tags) as live:
        started = time.perf_counter() - before.seconds
        for row in history:
            live.log(row)
        with epoch_progress(params.epochs, len(history)) as show:
            for row in map(rounded, training):
                show(row)
                history.append(row)
                live.log(row)
                snapshots.take(row["epoch"])
                if checkpoint.is_due():
                    seconds = time.perf_counter() - started
                    checkpoint.write(Progress(training.state(), history, seconds, snapshots.images))
                # After `dvc queue stop --kill`, the stage would keep training in a deleted folder.
                if dvc and has_ended(dvc):
                    raise KeyboardInterrupt("DVC was killed, so nothing would collect the results")
        seconds = time.perf_counter() - started
        if training.best_epoch:
            print(f"Keeping the weights of epoch {training.best_epoch}, which has the lowest validation loss")
        snapshots.end_with(training.best_epoch or params.epochs)

        saved_model.save(training.model, MODEL)
        write_snapshots(snapshots.images.numpy(), snapshots.epochs, SNAPSHOTS)
        write_history(history, HISTORY, SUMMARY, training.best_epoch)
        rate = len(history) * images / seconds
        print(f"Trained in {seconds:.1f} s, {rate:,.0f} images per second")
        live.complete({"train.seconds": f"{seconds:.1f}", "train.images_per_second": f"{rate:.0f}"})


def follow(training: "Training") -> None:
    """Train in step with the first process. Only that one writes, logs and reports."""
    try:
        training.resume({})
        for _ in training:
            pass
    except UserError:
        time.sleep(PATIENCE)
        sys.exit(1)


if __name__ == "__main__":
    run_stage(main)
