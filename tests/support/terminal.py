"""A command on a pseudo-terminal. Import it only where there are any."""

import os
import re
import select
import sys
import time

from .cli import TIMEOUT


class Terminal:
    """A command on a pseudo-terminal of its own."""

    def __init__(self, args, environment):
        import pty

        self.pid, self._handle = pty.fork()
        if not self.pid:
            os.execve(sys.executable, [sys.executable, "-m", "iovox_async.cli", *map(str, args)], environment)
        self.output = ""

    def read_until(self, text):
        """Reads until this text appears, or to the end for None."""
        deadline = time.monotonic() + TIMEOUT
        while text is None or text not in self.output:
            assert select.select([self._handle], [], [], deadline - time.monotonic())[0], self.output
            try:
                data = os.read(self._handle, 65536)
            except OSError:  # on Linux, the other end is closed
                data = b""
            if not data:
                assert text is None, self.output
                break
            self.output += data.decode(errors="replace")

    def press_ctrl_c(self):
        os.write(self._handle, b"\x03")

    def finish(self):
        """Reads to the end; returns the exit code and the output without colours and cursor movements."""
        self.read_until(None)
        os.close(self._handle)
        exit_code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return exit_code, re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", self.output)
