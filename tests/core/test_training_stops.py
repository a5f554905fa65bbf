"""A training that is asked to stop (Ctrl-C, SIGTERM, a closed terminal) saves its state before it exits."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors import safe_open

from layerdiff_core.training.loops.plan import Steps
from layerdiff_core.training.run import Run

TRAINING = """
import sys, time, torch
from pathlib import Path
from layerdiff_core.training.run import Run, leave_on_signals
torch.set_num_threads(1)
folder, moment = Path(sys.argv[1]), sys.argv[2]
leave_on_signals()
model, other = torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)
run, critic = Run(model, folder / "run.safetensors", 1e9, 1e-3), Run(other, folder / "critic.safetensors", 1e9, 1e-3)
class Slow(torch.autograd.Function):  # a step that takes a while
    @staticmethod
    def forward(ctx, x): return x
    @staticmethod
    def backward(ctx, grad):
        time.sleep(0.02 if moment == "step" else 0)
        return grad
for step in range(1_000_000):
    run.update(Slow.apply(model(torch.ones(1, 4)).square().sum()))
    critic.update(other(torch.ones(1, 4)).square().sum())
    if step == 20:
        print("ready", flush=True)
    if moment == "averaged" and step > 20:
        with run.averaged():
            time.sleep(0.02)
"""


def heed_signals() -> None:
    """Restores default signal handling, since processes in the background or with nohup ignore some signals, also in children."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def stopped(folder: Path, number: int, moment: str) -> subprocess.CompletedProcess[str]:
    """A training run that received a signal while running."""
    process = subprocess.Popen([sys.executable, "-c", TRAINING, str(folder), moment], stdout=subprocess.PIPE,
                               cwd=Path(__file__).parent.parent.parent, stderr=subprocess.PIPE, text=True,
                               preexec_fn=heed_signals)  # fmt: skip
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    process.send_signal(number)
    try:
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
    return subprocess.CompletedProcess([], process.returncode, out, err)


@pytest.mark.skipif(sys.platform == "win32", reason="there a process is not sent signals")
@pytest.mark.parametrize("name, moment", [("SIGINT", "any"), ("SIGTERM", "step"), ("SIGHUP", "averaged")])
def test_a_signal_writes_the_state_of_all_runs(tmp_path: Path, name: str, moment: str) -> None:
    number = getattr(signal, name)
    done = stopped(tmp_path, number, moment)
    assert done.returncode == 128 + number and done.stderr == ""
    assert "run: stopped at step" in done.stdout and "Run the same command to resume" in done.stdout
    steps = []
    for file in ("run", "critic"):
        again = Run(torch.nn.Linear(4, 4), tmp_path / f"{file}.safetensors", 1e9, 1e-3)
        with safe_open(tmp_path / f"{file}.safetensors", framework="pt") as state:
            assert json.loads(state.metadata()["run"])["step"] == again.step
            # What was trained differs from its average, also where the average was in the model just then.
            assert not torch.equal(state.get_tensor("weight.weight"), state.get_tensor("average.weight"))
        steps.append(again.step)
    assert min(steps) > 20 and steps[0] - steps[1] in (0, 1)
    assert {path.name for path in tmp_path.iterdir()} == {"run.safetensors", "critic.safetensors"}


def test_a_state_written_while_the_average_is_in_the_model_has_the_trained_weights(tmp_path: Path) -> None:
    model = torch.nn.Linear(4, 4)
    run = Run(model, tmp_path / "run.safetensors", 1e9, 0.1)
    for _ in range(5):
        run.update(model(torch.ones(1, 4)).square().sum())
    trained = model.weight.detach().clone()
    with run.averaged():
        run.save()
    assert torch.equal(Run(torch.nn.Linear(4, 4), run.path, 1e9, 0.1).model.weight, trained)


def test_the_mean_loss_after_a_resumption_is_that_of_the_steps_taken(tmp_path: Path) -> None:
    setting = SimpleNamespace(device=torch.device("cpu"))
    model = torch.nn.Linear(1, 1, bias=False)
    for first in (20, 40):
        run = Run(model, tmp_path / "run.safetensors", 1e9, 1e-9)
        steps = Steps(setting, run)
        for _ in range(first):
            steps.take(model.weight.square().sum() * 0 + 3)
        run.save()
    assert [(entry["step"], entry["loss"]) for entry in run.log] == [(50, 3.0)]
