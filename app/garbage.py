"""What the garbage collector need not look through: the libraries.

Streamlit collects after every script, and a page is done when that is. Half a million objects that the libraries made
of themselves cost a quarter of a second each time, with every other reader's script held up; frozen, a thousandth.
"""

from __future__ import annotations

import gc
import sys

_modules = 0


def freeze_imports() -> None:
    """Take all that is there out of the collector's sight, whenever a page has imported something since the last time.

    What has become garbage is collected first, also of what was frozen before. A page imports only when it is first
    shown, so this ends soon: what readers held in cycles the last time is all that is kept for good.
    """
    global _modules
    if len(sys.modules) > _modules:
        gc.unfreeze()
        gc.collect()
        gc.freeze()
        _modules = len(sys.modules)
