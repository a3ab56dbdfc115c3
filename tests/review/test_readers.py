"""Who decides: names from the account, a header, a log-in or a choice; roles."""

import re
from pathlib import Path

import pytest
import yaml

import medkd
from medkd.config.load import make_settings
from medkd.config.review_settings import ReaderSettings, ReviewSettings
from medkd.errors import ExtraMissingError, SettingsError
from medkd.review.decision import Decision
from medkd.review.modes import ReadingMode, check_mode
from medkd.review.readers import Login, Reader, check_exposure, check_log_in, identify_reader

EVERYTHING = Login(
    account="root",
    headers={"x-forwarded-user": "Anna Muster", "Remote-User": "ben"},
    claims={"email": "eva@example.org", "name": "Eva"},
    chosen="carl",
)


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({}, "root"),
        ({"name_from": "header"}, "Anna Muster"),
        ({"name_from": "header", "header": "REMOTE-USER"}, "ben"),
        ({"name_from": "oidc"}, "eva@example.org"),
        ({"name_from": "oidc", "claim": "name"}, "Eva"),
        ({"name_from": "choice", "names": ("carl", "dora")}, "carl"),
    ],
)
def test_the_name_comes_from_where_the_settings_say(values, name):
    assert identify_reader(ReaderSettings(**values), EVERYTHING).name == name


@pytest.mark.parametrize(
    ("values", "login"),
    [
        ({"name_from": "header"}, Login(account="root", headers={})),
        ({"name_from": "header"}, Login(account="root", headers={"X-Forwarded-User": "  "})),
        ({"name_from": "oidc"}, Login(account="root", claims={"is_logged_in": False})),
        ({"name_from": "oidc"}, Login(claims={"email": "eva@x.org", "email_verified": False})),
        ({"name_from": "oidc", "claim": "groups"}, Login(claims={"groups": ["eva"]})),
        ({"name_from": "choice", "names": ("carl",)}, Login(account="root")),
    ],
)
def test_a_missing_name_is_refused_and_never_replaced_by_the_account(values, login):
    with pytest.raises(SettingsError, match="not known"):
        identify_reader(ReaderSettings(**values), login)


@pytest.mark.parametrize("name", ["x" * 101, "line\nbreak", "esc\x1b[31m"])
def test_a_name_that_cannot_be_shown_is_refused(name):
    with pytest.raises(SettingsError, match="printable"):
        identify_reader(ReaderSettings(), Login(account=name))


def test_two_spellings_of_one_name_are_one_reader():
    names = {identify_reader(ReaderSettings(), Login(account=n)).name
             for n in ("M\u00fcller ", "Mu\u0308ller")}  # fmt: skip
    assert names == {"M\u00fcller"}


@pytest.mark.parametrize("sent", ["M\u00c3\u00bcller", "M\u00fcller", "Mu\u0308ller"])
def test_a_name_in_a_header_is_read_as_utf_8(sent):
    login = Login(headers={"X-Forwarded-User": sent})
    assert identify_reader(ReaderSettings(name_from="header"), login).name == "M\u00fcller"


def test_a_name_that_is_not_listed_is_refused():
    settings = ReaderSettings(names=("anna",), admins=("chief",))
    assert identify_reader(settings, Login(account="chief")).role == "admin"
    with pytest.raises(SettingsError, match="not among the readers"):
        identify_reader(settings, Login(account="ben"))


def test_roles_follow_the_settings():
    by_header = ReaderSettings(name_from="header", admins=("chief",))
    roles = {n: identify_reader(by_header, Login(headers={"X-Forwarded-User": n})).role
             for n in ("chief", "anna")}  # fmt: skip
    assert roles == {"chief": "admin", "anna": "reader"}
    assert identify_reader(ReaderSettings(), Login(account="anna")).role == "admin"  # own machine


def test_a_reader_sees_the_own_decisions_and_an_admin_all():
    made = [Decision("s", "m", name, "accept") for name in ("anna", "ben")]
    seen = {r: [r.may_see(d) for d in made] for r in (Reader("anna"), Reader("chief", "admin"))}
    assert list(seen.values()) == [[True, False], [True, True]]


def test_names_from_a_header_need_an_app_that_only_the_proxy_reaches():
    settings = ReaderSettings(name_from="header")
    check_exposure(settings, "127.0.0.1")
    check_exposure(ReaderSettings(), "0.0.0.0")  # noqa: S104  # the test's own
    with pytest.raises(SettingsError, match=r"could send any X-Forwarded-User header[\s\S]*proxy"):
        check_exposure(settings, "0.0.0.0")  # noqa: S104


def test_a_log_in_whose_package_is_missing_names_the_extra(monkeypatch):
    check_log_in(ReaderSettings(name_from="oidc"))
    monkeypatch.setattr("medkd.review.readers.find_spec", lambda name: None)
    check_log_in(ReaderSettings())
    with pytest.raises(ExtraMissingError, match="medkd\\[oidc\\]"):
        check_log_in(ReaderSettings(name_from="oidc"))


def test_the_settings_of_the_readme_are_valid():
    readme = (Path(medkd.__file__).parent / "review" / "README.md").read_text(encoding="utf-8")
    texts = re.findall(r"```yaml\n(.*?)```", readme, re.S)
    department, study = (ReviewSettings.model_validate(yaml.safe_load(text)) for text in texts)
    assert department.readers.admins == ("chief",)
    assert check_mode(study, "RESULTS") == ReadingMode("blinded")


def test_a_choice_without_names_is_refused_in_the_settings():
    with pytest.raises(SettingsError, match="needs `names`"):
        make_settings(ReviewSettings, overrides=["readers.name_from=choice"])
