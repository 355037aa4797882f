"""A deployed network that defends itself: its bundle, and what answers queries over HTTP."""
