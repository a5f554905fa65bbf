"""How long and how fast to train, and the steps that the loops share."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..run import Run
from ..setting import Setting

TELL_EVERY = 50
"""Steps between two lines of figures."""


@dataclass(frozen=True)
class Plan:
    """The budget of a stage.

    seconds: of device time, including earlier runs. rate: the maximum learning rate. batch: images, layers or scenes per step.
    sheet_seconds: between two sheets of samples.
    """

    seconds: float
    rate: float
    batch: int
    sheet_seconds: float


class Steps:
    """The steps of a run with a single loss. Tells their mean loss every TELL_EVERY steps."""

    def __init__(self, setting: Setting, run: Run):
        self.run, self.total, self.first = run, torch.zeros((), device=setting.device), run.step

    def take(self, loss: Tensor) -> None:
        """Take one step. loss: a scalar."""
        self.run.update(loss)
        self.total += loss.detach()
        if self.run.step % TELL_EVERY == 0:
            # After a resumption, there are fewer steps up to the first line.
            self.run.tell(loss=self.total.item() / (self.run.step - self.first))
            self.total.zero_()
            self.first = self.run.step


def update(setting: Setting, objective: Any, run: Run, critic: Run, batch: Any, adversarial: bool) -> Any:
    """Take one step of an autoencoder, or its decoder, and one of the discriminator if it is used."""
    with setting.autocast():
        step = objective.generator(batch, adversarial)
    run.update(step.loss)
    if adversarial:
        with setting.autocast():
            loss = objective.critic(step)
        critic.update(loss)
    return step
