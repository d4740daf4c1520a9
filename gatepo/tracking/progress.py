"""The progress bar: reward, entropy and EUR while the run goes on."""

from __future__ import annotations

from tqdm import tqdm


class ProgressTracker:
    """One bar over the updates. EUR is shown from the last iteration of a rollout batch; the first is always 1."""

    def __init__(self, updates: int, iterations: int, done: int) -> None:
        self._bar = tqdm(total=updates, initial=done, desc="train", unit="update", dynamic_ncols=True)
        self._last_eur = f"eur/iteration_{iterations}"
        self._shown: dict[str, str] = {}

    def log(self, update: int, metrics: dict[str, float]) -> None:
        """See :class:`~gatepo.tracking.base.Tracker`."""
        self._shown |= {"reward": f"{metrics['reward']:.2f}", "entropy": f"{metrics['entropy']:.3f}"}
        if self._last_eur in metrics:
            self._shown["eur"] = f"{metrics[self._last_eur]:.3f}"
        self._bar.set_postfix(self._shown, refresh=False)
        self._bar.update(update - self._bar.n)

    def close(self) -> None:
        """See :class:`~gatepo.tracking.base.Tracker`."""
        self._bar.close()
