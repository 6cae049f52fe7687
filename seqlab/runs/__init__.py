"""Run folders: names and formats of their files, ownership, results and printed commands."""
