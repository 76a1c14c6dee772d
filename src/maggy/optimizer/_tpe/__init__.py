"""The parts of TPE: arrays in, arrays out."""
