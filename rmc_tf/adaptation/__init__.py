"""How θ is fitted to some rows: local adaptation and calibration (Algorithm 1, 12–15 and 17–21)."""
