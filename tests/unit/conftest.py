"""Settings of hypothesis: what a busy machine takes for an example is no failure."""

from hypothesis import settings

settings.register_profile("mtad", deadline=None)
settings.load_profile("mtad")
