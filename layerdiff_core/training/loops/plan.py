"""How long and how fast to train, and the step that the loops with a discriminator share."""

from dataclasses import dataclass
from typing import Any

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
