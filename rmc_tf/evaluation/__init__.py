"""A stream of queries against a defence: what is asked, and the record of each answer."""
