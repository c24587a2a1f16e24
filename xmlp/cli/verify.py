"""`xmlp verify`: every equation that the library implements, checked on this machine."""

import click

from xmlp.cli import options
from xmlp.types import BackendName


@click.command(
    "verify",
    cls=options.Command,
    short_help="Check the mathematics on this machine.",
    epilog="xmlp verify --backend cupy",
)
@click.option("--backend", default="numpy", show_default=True, metavar="NAME", help="Where the checks run.")
@click.option("--only", metavar="ID", help="Run only this check.")
def command(backend: BackendName, only: str | None) -> None:
    """Check the mathematics on this machine, equation by equation; exit code 1 if any check fails."""
    from xmlp import verify

    results = verify.verify(backend, only)
    click.echo(verify.table(results))
    if not all(result.passed for result in results):
        click.get_current_context().exit(1)
