"""Reports of finished runs: tables and figures from run folders."""

from seqlab.study.report.writer import write_report

__all__ = ["write_report"]
