"""Where it was measured."""

import os
import platform


def machine() -> dict[str, object]:
    """Return what a figure is worth nothing without; ``load`` is the average of a minute."""
    return {
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 2),
    }
