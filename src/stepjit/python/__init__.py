"""Modules at the places where TensorFlow 1 has them under `tensorflow.python`."""
