//! The node socket: accepts processes of this user and reads their frames.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use aktis_common::limits::{descriptor_advice, is_out_of_descriptors};
use aktis_lane::Decoder;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;

use super::frames::next_frame;
use crate::core::event::Event;
use crate::core::keys::ConnectionId;
use crate::inbox::{Mailbox, ProcessNews};

/// Binds a unix socket that only this user can use.
pub(crate) fn bind_private(path: &Path) -> io::Result<UnixListener> {
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Accepts processes until the task is aborted.
pub(crate) fn serve_processes(listener: UnixListener, mailbox: Mailbox) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut next = 1;
        loop {
            match listener.accept().await {
                Ok((stream, _)) if is_own_user(&stream) => {
                    let connection = ConnectionId(next);
                    next += 1;
                    tokio::spawn(read_frames(connection, Arc::new(stream), mailbox.clone()));
                }
                Ok(_) => tracing::warn!("a process of another user tried to connect"),
                Err(error) => {
                    if is_out_of_descriptors(&error) {
                        let cause = format!("{error}; {}", descriptor_advice());
                        mailbox.event(Event::OutOfDescriptors { cause });
                    }
                    pause_after(&error).await;
                }
            }
        }
    })
}

/// Whether the process at the other end belongs to this user (or root).
pub(crate) fn is_own_user(stream: &UnixStream) -> bool {
    let own = rustix::process::geteuid().as_raw();
    stream
        .peer_cred()
        .is_ok_and(|peer| [own, 0].contains(&peer.uid()))
}

/// Without descriptors accept fails at once, again and again.
pub(crate) async fn pause_after(error: &io::Error) {
    tracing::warn!(%error, "accept a connection");
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
}

/// Tells of a connection from its beginning to its end.
async fn read_frames(connection: ConnectionId, stream: Arc<UnixStream>, mailbox: Mailbox) {
    let connected = ProcessNews::Connected(Arc::clone(&stream));
    if !mailbox.process(connection, connected).await {
        return;
    }
    let mut decoder = Decoder::new();
    'connection: loop {
        match stream
            .readable()
            .await
            .and_then(|()| stream.try_read(decoder.space()))
        {
            Ok(0) => break,
            Ok(count) => decoder.advance(count),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(_) => break,
        }
        loop {
            match next_frame(&mut decoder) {
                Ok(Some(frame)) => {
                    if !mailbox.process(connection, ProcessNews::Frame(frame)).await {
                        break 'connection;
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    tracing::warn!(%connection, %error, "a process does not speak our frames");
                    break 'connection;
                }
            }
        }
    }
    mailbox.process(connection, ProcessNews::Disconnected).await;
}
