"""Mean and covariance of activations through noise, layers and networks."""
