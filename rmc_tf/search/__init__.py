"""Line 12 of Algorithm 1: the K nearest feature vectors. `base` has the contract."""
