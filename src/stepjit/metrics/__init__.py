"""Figures of merit over many batches, kept in local variables: TF1's `tf.metrics`."""
