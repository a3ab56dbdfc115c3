"""A real nginx on loopback, with the configuration that the README of the review app documents."""

import contextlib
import re
import shutil
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

import medkd

README = (Path(medkd.__file__).parent / "review" / "README.md").read_text(encoding="utf-8")
PASSWORD = "correct horse"  # noqa: S105  # of the test's readers
MAIN = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/medkd.conf;
}}
"""


@dataclass(frozen=True)
class Proxy:
    """Where a browser finds the app: by TLS, and by the port that redirects there."""

    port: int
    plain_port: int

    @property
    def url(self):
        return f"https://127.0.0.1:{self.port}/nodules"


def block_of_readme(language, words=""):
    """Return the only block of the README in a language that contains some words."""
    blocks = re.findall(rf"```{language}\n(.*?)```", README, re.S)
    [text] = [block for block in blocks if words in block]
    return text


def require(*programs):
    """Skip the test where a program is not installed; MEDKD_REQUIRE forbids that."""
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"no {program} on this machine")


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def openssl(*words):
    done = subprocess.run(["openssl", *words], check=True, capture_output=True, text=True)  # noqa: S603, S607
    return done.stdout.strip()


def write_configuration(folder, proxy, app_port, readers):
    """Write the configuration of the README with the places and ports of a test."""
    text = block_of_readme("nginx")
    for old, new in (
        ("listen 80;", f"listen 127.0.0.1:{proxy.plain_port};"),
        ("listen 443 ssl;", f"listen 127.0.0.1:{proxy.port} ssl;"),
        ("127.0.0.1:8501", f"127.0.0.1:{app_port}"),
        ("/etc/nginx/", f"{folder}/"),
    ):
        assert old in text
        text = text.replace(old, new)
    (folder / "medkd.conf").write_text(text, encoding="utf-8")
    (folder / "nginx.conf").write_text(MAIN.format(folder=folder), encoding="utf-8")
    openssl(
        "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
        "-keyout", str(folder / "medkd.key"), "-out", str(folder / "medkd.crt"),
    )  # fmt: skip
    lines = [f"{name}:{openssl('passwd', '-6', PASSWORD)}\n" for name in readers]
    (folder / "medkd.htpasswd").write_text("".join(lines), encoding="utf-8")


@contextlib.contextmanager
def proxied(folder, app_port, readers):
    """Run nginx in front of an app; yield where a browser finds it."""
    require("nginx", "openssl")
    folder.mkdir()
    proxy = Proxy(free_port(), free_port())
    write_configuration(folder, proxy, app_port, readers)
    command = ["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf")]
    command += ["-e", str(folder / "error.log")]
    process = subprocess.Popen(command)  # noqa: S603  # the tested configuration
    try:
        wait_for(proxy.port, process)
        yield proxy
    finally:
        process.terminate()
        process.wait()


def wait_for(port, process):
    while process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
    pytest.fail("nginx refused the configuration of the README")
