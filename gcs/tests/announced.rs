//! Messages that are announced and do not come: memory grows with what was received.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[allow(dead_code, reason = "shared with other tests")]
mod support;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use aktis_proto::transport::MAX_MESSAGE_BYTES;
use aktis_proto::v1::Empty;
use support::Head;

const STREAMS: u32 = 16;
/// Of all that is announced here, a small part.
const LITTLE_BYTES: u64 = 128 << 20;

const SETTINGS: u8 = 4;
const HEADERS: u8 = 1;
const DATA: u8 = 0;
const END_HEADERS: u8 = 4;
const END_STREAM: u8 = 1;

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib: u64 = line
        .unwrap()
        .split_whitespace()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    kib << 10
}

/// A frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
    [&head[..], payload].concat()
}

/// Names and values as they are: no table, no compression.
fn headers(fields: &[(&str, &str)]) -> Vec<u8> {
    let text = |text: &str| {
        let length = [u8::try_from(text.len()).unwrap()];
        [&length[..], text.as_bytes()].concat()
    };
    let field = |(name, value): &(&str, &str)| [vec![0], text(name), text(value)].concat();
    fields.iter().flat_map(field).collect()
}

/// A call whose message is announced with so many bytes, and begins.
fn announcement(stream: u32, bytes: u32) -> Vec<u8> {
    let fields = headers(&[
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/aktis.v1.Gcs/KvPut"),
        (":authority", "head"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        ("aktis-version", aktis_proto::VERSION),
    ]);
    let begun = [&[0][..], &bytes.to_be_bytes(), b"begun"].concat();
    [
        frame(HEADERS, END_HEADERS, stream, &fields),
        frame(DATA, 0, stream, &begun),
    ]
    .concat()
}

/// Connects, and announces that much on each of several streams.
fn announce(head: &Head, bytes: u32) -> UnixStream {
    let mut stream = UnixStream::connect(head.socket()).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    stream
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .unwrap();
    stream.write_all(&frame(SETTINGS, 0, 0, &[])).unwrap();
    for number in 0..STREAMS {
        stream
            .write_all(&announcement(1 + 2 * number, bytes))
            .unwrap();
    }
    stream
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_grows_with_what_was_received() {
    let head = Head::start().await;
    head.client().list_nodes(Empty {}).await.unwrap();
    let before = resident_bytes();
    let announced = u32::try_from(MAX_MESSAGE_BYTES).unwrap();
    let _stream = announce(&head, announced);
    for _ in 0..50 {
        head.client().list_nodes(Empty {}).await.unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let grown = resident_bytes().saturating_sub(before);
    assert!(
        grown < LITTLE_BYTES,
        "{grown} bytes for 16 times {announced} announced"
    );
    head.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_than_any_message_has_is_refused_at_once() {
    let head = Head::start().await;
    let too_many = u32::try_from(MAX_MESSAGE_BYTES).unwrap() + 1;
    let mut stream = announce(&head, too_many);
    let refused = tokio::task::spawn_blocking(move || {
        loop {
            let mut frame = [0; 9];
            stream.read_exact(&mut frame).unwrap();
            let length = u64::from(u32::from_be_bytes([0, frame[0], frame[1], frame[2]]));
            std::io::copy(&mut (&stream).take(length), &mut std::io::sink()).unwrap();
            // The answer, and its end: it did not wait for the rest.
            if frame[3] == HEADERS && frame[4] & END_STREAM != 0 {
                return;
            }
        }
    });
    refused.await.unwrap();
    head.client().list_nodes(Empty {}).await.unwrap();
    head.stop().await;
}
