"""The admin control socket: wire, commands, server and client."""
