"""What the commands share: the check of a command line, the errors a user reads, many runs by one command."""
