"""Writes all views of a campaign into one folder."""

from pathlib import Path

from duress.reports import junit, page, plot_recovery, plot_run, store
from duress.reports.gate.outcome import load_gate
from duress.reports.markdown import markdown
from duress.reports.summary import summarise
from duress.scenarios.result import Campaign

HTML_FILE = "report.html"
JUNIT_FILE = "junit.xml"
MARKDOWN_FILE = "summary.md"
PLOTS = "plots"


def write(campaign: Campaign, directory: Path, *, baseline: Campaign | None = None) -> list[Path]:
    """Write result.json, its schema, report.html, junit.xml, summary.md and plots/*.png; return their paths, result.json
    first.

    What a gate has found in this folder is shown too, and `baseline` is drawn beside the campaign. The folder is created;
    files of an earlier report in it are replaced. The same campaign gives the same bytes (with the same matplotlib). The
    result is written before anything is drawn, so that it is safe whatever happens then.
    """
    directory.mkdir(parents=True, exist_ok=True)
    written = store.save(campaign, directory)
    summary = summarise(campaign)
    gate = load_gate(directory)
    document, short = directory / JUNIT_FILE, directory / MARKDOWN_FILE
    document.write_bytes(junit.junit(summary, gate))
    short.write_text(markdown(summary, gate), encoding="utf-8")
    then = None if baseline is None else summarise(baseline)
    recovery = plot_recovery.plots(summary, then)
    pictures = [page.RunPicture(run, plot_run.plot(run, campaign.workers)) for run in plot_run.chosen(campaign)]
    html = directory / HTML_FILE
    html.write_text(page.page(summary, recovery, pictures, gate), encoding="utf-8")
    written += [html, document, short]
    folder = directory / PLOTS
    folder.mkdir(exist_ok=True)
    for stale in folder.glob("*.png"):
        stale.unlink()
    for plot in [*recovery, *(picture.plot for picture in pictures)]:
        file = folder / f"{plot.name}.png"
        file.write_bytes(plot.png)
        written.append(file)
    return written
