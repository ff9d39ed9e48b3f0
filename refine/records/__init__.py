"""What a fit leaves: its outcome as plain values, where it came from, and the folder it is kept in."""
