"""A training run that can be stopped and resumed at any time: weights, their average, the optimisers and a clock."""

import contextlib
import json
import math
import multiprocessing
import os
import signal
import time
import weakref
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from ..whole import write_tensors
from .muon import Muon

WARM_UP_STEPS = 40
SAVE_EVERY_SECONDS = 120
LONGEST_STEP_SECONDS = 20
CLOCKS = {"cpu": time.thread_time}
"""The clock that measures the training time on each type of device. All others use the wall clock."""


class Run:
    """Trains `model` for a budget of device time rather than a number of steps, because machines differ so much. On a CPU this is
    the main thread's own time, so that other work on the machine does not count. On other devices, the time between two steps
    counts for at most 20 seconds. A process can therefore be paused or starved without losing budget.

    Matrices and convolutions are trained with Muon (Jordan et al. 2024; scaled to AdamW's step as in Liu et al. 2025), which
    needs far fewer steps here; everything else is trained with AdamW. The exported weights are an exponential average, whose
    decay warms up. The learning rate rises over the first steps and falls to zero along a half cosine at the end of the budget.
    The state is stored in one safetensors file, written every two minutes, at the end, and, after `leave_on_signals` was
    called, when the process is asked to stop.
    """

    def __init__(self, model: nn.Module, path: Path, seconds: float, rate: float, decay: float = 0.999):
        self.path, self.seconds, self.rate, self.decay = path, seconds, rate, decay
        self.model = model.requires_grad_(True)
        self.names, self.parameters = (list(x) for x in zip(*model.named_parameters()))
        self.average = [p.detach().clone() for p in self.parameters]
        is_matrix = [p.ndim > 1 and "embedding" not in name for name, p in zip(self.names, self.parameters)]
        # Muon needs matrices, so convolutions become views [out, h * w * in] of the same memory, which is channels last.
        self.matrices = {i: as_matrix(p.detach()) for i, p in enumerate(self.parameters) if is_matrix[i]}
        for i, view in self.matrices.items():
            if view.data_ptr() != self.parameters[i].data_ptr():
                raise ValueError(f"{self.names[i]} is not laid out channels last: the model needs .to(memory_format=...)")
        others = [p for i, p in enumerate(self.parameters) if not is_matrix[i]]
        precision = torch.bfloat16 if has_bfloat16(self.parameters[0].device) else torch.float32
        self.muon = Muon(self.matrices.values(), rate, precision)
        self.adamw = torch.optim.AdamW([{"params": others}], lr=rate, betas=(0.9, 0.99), weight_decay=0.01)
        self.step, self.spent = 0, 0.0
        self.log: list[dict[str, float]] = []
        self.trained: list[Tensor] | None = None
        if path.exists():
            self._load()
        self.clock = CLOCKS.get(self.parameters[0].device.type, time.monotonic)
        self.stepped, self.saved = self.clock(), time.monotonic()
        _runs.add(self)

    @property
    def done(self) -> bool:
        return self.spent >= self.seconds

    @property
    def progress(self) -> float:
        """The share of the budget that has been used, 0..1."""
        return min(1.0, self.spent / self.seconds)

    def update(self, loss: Tensor) -> None:
        """Take one optimisation step from a scalar loss."""
        with _one_step():
            self._update(loss)

    def _update(self, loss: Tensor) -> None:
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        for i, view in self.matrices.items():
            grad = self.parameters[i].grad
            view.grad = None if grad is None else as_matrix(grad)
        rate = self.rate * min(1.0, (self.step + 1) / WARM_UP_STEPS) * 0.5 * (1 + math.cos(math.pi * self.progress))
        for optimizer in (self.muon, self.adamw):
            optimizer.param_groups[0]["lr"] = rate
            optimizer.step()
        self.model.zero_grad(set_to_none=True)
        self.step += 1
        now = self.clock()
        self.spent += min(now - self.stepped, LONGEST_STEP_SECONDS)
        self.stepped = now
        decay = min(self.decay, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(self.average, self.parameters, 1 - decay)

    def tell(self, **figures: float) -> None:
        """Print metrics and add them to the log. Writes the state if two minutes have passed."""
        entry = {"step": self.step, "seconds": round(self.spent), **{k: round(v, 5) for k, v in figures.items()}}
        self.log.append(entry)
        print(self.path.stem, *(f"{k} {v}" for k, v in entry.items()), flush=True)
        if time.monotonic() - self.saved > SAVE_EVERY_SECONDS:
            self.save()

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """Context in which the model has the averaged weights, to sample, measure or export. A state written meanwhile contains
        the trained weights."""
        self.trained = [p.detach().clone() for p in self.parameters]
        with torch.no_grad():
            torch._foreach_copy_(self.parameters, self.average)
            yield
            torch._foreach_copy_(self.parameters, self.trained)
        self.trained = None

    def save(self) -> None:
        """Write the state. If the process is interrupted while writing, the previous state stays intact."""
        tensors, weights = {}, self.trained or self.parameters
        for i, name in enumerate(self.names):
            tensors[f"weight.{name}"], tensors[f"average.{name}"] = weights[i].detach(), self.average[i]
            for moment, value in self._moments(i).items():
                tensors[f"{moment}.{name}"] = value
        facts = {"step": self.step, "seconds": self.spent, "log": self.log}
        write_tensors(self.path, tensors, {"run": json.dumps(facts)})
        self.saved = time.monotonic()

    def _moments(self, i: int) -> dict[str, Tensor]:
        if i in self.matrices:
            return self.muon.state.get(self.matrices[i], {})
        return self.adamw.state.get(self.parameters[i], {})

    def _load(self) -> None:
        with safe_open(self.path, framework="pt") as file:
            facts = json.loads(file.metadata()["run"])
            keys = set(file.keys())
            for i, name in enumerate(self.names):
                self.parameters[i].data.copy_(file.get_tensor(f"weight.{name}"))
                self.average[i].copy_(file.get_tensor(f"average.{name}"))
                known = ("momentum_buffer", "step", "exp_avg", "exp_avg_sq")
                state = {moment: file.get_tensor(f"{moment}.{name}") for moment in known if f"{moment}.{name}" in keys}
                state = {k: v if k == "step" else v.to(self.average[i].device) for k, v in state.items()}
                if i in self.matrices:
                    self.muon.state[self.matrices[i]] = state
                else:
                    self.adamw.state[self.parameters[i]] = state
        self.step, self.spent, self.log = facts["step"], facts["seconds"], facts["log"]


def seconds_spent(path: Path) -> float:
    """How much of its budget a run's state has used up."""
    with safe_open(path, framework="pt") as file:
        return float(json.loads(file.metadata()["run"])["seconds"])


def average_of(path: Path) -> dict[str, Tensor]:
    """The averaged weights in a run's state."""
    prefix = "average."
    return {name[len(prefix):]: tensor for name, tensor in load_file(path).items() if name.startswith(prefix)}


_runs: weakref.WeakSet[Run] = weakref.WeakSet()
_in_step, _asked = False, 0
STOPS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
"""Ctrl-C, a kill or a shutdown, a closed terminal, and a closed window or Ctrl-Break on Windows."""


def leave_on_signals() -> None:
    """From now on, a signal that asks the process to stop makes it write the state of all its runs and exit.

    It finishes a step in progress first. A second signal exits at once. Signals that are ignored (as under nohup) stay ignored.
    """
    for name in STOPS:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _stop)


def _stop(number: int, frame: object) -> None:
    global _asked
    if multiprocessing.parent_process() is not None:  # a worker process, which only has old copies of the runs
        if number == signal.SIGTERM:
            os._exit(128 + number)
        return  # a terminal signals all processes, but only the one that saves ends its workers
    _asked = number
    signal.signal(number, signal.SIG_DFL)
    if hasattr(signal, "SIGCHLD"):  # workers that are asked to stop as well are not an error
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if not _in_step:
        _leave()


def _leave() -> None:
    for run in _runs:
        run.save()
        print(f"{run.path.stem}: stopped at step {run.step}; the state is in {run.path}. Run the same command to resume.",
              flush=True)
    raise SystemExit(128 + _asked)


@contextlib.contextmanager
def _one_step() -> Iterator[None]:
    """Context in which signals are deferred, because a run cannot be resumed from the middle of a step."""
    global _in_step
    _in_step = True
    try:
        yield
    finally:
        _in_step = False
    if _asked:
        _leave()


def has_bfloat16(device: torch.device) -> bool:
    """Whether a device supports bfloat16 natively. A CPU that has to emulate it takes five times as long as in float32."""
    return device.type != "cpu" or torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def as_matrix(tensor: Tensor) -> Tensor:
    """[out, in, h, w] -> [out, h * w * in], a view if the memory format is channels last. Matrices are returned unchanged."""
    return tensor.movedim(1, -1).flatten(1)
