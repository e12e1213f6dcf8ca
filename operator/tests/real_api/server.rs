//! etcd and kube-apiserver of this test.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, RoleRef, Subject};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::PostParams;
use kube::config::AuthInfo;
use kube::{Api, Client, Config};
use rcgen::KeyPair;
use tempfile::TempDir;

use crate::scenarios::eventually;

/// Asked when the test runs: a build folder may have been filled from another clone.
fn chart(path: &str) -> String {
    let here = std::env::var_os("CARGO_MANIFEST_DIR").unwrap();
    format!("{}/../helm/aktis-operator/{path}", here.display())
}

pub(crate) struct Server {
    processes: Vec<Child>,
    port: u16,
    _folder: TempDir,
}

impl Server {
    pub(crate) fn start(assets: &Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let key = KeyPair::generate().unwrap();
        std::fs::write(path("sa.key"), key.serialize_pem()).unwrap();
        std::fs::write(path("sa.pub"), key.public_key_pem()).unwrap();
        let tokens = "admin,admin,1,system:masters\noperator,operator,2,system:authenticated\n";
        std::fs::write(path("tokens.csv"), tokens).unwrap();
        let [etcd_port, peer_port, port] = free_ports();
        let etcd = format!("http://127.0.0.1:{etcd_port}");
        let peer = format!("http://127.0.0.1:{peer_port}");
        let start = |program: &str, arguments: &[(&str, &str)]| {
            let log = std::fs::File::create(path(&format!("{program}.log"))).unwrap();
            let flags = arguments
                .iter()
                .map(|(name, value)| format!("--{name}={value}"));
            Command::new(assets.join(program))
                .args(flags)
                .stdout(Stdio::null())
                .stderr(log)
                .spawn()
                .unwrap_or_else(|error| panic!("{program}: {error}"))
        };
        let etcd_process = start(
            "etcd",
            &[
                ("data-dir", &path("etcd")),
                ("listen-client-urls", &etcd),
                ("advertise-client-urls", &etcd),
                ("listen-peer-urls", &peer),
            ],
        );
        let api = start(
            "kube-apiserver",
            &[
                ("etcd-servers", &etcd),
                ("cert-dir", &path("tls")),
                ("secure-port", &port.to_string()),
                ("bind-address", "127.0.0.1"),
                ("token-auth-file", &path("tokens.csv")),
                ("authorization-mode", "RBAC"),
                ("service-account-issuer", "https://aktis.test"),
                ("service-account-key-file", &path("sa.pub")),
                ("service-account-signing-key-file", &path("sa.key")),
                ("service-cluster-ip-range", "10.0.0.0/24"),
                ("disable-admission-plugins", "ServiceAccount"),
            ],
        );
        Self {
            processes: vec![api, etcd_process],
            port,
            _folder: folder,
        }
    }

    /// With the rights of `user`.
    pub(crate) fn client(&self, user: &str) -> Client {
        let url = format!("https://127.0.0.1:{}", self.port);
        let mut config = Config::new(url.parse().unwrap());
        config.accept_invalid_certs = true;
        config.auth_info = AuthInfo {
            token: Some(user.to_owned().into()),
            ..AuthInfo::default()
        };
        Client::try_from(config).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        for process in &mut self.processes {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

fn free_ports<const N: usize>() -> [u16; N] {
    let listeners = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

pub(crate) async fn ready(client: &Client) {
    eventually(
        "the API server is ready",
        Duration::from_secs(120),
        async || {
            let request = http::Request::get("/readyz").body(Vec::new()).unwrap();
            client
                .request_text(request)
                .await
                .ok()
                .filter(|text| text == "ok")
        },
    )
    .await;
}

/// The chart's definitions and the rules of its role.
pub(crate) async fn install(client: &Client) {
    let definitions = Api::<CustomResourceDefinition>::all(client.clone());
    for entry in std::fs::read_dir(chart("crds")).unwrap() {
        let yaml = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        let definition: CustomResourceDefinition = serde_saphyr::from_str(&yaml).unwrap();
        let name = definition.metadata.name.clone().unwrap();
        definitions
            .create(&PostParams::default(), &definition)
            .await
            .unwrap();
        eventually(&name, Duration::from_secs(60), async || {
            let status = definitions.get(&name).await.ok()?.status?;
            let mut conditions = status.conditions?.into_iter();
            conditions.find(|known| known.type_ == "Established" && known.status == "True")
        })
        .await;
    }
    let role = ClusterRole {
        metadata: named("operator"),
        rules: Some(chart_rules()),
        ..ClusterRole::default()
    };
    let roles = Api::<ClusterRole>::all(client.clone());
    roles.create(&PostParams::default(), &role).await.unwrap();
    let binding = ClusterRoleBinding {
        metadata: named("operator"),
        role_ref: RoleRef {
            api_group: Some("rbac.authorization.k8s.io".to_owned()),
            kind: "ClusterRole".to_owned(),
            name: "operator".to_owned(),
        },
        subjects: Some(vec![Subject {
            kind: "User".to_owned(),
            name: "operator".to_owned(),
            api_group: Some("rbac.authorization.k8s.io".to_owned()),
            namespace: None,
        }]),
    };
    let bindings = Api::<ClusterRoleBinding>::all(client.clone());
    bindings
        .create(&PostParams::default(), &binding)
        .await
        .unwrap();
}

/// The part of the template between `rules:` and the next document has nothing to be rendered.
fn chart_rules() -> Vec<PolicyRule> {
    let template = std::fs::read_to_string(chart("templates/rbac.yaml")).unwrap();
    let (_, rest) = template.split_once("\nrules:\n").unwrap();
    let (rules, _) = rest.split_once("\n---\n").unwrap();
    assert!(!rules.contains("{{"), "{rules}");
    serde_saphyr::from_str(rules).unwrap()
}

fn named(name: &str) -> k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
    k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
        name: Some(name.to_owned()),
        ..Default::default()
    }
}
