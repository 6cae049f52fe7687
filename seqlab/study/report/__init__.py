"""Reports of finished runs: what lies in run folders, put into tables and figures."""

from seqlab.study.report.folder import write_report

__all__ = ["write_report"]
