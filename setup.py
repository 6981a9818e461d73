"""Installs channelstream. Tool settings are in pyproject.toml."""

import re
import shutil
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "([^"]+)"', (HERE / "channelstream/__init__.py").read_text())[1]


class BuildWithGroup(build_py):
    """Takes supervisord.conf along: an installed server runs the same file that operators see at the top."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            shutil.copy(HERE / "supervisord.conf", Path(self.build_lib, "channelstream", "supervisord.conf"))


setup(
    name="channelstream",
    version=VERSION,
    description="A realtime message server for people who write backends",
    long_description=(HERE / "README.md").read_text(),
    long_description_content_type="text/markdown",
    python_requires=">=3.11",
    packages=find_packages(include=["channelstream", "channelstream.*"]),
    package_data={"channelstream": ["py.typed", "web/*.html", "*.pyi", "edge/*.pyi"]},
    # Where there is no compiler, the same is done in Python: see channelstream/http_reader.py and edge/sending.py.
    ext_modules=[
        Extension("channelstream._heads", ["channelstream/_heads.c"], optional=True),
        Extension("channelstream.edge._sending", ["channelstream/edge/_sending.c"], optional=True),
    ],
    cmdclass={"build_py": BuildWithGroup},
    install_requires=[
        "falcon>=4.0",
        "gevent>=26.9.0",
        "gevent-websocket>=0.10.1",
        "httptools>=0.6.4",
        "itsdangerous>=2.2.0",
        "msgspec>=0.19",
        "pyzmq>=27.1",
        "supervisor>=4.3.0",
        "websockets>=15.0",
        "xxhash>=3.5",
    ],
    extras_require={
        "test": [
            "httpx",
            "httpx-sse",
            "hypothesis",
            "import-linter",
            "jsonschema",
            "mypy",
            "openapi-spec-validator",
            "playwright",
            "pytest",
            "requests",
            "ruff",
            "schemathesis",
            "websocket-client",
            "wsproto",
        ],
    },
    entry_points={
        "console_scripts": [
            "channelstream = channelstream.cli:main",
            "channelstream_utils = channelstream.cli:utils_main",
        ],
    },
)
