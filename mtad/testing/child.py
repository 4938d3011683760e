"""A daemon that ends with whoever started it: ``python -I -m mtad.testing.child PARENT FILE``."""

import runpy
import sys

from mtad.privilege.drop import die_with_parent

if __name__ == "__main__":
    die_with_parent(int(sys.argv.pop(1)))
    runpy.run_module("mtad.supervisor", run_name="__main__", alter_sys=True)
