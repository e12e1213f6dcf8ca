//! A driver that speaks frames by hand.

use std::collections::VecDeque;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use aktis_common::ids::{JobId, NodeId, ObjectId, WorkerId};
use aktis_object_store::{ArenaHandle, ArenaMap, CreatingRange, SealedRange};
use aktis_proto::v1::node_frame::Kind;
use aktis_proto::v1::*;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::UnixStream;

/// No step of a test takes this long.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// A connected process.
pub struct Process {
    stream: UnixStream,
    input: BytesMut,
    /// Frames that came while another one was awaited.
    early: VecDeque<(u64, Kind)>,
    next_request: u64,
    pub worker: WorkerId,
    pub job: JobId,
    pub node: NodeId,
    pub hello: HelloReply,
    pub arena: ArenaMap,
}

impl Process {
    /// Connects as a driver.
    pub async fn driver(socket: &Path) -> Self {
        let (worker, job) = (WorkerId::random(), JobId::random());
        let mut hello = Hello {
            worker_id: worker.to_wire(),
            job_id: job.to_wire(),
            pid: std::process::id(),
            namespace: "tests".to_owned(),
            version: aktis_proto::VERSION.to_owned(),
            ..Hello::default()
        };
        hello.set_kind(ProcessKind::Driver);
        let mut stream = UnixStream::connect(socket).await.unwrap();
        let mut output = BytesMut::new();
        put(&mut output, 1, Kind::Hello(hello));
        stream.write_all(&output).await.unwrap();
        let mut input = BytesMut::new();
        let mut descriptor = None;
        let reply = loop {
            stream.readable().await.unwrap();
            let read = stream.try_io(Interest::READABLE, || {
                receive(&stream, &mut input, &mut descriptor)
            });
            match read {
                Ok(count) => assert_ne!(count, 0, "the raylet refuses this process"),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
                Err(error) => panic!("{error}"),
            }
            match take(&mut input) {
                Some((1, Kind::HelloReply(reply))) => break reply,
                Some(other) => panic!("expected the hello reply, got {other:?}"),
                None => {}
            }
        };
        let fd = descriptor.expect("the arena's descriptor comes with the hello reply");
        let len_bytes = reply.arena.as_ref().unwrap().len_bytes;
        Self {
            stream,
            input,
            early: VecDeque::new(),
            next_request: 2,
            worker,
            job,
            node: NodeId::from_bytes(&reply.node_id).unwrap(),
            arena: ArenaMap::from_handle(ArenaHandle::Memfd { fd, len_bytes }).unwrap(),
            hello: reply,
        }
    }

    pub fn address(&self) -> Address {
        Address::of(self.node, self.worker)
    }

    /// Sends a frame; gives its number.
    pub async fn send(&mut self, kind: Kind) -> u64 {
        let request_id = self.next_request;
        self.next_request += 1;
        let mut output = BytesMut::new();
        put(&mut output, request_id, kind);
        self.stream.write_all(&output).await.unwrap();
        request_id
    }

    /// Sends a frame and waits for what answers it.
    pub async fn ask(&mut self, kind: Kind) -> Kind {
        let request_id = self.send(kind).await;
        self.answer_to(request_id).await
    }

    /// Waits for an answer.
    pub async fn answer_to(&mut self, request_id: u64) -> Kind {
        self.find(|id, _| id == request_id).await
    }

    /// Whether an answer has come that nobody has waited for yet.
    pub fn has_answer_to(&self, request_id: u64) -> bool {
        self.early.iter().any(|(id, _)| *id == request_id)
    }

    /// Waits for an event.
    pub async fn event(&mut self, is_wanted: impl Fn(&Kind) -> bool) -> Kind {
        self.find(|id, kind| id == 0 && is_wanted(kind)).await
    }

    async fn find(&mut self, is_wanted: impl Fn(u64, &Kind) -> bool) -> Kind {
        if let Some(position) = self
            .early
            .iter()
            .position(|(id, kind)| is_wanted(*id, kind))
        {
            return self.early.remove(position).unwrap().1;
        }
        let wait = async {
            loop {
                while let Some((id, kind)) = take(&mut self.input) {
                    if is_wanted(id, &kind) {
                        return kind;
                    }
                    self.early.push_back((id, kind));
                }
                let count = self.stream.read_buf(&mut self.input).await.unwrap();
                assert_ne!(
                    count, 0,
                    "the raylet closed the connection; before: {:?}",
                    self.early
                );
            }
        };
        tokio::time::timeout(DEADLINE, wait)
            .await
            .expect("the frame comes in time")
    }

    /// Asks for a worker with these resources.
    pub async fn request_lease(&mut self, resources: &[(&str, f64)]) -> u64 {
        let request = self.lease_request(resources);
        self.send(Kind::LeaseRequest(request)).await
    }

    pub fn lease_request(&self, resources: &[(&str, f64)]) -> LeaseRequest {
        let request =
            aktis_common::resources::ResourceRequest::from_numbers(resources.iter().copied(), 0)
                .unwrap();
        LeaseRequest {
            resources: Some((&request).into()),
            job_id: self.job.to_wire(),
            ..LeaseRequest::default()
        }
    }

    /// Waits for the grant of a request.
    pub async fn grant(&mut self, request_id: u64) -> LeaseGrant {
        match self.answer_to(request_id).await {
            Kind::LeaseReply(LeaseReply {
                outcome: Some(lease_reply::Outcome::Grant(grant)),
            }) => grant,
            other => panic!("expected a grant, got {other:?}"),
        }
    }

    /// Leases a worker.
    pub async fn lease(&mut self, resources: &[(&str, f64)]) -> LeaseGrant {
        let request_id = self.request_lease(resources).await;
        self.grant(request_id).await
    }

    pub async fn return_lease(&mut self, grant: &LeaseGrant) {
        let node_id = grant.worker.as_ref().unwrap().node_id.clone();
        let lease = LeaseReturn {
            lease_id: grant.lease_id,
            node_id,
            is_worker_unusable: false,
        };
        let answer = self.ask(Kind::LeaseReturn(lease)).await;
        assert!(matches!(answer, Kind::Done(_)), "{answer:?}");
    }

    /// Begins to make an object in the store; says where.
    pub async fn create(&mut self, object: ObjectId, size_bytes: u64) -> StoreCreateReply {
        let create = StoreCreate {
            object_id: object.to_wire(),
            size_bytes,
            owner: Some(self.address()),
        };
        match self.ask(Kind::StoreCreate(create)).await {
            Kind::StoreCreateReply(reply) => reply,
            other => panic!("expected room, got {other:?}"),
        }
    }

    /// Writes an object that was begun.
    #[allow(unsafe_code, reason = "vouches for the answer of the raylet")]
    pub fn write(&self, created: &StoreCreateReply, bytes: &[u8]) {
        let arena = match created.file.as_str() {
            "" => self.arena.clone(),
            file => ArenaMap::of_new_file(Path::new(file)).unwrap(),
        };
        // SAFETY: this process created the object, and seals it afterwards.
        let range = unsafe { CreatingRange::new(arena, created.offset, bytes.len() as u64) };
        range.unwrap().write(&[bytes]).unwrap();
    }

    /// Puts an object into the store.
    pub async fn put(&mut self, bytes: &[u8]) -> ObjectId {
        let object = ObjectId::for_put();
        let created = self.create(object, bytes.len() as u64).await;
        self.write(&created, bytes);
        self.seal(object).await;
        object
    }

    /// Ends the writing of an object.
    pub async fn seal(&mut self, object: ObjectId) {
        let seal = StoreSeal {
            object_id: object.to_wire(),
        };
        let answer = self.ask(Kind::StoreSeal(seal)).await;
        assert!(matches!(answer, Kind::Done(_)), "{answer:?}");
    }

    /// Asks for an object.
    pub async fn request_object(&mut self, object: ObjectId, locations: &[NodeId]) -> u64 {
        let get = StoreGet {
            object_id: object.to_wire(),
            owner: Some(self.address()),
            locations: locations.iter().map(|node| node.to_wire()).collect(),
            size_bytes: 0,
        };
        self.send(Kind::StoreGet(get)).await
    }

    #[allow(unsafe_code, reason = "vouches for the answer of the raylet")]
    fn read(arena: ArenaMap, offset: u64, size_bytes: u64) -> Vec<u8> {
        // SAFETY: the raylet holds the object for this process, which releases it later.
        let range = unsafe { SealedRange::new(arena, offset, size_bytes, ()) };
        range.unwrap().to_vec()
    }

    /// Waits for an object's bytes, or for what there is instead.
    pub async fn object(&mut self, request_id: u64) -> Result<Vec<u8>, store_get_reply::Outcome> {
        match self.outcome(request_id).await {
            store_get_reply::Outcome::View(view) => {
                Ok(Self::read(self.arena.clone(), view.offset, view.size_bytes))
            }
            other => Err(other),
        }
    }

    /// Waits for the bytes of an object that lies in a file, and for the file.
    pub async fn object_in_file(&mut self, request_id: u64) -> (PathBuf, Vec<u8>) {
        match self.outcome(request_id).await {
            store_get_reply::Outcome::File(file) => {
                let path = PathBuf::from(file.path);
                let map = ArenaMap::of_sealed_file(&path).unwrap();
                (path, Self::read(map, file.offset, file.size_bytes))
            }
            other => panic!("expected a file, got {other:?}"),
        }
    }

    async fn outcome(&mut self, request_id: u64) -> store_get_reply::Outcome {
        match self.answer_to(request_id).await {
            Kind::StoreGetReply(StoreGetReply {
                outcome: Some(outcome),
            }) => outcome,
            other => panic!("expected an object, got {other:?}"),
        }
    }

    /// Calls the gcs through the raylet.
    pub async fn call_gcs<T: Message + Default>(
        &mut self,
        method: &str,
        request: &impl Message,
    ) -> Result<T, Failure> {
        let body = Bytes::from(request.encode_to_vec());
        match self
            .ask(Kind::GcsCall(GcsCall {
                method: method.to_owned(),
                body,
            }))
            .await
        {
            Kind::GcsReply(reply) => Ok(T::decode(reply.body).unwrap()),
            Kind::Failure(failure) => Err(failure),
            other => panic!("expected a reply of the gcs, got {other:?}"),
        }
    }
}

fn receive(
    stream: &UnixStream,
    input: &mut BytesMut,
    descriptor: &mut Option<OwnedFd>,
) -> std::io::Result<usize> {
    let mut bytes = [0; 4096];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let received = recvmsg(
        stream.as_fd(),
        &mut parts,
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(mut descriptors) = message {
            *descriptor = descriptors.next();
        }
    }
    input.extend_from_slice(&bytes[..received.bytes]);
    Ok(received.bytes)
}

fn put(output: &mut BytesMut, request_id: u64, kind: Kind) {
    let header = NodeFrame {
        request_id,
        kind: Some(kind),
    }
    .encode_to_vec();
    let length = u32::try_from(header.len()).unwrap();
    output.put_u32_le(length + 4);
    output.put_u32_le(length);
    output.put_slice(&header);
}

fn take(input: &mut BytesMut) -> Option<(u64, Kind)> {
    let total = (input.get(..4)?).get_u32_le() as usize;
    if input.len() < 4 + total {
        return None;
    }
    let mut frame = input.split_to(4 + total).freeze();
    frame.advance(4);
    let header = frame.get_u32_le() as usize;
    let frame = NodeFrame::decode(&frame[..header]).unwrap();
    Some((frame.request_id, frame.kind.unwrap()))
}
