"""Record the results as one MLflow run, and write the receipt: data/tracked.json."""

import gc

from stages import run

from cvae.parameters import read_parameters


def main() -> None:
    gc.disable()  # its passes over all that torch and MLflow import take a second and free nothing
    params = read_parameters()

    from cvae.tracking.record import record, write_receipt

    write_receipt(record(params.model_dump()))
    gc.freeze()  # else a last pass at the end takes another


if __name__ == "__main__":
    run(main)
