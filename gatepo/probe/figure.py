"""The probe's figure: where the tokens are, what each gate makes of them, and how alike the gradients are."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from torch import Tensor

from gatepo.probe.measure import Reading

BINS = 60


def draw(readings: dict[str, list[Reading]], cosine_KK: Tensor, path: Path) -> Path:
    """Draw the figure as PNG at ``path``.

    Args:
      readings: by gate, one for each rollout batch.
      cosine_KK: cosines between the gates' gradients, in the order of ``readings``, mean over the batches.
    """
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(14, 4), layout="constrained")
    for name, found in readings.items():
        log_ratio_M = np.concatenate([r.record.log_ratio_NT[r.record.mask_NT].numpy() for r in found])
        slope_M = np.concatenate([r.record.slope_NT[r.record.mask_NT].numpy() for r in found])
        order = np.argsort(log_ratio_M)
        left.plot(log_ratio_M[order], slope_M[order], ".", markersize=2, label=name)
        coefficient_M = np.exp(log_ratio_M) * slope_M
        middle.hist(np.clip(coefficient_M, 0, 2), bins=BINS, range=(0, 2), histtype="step", label=name)
    reach = max(0.05, float(np.quantile(np.abs(log_ratio_M), 0.99)))  # single tokens lie 10 nats and more away
    left.set(xlabel="log r, 99% of the tokens", ylabel="slope f'(r) of each token", xlim=(-reach, reach))
    middle.set(xlabel="coefficient r f'(r), those above 2 at 2", ylabel="tokens", yscale="log")
    handles, labels = middle.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 5), frameon=False)
    names = list(readings)
    right.imshow(cosine_KK, vmin=-1, vmax=1, cmap="RdBu")
    right.set_xticks(range(len(names)), names, rotation=45, ha="right")
    right.set_yticks(range(len(names)), names)
    for i in range(len(names)):
        for j in range(len(names)):
            value = float(cosine_KK[i, j])
            right.text(j, i, f"{value:.2f}", ha="center", va="center", color="white" if abs(value) > 0.5 else "black")
    right.set_title("cosine between the gradients", fontsize="medium")
    figure.savefig(path, dpi=130)
    plt.close(figure)
    return path
