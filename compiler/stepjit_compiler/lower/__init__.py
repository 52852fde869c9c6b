"""Kernels to LLVM IR text. Nothing here loads LLVM."""
