"""A worker: holds no capability, speaks SMTP on sockets that the supervisor bound."""
