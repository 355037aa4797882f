"""D': how PREPARE makes it (Algorithm 1, lines 1–9), where its rows are, and their features."""
