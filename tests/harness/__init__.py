"""What the tests share: the real daemon, namespaces, senders."""
