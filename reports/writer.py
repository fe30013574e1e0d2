"""Writes all views of a campaign into one folder."""

from pathlib import Path

from duress.reports import junit, page, plot_recovery, plot_run, store
from duress.reports.summary import summarise
from duress.scenarios.result import Campaign

HTML_FILE = "report.html"
JUNIT_FILE = "junit.xml"
PLOTS = "plots"


def write(campaign: Campaign, directory: Path, *, baseline: Campaign | None = None) -> list[Path]:
    """Write result.json, its schema, report.html, junit.xml and plots/*.png; return their paths, result.json first.

    The folder is created; files of an earlier report in it are replaced. The same campaign gives the same bytes (with
    the same matplotlib). The result is written before anything is drawn, so that it is safe whatever happens then.
    """
    directory.mkdir(parents=True, exist_ok=True)
    written = store.save(campaign, directory)
    summary = summarise(campaign)
    document = directory / JUNIT_FILE
    document.write_bytes(junit.junit(summary))
    recovery = plot_recovery.plots(summary)
    pictures = [page.RunPicture(run, plot_run.plot(run, campaign.workers)) for run in plot_run.chosen(campaign)]
    html = directory / HTML_FILE
    html.write_text(page.page(summary, recovery, pictures), encoding="utf-8")
    written += [html, document]
    folder = directory / PLOTS
    folder.mkdir(exist_ok=True)
    for stale in folder.glob("*.png"):
        stale.unlink()
    for plot in [*recovery, *(picture.plot for picture in pictures)]:
        file = folder / f"{plot.name}.png"
        file.write_bytes(plot.png)
        written.append(file)
    return written
