"""What pyproject.toml cannot say: configs/ ships inside refine, and a compiler, where there is one, builds the kernels.

Metadata and dependencies are in pyproject.toml.
"""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import ClassVar

from setuptools import Command, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build import build
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
NATIVE = Path("nbtorch/kernels/native")
LIBRARY = "libnbtorch_native.*"
NO_KERNEL = (
    "nbtorch: the C kernels were not built ({reason}); the PyTorch reference serves instead, slower. "
    "To get them, install a C compiler (Debian: apt-get install gcc) and install nbtorch again."
)


def load_native_builder() -> ModuleType:
    """The kernels' own build script, loaded by path: importing the package would import torch."""
    spec = importlib.util.spec_from_file_location("nbtorch_native_build", ROOT / NATIVE / "build.py")
    if spec is None or spec.loader is None:
        raise ImportError(f"{NATIVE / 'build.py'} cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class BuildNative(Command):
    """Compile the C kernels into a plain shared library; a missing compiler never fails the installation."""

    description = "compile the optional C kernels"
    user_options: ClassVar = [("compiler=", None, "C compiler to use (default: $CC, cc, gcc, clang)")]

    def initialize_options(self) -> None:
        self.compiler: str | None = None
        self.build_lib: str | None = None
        self.editable_mode = False

    def finalize_options(self) -> None:
        self.set_undefined_options("build_py", ("build_lib", "build_lib"))

    def run(self) -> None:
        output = self._output_dir()
        output.mkdir(parents=True, exist_ok=True)
        try:
            library = load_native_builder().build(output, self.compiler)
        except Exception as error:  # whatever a foreign compiler does, the reference kernels work without it
            library, reason = None, f"{type(error).__name__}: {error}"
        else:
            reason = "no C compiler was found"
        if library is None:
            for stale in self.get_outputs():
                Path(stale).unlink()
            print(NO_KERNEL.format(reason=reason), file=sys.stderr)

    def _output_dir(self) -> Path:
        """Beside the sources for an editable installation, in the build tree otherwise."""
        return (ROOT if self.editable_mode else Path(str(self.build_lib))) / NATIVE

    def get_outputs(self) -> list[str]:
        return [str(path) for path in self._output_dir().glob(LIBRARY)]

    def get_output_mapping(self) -> dict[str, str]:
        return {}

    def get_source_files(self) -> list[str]:
        return [str(path) for path in sorted(NATIVE.glob("*")) if path.suffix in {".c", ".h", ".py"}]


class BuildPy(build_py):
    """Copy configs/ into the wheel as refine/configs; an editable installation reads it where it is."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib) / "refine" / "configs"
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree("configs", target, ignore=shutil.ignore_patterns("__pycache__"))


class Build(build):
    sub_commands: ClassVar = [*build.sub_commands, ("build_native", None)]


class Wheel(bdist_wheel):
    """Tag the wheel for its platform when it carries the library, and for any when it does not.

    The library is loaded with ctypes and knows nothing of Python, so that one wheel serves every Python 3.
    """

    def run(self) -> None:
        self.run_command("build")  # only now is it known whether there is a library
        if self.get_finalized_command("build_native").get_outputs():
            self.root_is_pure = False
            self.distribution.has_ext_modules = lambda: True
        super().run()

    def get_tag(self) -> tuple[str, str, str]:
        return "py3", "none", super().get_tag()[2]


setup(cmdclass={"build": Build, "build_native": BuildNative, "build_py": BuildPy, "bdist_wheel": Wheel})
