"""What the address asks for is what is shown, or it is refused: never something else."""

import pytest
from streamlit.testing.v1 import AppTest

from tests.viewer import factory
from tests.viewer.conftest import VIEWER

CASE = "xray-1"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return factory.write_review_run(tmp_path_factory.mktemp("run"))


@pytest.fixture
def open_address(monkeypatch):
    """Open an address of a run: the page and the parts behind the question mark."""

    def open_page(run, page="case.py", **parts):
        monkeypatch.setenv("MEDKD_REVIEW_PATH", str(run.path))
        monkeypatch.setenv("MEDKD_REVIEW_READER", "anna")
        app = AppTest.from_file(str(VIEWER / "app.py"), default_timeout=30)
        if page:
            app.run()
            app.switch_page(page)
        for name, value in parts.items():
            app.query_params[name] = value
        app.run()
        assert not app.exception
        return app

    return open_page


def values(elements):
    return "\n".join(str(element.value) for element in elements)


def shows_a_case(app):
    return any(text.value.startswith("Case ") for text in app.text)


@pytest.mark.parametrize("key", ["Case", "CASE"])
def test_the_letters_of_the_address_do_not_matter(run, open_address, key):
    app = open_address(run, **{key: CASE})
    assert any(text.value.startswith(f"Case {CASE} ") for text in app.text)
    assert sorted(app.query_params) == ["case", "order"]
    assert not shows_a_case(open_address(run, **{key: "case-of-another-run"}))


UNKNOWN = [
    "scan-A", "scan-a ", " ", "", "scan", "../../etc/passwd", "case-of-another-run", factory.EVIL,
    "x" * 3000, "\u202eevil", "0", "-1",
]  # fmt: skip


@pytest.mark.parametrize("page", ["case.py", ""])
@pytest.mark.parametrize("case", UNKNOWN)
def test_a_case_that_is_not_there_is_refused(run, open_address, page, case):
    app = open_address(run, page, case=case)
    assert "This case cannot be shown." in values(app.error)
    assert f"no case is named {case!r} here" in values(app.text)
    assert not shows_a_case(app)
    assert not [button for button in app.button if button.label in {"Accept", "Reject"}]


def test_a_refusal_offers_the_cases_that_are_there(run, open_address):
    app = open_address(run, case="scan-x")
    assert "'scan-a'" in values(app.text)
    assert app.get("page_link")
    choice = app.selectbox[0]
    assert sorted(choice.options) == sorted(case.case_id for case in factory.build_cases())
    choice.set_value(CASE).run()
    assert f"Case {CASE}" in values(app.text)
    assert not app.error


def test_a_refused_name_is_never_markdown(run, open_address):
    app = open_address(run, case=factory.EVIL)
    assert "onerror" not in values(app.error) + values(app.markdown) + values(app.caption)


def test_two_cases_in_one_address_are_refused(run, open_address):
    app = open_address(run, case=[CASE, "xray-0"])
    assert "expected one case, got 2: 'xray-1', 'xray-0'" in values(app.text)
    assert not shows_a_case(app)


def test_the_same_case_twice_in_one_address_is_that_case(run, open_address):
    assert f"Case {CASE}" in values(open_address(run, case=[CASE, CASE]).text)


def test_a_case_in_an_address_without_a_page_is_shown(run, open_address):
    assert f"Case {CASE}" in values(open_address(run, "", case=CASE).text)


@pytest.mark.parametrize(
    ("page", "part"),
    [("case.py", {"slice": "9999"}), ("case.py", {"Mark": "scan-a"}), ("case.py", {"mark": "-1"}),
     ("case.py", {"arm": "nobody"}), ("results.py", {"case": "scan-a"}), ("", {"nodule": "x"})],
)  # fmt: skip
def test_parts_of_an_address_that_the_page_does_not_know_are_named(run, open_address, page, part):
    app = open_address(run, page, **part)
    assert "ignores unknown parts" in values(app.warning)
    assert next(iter(part)) in values(app.text)


def test_an_address_without_a_case_shows_the_first_of_the_worklist(run, open_address):
    assert "Case scan-refused" in values(open_address(run).text)


def test_two_rows_with_one_case_id_are_refused(tmp_path, open_address):
    case = factory.build_cases()[0]
    app = open_address(factory.write_bare_run(tmp_path, [case, case]), "")
    assert "2 rows have the id 'xray-1'" in values(app.text)
    assert not app.dataframe


def test_a_worklist_that_cannot_be_read_is_refused_with_its_reasons(tmp_path, open_address):
    folder = factory.write_bare_run(tmp_path, [])
    folder.cases.write_text("case_id,kind\nxray-1,image\n")
    app = open_address(folder, "")
    assert "row 2 is not a case" in values(app.text)
