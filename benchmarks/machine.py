"""What machine this is."""

import platform
import subprocess
import sys
from pathlib import Path


def processor() -> str:
    """The processor's name: of Linux's /proc/cpuinfo, of macOS's sysctl, else what Python knows."""
    try:
        if sys.platform == "darwin":
            command = ["sysctl", "-n", "machdep.cpu.brand_string"]
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, subprocess.CalledProcessError, StopIteration):
        return platform.processor() or platform.machine()
