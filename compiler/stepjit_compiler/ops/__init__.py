"""The op types by family; importing this package registers them all."""
