"""Which Lambda runtime everything is built for: one Python version and one processor, said in one place.

The version of the function and the version of the wheels packed for it must be the same, or the first import fails in
Lambda. So both are derived from one ``Platform`` and nowhere else.
"""

from __future__ import annotations

import platform as machine
import sys
from dataclasses import dataclass

from aws_cdk import aws_lambda as lambda_

NEWEST_GLIBC = 34
"""Amazon Linux 2023 (the runtimes from Python 3.12 on) has glibc 2.34, so wheels up to manylinux_2_34 load there."""

OLDEST_GLIBC = 17
"""manylinux2014, the oldest tag that is still published."""

_ARCHITECTURES = {"arm64": ("aarch64", lambda_.Architecture.ARM_64), "x86_64": ("x86_64", lambda_.Architecture.X86_64)}


@dataclass(frozen=True)
class Platform:
    """A Python version (``"3.14"``) on a processor (``"arm64"`` or ``"x86_64"``).

    AWS needs Python 3.12 or newer: the runtimes below it stand on Amazon Linux 2, whose glibc is too old for the
    CEL library. Python 3.11 is accepted for emulators that run handlers on the machine's own interpreter.

    Raises ``ValueError`` for a processor Lambda does not have and for a Python that Stepwell does not run on.
    """

    python: str = "3.14"
    architecture: str = "arm64"

    def __post_init__(self) -> None:
        if self.architecture not in _ARCHITECTURES:
            raise ValueError(f"unknown architecture {self.architecture!r}: use one of {', '.join(_ARCHITECTURES)}")
        major, _, minor = self.python.partition(".")
        if major != "3" or not minor.isdigit() or int(minor) < 11:
            raise ValueError(f"unknown Python version {self.python!r}: use 3.11 or newer, for example '3.14'")

    @classmethod
    def local(cls) -> Platform:
        """The platform of the running interpreter, for emulators that run handlers on it."""
        arm = machine.machine().lower() in {"arm64", "aarch64"}
        return cls(f"{sys.version_info.major}.{sys.version_info.minor}", "arm64" if arm else "x86_64")

    @property
    def runtime(self) -> lambda_.Runtime:
        """The Lambda runtime with this Python version."""
        return lambda_.Runtime(f"python{self.python}", lambda_.RuntimeFamily.PYTHON, supports_inline_code=True)

    @property
    def lambda_architecture(self) -> lambda_.Architecture:
        """The processor, as the Lambda constructs name it."""
        return _ARCHITECTURES[self.architecture][1]

    @property
    def wheel_tags(self) -> tuple[str, ...]:
        """The platform tags of wheels that load there, best first; pip wants each one spelled out."""
        cpu = _ARCHITECTURES[self.architecture][0]
        modern = [f"manylinux_2_{minor}_{cpu}" for minor in range(NEWEST_GLIBC, OLDEST_GLIBC - 1, -1)]
        return (*modern, f"manylinux2014_{cpu}")

    @property
    def markers(self) -> dict[str, str]:
        """The environment that requirement markers (``; python_version < "3.13"``) are judged in."""
        return {
            "implementation_name": "cpython",
            "os_name": "posix",
            "platform_machine": _ARCHITECTURES[self.architecture][0],
            "platform_python_implementation": "CPython",
            "platform_system": "Linux",
            "python_full_version": f"{self.python}.0",
            "python_version": self.python,
            "sys_platform": "linux",
        }

    @property
    def is_running(self) -> bool:
        """Whether the running interpreter has this Python version, so that its bytecode loads there."""
        return self.python == f"{sys.version_info.major}.{sys.version_info.minor}"
