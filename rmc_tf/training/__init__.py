"""θ*: how a network is trained (Table 1's blocks)."""
