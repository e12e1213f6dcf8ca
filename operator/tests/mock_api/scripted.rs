//! A Kubernetes API that gives the answers of a list, one after the other, and writes down what it was asked.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use http::{Request, Response, StatusCode};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};

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

/// Answers that are left, and calls that were made.
#[derive(Default)]
struct Script {
    answers: VecDeque<Answer>,
    calls: Vec<Call>,
}

pub(crate) struct Scripted(Arc<Mutex<Script>>);

impl Scripted {
    pub(crate) fn answering(answers: Vec<Answer>) -> (Client, Self) {
        let script = Arc::new(Mutex::new(Script {
            answers: answers.into(),
            calls: Vec::new(),
        }));
        let asked = Arc::clone(&script);
        let service = tower::service_fn(move |request| answer(Arc::clone(&asked), request));
        (Client::new(service, "ns"), Self(script))
    }

    /// What was asked. A call without an answer fails at the caller.
    pub(crate) fn calls(self) -> Vec<Call> {
        let mut script = self.0.lock().unwrap();
        assert!(script.answers.is_empty(), "fewer calls than answers");
        std::mem::take(&mut script.calls)
    }
}

async fn answer(
    script: Arc<Mutex<Script>>,
    request: Request<Body>,
) -> Result<Response<Body>, Infallible> {
    let (head, body) = request.into_parts();
    let bytes = body.collect_bytes().await.unwrap();
    let body: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let mut script = script.lock().unwrap();
    let answer = script
        .answers
        .pop_front()
        .unwrap_or_else(|| Answer::refused(500, "the script has no answer for this call"));
    let (code, content) = match answer {
        Answer::Fixed(code, content) => (code, content),
        Answer::Echo => (StatusCode::OK, body.clone()),
    };
    script.calls.push(Call {
        method: head.method.to_string(),
        path: head.uri.path().to_owned(),
        query: head.uri.query().unwrap_or_default().to_owned(),
        body,
    });
    let content = Body::from(content.to_string().into_bytes());
    Ok(Response::builder().status(code).body(content).unwrap())
}
