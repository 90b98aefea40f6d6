"""The vector engine: requantisation, curves, softmax, residual sums, LayerNorm."""
