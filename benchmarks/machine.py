"""Describe the machine that benchmarks run on."""

import platform
import subprocess
import sys
from pathlib import Path


def processor() -> str:
    """Return the processor's name from Linux's /proc/cpuinfo or macOS's sysctl, else from Python."""
    try:
        if sys.platform == "darwin":
            command = ["sysctl", "-n", "machdep.cpu.brand_string"]
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, subprocess.CalledProcessError, StopIteration):
        return platform.processor() or platform.machine()
