"""Record all results as one MLflow run, and write the run's key to data/tracked.json."""

from cvae.commands.runner import run_stage
from cvae.pipeline.own_images import require_copied
from cvae.pipeline.parameters import read_parameters


def main() -> None:
    params = read_parameters()
    require_copied(params)

    from cvae.pipeline.dvc_lock import require_current
    from cvae.tracking import run_keys
    from cvae.tracking.record import record, write_receipt

    require_current(run_keys.results())
    write_receipt(record(params.model_dump()))


if __name__ == "__main__":
    run_stage(main)
