"""The wheel carries all that it needs, and works in an empty folder of a fresh environment.

The fresh environment holds nothing but the wheel; torch and the other dependencies come through a .pth file that
points to the environment of this test run, since installing gigabytes again would test pip and not us.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from tests.helpers.data import ROOT
from tests.helpers.repository import copy_sources

PIP: list[str | Path] = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
LIBRARY = "nbtorch/kernels/native/libnbtorch_native"
COMMANDS = ("nanoBragg", "nb-trace", "nb-compare", "nb-refine")


def run(command: list[str | Path], folder: Path, **environment: str) -> str:
    """What a command printed, errors after output; a command that fails is an AssertionError with both."""
    inherited = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(command, cwd=folder, env=inherited | environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def build_wheel(source: Path, target: Path, **environment: str) -> tuple[Path, str]:
    """(wheel built from a source tree or archive, the build's output). No isolation, so no network."""
    command = [*PIP, "wheel", "-v", "--no-deps", "--no-build-isolation", "-w", target, source]
    output = run(command, source.parent, **environment)
    (wheel,) = target.glob("nbtorch-*.whl")
    return wheel, output


def contents(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def files_below(folder: str, inside: str) -> set[str]:
    """Names that the files of a folder of the checkout have in the wheel."""
    paths = (path for path in (ROOT / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {f"{inside}/{path.relative_to(ROOT / folder).as_posix()}" for path in paths}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    return build_wheel(copy_sources(folder / "sources"), folder)[0]


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of a fresh environment that holds the wheel."""
    home = tmp_path_factory.mktemp("fresh") / "env"
    venv.create(home, with_pip=False, symlinks=True)
    python = home / "bin" / "python"
    run([*PIP, "--python", python, "install", "--no-deps", wheel], home.parent)
    (site,) = (home / "lib").glob("python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python.parent


def test_the_wheel_carries_configs_templates_and_the_embedded_experiment(wheel: Path) -> None:
    expected = files_below("configs", "refine/configs")
    expected |= files_below("refine/report/templates", "refine/report/templates") | files_below(
        "refine/default_data", "refine/default_data"
    )
    assert expected
    assert not expected - contents(wheel)


def test_the_wheel_carries_the_packages_alone(wheel: Path) -> None:
    tops = {name.split("/")[0] for name in contents(wheel) if ".dist-info/" not in name}
    assert tops == {"nbtorch", "refine"}
    assert not [name for name in contents(wheel) if name.endswith((".c", ".h", ".o", ".pyc"))]


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_the_wheel_carries_the_compiled_kernels_and_says_so_in_its_tag(wheel: Path) -> None:
    assert any(name.startswith(LIBRARY) for name in contents(wheel))
    assert wheel.name.split("-")[2:4] == ["py3", "none"]
    assert "any" not in wheel.name


def test_without_a_compiler_the_wheel_is_built_all_the_same_and_says_what_is_missing(tmp_path: Path) -> None:
    built, output = build_wheel(copy_sources(tmp_path / "sources"), tmp_path, PATH=str(tmp_path), CC="")
    assert not any(name.startswith(LIBRARY) for name in contents(built))
    assert built.name.endswith("-py3-none-any.whl")
    (line,) = (line for line in output.splitlines() if "kernels were not built" in line)
    assert "install a C compiler" in line


def test_the_installed_package_is_the_wheels_and_finds_its_configs(installed: Path, tmp_path: Path) -> None:
    code = "import nbtorch, refine.settings.paths as p; print(nbtorch.__file__, p.config_dir(), sep='\\n')"
    places = run([installed / "python", "-c", code], tmp_path).splitlines()
    assert all(Path(place).is_relative_to(installed.parent) for place in places)
    assert list(Path(places[1]).rglob("*.yaml"))


@pytest.mark.parametrize("command", COMMANDS)
def test_an_installed_command_explains_itself_in_an_empty_folder(installed: Path, tmp_path: Path, command: str) -> None:
    assert run([installed / command, "-h" if command == "nanoBragg" else "--help"], tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_installed_fit_runs_in_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    run([installed / "nb-refine", "debug=fast", "hydra.run.dir=out"], tmp_path, OMP_NUM_THREADS="1")
    result = json.loads((tmp_path / "out" / "result.json").read_text(encoding="utf-8"))
    assert result["parameters"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.slow
def test_the_source_distribution_builds_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    sources = copy_sources(tmp_path / "sources")
    run([sys.executable, "-c", "from setuptools import build_meta; build_meta.build_sdist('..')"], sources)
    (archive,) = tmp_path.glob("nbtorch-*.tar.gz")
    again, _ = build_wheel(archive, tmp_path / "again")
    assert contents(again) == contents(wheel)
