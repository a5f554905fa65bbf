"""The arguments of the training commands: invalid ones are rejected with a clear message before anything runs."""

import json
import subprocess
import sys

import pytest

from tools import setup

COMMANDS = {"train_starter": "unet", "train_text2layer": "unet", "compare_text2layer": ""}
"""Each with one of its stages."""

NONSENSE = {
    "--minutes=0": "'0' is not a number above 0", "--minutes=nan": "not a number above 0", "--minutes=soon": "'soon' is not",
    "--batch=0": "not a whole number from", "--batch=1.5": "not a whole number from", "--objects=-1": "whole number from 1",
    "--rate=inf": "not a number", "--variants=0": "whole number from 1", "--styles=3": "choose from",
    "--device=gpu": "'gpu' is not a device",
    "--sheet-seconds=-1": "not a number from 0", "--start=gone": "there is no file 'gone'",
}
TOO_EARLY = {
    "train_starter unet": "vae", "train_starter decoder": "vae", "train_starter show": "vae", "train_starter export": "vae",
    "train_text2layer unet": "autoencoder", "train_text2layer decoder": "autoencoder", "train_text2layer export": "autoencoder",
}
HELP = [f"{command} {option}" for command in COMMANDS for option in ("-h", "--help")]

# The tools import ComfyUI's classes without a server, which is not possible in this process, where ComfyUI is loaded.
SCRIPT = """
import contextlib, importlib, io, json, sys
for line in sys.stdin.read().splitlines():
    name, *arguments = line.split()
    module = importlib.import_module(f"tools.{name}")
    module.World = lambda *_: sys.exit("it was run")
    sys.argv, out = [name, *arguments], io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        try:
            status = module.main()
        except SystemExit as left:
            status = left.code
    print(json.dumps([line, status, out.getvalue()]))
"""


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[object, str]]:
    """Run the commands with arguments. Returns their status and output."""
    folder = tmp_path_factory.mktemp("nothing_there")
    lines = [f"{name} {stage} {option} --out={folder}" for name, stage in COMMANDS.items() for option in NONSENSE
             if name != "compare_text2layer" or "start" not in option]
    lines += [*(f"{line} --out={folder}" for line in TOO_EARLY), *HELP]
    done = subprocess.run([sys.executable, "-c", SCRIPT], input="\n".join(lines), cwd=setup.ROOT, capture_output=True, text=True,
                          timeout=200)  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert not list(folder.iterdir())
    answers = map(json.loads, filter(lambda line: line.startswith("["), done.stdout.splitlines()))
    return {" ".join(line.split(" --out=")[0].split()): (status, text) for line, status, text in answers}


@pytest.mark.parametrize("option", NONSENSE)
@pytest.mark.parametrize("command", COMMANDS)
def test_nonsense_is_named(said: dict[str, tuple[object, str]], command: str, option: str) -> None:
    if command == "compare_text2layer" and "start" in option:
        pytest.skip("it starts from nothing")
    status, text = said[" ".join(f"{command} {COMMANDS[command]} {option}".split())]
    assert status == 2 and f"argument {option.split('=')[0]}: " in text and NONSENSE[option] in text


@pytest.mark.parametrize("line", TOO_EARLY)
def test_a_stage_before_its_turn_names_the_one_that_is_missing(said: dict[str, tuple[object, str]], line: str) -> None:
    name, stage = line.split()
    status, text = said[line]
    assert status == 2 and f"The stage {stage} needs the result of the stage {TOO_EARLY[line]}" in text
    assert f"python dev.py {name.replace('_', '-')} {TOO_EARLY[line]}" in text


@pytest.mark.parametrize("line", HELP)
def test_help_is_printed_and_nothing_run(said: dict[str, tuple[object, str]], line: str) -> None:
    status, text = said[line]
    assert status == 0 and text.startswith("usage: ") and "it was run" not in text
