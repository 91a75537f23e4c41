"""Train the model: data/model, plots/training.csv, metrics/train.json, and a live MLflow run."""

import sys
import time

from stages import run

from cvae.errors import UserError
from cvae.parameters import read_parameters
from cvae.sharing import share_cores
from cvae.workspace import dvc_process, has_ended

PATIENCE = 30  # seconds: torchrun ends all when the first has ended, and the one that says why may be behind


def main() -> None:
    params = read_parameters()
    share_cores(params.threads)
    dvc = dvc_process()

    import torch

    from cvae import datasets
    from cvae.binarisation import binarised
    from cvae.checkpoint import Checkpoint, Progress, training_key
    from cvae.devices import describe, open_device
    from cvae.history import rounded, show_progress, write_history
    from cvae.model import CVAE
    from cvae.processes import joined
    from cvae.seeding import generator
    from cvae.tracking.live import LiveRun
    from cvae.tracking.store import CHECKPOINT
    from cvae.training import Training

    device = open_device(params.device, params.threads, params.precision)
    train_split, test_split = datasets.load("data/raw")
    if params.binarize != "none":
        test_split = binarised(test_split, "test")
    if params.binarize == "static":
        train_split = binarised(train_split, "train")
    model = CVAE(params.latent_dims, params.hidden_dims, params.likelihood, params.prior_std, params.activation)
    model.initialise(generator(params.seed, "weights")).to(device)
    with joined(device) as processes:
        training = Training(
            model,
            train_split,
            test_split,
            epochs=params.epochs,
            batch_size=params.batch_size,
            learning_rate=params.learning_rate,
            schedule=params.learning_rate_schedule,
            beta=params.beta,
            seed=params.seed,
            redraw=params.binarize == "dynamic",
            precision=params.precision,
            processes=processes,
        )
        if processes.rank:  # the first one writes, logs and says what went wrong; the others only train with it
            try:
                training.resume({})
                for _ in training:
                    pass
            except UserError:
                time.sleep(PATIENCE)
                sys.exit(1)
            return

        name = describe(device, processes.count)
        print(f"Training on {name}: {params.epochs} epochs of {len(train_split):,} images", flush=True)
        checkpoint = Checkpoint(training_key(params.model_dump(), name))
        before = checkpoint.load(training.state())
        training.resume(before.state)
        history, started = list(before.rows), time.perf_counter() - before.seconds
        if history:
            print(f"Going on after epoch {len(history)}, from {checkpoint.shown}", flush=True)
        tags = {"device": name, "torch.version": torch.__version__, CHECKPOINT: checkpoint.key}
        with checkpoint, LiveRun(params.model_dump(), tags) as live:
            for row in history:
                live.log(row)
            for row in show_progress(map(rounded, training), params.epochs, len(history)):
                history.append(row)
                live.log(row)
                seconds = time.perf_counter() - started
                if checkpoint.is_due():
                    checkpoint.write(Progress(training.state(), history, seconds))
                # `dvc queue stop --kill` leaves the stage running, in a folder that it deletes.
                if dvc and has_ended(dvc):
                    raise KeyboardInterrupt("DVC was killed, so nobody would take up the results")
            seconds = time.perf_counter() - started

            model.save("data/model")
            write_history(history, "plots/training.csv", "metrics/train.json")
            rate = params.epochs * len(train_split) / seconds
            print(f"Trained in {seconds:.1f} s, {rate:,.0f} images per second")
            live.complete({"train.seconds": f"{seconds:.1f}", "train.images_per_second": f"{rate:.0f}"})


if __name__ == "__main__":
    run(main)
