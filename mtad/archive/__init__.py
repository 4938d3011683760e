"""The archive: what was captured, indexed, searched, waited for, pruned."""
