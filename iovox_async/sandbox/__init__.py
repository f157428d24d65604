"""A local server with the endpoint's behaviour, generated calls, and simulated faults, for demos and tests.

Invariants:

- The sandbox implements the endpoint from its documentation. Apart from the errors, it imports nothing of the client, so a
  mistake of the client cannot be repeated in the server that tests it. (`sandbox.live` is a client, and may.)
"""

from __future__ import annotations

from ._sandbox import KEY, USERNAME, Sandbox
from .faults import FAULT_KINDS, FaultKind, Faults
from .stats import Request, SandboxStats

__all__ = ["FAULT_KINDS", "KEY", "USERNAME", "FaultKind", "Faults", "Request", "Sandbox", "SandboxStats"]
