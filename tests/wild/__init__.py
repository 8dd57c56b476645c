"""The gradient checkers tried on the gradients of other libraries: python -m tests.wild [library …]."""
