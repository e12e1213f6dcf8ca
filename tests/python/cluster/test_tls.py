"""A cluster that other machines can reach: token and mutual TLS on every connection between its nodes."""

import socket
import ssl
import subprocess
import sys

import aktis
import numpy
import pytest
from waiting import DEADLINE_S

from .certificates import NO_TIME, VALID_FOR, Authority

TOKEN = "a token that only the cluster has"


def settings_of(authority, dns_name="aktis", token=TOKEN, age=NO_TIME):
    certificate, key = authority.sign(dns_name, age)
    return {
        "AKTIS_TOKEN": token,
        "AKTIS_TLS_CERT": str(certificate),
        "AKTIS_TLS_KEY": str(key),
        "AKTIS_TLS_CA": str(authority.path),
    }


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path / "authority")


@pytest.fixture
def secured(authority, monkeypatch, request):
    """A head and a node that share a token and certificates, which this process has too."""
    for name, value in settings_of(authority).items():
        monkeypatch.setenv(name, value)
    cluster = request.getfixturevalue("cluster")
    cluster.start_head("--num-cpus", "1", "--resources", '{"a": 1}')
    cluster.start_node("--num-cpus", "1", "--resources", '{"b": 1}')
    yield cluster
    aktis.shutdown()


def status(cluster, **environment):
    """The outcome of `aktis status` with another environment."""
    return subprocess.run(
        [sys.executable, "-m", "aktis._cli", "status", "--address", cluster.address],
        env={**cluster.environment, **environment},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )


def test_tasks_actors_and_objects_cross_nodes_under_tls(secured):
    @aktis.remote(num_cpus=0)
    def ones(count):
        return numpy.ones(count)

    @aktis.remote(num_cpus=0)
    class Adder:
        def total(self, array):
            return array.sum()

    aktis.init(address=secured.address, log_to_driver=False)
    made_on_b = ones.options(resources={"b": 0.5}).remote(2_000_000)
    adder_on_a = Adder.options(resources={"a": 0.5}).remote()
    adder_on_b = Adder.options(resources={"b": 0.5}).remote()
    totals = [adder.total.remote(made_on_b) for adder in (adder_on_a, adder_on_b)]
    assert aktis.get(totals, timeout=DEADLINE_S) == [2_000_000, 2_000_000]
    assert aktis.get(made_on_b, timeout=DEADLINE_S).nbytes == 16_000_000


def test_the_head_shows_its_certificate_and_asks_for_one(secured, authority):
    context = ssl.create_default_context(cafile=authority.path)
    context.set_alpn_protocols(["h2"])
    host, port = secured.address.split(":")

    def first_bytes():
        plain = socket.create_connection((host, int(port)), timeout=DEADLINE_S)
        with plain, context.wrap_socket(plain, server_hostname="aktis") as secure:
            # What HTTP/2 begins with; the server answers with its settings.
            secure.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
            return secure.recv(9)

    with pytest.raises(ssl.SSLError):
        first_bytes()
    context.load_cert_chain(*authority.sign("aktis"))
    assert first_bytes()[3:4] == b"\x04", "a settings frame"


@pytest.mark.parametrize("wrong", ["token", "certificate", "authority"])
def test_who_does_not_belong_to_the_cluster_is_refused(secured, authority, tmp_path, wrong):
    assert status(secured).returncode == 0
    stranger = {
        "token": lambda: {"AKTIS_TOKEN": "another token"},
        "certificate": lambda: {**settings_of(Authority(tmp_path / "stranger")), "AKTIS_TLS_CA": str(authority.path)},
        "authority": lambda: {"AKTIS_TLS_CA": str(Authority(tmp_path / "stranger").path)},
    }[wrong]()
    done = status(secured, **stranger)
    assert done.returncode != 0
    assert "error" in done.stderr, done.stderr


def test_a_certificate_that_has_expired_is_one_of_the_causes_that_are_named(secured, authority):
    assert status(secured).returncode == 0
    done = status(secured, **settings_of(authority, age=3 * VALID_FOR))
    assert done.returncode != 0
    assert "AKTIS_TLS_CERT" in done.stderr and "expired" in done.stderr, done.stderr
