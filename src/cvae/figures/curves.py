"""Draw the training curves."""

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from cvae.artifacts.history import held_out_split
from cvae.figures.style import in_style, new_figure


@in_style
def draw_training(history: pd.DataFrame, title: str) -> Figure:
    """Draw loss, reconstruction and KL by epoch, of training and held-out images; `history`: plots/training.csv.

    The axes fit the last four fifths of the epochs, since the first ones would squash the rest.
    """
    skipped, split = len(history) // 5, held_out_split(history)
    figure = new_figure(figsize=(15, 4.6), layout="constrained")
    grid = figure.subplots(1, 3)
    for axes, part, name in zip(grid, ("loss", "reconstruction", "kl"), ("Loss", "Reconstruction", "KL"), strict=True):
        curves = history.rename(columns={f"train_{part}": "training", f"{split}_{part}": split})
        sns.lineplot(
            curves.set_index("epoch")[["training", split]],
            ax=axes,
            dashes=["", (3, 1.5)],
            palette=["C0", "C1"],
            marker="o" if len(history) == 1 else None,
        )
        axes.set_title(name, fontsize=13)
        axes.set(xlabel="epoch", ylabel="nats per image")
        axes.xaxis.get_major_locator().set_params(integer=True)
        if len(history) == 1:
            axes.set_xticks(history["epoch"])
        if skipped:
            shown = curves[["training", split]].to_numpy()[skipped:]
            margin = 0.05 * (shown.max() - shown.min()) or 1.0
            axes.set_ylim(shown.min() - margin, shown.max() + margin)
    if skipped:
        title += f"\naxes fit epochs {skipped + 1} to {len(history)}; earlier ones may lie outside"
    figure.suptitle(title, fontsize=16)
    return figure
