"""The dialects: a file for each way to write calls, or family of ways. `table` names them all."""
