"""``report`` and ``compare``, on a sweep that is run for them."""

WORDS = ["task=first", "cell.hidden_size=4", "task.sequence_length=3", "task.examples=64", "task.held_out=16"]
QUICK = ["trainer.max_epochs=1", "trainer.progress=false", "trainer.threads=1"]


def test_a_sweep_is_reported_and_its_cells_compared(cli, tmp_path):
    swept = cli("-m", *WORDS, *QUICK, "cell=rnn,gru", "seed=0,1", "hydra.sweep.dir=swept")
    assert "4 runs: 4 done" in swept.out
    found = cli("report", "swept")
    assert (found.code, found.out) == (0, "swept/report/report.html\n")
    assert "4 of 4 are in this report" in (tmp_path / "swept/report/report.html").read_text("utf-8")
    assert "4 of 4" in (tmp_path / "swept/report/report.md").read_text("utf-8")
    assert cli("report", "swept").code == 0  # again, over the first, whose folder is no run
    paper = cli("report", "swept", "--format", "latex", "--metric", "loss", "--rows", "gru", "--anonymous")
    assert (paper.code, paper.out) == (0, "swept/report_anonymous/report.tex\n")
    assert "test loss" in (tmp_path / "swept/report_anonymous/tables/01_results_first.tex").read_text("utf-8")
    assert cli("report", "swept", "--rows", "lstm").err == "--rows lstm: the rows are rnn; gru\n"
    pair = cli("compare", "rnn", "gru", "--in", "swept")
    assert pair.code == 0
    assert "cell.name: A rnn, B gru" in pair.out
    assert "95 % interval" in pair.out
