"""What little noise at a site does to the loss: half the curvature that it meets, of surfaces and of kinks."""
