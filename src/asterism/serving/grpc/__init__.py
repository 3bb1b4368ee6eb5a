"""What processes say to each other."""

import os

# our processes start programs, and none forks to go on by itself: what gRPC does for that is in the way of a start
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
