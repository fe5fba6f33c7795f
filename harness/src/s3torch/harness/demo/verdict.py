"""The proof: what two runs did, compared to the last bit."""

from __future__ import annotations

from dataclasses import dataclass, field

from s3torch.harness.demo.events import EpochEnded, Loaded, Saved

__all__ = ["RunRecord", "Verdict", "compare"]


@dataclass(slots=True)
class RunRecord:
    """What one process told of its training."""

    first_epoch: int = 1
    """The first epoch it trained."""
    losses: dict[tuple[int, int], float] = field(default_factory=dict)
    """The loss of each batch, by epoch and step."""
    epochs: list[EpochEnded] = field(default_factory=list)
    """The epochs it finished."""
    saved: list[Saved] = field(default_factory=list)
    """The checkpoints it saved."""
    loaded: Loaded | None = None
    """The checkpoint it began at."""
    loss: float = float("nan")
    """Mean loss of the last epoch, once it ended."""
    digest: str = ""
    """SHA-256 of model and optimizer, once it ended."""

    def samples_per_second(self) -> float:
        """The median rate of the epochs after the first, in which the workers start; of all where there is one."""
        rates = sorted(epoch.samples_per_second for epoch in (self.epochs[1:] or self.epochs))
        return rates[len(rates) // 2] if rates else float("nan")


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a resumed run ended as the uninterrupted one."""

    batches: int
    """How many batches the resumed run trained on."""
    differences: tuple[str, ...]
    """What differs; empty where nothing does."""

    @property
    def is_same(self) -> bool:
        """Whether nothing differs."""
        return not self.differences


def compare(straight: RunRecord, resumed: RunRecord) -> Verdict:
    """Compare a resumed run with the uninterrupted one.

    Args:
        straight: The run that was not interrupted.
        resumed: The run that began at a checkpoint.

    Returns:
        Every way in which they differ. Equal means equal: no tolerance.
    """
    differences = []
    if resumed.loaded is None or resumed.first_epoch != resumed.loaded.epoch + 1:
        differences.append("the second run did not begin after the epoch of a checkpoint")
    expected = {place: loss for place, loss in straight.losses.items() if place[0] >= resumed.first_epoch}
    if not expected or expected.keys() != resumed.losses.keys():
        differences.append(f"the runs trained on other batches: {len(expected)} and {len(resumed.losses)}")
    unequal = [place for place, loss in expected.items() if resumed.losses.get(place, loss) != loss]
    if unequal:
        epoch, step = min(unequal)
        differences.append(
            f"the loss of {len(unequal)} of {len(expected)} batches, from epoch {epoch} step {step} on: "
            f"{straight.losses[epoch, step]!r} and {resumed.losses[epoch, step]!r}"
        )
    # A NaN differs from itself: a run that did not end is a difference.
    if straight.loss != resumed.loss:
        differences.append(f"the final loss: {straight.loss!r} and {resumed.loss!r}")
    if not straight.digest or straight.digest != resumed.digest:
        differences.append(f"the parameters: sha256 {straight.digest[:16]} and {resumed.digest[:16]}")
    return Verdict(len(resumed.losses), tuple(differences))
