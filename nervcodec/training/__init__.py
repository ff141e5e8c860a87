"""The encoder's side of the network: losses, optimisation, quantization."""
