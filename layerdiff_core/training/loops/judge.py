"""Trains the evaluator, the judge of drawn layers."""

from ...evaluator import Evaluator
from ...world.renderer import Ring
from ..evaluator import evaluator_loss
from ..run import Run
from ..setting import Setting
from .pictures import RENEWED
from .plan import TELL_EVERY, Plan


def fit_evaluator(setting: Setting, plan: Plan, run: Run, model: Evaluator, seed: int, ring: int) -> None:
    """Train an evaluator until the run's time is up. ring: number of foregrounds kept in memory."""
    renderer = setting.renderer(seed)
    drawings = Ring(renderer, ring)
    while not run.done:
        drawings.renew(plan.batch // RENEWED)
        with setting.autocast():
            loss, figures = evaluator_loss(model, renderer, drawings, plan.batch)
        run.update(loss)
        if run.step % TELL_EVERY == 0:
            run.tell(loss=loss.item(), **figures)
