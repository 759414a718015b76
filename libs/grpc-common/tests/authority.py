"""A certificate authority for tests, and how files are replaced."""

from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID


def _name(text):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


class Authority:
    """A certificate authority that lives for a test."""

    def __init__(self, name):
        self._name = _name(name)
        self._key = ec.generate_private_key(ec.SECP256R1())
        usage = dict.fromkeys(
            ("content_commitment", "data_encipherment", "key_agreement", "encipher_only", "decipher_only"), False
        )
        usage |= dict.fromkeys(("digital_signature", "key_encipherment", "key_cert_sign", "crl_sign"), True)
        self._certificate = (
            self._blank(self._name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(x509.KeyUsage(**usage), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.pem = self._certificate.public_bytes(Encoding.PEM)

    def issue(self, names, *, common_name="whoever", encryption=None, begins=-3600, ends=3600):
        """Return certificate and key, PEM; `begins` and `ends` are seconds from now."""
        key = ec.generate_private_key(ec.SECP256R1())
        blank = self._blank(_name(common_name), key.public_key(), begins, ends)
        if names:
            blank = blank.add_extension(x509.SubjectAlternativeName(names), critical=False)
        pem = blank.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM)
        return pem, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption())

    def _blank(self, subject, key, begins=-3600, ends=3600):
        begun = x509.CertificateBuilder().subject_name(subject).issuer_name(self._name).public_key(key)
        begun = begun.serial_number(x509.random_serial_number())
        now = datetime.now(UTC)
        return begun.not_valid_before(now + timedelta(seconds=begins)).not_valid_after(now + timedelta(seconds=ends))


def put(path, content):
    """Replace a file in one moment."""
    new = path.with_suffix(".new")
    new.write_bytes(content)
    new.rename(path)
