"""The configuration: a documented schema, and a loader that reports every error at once."""

import os

# A configuration is read as root: no package that happens to be installed has its pydantic plugin
# loaded into that process.
os.environ["PYDANTIC_DISABLE_PLUGINS"] = "1"
