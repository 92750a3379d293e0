"""Whether datatrove is installed: these steps stand on it, and the rest of fox1 does without."""

from __future__ import annotations

import importlib.util

if importlib.util.find_spec("datatrove") is None or importlib.util.find_spec("datatrove.data") is None:
    raise ImportError("fox1.datatrove needs datatrove; install it with: pip install 'fox1[datatrove]'")
