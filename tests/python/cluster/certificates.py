"""Certificates as a cluster has them: an authority of its own, and what it signs for the name ``aktis``."""

import datetime
import pathlib

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

VALID_FOR = datetime.timedelta(days=1)
NO_TIME = datetime.timedelta(0)


class Authority:
    """A certificate authority whose certificate is in ``<folder>/ca.pem``."""

    def __init__(self, folder: pathlib.Path):
        folder.mkdir(parents=True)
        self.folder = folder
        self.path = folder / "ca.pem"
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name("the authority of a test cluster")
        builder = _builder(self._name, self._name, self._key)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        _write(self.path, builder.sign(self._key, hashes.SHA256()))

    def sign(self, dns_name: str, age: datetime.timedelta = NO_TIME) -> tuple[pathlib.Path, pathlib.Path]:
        """A certificate for both ends of a connection that was signed so long ago, and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
        builder = _builder(_name(dns_name), self._name, key, age)
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(dns_name)]), critical=False)
        builder = builder.add_extension(usage, critical=False)
        paths = self.folder / f"{dns_name}.pem", self.folder / f"{dns_name}.key"
        _write(paths[0], builder.sign(self._key, hashes.SHA256()))
        encoding = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        paths[1].write_bytes(key.private_bytes(*encoding))
        return paths


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, age: datetime.timedelta = NO_TIME
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC) - age
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    return builder.not_valid_before(now - VALID_FOR).not_valid_after(now + VALID_FOR)


def _write(path: pathlib.Path, certificate: x509.Certificate) -> None:
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
