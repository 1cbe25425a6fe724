"""What moves a best learning rate, and what does not: arms of a parameterization taken apart."""
