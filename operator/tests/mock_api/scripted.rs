//! A Kubernetes API that gives the answers of a list, one after the other, and writes down what it was asked.

use std::time::Duration;

use http::{Request, Response, StatusCode};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tower_test::mock::{self, Handle};

/// A call that was made.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) body: Value,
}

/// What the API says to the next call.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    Fixed(StatusCode, Value),
    /// The object as it was sent.
    Echo,
}

impl Answer {
    pub(crate) fn ok(body: Value) -> Self {
        Self::Fixed(StatusCode::OK, body)
    }

    pub(crate) fn echo() -> Self {
        Self::Echo
    }

    pub(crate) fn refused(code: u16, message: &str) -> Self {
        let status = json!({
            "apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure",
            "message": message, "reason": message, "code": code,
        });
        Self::Fixed(StatusCode::from_u16(code).unwrap(), status)
    }
}

pub(crate) struct Scripted(JoinHandle<Vec<Call>>);

impl Scripted {
    pub(crate) fn answering(answers: Vec<Answer>) -> (Client, Self) {
        let (service, handle) = mock::pair::<Request<Body>, Response<Body>>();
        let client = Client::new(service, "ns");
        (client, Self(tokio::spawn(follow(handle, answers))))
    }

    /// What was asked, once all answers are given and the client is gone. A call without an answer fails at the caller.
    pub(crate) async fn calls(self) -> Vec<Call> {
        tokio::time::timeout(Duration::from_secs(20), self.0)
            .await
            .expect("fewer calls than answers")
            .unwrap()
    }
}

async fn follow(
    mut handle: Handle<Request<Body>, Response<Body>>,
    answers: Vec<Answer>,
) -> Vec<Call> {
    let mut calls = Vec::new();
    for answer in answers {
        let (request, send) = handle.next_request().await.expect("the client is there");
        let (head, body) = request.into_parts();
        let bytes = body.collect_bytes().await.unwrap();
        let body: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let (code, content) = match answer {
            Answer::Fixed(code, content) => (code, content),
            Answer::Echo => (StatusCode::OK, body.clone()),
        };
        calls.push(Call {
            method: head.method.to_string(),
            path: head.uri.path().to_owned(),
            query: head.uri.query().unwrap_or_default().to_owned(),
            body,
        });
        let response = Response::builder().status(code);
        send.send_response(
            response
                .body(Body::from(content.to_string().into_bytes()))
                .unwrap(),
        );
    }
    calls
}
