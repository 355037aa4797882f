"""The paper on one command: which experiments, their order, and one report of all of them."""
