"""The recurrent model around any cell, and the opponents it is compared with."""
