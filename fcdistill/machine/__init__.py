"""What the operating system and a launcher give: processes, memory. It knows nothing of the records."""
