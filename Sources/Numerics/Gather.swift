/// Placeholder until kernels land.
