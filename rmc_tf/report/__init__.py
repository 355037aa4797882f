"""From results to tables, figures and claims; nothing here loads TensorFlow."""
