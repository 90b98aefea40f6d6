"""Builds in a folder of its own: what an earlier build has left in the checkout must get into no wheel."""

import atexit
import shutil
import tempfile

from setuptools import setup
from setuptools.command.build import build
from setuptools.command.egg_info import egg_info

_FOLDER = tempfile.mkdtemp(prefix="celosia-build-")
atexit.register(shutil.rmtree, _FOLDER, ignore_errors=True)


class FreshBuild(build):
    def initialize_options(self):
        super().initialize_options()
        self.build_base = _FOLDER


class FreshInfo(egg_info):
    def initialize_options(self):
        super().initialize_options()
        self.egg_base = _FOLDER


setup(cmdclass={"build": FreshBuild, "egg_info": FreshInfo})
