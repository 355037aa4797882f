"""How θ is fitted to some rows: local adaptation and calibration (Algorithm 1, 13–16 and 18–21)."""
