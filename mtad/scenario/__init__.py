"""Scenarios: a timed list of steps is carried out over the control socket, and reported on."""
