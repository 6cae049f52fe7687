"""Reports of finished runs: what lies in run folders, put into tables and figures."""
