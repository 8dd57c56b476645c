"""Layers that compute nothing: values in another shape, as they are, or with zeros around them."""
