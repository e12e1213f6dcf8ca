//! Puts a gcs together.

use std::time::Duration;

use aktis_common::config::Secret;
use aktis_common::ids::random_bytes;
use aktis_proto::transport::{Address, Listener, Security, serve};
use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::config::{GcsConfig, StorageKind};
use crate::core::{GcsCore, NodeTimeouts, Row, Table, Write};
use crate::error::StartError;
use crate::io::publish::Publisher;
use crate::io::raylets::Raylets;
use crate::io::storage::{FileStorage, MemoryStorage, Storage};
use crate::main_loop::GcsLoop;
use crate::service::GcsService;

/// Key of the token in [`Table::Meta`].
const TOKEN_KEY: &[u8] = b"token";
/// How long running calls may take to end after a shutdown was asked for.
const SHUTDOWN_GRACE: Duration = Duration::from_millis(500);

/// The control store of a cluster.
#[derive(Debug)]
pub struct Gcs;

/// A running gcs. Dropping it ends the gcs.
#[derive(Debug)]
pub struct GcsHandle {
    address: Address,
    session_id: String,
    security: Security,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
    /// `None` once it was joined: a task is not to be asked again.
    main_loop: Option<JoinHandle<()>>,
}

impl Gcs {
    /// Starts a gcs on the current tokio runtime; its connections are served on [`GcsConfig::beside`]. When this returns it answers calls.
    ///
    /// # Errors
    /// When an address cannot be bound or is not protected, or the storage cannot be used.
    pub async fn start(config: GcsConfig) -> Result<GcsHandle, StartError> {
        // First, so that a head that finds its address taken leaves the storage alone.
        let listeners = listen(&config).await?;
        let storage: Box<dyn Storage> = match &config.storage {
            StorageKind::Memory => Box::new(MemoryStorage::default()),
            StorageKind::File(path) => {
                Box::new(FileStorage::open(path).map_err(StartError::Storage)?)
            }
        };
        run(config, listeners, storage).await
    }

    /// The same, with a storage that the caller brings in place of [`GcsConfig::storage`].
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn start_on(
        config: GcsConfig,
        storage: Box<dyn Storage>,
    ) -> Result<GcsHandle, StartError> {
        let listeners = listen(&config).await?;
        run(config, listeners, storage).await
    }
}

async fn listen(config: &GcsConfig) -> Result<Vec<Listener>, StartError> {
    if config.listen.is_empty() {
        return Err(StartError::NoAddress);
    }
    let mut listeners = Vec::with_capacity(config.listen.len());
    for address in &config.listen {
        let bound = config.network.bind(address, &config.security).await;
        listeners.push(bound.map_err(StartError::Listen)?);
    }
    Ok(listeners)
}

async fn run(
    mut config: GcsConfig,
    listeners: Vec<Listener>,
    mut storage: Box<dyn Storage>,
) -> Result<GcsHandle, StartError> {
    let rows = storage.load().await.map_err(StartError::Storage)?;
    if config.makes_token && config.security.token.is_none() {
        let token = kept_token(&rows, storage.as_mut()).await?;
        config.security.token = Some(token);
    }
    let timeouts = NodeTimeouts {
        silence: config.node_timeout,
        disconnected: config.node_disconnect_grace,
        lost_memory: config.lost_node_memory,
        driver_grace: config.driver_grace,
    };
    let core = GcsCore::restore(config.session_id.clone(), timeouts, rows, Duration::ZERO)
        .map_err(StartError::Restore)?
        .checked(config.checks);
    let session_id = core.session_id().to_owned();

    let publisher = Publisher::new(config.publication_capacity);
    let (stop, stopped) = watch::channel(false);
    let storage_name = storage.name();
    let beside = config.beside.clone().unwrap_or_else(Handle::current);
    let raylets = |port| {
        let (network, security) = (config.network.clone(), config.security.clone());
        Raylets::new(network, security, beside.clone(), port)
    };
    let (port, main_loop) = GcsLoop::new(core, storage, publisher.clone(), raylets);
    let main_loop = tokio::spawn(main_loop.run(stopped.clone()));
    let service = GcsService::new(port, publisher, storage_name);
    let address = listeners[0].address().clone();
    let tasks = listeners
        .into_iter()
        .map(|listener| {
            beside.spawn(serve_until(
                listener,
                config.clone(),
                service.clone(),
                stopped.clone(),
            ))
        })
        .collect();
    Ok(GcsHandle {
        address,
        session_id,
        security: config.security,
        stop,
        tasks,
        main_loop: Some(main_loop),
    })
}

/// The token of these tables; made if they have none (`GCS-4`).
async fn kept_token(rows: &[Row], storage: &mut dyn Storage) -> Result<Secret, StartError> {
    let is_token = |row: &&Row| row.table == Table::Meta && row.key == TOKEN_KEY;
    if let Some(row) = rows.iter().find(is_token) {
        return Ok(Secret::new(String::from_utf8_lossy(&row.value)));
    }
    let token: String = random_bytes::<32>()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let write = Write {
        table: Table::Meta,
        key: Bytes::from_static(TOKEN_KEY),
        value: Some(Bytes::from(token.clone())),
    };
    let kept = storage.commit(vec![write]).await;
    kept.map_err(StartError::Storage)?;
    Ok(Secret::new(token))
}

async fn serve_until(
    listener: Listener,
    config: GcsConfig,
    service: GcsService,
    mut stopped: watch::Receiver<bool>,
) {
    let end = async move {
        let _ = stopped.wait_for(|is_stopped| *is_stopped).await;
    };
    if let Err(error) = serve(listener, &config.security, service.routes(), end).await {
        tracing::error!(%error, "the gcs cannot serve");
    }
}

impl GcsHandle {
    /// Where it listens first; a port of 0 has become the port that the system chose.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The session.
    pub fn session_id(&self) -> &str {
        &self.session_id
    }

    /// What its clients need: the token that it made itself, too.
    pub fn security(&self) -> &Security {
        &self.security
    }

    /// Ends the gcs: closes its sockets and the storage.
    pub async fn shutdown(mut self) {
        self.stop.send_replace(true);
        for task in &mut self.tasks {
            // Subscriptions never end by themselves.
            if tokio::time::timeout(SHUTDOWN_GRACE, &mut *task)
                .await
                .is_err()
            {
                task.abort();
                let _ = task.await;
            }
        }
        self.ended().await;
    }

    /// Waits until the gcs has ended. By itself it does so only by a defect.
    pub async fn ended(&mut self) {
        if let Some(main_loop) = &mut self.main_loop {
            let _ = main_loop.await;
            self.main_loop = None;
        }
    }
}

impl Drop for GcsHandle {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn token_that_a_head_made_stays_with_its_tables() {
        let mut storage = MemoryStorage::recording();
        let rows = storage.load().await.unwrap();
        let made = kept_token(&rows, &mut storage).await.unwrap();
        let rows = storage.load().await.unwrap();
        let kept = kept_token(&rows, &mut storage).await.unwrap();
        assert_eq!(kept.expose(), made.expose(), "GCS-4");
        let other = kept_token(&[], &mut MemoryStorage::recording())
            .await
            .unwrap();
        assert_ne!(other.expose(), made.expose());
    }
}
