"""The setup: nothing is done twice, it can be interrupted and resumed, failures are named, and the user's own ComfyUI works."""

import contextlib
import importlib
import io
import subprocess
import sys
import tarfile
import venv
from collections.abc import Callable
from pathlib import Path

import pytest

import dev
from tools import front_end, setup
from tools.setup import Environment, SetupError, Stage


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The test's own empty `.dev`, and no ComfyUI set in the environment."""
    monkeypatch.setattr(setup, "DEV", tmp_path / ".dev")
    monkeypatch.delenv("COMFYUI_PATH", raising=False)
    monkeypatch.delenv("COMFYUI_PYTHON", raising=False)
    return tmp_path


class Recorder:
    """Three stages that record their runs; `fail` holds exceptions for them to raise."""

    def __init__(self, folder: Path) -> None:
        self.ran: list[str] = []
        self.fail: dict[str, BaseException] = {}
        self.pins = {name: folder / f"{name}.txt" for name in "abc"}
        self.products = {name: folder / f"{name}.product" for name in "abc"}
        for path in self.pins.values():
            path.write_text("1")

    def stages(self) -> list[Stage]:
        return [Stage(name, name, self.products[name], [self.pins[name]], self.work(name)) for name in "abc"]

    def work(self, name: str) -> Callable[[], None]:
        def run() -> None:
            self.ran.append(name)
            if name in self.fail:
                raise self.fail.pop(name)
            self.products[name].touch()
        return run

    def go(self) -> str:
        self.ran.clear()
        setup.run_stages(self.stages())
        return "".join(self.ran)


def test_second_run_prepares_nothing(folder: Path) -> None:
    recorder = Recorder(folder)
    assert recorder.go() == "abc"
    assert recorder.go() == ""


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SetupError("no network")])
def test_stopped_set_up_goes_on_where_it_stopped(folder: Path, error: BaseException) -> None:
    recorder = Recorder(folder)
    recorder.fail["b"] = error
    with pytest.raises(type(error)):
        recorder.go()
    assert recorder.go() == "bc"
    assert recorder.go() == ""


def test_a_stage_stopped_while_redone_is_not_taken_for_done(folder: Path) -> None:
    recorder = Recorder(folder)
    recorder.go()
    recorder.pins["a"].write_text("2")
    recorder.fail["a"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        recorder.go()
    recorder.pins["a"].write_text("1")
    assert recorder.go() == "abc"


def test_a_changed_pin_redoes_its_stage_and_those_after_it(folder: Path) -> None:
    recorder = Recorder(folder)
    recorder.go()
    recorder.pins["b"].write_text("2")
    assert recorder.go() == "bc"


def test_what_was_deleted_is_made_again(folder: Path) -> None:
    recorder = Recorder(folder)
    recorder.go()
    recorder.products["b"].unlink()
    assert recorder.go() == "bc"


def test_another_python_version_is_set_up_anew(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder(folder)
    recorder.go()
    monkeypatch.setattr(sys, "version_info", (3, 99, 0))
    assert recorder.go() == "abc"


def test_the_stages_name_pins_that_exist_and_differ(folder: Path) -> None:
    stages = setup.stages(setup.locate())
    assert [stage.name for stage in stages] == ["venv", "host", "torch", "torch_companions", "packages", "check"]
    assert all(path.is_file() for stage in stages for path in stage.pins)


def test_a_failing_command_is_named(folder: Path) -> None:
    command = [sys.executable, "-c", "import sys; print('No matching distribution for torch'); sys.exit(3)"]
    with pytest.raises(SetupError) as caught:
        setup.run("torch", command)
    text = str(caught.value)
    assert "status 3" in text
    assert "No matching distribution for torch" in text
    assert str(folder / ".dev" / "logs" / "setup_torch.log") in text
    assert "same command" in text


def test_a_failing_set_up_ends_the_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> Environment:
        raise SetupError("The disk is full.")

    monkeypatch.setattr(setup, "prepare", fail)
    assert dev.main(["demo"]) == 1
    assert "The disk is full." in capsys.readouterr().err


def test_commands_are_listed_and_unknown_ones_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert dev.main([]) == 0
    assert dev.main(["dmeo"]) == 2
    text = capsys.readouterr().out
    assert all(name in text for name in dev.COMMANDS)


@pytest.mark.parametrize("command", [name for name in dev.COMMANDS if name[:5] not in ("train", "compa")])
@pytest.mark.parametrize("option", ["--help", "-h"])
def test_every_command_explains_itself_and_does_nothing(
    command: str, option: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = importlib.import_module("tools." + command.replace("-", "_"))
    monkeypatch.setattr(sys, "argv", [command, option])
    monkeypatch.setattr(module, "Server", lambda *args: pytest.fail("it was run"), raising=False)
    monkeypatch.setattr(subprocess, "call", lambda *args, **more: pytest.fail("it was run"))
    with contextlib.suppress(SystemExit):
        assert module.main([option]) == 0
    text = capsys.readouterr().out
    assert text.startswith("usage: ") and len(text.splitlines()) > 2


def test_a_wrong_python_is_told_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 9, 0))
    assert dev.main(["demo"]) == 2
    assert "Python 3.10 to 3.13" in capsys.readouterr().out


def users_comfyui(folder: Path) -> Path:
    host = folder / "my ComfyUI"
    (host / "comfy").mkdir(parents=True)
    (host / "main.py").touch()
    return host


def make_python(folder: Path) -> Path:
    python = setup.python_in(folder)
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    return python


def test_users_own_comfyui_is_used_and_nothing_fetched(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = users_comfyui(folder)
    monkeypatch.setenv("COMFYUI_PATH", str(host))
    monkeypatch.setattr(setup, "run_stages", lambda todo: pytest.fail("something was fetched"))
    environment = setup.prepare()
    assert environment == Environment(Path(sys.executable), host)
    assert environment.is_users_own
    assert sorted(path.name for path in (folder / ".dev").iterdir()) == ["custom_nodes"]


def test_the_newest_page_is_fetched_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched = []

    def fetch() -> None:
        fetched.append(front_end.root())
        front_end.root().mkdir(parents=True)
        (front_end.root() / "index.html").touch()

    monkeypatch.setattr(front_end, "fetch", fetch)
    front_end.prepare()
    front_end.prepare()
    assert fetched == [folder / ".dev" / "front_end" / "comfyui_frontend_package" / "static"]
    assert f"=={front_end.version()} --hash=sha256:" in front_end.PINS.read_text("utf-8")


def test_no_page_is_fetched_for_a_users_comfyui(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMFYUI_PATH", str(users_comfyui(folder)))
    monkeypatch.setattr(front_end, "fetch", lambda: pytest.fail("something was fetched"))
    front_end.prepare()


@pytest.mark.parametrize("name", ["venv", ".venv"])
def test_the_python_beside_users_comfyui_is_found(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    host = users_comfyui(folder)
    monkeypatch.setenv("COMFYUI_PATH", str(host))
    python = make_python(host / name)
    assert setup.locate().python == python


def test_comfyui_python_wins(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = users_comfyui(folder)
    make_python(host / "venv")
    other = make_python(folder / "other")
    monkeypatch.setenv("COMFYUI_PATH", str(host))
    monkeypatch.setenv("COMFYUI_PYTHON", str(other))
    assert setup.locate().python == other
    monkeypatch.setenv("COMFYUI_PYTHON", str(folder / "nothing"))
    with pytest.raises(SetupError, match="COMFYUI_PYTHON is .*nothing, which cannot be run"):
        setup.locate()


def test_a_python_without_torch_is_told_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = users_comfyui(folder)
    venv.create(host / "venv", symlinks=True)
    monkeypatch.setenv("COMFYUI_PATH", str(host))
    with pytest.raises(SetupError, match="does not have torch, aiohttp, PIL"):
        setup.prepare()


def test_a_wrong_comfyui_path_is_told_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMFYUI_PATH", str(folder))
    with pytest.raises(SetupError, match="no ComfyUI"):
        setup.locate()


def test_the_link_follows_a_moved_repository(folder: Path) -> None:
    link = folder / ".dev" / "custom_nodes" / setup.PACK_LINK
    link.parent.mkdir(parents=True)
    link.symlink_to(folder / "where the repository was", target_is_directory=True)
    setup.link_pack()
    assert link.resolve() == setup.ROOT
    setup.link_pack()
    assert link.resolve() == setup.ROOT


def archive(path: Path, members: dict[str, bytes], link: str | None = None) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        if link:
            info = tarfile.TarInfo(link)
            info.type, info.linkname = tarfile.SYMTYPE, "/etc"
            tar.addfile(info)
    return path


def test_only_the_host_is_unpacked(folder: Path) -> None:
    inside = "pkg-1/vendor/ComfyUI"
    members = {f"{inside}/main.py": b"host", f"{inside}/comfy/sd.py": b"sd", "pkg-1/setup.py": b""}
    setup.unpack_host(archive(folder / "a.tar.gz", members), folder / "host")
    found = {path.relative_to(folder / "host").as_posix() for path in (folder / "host").rglob("*") if path.is_file()}
    assert found == {"main.py", "comfy/sd.py"}


@pytest.mark.parametrize(("name", "link"), [
    ("pkg-1/vendor/ComfyUI/../../../evil.py", None),
    ("pkg-1/vendor/ComfyUI/main.py", "pkg-1/vendor/ComfyUI/models"),
])
def test_an_archive_that_leaves_its_folder_is_refused(folder: Path, name: str, link: str | None) -> None:
    with pytest.raises(SetupError, match="not a plain file inside its folder"):
        setup.unpack_host(archive(folder / "a.tar.gz", {name: b""}, link), folder / "host")
    assert not (folder / "evil.py").exists()


def test_torch_is_left_out_of_the_hosts_requirements() -> None:
    text = "torch\ntorchsde\ntorchvision\ntorchaudio\nnumpy>=1.25.0\n"
    assert setup.without_torch(text) == "torchsde\nnumpy>=1.25.0\n"
