"""Line 11 of Algorithm 1: the K nearest feature vectors. `base` has the contract."""
