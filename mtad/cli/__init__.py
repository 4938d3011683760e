"""The programs `mtad` and `mtactl`."""
