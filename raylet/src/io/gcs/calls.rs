//! Calls of processes, forwarded by the name of the method. Requests and replies stay bytes.

use std::time::{Duration, Instant};

use aktis_common::error::ErrorCode;
use aktis_proto::convert::{failure, is_refusal};
use aktis_proto::transport::{Channel, MAX_MESSAGE_BYTES};
use aktis_proto::v1::node_frame::Kind;
use aktis_proto::v1::{Failure, GcsReply};
use bytes::{Buf, BufMut, Bytes};
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Request, Status};

const PAUSE: Duration = Duration::from_millis(100);

/// Methods that a process may call; the others are for raylets. Each with its path.
const METHODS: [(&str, &str); 16] = [
    ("ListNodes", "/aktis.v1.Gcs/ListNodes"),
    ("AddJob", "/aktis.v1.Gcs/AddJob"),
    ("FinishJob", "/aktis.v1.Gcs/FinishJob"),
    ("ListJobs", "/aktis.v1.Gcs/ListJobs"),
    ("CreateActor", "/aktis.v1.Gcs/CreateActor"),
    ("GetActor", "/aktis.v1.Gcs/GetActor"),
    ("ListActors", "/aktis.v1.Gcs/ListActors"),
    ("KillActor", "/aktis.v1.Gcs/KillActor"),
    ("ReportWorkerDeath", "/aktis.v1.Gcs/ReportWorkerDeath"),
    ("ReportActorStarted", "/aktis.v1.Gcs/ReportActorStarted"),
    ("KvPut", "/aktis.v1.Gcs/KvPut"),
    ("KvGet", "/aktis.v1.Gcs/KvGet"),
    ("KvDelete", "/aktis.v1.Gcs/KvDelete"),
    ("KvKeys", "/aktis.v1.Gcs/KvKeys"),
    ("ClusterStatus", "/aktis.v1.Gcs/ClusterStatus"),
    ("UnregisterNode", "/aktis.v1.Gcs/UnregisterNode"),
];

/// Calls a method of the gcs, again until `patience` is over while that is away; gives the frame that answers the process.
pub(super) async fn forward(
    channel: Channel,
    method: &str,
    body: Bytes,
    patience: Duration,
) -> Kind {
    let Some((_, path)) = METHODS.iter().find(|(name, _)| *name == method) else {
        let message = format!("the gcs has no method {method:?} for processes");
        return Kind::Failure(Failure::of(ErrorCode::InvalidArgument, message));
    };
    let deadline = Instant::now() + patience;
    loop {
        let status = match call(channel.clone(), path, body.clone()).await {
            Ok(body) => return Kind::GcsReply(GcsReply { body }),
            Err(status) => status,
        };
        if is_refusal(&status) {
            return Kind::Failure(failure(&status));
        }
        if Instant::now() + PAUSE >= deadline {
            let message = format!(
                "the head was away for {} s: {}",
                patience.as_secs_f64(),
                status.message()
            );
            return Kind::Failure(Failure::of(ErrorCode::NotConnected, message));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn call(channel: Channel, path: &'static str, body: Bytes) -> Result<Bytes, Status> {
    let mut client = Grpc::new(channel)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    client
        .ready()
        .await
        .map_err(|error| Status::unavailable(format!("the head cannot be reached: {error}")))?;
    let path = PathAndQuery::from_static(path);
    client
        .unary(Request::new(body), path, BytesCodec)
        .await
        .map(tonic::Response::into_inner)
}

/// Messages that are bytes already.
#[derive(Debug, Clone, Copy, Default)]
struct BytesCodec;

impl Codec for BytesCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for BytesCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, target: &mut EncodeBuf<'_>) -> Result<(), Status> {
        target.put(item);
        Ok(())
    }
}

impl Decoder for BytesCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, source: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(source.copy_to_bytes(source.remaining())))
    }
}
