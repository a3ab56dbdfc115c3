"""`medkd accept`: test a model on a site's own scans with synthetic nodules."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medkd.cli.options import settings_from_options, split_commas
from medkd.cli.outputs import check_output, index_places
from medkd.cli.text import counted, echo_lines
from medkd.errors import SettingsError

if TYPE_CHECKING:
    from medkd.acceptance.results import Acceptance, AcceptanceSettings


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("accept")(accept)


def accept(
    words: Annotated[
        list[Path],
        typer.Argument(
            metavar="[MODEL] INDEX",
            help="A model directory or shipped model that searches CT scans (default: "
            "ct-nodule-small), and the index.csv of the site's scans, written by `medkd index`.",
        ),
    ],
    *,
    out: Annotated[Path, typer.Option(help="A new or empty folder for the result.")],
    scans: Annotated[
        int, typer.Option(min=1, help="Most scans; if there are more, a random choice is used.")
    ] = 50,
    n: Annotated[int, typer.Option("--n", min=1, max=200, help="Nodules per scan.")] = 3,
    sizes: Annotated[
        str, typer.Option(help="Diameters in mm, with LUNA16's distribution: luna16, or A-B.")
    ] = "4-20",
    textures: Annotated[
        str, typer.Option(help="Textures of the nodules, separated by commas.")
    ] = "solid,part-solid,ground-glass",
    seed: Annotated[
        int, typer.Option(min=0, help="The same seed gives the same scans and nodules.")
    ] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps.")] = "cpu",
) -> None:
    """Test a model on a site's own CT scans before it is used there, with synthetic nodules.

    Searches each scan unchanged and with synthetic nodules of known size and place. OUT gets
    report.html with the sensitivity by size and type and the false marks per unchanged scan, at
    each threshold of the model, with intervals by patient; and the same numbers in
    acceptance.json and nodules.csv. The scans are changed in memory only. Scans that cannot be
    read or changed are listed with their reasons.

    The nodules are drawn by a program, possibly by the one from which the model learned. The result
    is no measure of clinical performance. It shows whether the model works with the scanners and
    protocols of the site. Marks on nodules that nobody annotated count as false.

    report.html shows parts of the patients' scans: protect it like the scans.

    If the command is stopped or killed, the same command continues after the last finished scan.

    Example: `medkd accept work/index.csv --out acceptance`

    Example: `medkd accept RUN/student work/index.csv --scans 100 --sizes luna16 --out acceptance`
    """
    from medkd.acceptance.results import AcceptanceSettings
    from medkd.synthetic.implant.settings import ImplantSettings

    model, index = _model_and_index(words)
    check_output("--out", out, index_places(index))
    refusal = "nodules cannot be made with these options"
    nodules = settings_from_options(
        ImplantSettings,
        {"n": n, "sizes": sizes, "textures": split_commas(textures), "seed": seed},
        refusal=refusal,
    )
    settings = AcceptanceSettings(scans=scans, seed=seed, implants=nodules)
    _print_result(_run(model, index, out, settings, device=device), out)


def _model_and_index(words: list[Path]) -> tuple[Path, Path]:
    """Divide the arguments into MODEL, which may be left out, and INDEX.

    Raises:
        SettingsError: if there is not exactly one INDEX.
    """
    from medkd.cli.models import model_and_inputs
    from medkd.index.table import is_index

    model, indexes = model_and_inputs(words)
    if len(indexes) == 1 and is_index(indexes[0]):
        return model, indexes[0]
    named = ", ".join(map(str, indexes))
    reason = f"expected [MODEL] and one index.csv of `medkd index`, got {named}"
    raise SettingsError("the acceptance test needs an INDEX of the site's scans", [reason])


def _run(
    model: Path, index: Path, out: Path, settings: AcceptanceSettings, *, device: str
) -> Acceptance:
    from medkd.acceptance.run import run_acceptance
    from medkd.cli.faults import kept_for_later
    from medkd.cli.progress import progress_bars
    from medkd.models.package import load_model
    from medkd.report.acceptance import write_acceptance_page

    loaded = load_model(model, device=device)
    with kept_for_later(out), progress_bars() as report:
        return run_acceptance(
            out,
            index,
            loaded,
            settings,
            finish=write_acceptance_page,
            progress=lambda done, total, refused: report(
                "testing scans", done, total, f"{refused} not analysed" if refused else ""
            ),
        )


def _print_result(result: Acceptance, out: Path) -> None:
    from medkd.report.acceptance import summary_of

    for scan in result.scans:
        if scan.reasons:
            what = "no nodules added" if scan.analysed else "not analysed"
            reasons = "".join(f"\n  - {reason}" for reason in scan.reasons)
            typer.secho(f"{what}: {scan.case_id}{reasons}", fg=typer.colors.RED, err=True)
    typer.echo(
        f"{counted(len(result.analysed), 'scan')} of {counted(result.patients, 'patient')} tested, "
        f"{counted(len(result.nodules), 'synthetic nodule')}"
    )
    echo_lines(summary_of(result))
    for caution in result.cautions:
        typer.secho(f"warning: {caution}", fg=typer.colors.YELLOW, err=True)
    typer.echo(f"Look at {out / 'report.html'} first: check that the nodules look real.")
    typer.echo("Synthetic nodules are no measure of clinical performance.")
