"""Draw the training curves."""

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from cvae.figures.style import in_style, new_figure


@in_style
def draw_training(history: pd.DataFrame, title: str) -> Figure:
    """Draw loss, reconstruction and KL by epoch, training and test overlaid; `history`: plots/training.csv."""
    figure = new_figure(figsize=(15, 4.6), layout="constrained")
    grid = figure.subplots(1, 3)
    for axes, part, name in zip(grid, ("loss", "reconstruction", "kl"), ("Loss", "Reconstruction", "KL"), strict=True):
        curves = history.rename(columns={f"train_{part}": "training", f"test_{part}": "test"})
        sns.lineplot(
            curves.set_index("epoch")[["training", "test"]],
            ax=axes,
            dashes=False,
            palette=["C0", "C1"],
            marker="o" if len(history) == 1 else None,
        )
        axes.set_title(name, fontsize=13)
        axes.set(xlabel="epoch", ylabel="nats per image")
        axes.xaxis.get_major_locator().set_params(integer=True)
        if len(history) == 1:
            axes.set_xticks(history["epoch"])
    figure.suptitle(title, fontsize=16)
    return figure
