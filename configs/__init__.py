"""The shipped experiments, one a file; `python -m rmc_tf.main --dataset=NAME` runs NAME.py."""
