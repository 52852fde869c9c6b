"""Probability distributions over tensors: TF1's `tf.distributions`."""
