"""What the scripts say about times, memory and the machine."""

import platform
import resource
import statistics
import sys


def summary(times):
    times = sorted(times)
    last = min(len(times) - 1, -(-95 * len(times) // 100) - 1)
    return {
        "min": round(times[0], 3),
        "median": round(statistics.median(times), 3),
        "p95": round(times[last], 3),
        "p99": round(times[min(len(times) - 1, -(-99 * len(times) // 100) - 1)], 3),
    }


def cpu_name():
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def peak_memory_mb():
    """In units of 1000 * 1000 bytes; the system counts in bytes on macOS and in KiB elsewhere."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak * (1 if sys.platform == "darwin" else 1024) / 1e6, 1)
