"""Settings of `medkd review`: where decisions are kept, and who the readers are."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from medkd.settings import Settings

Mode = Literal["concurrent", "second-reader", "blinded", "adjudication"]


class ReaderSettings(Settings):
    """How the app learns the reader's name, and who is an admin."""

    name_from: Literal["account", "header", "oidc", "choice"] = Field(
        "account",
        description="account: the account that starts medkd review, or --reader; header: a header "
        "of the reverse proxy that did the log-in; oidc: Streamlit's log-in (its secrets.toml has "
        "the [auth] section); choice: the reader chooses one of `names`.",
    )
    header: str = Field(
        "X-Forwarded-User",
        min_length=1,
        description="Header with the name. The proxy must replace it in every request.",
    )
    claim: str = Field("email", min_length=1, description="Claim of the OIDC log-in with the name.")
    names: tuple[str, ...] = Field(
        (), description="Readers who may decide; empty: everybody who is logged in."
    )
    admins: tuple[str, ...] = Field(
        (), description="Readers who may see and export the decisions of all readers."
    )
    adjudicator: str = Field(
        "", description="Reader whose decision is the reference where readers differ."
    )

    @model_validator(mode="after")
    def _names_to_choose(self) -> ReaderSettings:
        if self.name_from == "choice" and not self.names:
            raise ValueError("name_from: choice needs `names` to choose from")
        return self


class ReviewSettings(Settings):
    """How decisions are kept, by whom they are made, what readers see, and under which path."""

    store: str = Field(
        "",
        description="Path of an SQLite file, or postgresql://USER@HOST/DATABASE (password in "
        "PGPASSWORD or ~/.pgpass), where each review gets a schema; empty: review.sqlite in the "
        "reviewed folder.",
    )
    prefix: str = Field(
        "",
        pattern=r"^((/[A-Za-z0-9_-]+)+)?$",
        description="Path under which a reverse proxy serves the app, for example /nodules; empty: "
        "the app has the whole address.",
    )
    mode: Mode = Field(
        "concurrent",
        description="concurrent: marks and scores are shown at once; second-reader: a first read "
        "without marks and scores, which is locked when it is finished, then a second one with "
        "them; blinded: a study, with a random order for each reader, without scores and the "
        "reference; adjudication: the adjudicator decides where readers differ.",
    )
    show_marks: bool = Field(
        True, description="blinded: whether the marks of the model are shown, without scores."
    )
    readers: ReaderSettings = Field(
        default_factory=ReaderSettings, description="Names and roles of the readers."
    )
