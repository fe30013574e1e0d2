"""What pyproject.toml cannot say: how the simulator's library for PostgreSQL is compiled into the wheel.

With a C compiler at hand, or the ziglang wheel, which a build in isolation asks for where there is none, the wheel holds
the library and is one for Linux and this processor, for any Python. Without either it holds the source only, and the
library is compiled when it is first needed, as it is in an editable installation.
"""

import importlib.util
import sys
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

PACKAGE = Path("duress", "simulator", "server")


def _load_build():
    spec = importlib.util.spec_from_file_location("control_build", PACKAGE / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


control = _load_build()
suits = not control.why_not_here()
compiled = suits and control.find_compiler() is not None


class BuildLibrary(build_py):
    """Compile the library among the package's files; an editable installation compiles it itself when it is needed."""

    def run(self):
        super().run()
        if self.editable_mode:
            return
        target = Path(self.build_lib) / PACKAGE
        for stale in target.glob("control-*.so"):  # of an earlier build in the same tree
            stale.unlink()
        if compiled:
            library = control.compile_library(target)
            print(f"compiled {library}", file=sys.stderr)
        elif suits:
            print(f"warning: duress is built without its library: {control.HOW_TO_GET}", file=sys.stderr)


class PlatformDistribution(Distribution):
    """One that is not the same everywhere, when the library is in it."""

    def has_ext_modules(self):
        return compiled


class PlatformWheel(bdist_wheel):
    """Any Python 3: the library knows nothing of Python."""

    def get_tag(self):
        return ("py3", "none", super().get_tag()[2])


setup(
    distclass=PlatformDistribution,
    cmdclass={"build_py": BuildLibrary, "bdist_wheel": PlatformWheel},
    # What the build backend passes on as a requirement of this very build (get_requires_for_build_wheel).
    setup_requires=["ziglang"] if suits and not compiled else [],
)
