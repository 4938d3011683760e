"""What mtad is about, as plain values: no I/O and no clock, so that it can be tested as is."""
