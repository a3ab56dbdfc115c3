"""The section of a report that compares the sites of a run."""

from __future__ import annotations

from medkd.evaluate.caution import FEW_GROUPS
from medkd.report import words
from medkd.report.contents import RunContents
from medkd.types import Section, SiteDistance, SiteShift, SiteSummary, Table

HELD_OUT = (
    "The held-out cases (validation and test) are compared, because a network fits its own "
    "training cases more closely than any others."
)
INTENSITIES = {
    "HU": (
        "Intensities are HU of voxels inside the body, lungs included, about 4 mm apart, on the "
        "grid that the loading steps give. Scanners, kernels and doses shift them."
    ),
    "grey": (
        "Intensities are grey values from 0 to 255 of the images as they are loaded. Devices and "
        "their image processing shift them."
    ),
}
DISTANCES = (
    "MMD\u00b2 is the squared maximum mean discrepancy of the embeddings, estimated without bias "
    "with five Gaussian kernels around the median distance. It is about 0, and then often slightly "
    "below, if both sites have the same embeddings; it is never above 2.",
    "ROC AUC is that of a logistic regression that tries to recognise the site from the embedding "
    "of a sample. It is tested on patients that it was not fitted on. 0.5 means that the sites "
    "cannot be distinguished, 1 that every sample shows its site.",
    "A site that can be recognised looks different to the model. Scores, calibration and threshold "
    "of the other site then need not hold there. This does not say how much the accuracy changes: "
    "a different share of positive samples alone makes the sites differ. An alignment that lowers "
    "the distance does not have to raise the accuracy.",
)
CLEAR, SLIGHT = 0.8, 0.6
"""ROC AUC from which a site is called clearly or partly recognised."""


def build_shift(contents: RunContents) -> Section | None:
    """Compare the intensities and embeddings of the sites of a run."""
    shift = contents.evaluation.shift
    if shift is None:
        return None
    units = dict.fromkeys(site.unit for site in shift.sites)
    paragraphs = [HELD_OUT, *(INTENSITIES[unit] for unit in units)]
    made = [sites_table(shift.sites)]
    if shift.distances:
        paragraphs += [*DISTANCES, _p_words(shift), _degree_words()]
        made.append(distances_table(shift.distances))
    return Section("shift", "Shift between sites", (*paragraphs, *shift.notes), tuple(made))


def degree(found: SiteDistance) -> str:
    """State how well the embedding of an arm shows the site.

    Example:
        >>> degree(SiteDistance("teacher", "a", "b", (40, 40), (20, 20), 0.3, 0.002, 0.95))
        'clearly'
    """
    if found.roc_auc is None or min(found.patients) < FEW_GROUPS:
        return "too few patients"
    if found.roc_auc >= CLEAR:
        return "clearly"
    return "partly" if found.roc_auc >= SLIGHT else "hardly"


def _p_words(shift: SiteShift) -> str:
    least = words.number(1 / (1 + shift.resamples), 3)
    return (
        "p is the share of exchanges of patients between both sites that give at least the "
        f"measured MMD\u00b2 ({shift.resamples} exchanges, so p is at least {least}). A small p "
        "means that the choice of patients does not explain the distance. It is not adjusted for "
        "the number of comparisons."
    )


def _degree_words() -> str:
    return (
        f"In the last column, sites are distinguished clearly from a ROC AUC of {CLEAR}, partly "
        f"from {SLIGHT}, and hardly below. With fewer than {FEW_GROUPS} patients at a site no "
        "claim is made."
    )


def sites_table(sites: tuple[SiteSummary, ...]) -> Table:
    """List the sites with their cases and intensities."""
    shares = tuple(dict.fromkeys(share for site in sites for share in site.quantiles))
    rows = [
        (
            site.name,
            words.count(site.cases),
            words.count(site.patients),
            words.count(site.measured),
            site.unit,
            words.number(site.mean, 1),
            words.number(site.sd, 1),
            *(words.number(site.quantiles.get(share), 0) for share in shares),
        )
        for site in sites
    ]
    head = ("Site", "Cases", "Patients", "Cases measured", "Unit", "Mean", "SD")
    named = ("Median" if share == "0.5" else f"{100 * float(share):g} %" for share in shares)
    return Table((*head, *named), tuple(rows), "Sites: cases, and quantiles of the intensities")


def distances_table(distances: tuple[SiteDistance, ...]) -> Table:
    """List the distance of every two sites in the embedding of each arm."""
    rows = [
        (
            found.arm,
            f"{found.first} \u2013 {found.second}",
            " and ".join(map(words.count, found.samples)),
            " and ".join(map(words.count, found.patients)),
            words.number(found.squared_mmd, 4),
            words.p_value(found.p_value),
            words.number(found.roc_auc),
            degree(found),
        )
        for found in distances
    ]
    columns = (
        "Arm", "Sites", "Samples", "Patients", "MMD\u00b2", "p", "ROC AUC", "Distinguished",
    )  # fmt: skip
    return Table(columns, tuple(rows), "Distance of the sites in the embedding of each arm")
