"""Says when each request of an open loop is due: a process of its own, so that who is measured cannot hold it up.

Reads moments of `time.monotonic` as doubles until its input ends; writes the number of each, four bytes, when it comes.
"""

from __future__ import annotations

import os
import sys
import time
from array import array


def main() -> None:
    """Wait for one moment after the other."""
    moments = array("d")
    moments.frombytes(sys.stdin.buffer.read())
    for number, due in enumerate(moments):
        if (ahead := due - time.monotonic()) > 0:
            time.sleep(ahead)
        os.write(1, number.to_bytes(4, sys.byteorder))


if __name__ == "__main__":
    main()
