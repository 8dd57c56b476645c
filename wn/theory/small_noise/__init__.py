"""What little noise at a site does to the loss: half of the curvature that it meets, smooth or in kinks."""
