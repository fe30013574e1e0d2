"""`python -m benchmarks.picture FOLDER`: renew docs/report.png, the picture in the README, from the report in FOLDER.

Takes what a screen shows of `report.html` first, in headless Chromium or Chrome, with few colours so that it stays small.
"""

import shutil
import subprocess
import tempfile
from pathlib import Path

import click
from PIL import Image

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
TARGET = Path(__file__).parents[1] / "docs" / "report.png"
SIZE = (1120, 1500)  # pixels of the page
COLOURS = 64
MOST_BYTES = 300_000


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
def main(folder: Path) -> None:
    """Take the picture of FOLDER/report.html."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise click.ClickException(f"there is no browser; install one of {', '.join(BROWSERS)}")
    with tempfile.TemporaryDirectory(prefix="duress-picture-") as name:
        shot = Path(name) / "shot.png"
        command = [browser, "--headless", "--no-sandbox", "--hide-scrollbars", f"--user-data-dir={name}"]
        command += [
            f"--screenshot={shot}",
            f"--window-size={SIZE[0]},{SIZE[1]}",
            (folder / "report.html").resolve().as_uri(),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        if not shot.exists():
            raise click.ClickException(f"{browser} took no picture:\n{done.stderr[-2000:]}")
        with Image.open(shot) as image:
            image.convert("RGB").quantize(COLOURS).save(TARGET, optimize=True)
    if TARGET.stat().st_size > MOST_BYTES:
        raise click.ClickException(f"{TARGET} has {TARGET.stat().st_size} bytes, more than {MOST_BYTES}")
    click.echo(f"{TARGET}: {TARGET.stat().st_size} bytes")


if __name__ == "__main__":
    main()
