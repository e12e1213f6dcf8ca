//! Token and certificates of a cluster.

use aktis_common::ids::random_bytes;
use jiff::{Timestamp, ToSpan, tz::TimeZone};
use k8s_openapi::api::core::v1::Secret;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};

use crate::core::CredentialsOrder;

/// How long certificates are valid. They are not renewed: deleting the Secret makes new ones and restarts the cluster.
pub const VALIDITY_YEARS: i16 = 10;
/// The DNS name that all certificates of Aktis are for.
const TLS_NAME: &str = "aktis";
/// Annotation of the Secret: the end of the certificates' validity.
const NOT_AFTER: &str = "aktis.dev/not-after";

/// What every pod of a cluster has. The authority's own key is forgotten once it has signed.
pub struct Credentials {
    token: String,
    ca_pem: String,
    certificate_pem: String,
    key_pem: String,
    not_after: Timestamp,
}

impl Credentials {
    /// New ones.
    pub fn make() -> Self {
        let token = random_bytes::<32>();
        let (not_before, not_after) = validity(Timestamp::now());
        let ca = certificate_authority(not_before, not_after);
        let key = KeyPair::generate().expect("ring makes P-256 keys");
        let mut params =
            CertificateParams::new([TLS_NAME.to_owned()]).expect("the name is an ASCII DNS name");
        params.not_before = date(not_before);
        params.not_after = date(not_after);
        params
            .distinguished_name
            .push(DnType::CommonName, "Aktis node");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        // Every node is client and server.
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        params.use_authority_key_identifier_extension = true;
        let certificate = params
            .signed_by(&key, &ca)
            .expect("keys and parameters were made here");
        Self {
            token: token.iter().map(|byte| format!("{byte:02x}")).collect(),
            ca_pem: ca.pem(),
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            not_after,
        }
    }

    /// The Secret. It cannot be changed, only deleted.
    pub fn into_secret(self, order: CredentialsOrder) -> Secret {
        let mut metadata = order.metadata;
        let annotations = metadata.annotations.get_or_insert_default();
        annotations.insert(NOT_AFTER.to_owned(), self.not_after.to_string());
        let entries = [
            ("token", self.token),
            ("ca.crt", self.ca_pem),
            ("tls.crt", self.certificate_pem),
            ("tls.key", self.key_pem),
        ];
        Secret {
            metadata,
            immutable: Some(true),
            type_: Some("Opaque".to_owned()),
            string_data: Some(
                entries
                    .map(|(key, value)| (key.to_owned(), value))
                    .into_iter()
                    .collect(),
            ),
            ..Secret::default()
        }
    }
}

fn certificate_authority(
    not_before: Timestamp,
    not_after: Timestamp,
) -> CertifiedIssuer<'static, KeyPair> {
    let key = KeyPair::generate().expect("ring makes P-256 keys");
    let mut params = CertificateParams::default();
    params.not_before = date(not_before);
    params.not_after = date(not_after);
    params
        .distinguished_name
        .push(DnType::CommonName, "Aktis cluster");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    CertifiedIssuer::self_signed(params, key).expect("keys and parameters were made here")
}

/// From yesterday, for clocks that are behind.
fn validity(now: Timestamp) -> (Timestamp, Timestamp) {
    let today = now.to_zoned(TimeZone::UTC);
    let from = today.saturating_sub(1.day());
    let to = today.saturating_add(i64::from(VALIDITY_YEARS).years());
    (from.timestamp(), to.timestamp())
}

fn date(moment: Timestamp) -> time::OffsetDateTime {
    time::OffsetDateTime::from_unix_timestamp(moment.as_second())
        .expect("both ranges reach beyond the year 9000")
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

    use super::*;

    #[test]
    fn secret_has_all_that_pods_need_and_no_key_of_the_authority() {
        let order = CredentialsOrder {
            metadata: ObjectMeta::default(),
        };
        let secret = Credentials::make().into_secret(order);
        let data = secret.string_data.unwrap();
        let keys: Vec<&str> = data.keys().map(String::as_str).collect();
        assert_eq!(keys, ["ca.crt", "tls.crt", "tls.key", "token"]);
        assert_eq!(data["token"].len(), 64);
        assert_eq!(data["tls.key"].matches("PRIVATE KEY").count(), 2);
        assert!(!data["ca.crt"].contains("PRIVATE"));
        assert_eq!(secret.immutable, Some(true));
    }

    #[test]
    fn no_two_clusters_share_credentials() {
        let (one, other) = (Credentials::make(), Credentials::make());
        assert_ne!(one.token, other.token);
        assert_ne!(one.ca_pem, other.ca_pem);
    }

    #[test]
    fn certificates_are_valid_for_the_years_that_are_promised() {
        let now: Timestamp = "2028-02-29T12:00:00Z".parse().unwrap();
        let (from, to) = validity(now);
        assert_eq!(from.to_string(), "2028-02-28T12:00:00Z");
        assert_eq!(to.to_string(), "2038-02-28T12:00:00Z");
    }
}
