//! What is common to the pods of clusters and of jobs.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, EmptyDirVolumeSource, EnvVar, EnvVarSource, ObjectFieldSelector, Pod, PodSpec,
    PodTemplateSpec, SecretKeySelector, SecretVolumeSource, Volume, VolumeMount,
};
use kube::ResourceExt;

use super::action::Target;
use crate::api::TemplateError;

/// Port of every head.
pub const HEAD_PORT: u16 = 6379;
/// Keys that a Secret with credentials has.
pub const CREDENTIAL_KEYS: [&str; 4] = ["token", "ca.crt", "tls.crt", "tls.key"];

const CREDENTIALS_VOLUME: &str = "aktis-credentials";
const CREDENTIALS_DIR: &str = "/etc/aktis/credentials";
const SESSION_VOLUME: &str = "aktis-session";
const SESSION_DIR: &str = "/var/run/aktis";

/// Waits for the head at `$1`; the rest of a script follows.
pub(super) const WAIT_FOR_HEAD: &str = r#"trap 'exit 143' TERM INT
until aktis health-check --address "$1" >/dev/null 2>&1; do sleep 2 & wait $!; done
trap - TERM INT
"#;

/// Takes template apart: metadata stays, the spec of its pod is given with its first container taken out.
pub(super) fn split(
    template: PodTemplateSpec,
) -> Result<(PodTemplateSpec, PodSpec, Container), TemplateError> {
    let mut template = template;
    let mut spec = template.spec.take().ok_or(TemplateError::NoContainer)?;
    if spec.containers.is_empty() {
        return Err(TemplateError::NoContainer);
    }
    let main = spec.containers.remove(0);
    for (field, is_set) in [
        ("command", main.command.is_some()),
        ("args", main.args.is_some()),
    ] {
        if is_set {
            let path = format!("spec.containers[0].{field}");
            return Err(TemplateError::Reserved { path });
        }
    }
    Ok((template, spec, main))
}

/// Gives the container what every process of a cluster needs: token, certificates, its address, a place for sessions.
pub(super) fn equip(spec: &mut PodSpec, main: &mut Container, credentials_secret: &str) {
    let file = |key: &str| format!("{CREDENTIALS_DIR}/{key}");
    let environment = [
        plain("AKTIS_TLS_CERT", file("tls.crt")),
        plain("AKTIS_TLS_KEY", file("tls.key")),
        plain("AKTIS_TLS_CA", file("ca.crt")),
        plain("AKTIS_TEMP_DIR", SESSION_DIR.to_owned()),
        from_secret("AKTIS_TOKEN", credentials_secret, "token"),
        from_field("POD_IP", "status.podIP"),
    ];
    for variable in environment {
        set_env(main, variable);
    }
    let mounts = main.volume_mounts.get_or_insert_default();
    mounts.push(VolumeMount {
        name: CREDENTIALS_VOLUME.to_owned(),
        mount_path: CREDENTIALS_DIR.to_owned(),
        read_only: Some(true),
        ..VolumeMount::default()
    });
    mounts.push(VolumeMount {
        name: SESSION_VOLUME.to_owned(),
        mount_path: SESSION_DIR.to_owned(),
        ..VolumeMount::default()
    });
    let volumes = spec.volumes.get_or_insert_default();
    volumes.push(Volume {
        name: CREDENTIALS_VOLUME.to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(credentials_secret.to_owned()),
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    });
    // Outlives the container: a head that is restarted in its pod takes up its tables.
    volumes.push(Volume {
        name: SESSION_VOLUME.to_owned(),
        empty_dir: Some(EmptyDirVolumeSource::default()),
        ..Volume::default()
    });
}

/// Sets a variable, in place of one of the template.
pub(super) fn set_env(container: &mut Container, variable: EnvVar) {
    let environment = container.env.get_or_insert_default();
    environment.retain(|known| known.name != variable.name);
    environment.push(variable);
}

/// A variable with a value.
pub(super) fn plain(name: &str, value: String) -> EnvVar {
    EnvVar {
        name: name.to_owned(),
        value: Some(value),
        value_from: None,
    }
}

fn from_secret(name: &str, secret: &str, key: &str) -> EnvVar {
    let source = EnvVarSource {
        secret_key_ref: Some(SecretKeySelector {
            name: secret.to_owned(),
            key: key.to_owned(),
            optional: None,
        }),
        ..EnvVarSource::default()
    };
    EnvVar {
        name: name.to_owned(),
        value: None,
        value_from: Some(source),
    }
}

fn from_field(name: &str, path: &str) -> EnvVar {
    let source = EnvVarSource {
        field_ref: Some(ObjectFieldSelector {
            field_path: path.to_owned(),
            api_version: None,
        }),
        ..EnvVarSource::default()
    };
    EnvVar {
        name: name.to_owned(),
        value: None,
        value_from: Some(source),
    }
}

/// What plans ask of a pod.
#[derive(Debug, Clone, Copy)]
pub struct PodFacts<'a>(pub &'a Pod);

impl<'a> PodFacts<'a> {
    /// Its name.
    pub fn name(self) -> &'a str {
        self.0.metadata.name.as_deref().unwrap_or_default()
    }

    /// Its identity.
    pub fn uid(self) -> &'a str {
        self.0.metadata.uid.as_deref().unwrap_or_default()
    }

    /// Whether it is on its way out.
    pub fn is_leaving(self) -> bool {
        self.0.metadata.deletion_timestamp.is_some()
    }

    /// When it was made.
    pub fn created(self) -> Option<Timestamp> {
        self.0.creation_timestamp().map(|time| time.0)
    }

    /// A label, or nothing.
    pub fn label(self, key: &str) -> &'a str {
        let labels = self.0.metadata.labels.as_ref();
        labels
            .and_then(|labels| labels.get(key))
            .map_or("", String::as_str)
    }

    /// An annotation, or nothing.
    pub fn annotation(self, key: &str) -> &'a str {
        let annotations = self.0.metadata.annotations.as_ref();
        annotations
            .and_then(|annotations| annotations.get(key))
            .map_or("", String::as_str)
    }

    /// `Pending`, `Running`, `Succeeded`, `Failed`, or nothing yet.
    pub fn phase(self) -> &'a str {
        let status = self.0.status.as_ref();
        status
            .and_then(|status| status.phase.as_deref())
            .unwrap_or_default()
    }

    /// Whether none of its containers runs again.
    pub fn has_ended(self) -> bool {
        matches!(self.phase(), "Succeeded" | "Failed")
    }

    /// Whether it serves.
    pub fn is_ready(self) -> bool {
        let status = self.0.status.as_ref();
        let mut conditions = status
            .and_then(|status| status.conditions.as_ref())
            .into_iter()
            .flatten();
        !self.is_leaving()
            && conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
    }

    /// Its address.
    pub fn ip(self) -> Option<String> {
        self.0
            .status
            .as_ref()?
            .pod_ip
            .clone()
            .filter(|ip| !ip.is_empty())
    }

    /// Why its first container ended: exit code and what the kubelet says.
    pub fn ending(self) -> String {
        let status = self.0.status.as_ref();
        let terminated = status.and_then(|status| {
            status
                .container_statuses
                .as_ref()?
                .first()?
                .state
                .as_ref()?
                .terminated
                .clone()
        });
        match (terminated, status.and_then(|status| status.reason.clone())) {
            (Some(ended), _) => format!(
                "exit code {}{}",
                ended.exit_code,
                ended
                    .reason
                    .map_or_else(String::new, |reason| format!(" ({reason})"))
            ),
            (None, Some(reason)) => reason,
            (None, None) => "no reason known".to_owned(),
        }
    }

    /// This pod and no other.
    pub fn target(self, reason: &'static str) -> Target {
        Target {
            name: self.name().to_owned(),
            uid: self.uid().to_owned(),
            reason,
        }
    }
}
