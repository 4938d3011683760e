"""What supervisor and workers say to each other, and how sockets pass between them."""
