"""The Gaussian process behind ``GP``: arrays in, arrays out."""
