"""The endpoint in miniature, for demos and tests: `Sandbox`, `Faults`.

The law of this package: it knows the endpoint from its documentation alone. Nothing of the client's way to ask, plan
or read is imported here, since an oracle that shares code with its subject proves nothing.
"""

from __future__ import annotations

from ._sandbox import KEY, USERNAME, Sandbox
from .faults import FAULT_KINDS, FaultKind, Faults
from .stats import Request, SandboxStats

__all__ = ["FAULT_KINDS", "KEY", "USERNAME", "FaultKind", "Faults", "Request", "Sandbox", "SandboxStats"]
