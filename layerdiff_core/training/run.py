"""A training run that can stop and go on at will: weights, their average, the optimisers, a clock."""

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
from torch import Tensor, nn

from ..whole import write_tensors
from .muon import Muon

WARM_UP_STEPS = 40
SAVE_EVERY_SECONDS = 120
LONGEST_STEP_SECONDS = 20
CLOCKS = {"cpu": time.thread_time}
"""What counts the budget's seconds on a kind of device; elsewhere it is the wall clock."""


class Run:
    """Trains `model` towards a budget of seconds at the device, not of steps, since machines differ so much. On a
    CPU it is the main thread's own time, so that other work on the machine takes nothing of it; elsewhere what lies between two
    steps counts for at most 20 seconds. So a process may be paused, or starved, at will.

    Matrices and convolutions are trained with Muon (Jordan et al. 2024; scaled to AdamW's step as Liu et al. 2025
    do), which needs far fewer steps here, all else with AdamW. An exponential average of the weights, its decay
    warming up, is what ships. The rate rises over the first steps and falls as a half cosine to zero at the end of the
    budget. State lives in one safetensors file, written every two minutes, at the end, and when `leave_on_signals` was called
    and the process is asked to stop.
    """

    def __init__(self, model: nn.Module, path: Path, seconds: float, rate: float, decay: float = 0.999):
        self.path, self.seconds, self.rate, self.decay = path, seconds, rate, decay
        self.model = model.requires_grad_(True)
        self.names, self.parameters = (list(x) for x in zip(*model.named_parameters()))
        self.average = [p.detach().clone() for p in self.parameters]
        is_matrix = [p.ndim > 1 and "embedding" not in name for name, p in zip(self.names, self.parameters)]
        # Muon takes matrices: convolutions as views [out, h * w * in] of the same memory, channels last.
        self.matrices = {i: as_matrix(p.detach()) for i, p in enumerate(self.parameters) if is_matrix[i]}
        for i, view in self.matrices.items():
            if view.data_ptr() != self.parameters[i].data_ptr():
                raise ValueError(f"{self.names[i]} is not laid out channels last: the model needs .to(memory_format=...)")
        others = [p for i, p in enumerate(self.parameters) if not is_matrix[i]]
        precision = torch.bfloat16 if has_bfloat16(self.parameters[0].device) else torch.float32
        self.muon = Muon(self.matrices.values(), rate, precision)
        self.adamw = torch.optim.AdamW(others, lr=rate, betas=(0.9, 0.99), weight_decay=0.01)
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
        """How much of the budget is spent, 0..1."""
        return min(1.0, self.spent / self.seconds)

    def update(self, loss: Tensor) -> None:
        """One step of the optimiser from a scalar loss."""
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
        """Print figures and keep them in the state's log; writes the state when two minutes have passed."""
        entry = {"step": self.step, "seconds": round(self.spent), **{k: round(v, 5) for k, v in figures.items()}}
        self.log.append(entry)
        print(self.path.stem, *(f"{k} {v}" for k, v in entry.items()), flush=True)
        if time.monotonic() - self.saved > SAVE_EVERY_SECONDS:
            self.save()

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """Within it, the model holds the average weights: to draw, to measure, to export. The state that is written
        meanwhile has the trained ones."""
        self.trained = [p.detach().clone() for p in self.parameters]
        with torch.no_grad():
            torch._foreach_copy_(self.parameters, self.average)
            yield
            torch._foreach_copy_(self.parameters, self.trained)
        self.trained = None

    def save(self) -> None:
        """Write the whole state; a run that is cut off while it writes leaves the former state whole."""
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


_runs: weakref.WeakSet[Run] = weakref.WeakSet()
_in_step, _asked = False, 0
STOPS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
"""Ctrl-C, a polite kill as a shutdown sends it, a closed terminal, and a closed window or Ctrl-Break on Windows."""


def leave_on_signals() -> None:
    """From now on, a signal that asks the process to stop makes it write the state of all its runs and leave.

    In the middle of a step it ends the step first; where nobody waits for a signal (as under nohup) it stays so. A second
    signal leaves at once.
    """
    for name in STOPS:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _stop)


def _stop(number: int, frame: object) -> None:
    global _asked
    if multiprocessing.parent_process() is not None:  # a helper, with an old copy of the runs
        if number == signal.SIGTERM:
            os._exit(128 + number)
        return  # the terminal tells everyone; the process that saves ends its helpers itself
    _asked = number
    signal.signal(number, signal.SIG_DFL)
    if hasattr(signal, "SIGCHLD"):  # that helpers are asked to stop as well is no error
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if not _in_step:
        _leave()


def _leave() -> None:
    for run in _runs:
        run.save()
        print(f"{run.path.stem}: stopped at step {run.step}; the state is in {run.path}. The same command goes on there.",
              flush=True)
    raise SystemExit(128 + _asked)


@contextlib.contextmanager
def _one_step() -> Iterator[None]:
    """Within it, a signal waits: half a step is no state to go on from."""
    global _in_step
    _in_step = True
    try:
        yield
    finally:
        _in_step = False
    if _asked:
        _leave()


def has_bfloat16(device: torch.device) -> bool:
    """Whether a device multiplies bfloat16 itself. A CPU that has to imitate it takes five times as long as in float32."""
    return device.type != "cpu" or torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def as_matrix(tensor: Tensor) -> Tensor:
    """[out, in, h, w] -> [out, h * w * in], a view where the channels come last in memory; matrices as they are."""
    return tensor.movedim(1, -1).flatten(1)
